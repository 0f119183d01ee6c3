"""Features of media by what they were made from: kept in memory and, on request, in a folder that processes share.

A medium's key is a hash of its source's content, the choice of frames, the preprocessing and the rules of its tokens,
all of which its reader puts into ``content``, and of the weights and settings that encode it: whatever changes, the key
does.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from videolm.contracts import Features, Frames, VisualInput
from videolm.engine.feature_files import FeatureFolder, StoredMedium, UnusableFileError
from videolm.errors import ArgumentError
from videolm.generation.params import check_whole
from videolm.models.fingerprint import VisionFingerprint
from videolm.models.video_lm import VideoLM

_MOST_WARNINGS = 100
_MOST_EXPECTED = 1024
"""Media that were announced and are not encoded yet; those that never will be must not add up."""

__all__ = ["VisionCache", "VisionCacheConfig"]


@dataclass(frozen=True, kw_only=True)
class VisionCacheConfig:
    """Where features are kept, and how many."""

    folder: Path | None = None
    """Shared between processes and kept after they end; None: memory alone."""
    max_bytes: int = 1 << 30
    """Most memory for features."""
    max_folder_bytes: int = 10 * 10**9
    """Most bytes in the folder; the least recently used go first."""

    def __post_init__(self) -> None:
        check_whole("max_bytes", self.max_bytes, 0)
        check_whole("max_folder_bytes", self.max_folder_bytes, 1)


class VisionCache:
    """Features of one model's media; a ``FeatureSource``. Threads may share it."""

    def __init__(self, model: VideoLM, config: VisionCacheConfig) -> None:
        self._model = model
        self._fingerprint = VisionFingerprint(model)
        self._max_bytes = config.max_bytes
        self._folder = None if config.folder is None else _opened(config.folder, config.max_folder_bytes)
        self._kept: OrderedDict[str, StoredMedium] = OrderedDict()
        self._expected: OrderedDict[str, Frames] = OrderedDict()
        self._num_bytes = 0
        self._warnings: dict[str, None] = {}
        self._lock = threading.Lock()

    def key(self, content: str) -> str:
        """The key of a medium of this content with this model's weights."""
        return hashlib.sha256(f"{content} {self._fingerprint()}".encode()).hexdigest()

    def expect(self, frames: Frames, visual: VisualInput) -> None:
        """What to tell of a medium that is found again, where ``features_for`` encodes it, which is not told that."""
        if not visual.content or visual.features is not None:
            return
        key, told = self.key(visual.content), replace(frames, pixels=())
        with self._lock:
            if key in self._kept:
                self._kept[key] = replace(self._kept[key], frames=told)
                return
            self._expected[key] = told
            while len(self._expected) > _MOST_EXPECTED:
                self._expected.popitem(last=False)

    def find(self, content: str) -> tuple[Frames, VisualInput] | None:
        """A medium that was encoded before, without pixels; None where it was not."""
        stored = self._look_up(self.key(content))
        return None if stored is None or stored.frames is None else (stored.frames, stored.visual)

    @torch.inference_mode()
    def encode(self, media: Sequence[tuple[Frames, VisualInput]]) -> list[tuple[Frames, VisualInput]]:
        """The same media with their features; what is not encoded yet is encoded together, and kept."""
        result = []
        encoded = self._model.encode_media([visual for _, visual in media])
        for (frames, visual), features in zip(media, encoded, strict=True):
            if visual.features is None and visual.content:
                self._keep(self.key(visual.content), StoredMedium.of(frames, visual, features), is_new=True)
            result.append((frames, replace(visual, features=features)))
        return result

    @torch.inference_mode()
    def features_for(self, media: Sequence[VisualInput], keys: Sequence[str]) -> Sequence[Features]:
        """One a medium, in order: from the cache, or encoded together and kept."""
        known: dict[str, Features] = {}
        missing: dict[str, VisualInput] = {}
        for key, medium in zip(keys, media, strict=True):
            stored = self._look_up(self.key(key)) if medium.features is None else None
            features = medium.features if stored is None else stored.visual.features
            if features is None:
                missing[key] = medium
            else:
                known[key] = features
        encoded = self._model.encode_media(list(missing.values()))
        for (key, medium), features in zip(missing.items(), encoded, strict=True):
            known[key] = features
            stored_key = self.key(key)
            with self._lock:
                frames = self._expected.pop(stored_key, None)
            self._keep(stored_key, StoredMedium.of(frames, medium, features), is_new=True)
        return [known[key] for key in keys]

    def holds(self, key: str) -> bool:
        """Whether they are in memory; what the folder has is not looked for."""
        return self.key(key) in self._kept

    @property
    def num_bytes(self) -> int:
        """Memory of what is kept."""
        return self._num_bytes

    def take_warnings(self) -> tuple[str, ...]:
        """What went wrong with files since this was last called, one line each."""
        with self._lock:
            taken, self._warnings = tuple(self._warnings), {}
        return taken

    def _look_up(self, key: str) -> StoredMedium | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        if self._folder is None:
            return None
        try:
            stored = self._folder.read(key)
        except UnusableFileError as problem:
            self._warn(f"{self._folder.path_of(key)} {problem}: it is ignored, and written anew.")
            return None
        if stored is not None:
            self._keep(key, stored, is_new=False)
        return stored

    def _keep(self, key: str, stored: StoredMedium, *, is_new: bool) -> None:
        with self._lock:
            if (known := self._kept.pop(key, None)) is not None:
                self._num_bytes -= _num_bytes(known)
            self._kept[key] = stored
            self._num_bytes += _num_bytes(stored)
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= _num_bytes(self._kept.popitem(last=False)[1])
        if is_new and self._folder is not None:
            try:
                self._folder.write(key, stored)
            except OSError as error:
                self._warn(f"{self._folder.path_of(key)} cannot be written ({error.strerror or error}): not kept.")

    def _warn(self, line: str) -> None:
        with self._lock:
            if len(self._warnings) < _MOST_WARNINGS:  # Nobody need ever take them.
                self._warnings[line] = None


def _num_bytes(stored: StoredMedium) -> int:
    return 0 if stored.visual.features is None else stored.visual.features.tokens.nbytes


def _opened(folder: Path, max_bytes: int) -> FeatureFolder:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"The cache {folder} cannot be made ({error.strerror or error}): expected a folder that this user may "
            "write to. Choose another one."
        ) from error
    return FeatureFolder(folder, max_bytes=max_bytes)
