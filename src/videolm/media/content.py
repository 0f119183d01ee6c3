"""Any medium in, a hash of what it holds out, whatever it is called: bytes of files, pixels of what is in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from videolm.contracts import Frames
from videolm.errors import MediaError
from videolm.media.limits import MediaLimits
from videolm.media.picture_sequence import frame_files
from videolm.media.source import OpenedSource, Progress, open_source

__all__ = ["open_content"]

_PIECE_BYTES = 1 << 20


def open_content(
    source: Any, limits: MediaLimits | None = None, progress: Progress | None = None
) -> tuple[Any, str, str]:
    """Hash a medium.

    Args:
        source: As for ``load_media``.
        progress: Called while a URL is downloaded.

    Returns:
        What to give ``load_media`` in its place (a URL is not downloaded twice), what to call it, and the hash.
    """
    limits = limits or MediaLimits()
    in_memory = _parts_in_memory(source)
    if in_memory is not None:
        return source, source.source if isinstance(source, Frames) else "array", _digest(in_memory)
    opened = open_source(source, limits, progress)
    try:
        return opened, opened.name, _digest(_parts_of(opened, limits))
    except OSError as error:
        raise MediaError(
            f"{opened.name} cannot be read: {error.strerror or error}. Expected a file that this user may read. "
            "Check its path and permissions."
        ) from error


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _parts_in_memory(source: Any) -> Iterator[bytes] | None:
    if isinstance(source, Frames):
        told = (source.kind, source.size, source.frame_indices, source.frame_times_s, source.fps, source.duration_s)
        return _array_parts("frames", source.pixels, told)
    if isinstance(source, list | tuple):
        return _array_parts("list", source)
    if isinstance(source, Image.Image) or hasattr(source, "ndim"):
        return _array_parts("single", [source])
    return None


def _array_parts(form: str, pictures: Iterable[Any], told: object = None) -> Iterator[bytes]:
    yield repr((form, told)).encode()
    for picture in pictures:
        if isinstance(picture, Image.Image):
            palette = picture.getpalette() if picture.mode in ("P", "PA") else None
            yield repr((picture.mode, picture.size, palette, picture.info.get("transparency"))).encode()
            yield picture.tobytes()
        else:
            array = np.ascontiguousarray(picture)
            yield repr((array.dtype.str, array.shape)).encode()
            yield array.tobytes()


def _parts_of(opened: OpenedSource, limits: MediaLimits) -> Iterator[bytes]:
    if opened.path is None:
        yield from _pieces(opened.rewound())
    elif opened.path.is_dir():
        for path in frame_files(opened.path, opened.name, limits):
            yield repr((path.name, path.stat().st_size)).encode()
            yield from _file_pieces(path)
    else:
        yield from _file_pieces(opened.path)


def _file_pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        yield from _pieces(file)


def _pieces(file: Any) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece
