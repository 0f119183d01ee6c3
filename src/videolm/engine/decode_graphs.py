"""Sequences that compute one token each in, their logits out: each size of such a pass captured once, then replayed."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import TypeAlias

import torch
from torch import Tensor

from videolm.engine.batch import Row
from videolm.engine.config import EngineConfig
from videolm.engine.decode_pass import DecodePass, DecodeSize
from videolm.engine.paged_cache import PagedCache
from videolm.errors import ArgumentError
from videolm.models.video_lm import VideoLM

Replay: TypeAlias = Callable[[], Tensor]
"""Computes once more what was captured, from what its tensors hold by now; gives the same tensor each time."""
Capture: TypeAlias = Callable[[Callable[[], Tensor]], Replay]
"""Captures a computation on tensors that stay where they are. It may be run meanwhile."""

__all__ = ["Capture", "CudaCapture", "DecodeGraphs", "Replay", "capture_for"]

_MOST_GRAPHS = 32


class CudaCapture:
    """Captures as ``torch.cuda.CUDAGraph``; all graphs share their memory, so one must be done with before the next."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Callable[[], Tensor]) -> Replay:
        """Capture it, after running it once: what libraries set up in a first call must not be captured."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            compute()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Of this thread alone: others go on preparing media, which takes memory and must not break the capture.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            result = compute()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


def capture_for(config: EngineConfig, device: torch.device) -> Capture | None:
    """What captures on this device; None where nothing is captured."""
    if config.cuda_graphs and device.type != "cuda":
        raise ArgumentError(
            f"cuda_graphs is True but the model is on {device}: expected a CUDA device. Move the model to one, or "
            "leave cuda_graphs out."
        )
    if device.type != "cuda" or config.cuda_graphs is False or config.cache_dtype == "int8":
        return None
    return CudaCapture(device)


class DecodeGraphs:
    """The graphs of one model with its cache, the least recently used forgotten first."""

    def __init__(
        self, model: VideoLM, storage: PagedCache, capture: Capture, *, block_size: int, num_slots: int
    ) -> None:
        """``num_slots``: those of the blocks; the storage has ``NUM_SPARE_SLOTS`` more."""
        self._model, self._storage = model, storage
        self._block_size, self._num_slots = block_size, num_slots
        self._capture: Capture | None = capture
        self._kept: OrderedDict[DecodeSize, tuple[DecodePass, Replay]] = OrderedDict()

    def run(self, rows: Sequence[Row]) -> Tensor | None:
        """Compute sequences that ``decodes`` holds of.

        Returns:
            Logits ``[N, V]``; None where graphs have turned out to be impossible.
        """
        size = DecodeSize.of(rows, self._block_size)
        found = self._kept.get(size) or self._captured(size)
        if found is None:
            return None
        self._kept.move_to_end(size)
        decode, replay = found
        decode.fill(rows)
        return replay()[: len(rows)].clone()  # A caller's logits processor may keep what it is given.

    def _captured(self, size: DecodeSize) -> tuple[DecodePass, Replay] | None:
        if self._capture is None:
            return None
        if len(self._kept) == _MOST_GRAPHS:
            self._kept.popitem(last=False)
        try:
            # Everything in it is padding while it is captured, so running it stores nothing.
            decode = DecodePass(
                self._model,
                self._storage,
                size,
                block_size=self._block_size,
                num_slots=self._num_slots,
                uses_kernel=self._uses_kernel,
            )
            self._kept[size] = decode, self._capture(decode)
        except Exception as error:  # Such as a layer that waits for the device, or memory that is too short.
            self._capture = None
            self._kept.clear()
            _warn("Decoding cannot be captured as CUDA graphs", error, "Set cuda_graphs=False to try it no more.")
            return None
        return self._kept[size]

    @cached_property
    def _uses_kernel(self) -> bool:
        if self._model.device.type != "cuda" or find_spec("triton") is None:
            return False
        try:
            from videolm.engine.paged_kernel import check_kernel  # Triton takes a while to import.

            decoder = self._model.model.config.decoder
            check_kernel(decoder, self._block_size, dtype=self._storage.dtype, device=self._model.device)
        except Exception as error:  # Of a compiler that lacks something, for one.
            _warn("Triton's attention cannot be used", error, "Uninstall triton to try it no more.")
            return False
        return True


def _warn(what: str, error: Exception, advice: str) -> None:
    first_line = (str(error).splitlines() or [""])[0]
    warnings.warn(
        f"{what} ({type(error).__name__}: {first_line}): it goes on without. {advice}", RuntimeWarning, stacklevel=4
    )
