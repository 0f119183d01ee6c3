"""Samples in, packed rows out: side by side without padding, in order, as many rows as one optimiser step takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from videolm.contracts import ModelInputs, PackedBatch, VisualInput
from videolm.training.config import BatchConfig
from videolm.training.data import FailedSample, PreparedSample

IGNORED = -100

__all__ = ["IGNORED", "StepData", "StepPacker", "empty_row", "move", "pack"]


@dataclass(frozen=True, kw_only=True)
class StepData:
    """What one optimiser step learns from."""

    rows: tuple[PackedBatch, ...]
    num_samples: int
    num_tokens: int
    next_index: int
    """The first sample, in this process's order, that no step so far has used: where a resumed run begins."""


def pack(samples: Sequence[ModelInputs]) -> PackedBatch:
    """One row of all samples, in order."""
    lengths = tuple(len(sample.input_ids) for sample in samples)
    ids = torch.tensor([i for sample in samples for i in sample.input_ids], dtype=torch.int64)
    labels = torch.tensor(
        [i for sample in samples for i in (sample.labels or (IGNORED,) * len(sample.input_ids))], dtype=torch.int64
    )
    media: list[VisualInput] = []
    spans: list[Tensor] = []
    offset = 0
    for sample, length in zip(samples, lengths, strict=True):
        media.extend(sample.media)
        for start, medium in zip(sample.media_starts, sample.media, strict=True):
            spans.append(torch.arange(offset + start, offset + start + medium.num_tokens))
        offset += length
    return PackedBatch(
        input_ids=ids,
        position_ids=torch.cat([torch.arange(length) for length in lengths]),
        sequence_lengths=lengths,
        visual_positions=torch.cat(spans) if spans else torch.empty(0, dtype=torch.int64),
        media=tuple(media),
        labels=labels,
    )


def empty_row() -> PackedBatch:
    """A row from which nothing is learned, for a process that has fewer rows than others in a step."""
    return pack([ModelInputs(input_ids=(0,), labels=(IGNORED,))])


def move(batch: PackedBatch, device: torch.device) -> PackedBatch:
    """The row with its tensors on ``device``."""
    if device.type == "cpu":
        return batch
    return replace(
        batch,
        input_ids=batch.input_ids.to(device, non_blocking=True),
        position_ids=batch.position_ids.to(device, non_blocking=True),
        visual_positions=batch.visual_positions.to(device, non_blocking=True),
        labels=None if batch.labels is None else batch.labels.to(device, non_blocking=True),
        media=tuple(replace(m, pixel_values=m.pixel_values.to(device, non_blocking=True)) for m in batch.media),
    )


class StepPacker:
    """Takes samples in order and fills the rows of one step after the other.

    A row is closed when the next sample would not fit; that sample opens the next row. With ``samples_per_step`` a step
    ends after so many samples (bad ones not counted), without it after ``rows_per_step`` rows.
    """

    def __init__(
        self,
        samples: Iterator[PreparedSample | FailedSample],
        batch: BatchConfig,
        *,
        on_bad_sample: Callable[[FailedSample], None],
        rows_per_step: int = 1,
        first_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        self._samples = samples
        self._batch = batch
        self._on_bad_sample = on_bad_sample
        self._rows_per_step = rows_per_step
        self._num_processes = num_processes
        self._held: PreparedSample | None = None
        self._next_index = first_index

    def next_step(self) -> StepData:
        """The rows of the next step; waits for the workers where they are behind."""
        wanted = self._batch.samples_per_step
        rows = self._fill_rows() if wanted is None else self._fill_samples(wanted // self._num_processes)
        return StepData(
            rows=tuple(pack(row) for row in rows),
            num_samples=sum(map(len, rows)),
            num_tokens=sum(len(sample.input_ids) for row in rows for sample in row),
            next_index=self._next_index if self._held is None else self._held.location.index,
        )

    def _fill_rows(self) -> list[list[ModelInputs]]:
        rows: list[list[ModelInputs]] = [[]]
        while True:
            sample = self._take()
            if not self._fits(rows[-1], sample.inputs):
                if len(rows) == self._rows_per_step:
                    self._held = sample
                    return rows
                rows.append([])
            rows[-1].append(sample.inputs)

    def _fill_samples(self, num_samples: int) -> list[list[ModelInputs]]:
        samples = [self._take().inputs for _ in range(num_samples)]
        rows: list[list[ModelInputs]] = [[]]
        # Without a bound on rows, the samples are dealt evenly to gradient_accumulation rows.
        per_row = -(-num_samples // self._rows_per_step)
        for sample in samples:
            if not self._fits(rows[-1], sample) or (self._rows_per_step > 1 and len(rows[-1]) == per_row):
                rows.append([])
            rows[-1].append(sample)
        return rows

    def _take(self) -> PreparedSample:
        if self._held is not None:
            sample, self._held = self._held, None
            return sample
        while True:
            item = next(self._samples)
            self._next_index = item.location.index + self._num_processes
            if isinstance(item, PreparedSample):
                item = self._refuse_large(item)
            if isinstance(item, PreparedSample):
                return item
            self._on_bad_sample(item)

    def _refuse_large(self, item: PreparedSample) -> PreparedSample | FailedSample:
        if self._fits([], item.inputs):
            return item
        error = (
            f"ProcessingError: the sample has {len(item.inputs.input_ids)} tokens and {_num_tiles(item.inputs)} frames "
            f"and tiles, expected at most {self._batch.max_tokens} and {self._batch.max_tiles or 'any number of'}. "
            "Raise batch.max_tokens or batch.max_tiles, or use fewer frames."
        )
        return FailedSample(location=item.location, source=item.source, id=item.id, error=error)

    def _fits(self, row: Sequence[ModelInputs], sample: ModelInputs) -> bool:
        max_tokens, max_tiles = self._batch.max_tokens, self._batch.max_tiles
        samples = (*row, sample)
        if max_tokens is not None and sum(len(s.input_ids) for s in samples) > max_tokens:
            return False
        return max_tiles is None or sum(map(_num_tiles, samples)) <= max_tiles


def _num_tiles(sample: ModelInputs) -> int:
    return sum(int(medium.pixel_values.shape[0]) for medium in sample.media)
