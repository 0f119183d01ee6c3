"""Media in, the same media encoded and kept in a cache out: read ahead in threads, encoded together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from videolm.contracts import MediaReport
from videolm.conversation import media_report
from videolm.engine.preparation import PreparationPool, Prepared
from videolm.engine.vision_cache import VisionCache
from videolm.errors import VideoLMError
from videolm.options import MediaOptions
from videolm.reader import Medium, OnDownload, Reader, Source
from videolm.stopwatch import Stopwatch

__all__ = ["IndexedMedium", "encode_media", "index_media"]


@dataclass(frozen=True, kw_only=True)
class IndexedMedium:
    """What became of one medium that was to be indexed."""

    source: Any
    """As it was given."""
    report: MediaReport | None = None
    was_there: bool = False
    """Whether the cache held it already."""
    warnings: tuple[str, ...] = ()
    error: VideoLMError | None = None
    """Why there is no report."""


def index_media(
    sources: Sequence[Source],
    options: MediaOptions,
    reader: Reader,
    cache: VisionCache,
    *,
    on_download: OnDownload | None = None,
) -> Iterator[IndexedMedium]:
    """Read media ahead, encode what is ready together, and tell each when it is done; errors stay with their medium."""

    def read(source: Source) -> Medium:
        watch = Stopwatch(torch.device("cpu"))
        (medium,) = reader.read([source], options, watch, on_download=on_download, known=cache)
        return medium

    with PreparationPool(read, size_of=lambda medium: medium[1].pixel_values.nbytes) as pool:
        for source in sources:
            pool.submit(source)
        while pool.num_pending:
            yield from _encode_read(pool.take(None), cache)


def encode_media(media: Sequence[Medium], cache: VisionCache) -> list[Medium]:
    """Media with their features; what happened to the cache's files is told with the first."""
    if not media:
        return []
    (frames, visual), *others = cache.encode(media)
    return [(replace(frames, warnings=(*frames.warnings, *cache.take_warnings())), visual), *others]


def _encode_read(read: Sequence[Prepared[Source, Medium]], cache: VisionCache) -> Iterator[IndexedMedium]:
    yield from (_failed(each) for each in read if each.error is not None)
    good = [each for each in read if each.error is None]
    try:
        encoded = encode_media([each.result() for each in good], cache)
    except VideoLMError as error:
        if len(good) == 1:
            yield _failed(replace(good[0], error=error))
            return
        for each in good:  # One that cannot be encoded does not fail the others.
            yield from _encode_read([each], cache)
        return
    for each, medium in zip(good, encoded, strict=True):
        was_there = each.result()[1].features is not None
        report, warnings = media_report(medium), medium[0].warnings
        yield IndexedMedium(source=each.item[0], report=report, was_there=was_there, warnings=warnings)


def _failed(read: Prepared[Source, Medium]) -> IndexedMedium:
    if not isinstance(read.error, VideoLMError):
        read.result()  # A fault of the program is nobody's medium.
    assert isinstance(read.error, VideoLMError)
    return IndexedMedium(source=read.item[0], error=read.error)
