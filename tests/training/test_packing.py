"""Samples into rows, rows into steps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videolm.contracts import ModelInputs, VisualInput
from videolm.training.config import BatchConfig
from videolm.training.data import FailedSample, Location, PreparedSample
from videolm.training.packing import StepData, StepPacker, pack


def sample(length: int, *, media: tuple[tuple[int, int], ...] = (), first_id: int = 0) -> ModelInputs:
    """Ids that count up; media as pairs of start and number of tokens, one frame each."""
    ids = tuple(range(first_id, first_id + length))
    visual = tuple(
        VisualInput(kind="video", pixel_values=torch.zeros(1, 3, 2, 2), size=(2, 2), num_tokens=count)
        for _, count in media
    )
    starts = tuple(start for start, _ in media)
    return ModelInputs(input_ids=ids, media=visual, media_starts=starts, labels=(-100, *ids[1:]))


def stream(lengths: list[int], bad: tuple[int, ...] = ()) -> Iterator[PreparedSample | FailedSample]:
    index = 0
    while True:
        location = Location(index=index, source=0, local_index=index)
        if index in bad:
            yield FailedSample(location=location, source="s", id=str(index), error="bad")
        else:
            length = lengths[index % len(lengths)]
            yield PreparedSample(location=location, source="s", id=str(index), inputs=sample(length))
        index += 1


def steps(packer: StepPacker, number: int) -> list[tuple[list[tuple[int, ...]], int]]:
    """Lengths of the sequences of each row of each step, and where the next step begins."""
    made: list[StepData] = [packer.next_step() for _ in range(number)]
    return [([row.sequence_lengths for row in step.rows], step.next_index) for step in made]


def test_a_row_holds_its_samples_side_by_side() -> None:
    row = pack([sample(4, media=((1, 2),)), sample(3, first_id=10), sample(4, media=((0, 1), (2, 2)), first_id=20)])

    assert row.input_ids.tolist() == [0, 1, 2, 3, 10, 11, 12, 20, 21, 22, 23]
    assert row.position_ids.tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3]
    assert row.sequence_lengths == (4, 3, 4)
    assert row.visual_positions.tolist() == [1, 2, 7, 9, 10]
    assert [medium.num_tokens for medium in row.media] == [2, 1, 2]
    assert row.labels is not None
    assert row.labels.tolist() == [-100, 1, 2, 3, -100, 11, 12, -100, 21, 22, 23]


def test_a_row_without_media_has_no_visual_positions() -> None:
    assert pack([sample(2)]).visual_positions.tolist() == []


def test_full_rows_keep_the_sample_that_did_not_fit_for_the_next_step() -> None:
    packer = StepPacker(stream([4, 5, 3]), BatchConfig(max_tokens=10), on_bad_sample=lambda _: None, rows_per_step=2)
    # Samples: 4 5 | 3 4 || 5 3 | 4 5 || 3 4 | 5 3
    assert steps(packer, 3) == [([(4, 5), (3, 4)], 4), ([(5, 3), (4, 5)], 8), ([(3, 4), (5, 3)], 12)]


def test_steps_of_samples_are_split_into_rows_that_fit() -> None:
    batch = BatchConfig(max_tokens=10, samples_per_step=4)
    packer = StepPacker(stream([4, 5, 3]), batch, on_bad_sample=lambda _: None)
    assert steps(packer, 2) == [([(4, 5), (3, 4)], 4), ([(5, 3), (4, 5)], 8)]


def test_steps_of_samples_are_dealt_to_the_rows_of_an_accumulation() -> None:
    packer = StepPacker(stream([4]), BatchConfig(samples_per_step=5), on_bad_sample=lambda _: None, rows_per_step=2)
    assert steps(packer, 1) == [([(4, 4, 4), (4, 4)], 5)]


def test_bad_and_too_large_samples_are_reported_and_left_out() -> None:
    bad: list[FailedSample] = []
    batch = BatchConfig(max_tokens=10, samples_per_step=2)
    packer = StepPacker(stream([4, 11, 3], bad=(2,)), batch, on_bad_sample=bad.append)

    assert steps(packer, 1) == [([(4, 4)], 4)]
    assert [(item.location.index, item.id) for item in bad] == [(1, "1"), (2, "2")]
    assert "11 tokens" in bad[0].error


def test_tiles_bound_a_row_too() -> None:
    def clips() -> Iterator[PreparedSample]:
        for index in range(10):
            location = Location(index=index, source=0, local_index=index)
            yield PreparedSample(location=location, source="s", id="", inputs=sample(3, media=((0, 1), (1, 1))))

    packer = StepPacker(clips(), BatchConfig(max_tiles=5, samples_per_step=4), on_bad_sample=lambda _: None)
    assert steps(packer, 1) == [([(3, 3), (3, 3)], 4)]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(1, 3), st.integers(1, 5))
def test_resuming_at_next_index_continues_the_rows(lengths: list[int], rows: int, before: int) -> None:
    batch = BatchConfig(max_tokens=12)

    def packer(first_index: int) -> StepPacker:
        items = (item for item in stream(lengths) if item.location.index >= first_index)
        return StepPacker(items, batch, on_bad_sample=lambda _: None, rows_per_step=rows, first_index=first_index)

    whole = steps(packer(0), before + 2)
    assert steps(packer(whole[before - 1][1]), 2) == whole[before:]


@pytest.mark.parametrize("num_processes", [1, 2])
def test_processes_share_the_samples_of_a_step(num_processes: int) -> None:
    packer = StepPacker(
        (item for item in stream([4]) if item.location.index % num_processes == 0),
        BatchConfig(samples_per_step=4),
        on_bad_sample=lambda _: None,
        num_processes=num_processes,
    )
    assert steps(packer, 2) == [([(4,) * (4 // num_processes)], 4), ([(4,) * (4 // num_processes)], 8)]
