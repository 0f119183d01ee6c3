"""A model in, a hash of everything in front of the decoder out: equal where media become the same features."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from videolm.models.video_lm import VideoLM

__all__ = ["VisionFingerprint"]


class VisionFingerprint:
    """Computed when it is first asked for, and again only after parameters have changed."""

    def __init__(self, model: VideoLM) -> None:
        self._model = model
        self._state: tuple[object, ...] | None = None
        self._digest = ""
        self._lock = threading.Lock()

    def __call__(self) -> str:
        """The hash."""
        named = dict(self._named())
        state = tuple((name, tensor.data_ptr(), _version(tensor)) for name, tensor in named.items())
        with self._lock:
            if state != self._state:
                self._digest, self._state = self._compute(named), state
            return self._digest

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self._model.model.state_dict(keep_vars=True).items():
            if not name.startswith("language_model."):
                yield name, tensor

    def _compute(self, named: dict[str, Tensor]) -> str:
        config = self._model.model.config
        settings = (config.vision, config.video_vision, config.fusion, config.tokens)
        digest = hashlib.sha256(repr(settings).encode())
        with ThreadPoolExecutor(max_workers=4) as pool:  # Hashing large buffers holds no lock.
            for (name, tensor), hashed in zip(named.items(), pool.map(_hash, named.values()), strict=True):
                digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode() + hashed)
        return digest.hexdigest()


def _hash(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().flatten()
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).digest()


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
