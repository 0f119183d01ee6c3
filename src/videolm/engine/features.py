"""Media and their keys in, the rows that replace their placeholders out: encoded once for each key."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import torch

from videolm.contracts import Features, VisualInput
from videolm.models.video_lm import VideoLM

__all__ = ["FeatureMemory", "FeatureSource", "medium_key"]


class FeatureSource(Protocol):
    """Where the engine gets the features of media from; it asks only for media whose rows it computes with."""

    def features_for(self, media: Sequence[VisualInput], keys: Sequence[str]) -> Sequence[Features]:
        """One a medium, in order; media with the same key have the same features."""
        ...

    def holds(self, key: str) -> bool:
        """Whether the features of this key are at hand, without encoding anything."""
        ...


class FeatureMemory:
    """Features in memory, the least recently used forgotten first."""

    def __init__(self, model: VideoLM, *, max_bytes: int) -> None:
        """``max_bytes``: what is kept between calls; a single call may need more."""
        self._model = model
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, Features] = OrderedDict()
        self._num_bytes = 0

    @torch.inference_mode()
    def features_for(self, media: Sequence[VisualInput], keys: Sequence[str]) -> Sequence[Features]:
        """All that are new are encoded together."""
        missing = {key: medium for key, medium in zip(keys, media, strict=True) if key not in self._kept}
        encoded = self._model.encode_media(list(missing.values()))
        for key, features in zip(missing, encoded, strict=True):
            # What was encoded together shares memory: a copy keeps its own rows alone.
            self._kept[key] = Features(tokens=features.tokens.clone())
            self._num_bytes += features.tokens.nbytes
        for key in keys:
            self._kept.move_to_end(key)
        found = [self._kept[key] for key in keys]
        while self._num_bytes > self._max_bytes:
            self._num_bytes -= self._kept.popitem(last=False)[1].tokens.nbytes
        return found

    def holds(self, key: str) -> bool:
        """Whether they are kept."""
        return key in self._kept

    @property
    def num_bytes(self) -> int:
        """Memory of what is kept."""
        return self._num_bytes


def medium_key(medium: VisualInput) -> str:
    """A hash of everything about a medium that its features depend on, but for the weights."""
    if medium.content:
        return medium.content
    source = medium.pixel_values if medium.features is None else medium.features.tokens
    pixels = source.detach().cpu().contiguous()
    layout = (medium.kind, medium.size, medium.num_tokens, medium.budget, str(pixels.dtype), tuple(pixels.shape))
    digest = hashlib.sha256(repr(layout).encode())
    digest.update(pixels.view(torch.uint8).numpy().data)
    return digest.hexdigest()
