"""Prepared samples in the order of their index, made by worker processes ahead of the steps that use them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from videolm.errors import TrainingError
from videolm.training.data import FailedSample, Location, PreparedSample, SampleMaker, mix

__all__ = ["load_samples"]

_WORKER_NICENESS = 10
_REQUESTS_TO_STOP = (signal.SIGINT, signal.SIGTERM)


def load_samples(
    maker: SampleMaker,
    *,
    weights: tuple[float, ...],
    start: int,
    num_processes: int = 1,
    workers: int = 2,
    prefetch: int = 8,
) -> Iterator[PreparedSample | FailedSample]:
    """Samples from index ``start`` on, for ever; the order is the same for any number of workers.

    Args:
        start: the first index; this process takes every ``num_processes``-th from there.
    """
    _allow_open_files()
    loader: DataLoader[Any] = DataLoader(
        maker,  # type: ignore[arg-type]  # locations are its indices
        batch_size=None,
        sampler=_Locations(weights, start, num_processes),
        num_workers=workers,
        collate_fn=_as_is,
        prefetch_factor=prefetch if workers else None,
        worker_init_fn=_start_worker if workers else None,
        multiprocessing_context="spawn" if workers else None,
        # The loader draws a seed when it starts; from a generator of its own, so that a resumed run is not shifted.
        generator=torch.Generator(),
    )
    with _signals_ignored():
        return _with_plain_errors(iter(loader))


def _with_plain_errors(samples: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from samples
    # What goes wrong with a sample is a FailedSample, so this is a worker that is no more.
    except RuntimeError as error:
        text = str(error).splitlines()[0]
        raise TrainingError(
            f"A worker process ended ({text}), expected it to make samples until the run ends. "
            "Lower workers or prefetch if memory ran out, or set workers to 0 to see what ends it; then resume."
        ) from error


class _Locations(Sampler[Location]):
    def __init__(self, weights: tuple[float, ...], start: int, step: int) -> None:
        self._arguments = (weights, start, step)

    def __iter__(self) -> Iterator[Location]:
        return mix(*self._arguments)


def _as_is(sample: Any) -> Any:
    return sample


def _start_worker(_: int) -> None:
    """The training process goes first, and it alone answers requests to stop; workers end when it does."""
    torch.set_num_threads(1)
    for number in _REQUESTS_TO_STOP:
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(_WORKER_NICENESS)


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    """Workers that are started inside are deaf from their first moment on, not only once they are set up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in _REQUESTS_TO_STOP}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _allow_open_files() -> None:
    """Each tensor that comes from a worker holds an open file until it is used."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
