"""A model in, a hash of everything in front of the decoder out: equal where media become the same features."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Iterator

import torch
from torch import Tensor

from videolm.models.video_lm import VideoLM

__all__ = ["VisionFingerprint"]

_DECODER = "language_model"


class VisionFingerprint:
    """Computed when it is first asked for, and again only after parameters have changed."""

    def __init__(self, model: VideoLM) -> None:
        self._model = model
        self._seen: list[tuple[str, weakref.ref[Tensor], tuple[int, int]]] = []
        self._digest = ""
        self._lock = threading.Lock()

    def __call__(self) -> str:
        """The hash."""
        with self._lock:
            if not self._digest or not self._is_unchanged():
                self._digest = self._compute()
                self._seen = [(name, weakref.ref(held), _state(held)) for name, held in self._held()]
            return self._digest

    def _is_unchanged(self) -> bool:
        held = list(self._held())
        return len(held) == len(self._seen) and all(
            name == seen and ref() is tensor and _state(tensor) == state
            for (name, tensor), (seen, ref, state) in zip(held, self._seen, strict=True)
        )

    def _held(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and buffers themselves: a state dict makes plain ones of weights that are laid out, each time."""
        root = self._model.model
        for named in (root.named_parameters(), root.named_buffers()):
            for name, tensor in named:
                if not name.startswith(f"{_DECODER}."):
                    yield name, tensor

    def _compute(self) -> str:
        config = self._model.model.config
        settings = (config.vision, config.video_vision, config.fusion, config.tokens)
        digest = hashlib.sha256(repr(settings).encode())
        for name, tensor in self._stored():
            digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode() + _hash(tensor))
        return digest.hexdigest()

    def _stored(self) -> Iterator[tuple[str, Tensor]]:
        """What a state dict holds, in its order, but one module after the other: not all plain weights at once."""
        for path, module in self._model.model.named_modules():
            if path == _DECODER or path.startswith(f"{_DECODER}."):
                continue
            own: dict[str, Tensor] = {}
            module._save_to_state_dict(own, f"{path}." if path else "", keep_vars=False)
            yield from own.items()


def _hash(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().flatten()
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).digest()


def _state(tensor: Tensor) -> tuple[int, int]:
    """What changes when other numbers are written into a tensor, or it is given other memory."""
    version = 0 if tensor.is_inference() else tensor._version
    return version, 0 if tensor.is_mkldnn else tensor.data_ptr()
