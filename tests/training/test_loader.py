"""Samples from worker processes: the same ones in the same order as without workers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from videolm.errors import TrainingError
from videolm.training.config import load_train_config
from videolm.training.data import FailedSample, PreparedSample, SampleMaker
from videolm.training.loader import load_samples
from videolm.training.start import load_start

MakeConfig = Callable[..., Path]


def take(maker: SampleMaker, number: int, *, start: int = 0, workers: int = 0) -> list[PreparedSample | FailedSample]:
    return list(islice(load_samples(maker, weights=(3, 1), start=start, workers=workers, prefetch=2), number))


def make_maker(make_config: MakeConfig, *sources: dict[str, Any]) -> SampleMaker:
    config = load_train_config(make_config(data=list(sources)))
    start = load_start(config.model, torch.device("cpu"))
    return SampleMaker(config.data, start.make_processor, sampling=start.sampling, half=True)


@pytest.fixture
def maker(make_config: MakeConfig) -> SampleMaker:
    return make_maker(
        make_config,
        {"name": "clips", "source": "colours_source:Colours", "options": {"broken": True}, "weight": 3},
        {"name": "pictures", "source": "colours_source:Colours", "options": {"video": False}},
    )


def test_workers_keep_the_order_of_samples_and_of_failures(maker: SampleMaker) -> None:
    alone, together = take(maker, 12), take(maker, 12, workers=2)

    assert [item.location for item in together] == [item.location for item in alone]
    assert [item.id for item in together] == [item.id for item in alone]
    failures = [(item.location.index, item.error) for item in together if isinstance(item, FailedSample)]
    assert failures == [(4, "ValueError: sample 3 is broken")]
    for one, other in zip(alone, together, strict=True):
        if isinstance(one, PreparedSample) and isinstance(other, PreparedSample):
            assert one.inputs.input_ids == other.inputs.input_ids
            torch.testing.assert_close(one.inputs.media[0].pixel_values, other.inputs.media[0].pixel_values)


def test_starting_later_gives_the_same_samples(maker: SampleMaker) -> None:
    assert [item.id for item in take(maker, 5, start=7)] == [item.id for item in take(maker, 12)[7:]]


def test_a_worker_that_dies_ends_the_run_with_one_line(make_config: MakeConfig) -> None:
    sources = [{"name": name, "source": "colours_source:Deadly"} for name in ("a", "b")]
    with pytest.raises(
        TrainingError, match=r"A worker process ended \(DataLoader worker \(pid.* set workers to 0"
    ) as caught:
        take(make_maker(make_config, *sources), 20, workers=1)
    assert "\n" not in str(caught.value)
