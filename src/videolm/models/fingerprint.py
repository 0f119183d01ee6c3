"""A model in, a hash of everything in front of the decoder out: equal where media become the same features."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from videolm.models.prepacked import PrepackedLinear
from videolm.models.video_lm import VideoLM

__all__ = ["VisionFingerprint"]

_DECODER = "language_model"


class VisionFingerprint:
    """Computed when it is first asked for, and again only after parameters have changed."""

    def __init__(self, model: VideoLM) -> None:
        self._model = model
        self._seen: list[_Held] = []
        self._digest = ""
        self._lock = threading.Lock()

    def __call__(self) -> str:
        """The hash."""
        with self._lock:
            if not self._digest or not all(held.is_unchanged() for held in self._seen):
                for _, module in self._encoding_modules():
                    if isinstance(module, PrepackedLinear):
                        module.lay_out()  # Its weight would be another object after its first use.
                self._digest = self._compute()
                # Parameters and buffers themselves: a state dict makes plain ones of weights that are laid out, each
                # time. What holds them is gone through once, since walking through modules takes milliseconds.
                self._seen = [held for _, module in self._encoding_modules() for held in _Held.all_of(module)]
            return self._digest

    def _encoding_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """All but the decoder's, with their paths."""
        for path, module in self._model.model.named_modules():
            if path != _DECODER and not path.startswith(f"{_DECODER}."):
                yield path, module

    def _compute(self) -> str:
        config = self._model.model.config
        settings = (config.vision, config.video_vision, config.fusion, config.tokens)
        digest = hashlib.sha256(repr(settings).encode())
        for name, tensor in self._stored():
            digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode() + _hash(tensor))
        return digest.hexdigest()

    def _stored(self) -> Iterator[tuple[str, Tensor]]:
        """What a state dict holds, in its order, but one module after the other: not all plain weights at once."""
        for path, module in self._encoding_modules():
            own: dict[str, Tensor] = {}
            module._save_to_state_dict(own, f"{path}." if path else "", keep_vars=False)
            yield from own.items()


@dataclass(frozen=True)
class _Held:
    """What one table of a module holds: parameters, buffers or other modules."""

    table: dict[str, Any]
    seen: tuple[tuple[str, weakref.ref[Any] | None, tuple[int, int] | None], ...]

    @classmethod
    def all_of(cls, module: nn.Module) -> list[_Held]:
        """Its tables, as they are now."""
        return [
            cls(table, tuple((name, _reference(value), _state(value)) for name, value in table.items()))
            for table in (module._parameters, module._buffers, module._modules)
        ]

    def is_unchanged(self) -> bool:
        """Whether the same objects are there, with the same numbers."""
        table = self.table
        return len(table) == len(self.seen) and all(
            (value := table.get(name)) is (None if ref is None else ref()) and _state(value) == state
            for name, ref, state in self.seen
        )


def _hash(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().flatten()
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).digest()


def _reference(held: Tensor | nn.Module | None) -> weakref.ref[Any] | None:
    return None if held is None else weakref.ref(held)


def _state(held: Tensor | nn.Module | None) -> tuple[int, int] | None:
    """What changes when other numbers are written into a tensor, or it is given other memory."""
    if not isinstance(held, Tensor):
        return None
    version = 0 if held.is_inference() else held._version
    return version, 0 if held.is_mkldnn else held.data_ptr()
