"""Samples from worker processes: the same ones in the same order as without workers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch

from videolm.training.config import load_train_config
from videolm.training.data import FailedSample, PreparedSample, SampleMaker
from videolm.training.loader import load_samples
from videolm.training.start import load_start

MakeConfig = Callable[..., Path]


def take(maker: SampleMaker, number: int, *, start: int = 0, workers: int = 0) -> list[PreparedSample | FailedSample]:
    return list(islice(load_samples(maker, weights=(3, 1), start=start, workers=workers, prefetch=2), number))


@pytest.fixture
def maker(make_config: MakeConfig) -> SampleMaker:
    sources = [
        {"name": "clips", "source": "colours_source:Colours", "options": {"broken": True}, "weight": 3},
        {"name": "pictures", "source": "colours_source:Colours", "options": {"video": False}},
    ]
    config = load_train_config(make_config(data=sources))
    start = load_start(config.model, torch.device("cpu"))
    return SampleMaker(config.data, start.make_processor, sampling=start.sampling, half=True)


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
