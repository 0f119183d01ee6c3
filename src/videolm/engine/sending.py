"""Pixels in, the same on the model's device out: copied ahead, while the model works on something else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from videolm.contracts import Features, VisualInput
from videolm.engine.features import FeatureSource

Arrive: TypeAlias = Callable[[], Tensor]
"""Gives the copy, which what is computed from now on waits for."""
Send: TypeAlias = Callable[[Tensor], Arrive]
"""Begins to copy a tensor to a device, from any thread."""

__all__ = ["Arrive", "CudaSend", "Send", "SendingFeatures"]


class CudaSend:
    """Copies from pinned memory on a stream of its own, beside what the device computes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, values: Tensor) -> Arrive:
        """Begin to copy; the thread waits for nothing but the copy into pinned memory."""
        if values.device.type != "cpu":
            return lambda: values.to(self._device)
        with torch.cuda.stream(self._stream):
            copy = values.pin_memory().to(self._device, non_blocking=True)
            sent = self._stream.record_event()

        def arrive() -> Tensor:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(sent)
            # Its memory belongs to the other stream, which must not take it again before this one is done with it.
            copy.record_stream(stream)
            return copy

        return arrive


class SendingFeatures:
    """A ``FeatureSource`` that encodes what was sent to the device beforehand; ``send`` is for any thread."""

    def __init__(self, source: FeatureSource, send: Send, *, max_bytes: int = 1 << 28) -> None:
        """``max_bytes``: device memory for media not encoded yet; what does not fit is sent when it is encoded."""
        self._source = source
        self._send = send
        self._max_bytes = max_bytes
        # What nobody will encode any more is forgotten together with its pixels.
        self._sent: MutableMapping[Tensor, Arrive] = WeakTensorKeyDictionary()
        self._lock = threading.Lock()

    def send(self, media: Iterable[VisualInput], keys: Iterable[str]) -> None:
        """Begin to copy what is not encoded, as far as there is room."""
        for medium, key in zip(media, keys, strict=True):
            pixels = medium.pixel_values
            if medium.features is not None or self._source.holds(key):
                continue
            with self._lock:
                room = self._max_bytes - sum(each.nbytes for each in self._sent)
                if pixels in self._sent or pixels.nbytes > room:
                    continue
            try:
                arrive = self._send(pixels)
            except Exception:  # Whatever it is, the step that encodes it tries again and tells of it.
                return
            with self._lock:
                self._sent[pixels] = arrive

    def features_for(self, media: Sequence[VisualInput], keys: Sequence[str]) -> Sequence[Features]:
        """As the source gives them; pixels that it encodes are on the device."""
        return self._source.features_for([self._there(*each) for each in zip(media, keys, strict=True)], keys)

    def holds(self, key: str) -> bool:
        """Whether the source does."""
        return self._source.holds(key)

    def _there(self, medium: VisualInput, key: str) -> VisualInput:
        if medium.features is not None or self._source.holds(key):
            return medium
        with self._lock:
            arrive = self._sent.pop(medium.pixel_values, None)
        return replace(medium, pixel_values=(arrive or self._send(medium.pixel_values))())
