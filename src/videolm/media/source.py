"""Whatever names a medium -> something to read it from and a name to call it by; nothing is decoded here."""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from videolm.errors import ArgumentError, MediaError, MediaLimitError, MediaNotFoundError
from videolm.media.fetch import fetch
from videolm.media.held_file import HeldFile
from videolm.media.limits import MediaLimits
from videolm.media.sniff import HEAD_BYTES
from videolm.media.wording import printable

__all__ = ["LaterSource", "MediaLimits", "OpenedSource", "Progress", "is_url", "open_source"]

Progress = Callable[[int, int | None], None]
"""Called during a download with the bytes so far and the bytes in all, None where the server does not say."""

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
DATA_HEADER_CHARS = 200
BASE64_PIECE_CHARS = 1 << 20
"""Four characters are three bytes: a multiple of four."""


@dataclass(frozen=True, kw_only=True)
class OpenedSource:
    """A medium on disk (``path``) or in memory (``stream``)."""

    name: str
    """For people: a path, a URL without its query, or a word such as ``bytes``."""
    path: Path | None = None
    """A file or folder."""
    stream: BinaryIO | HeldFile | None = None

    def rewound(self) -> BinaryIO:
        """The stream at its start, without a name from which a format could be guessed."""
        assert self.stream is not None
        self.stream.seek(0)
        return cast(BinaryIO, _Nameless(self.stream))

    def head(self) -> bytes:
        """The first bytes, for ``sniff``."""
        if self.path is None:
            return self.rewound().read(HEAD_BYTES)
        try:
            with open(self.path, "rb") as file:
                return file.read(HEAD_BYTES)
        except OSError as error:
            raise _unreadable(self.name, error) from error


class _Nameless:
    """A stream's reading side; closing it leaves the stream open, which belongs to the caller."""

    def __init__(self, stream: BinaryIO | HeldFile) -> None:
        self.read = stream.read
        self.seek = stream.seek
        self.tell = stream.tell


@dataclass(frozen=True)
class LaterSource:
    """A medium that is opened where it is read: a server names many before it reads one."""

    open: Callable[[], OpenedSource]


def is_url(text: str) -> bool:
    """Whether a text names a medium by a scheme (``http:``, ``https:``, ``data:``, ``file:``, or ``other://``)."""
    match = SCHEME.match(text)
    if match is None:
        return False
    return match[1].lower() in ("http", "https", "data", "file") or text.startswith("//", match.end())


def open_source(source: Any, limits: MediaLimits | None = None, progress: Progress | None = None) -> OpenedSource:
    """Open a path, bytes, a file object, or a URL (http, https, data, file); URLs are downloaded whole.

    What is open already comes back as it is.
    """
    limits = limits or MediaLimits()
    if isinstance(source, OpenedSource):
        return source
    if isinstance(source, LaterSource):
        return source.open()
    if isinstance(source, str) and not source.strip():
        raise MediaNotFoundError(
            f"The name of a medium is {source!r}. Expected a path or a URL. Write what to look at."
        )
    if isinstance(source, str) and is_url(source):
        return _open_url(source, limits, progress)
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(os.fsdecode(source)), allow_folder=True)
    if isinstance(source, bytes | bytearray | memoryview):
        _check_bytes(len(source), "bytes", limits)
        return OpenedSource(name="bytes", stream=io.BytesIO(source))
    if callable(getattr(source, "read", None)):
        return _open_file_object(source, limits)
    raise ArgumentError(
        f"A medium of type {type(source).__name__} was given. Expected a path, a URL, bytes, a file object, an array "
        "or a picture. Pass one of these."
    )


def _open_path(path: Path, *, allow_folder: bool) -> OpenedSource:
    name = printable(str(path))
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MediaNotFoundError(
            f"{name} does not exist. Expected a video, a picture or a folder of frames. Check the path."
        ) from error
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    if stat.S_ISREG(mode) or (allow_folder and stat.S_ISDIR(mode)):
        return OpenedSource(name=name, path=path)
    # Looked at by stat alone: opening a pipe or a device may block for ever.
    found = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
    expected = "a regular file or a folder" if allow_folder else "a file: URL of a regular file"
    advice = "Pass its path without file:" if stat.S_ISDIR(mode) else "Copy its contents to a file first"
    raise MediaError(f"{name} is {found}. Expected {expected}. {advice}.")


def _open_url(url: str, limits: MediaLimits, progress: Progress | None) -> OpenedSource:
    scheme = url.partition(":")[0].lower()
    if scheme in ("http", "https"):
        data, name = fetch(url, limits, progress)
        return OpenedSource(name=name, stream=io.BytesIO(data))
    if scheme == "data":
        return _open_data_uri(url, limits)
    if scheme == "file":
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or parts.query or not parts.path:
            raise MediaError(
                f"{printable(url.partition('?')[0])} is not a file of this machine. Expected file:///absolute/path. "
                "Pass the path itself."
            )
        return _open_path(Path(unquote(parts.path)), allow_folder=False)
    raise MediaError(
        f"{printable(scheme)}: URLs are not read. Expected http, https, data or file. "
        "Download the medium and pass its path."
    )


def _open_data_uri(url: str, limits: MediaLimits) -> OpenedSource:
    header, comma, payload = url.partition(",")
    if not comma or len(header) > DATA_HEADER_CHARS:
        raise MediaError(
            "The data: URI has no comma after its media type. Expected data:TYPE;base64,BYTES. Encode it again."
        )
    is_base64 = header.lower().endswith(";base64")
    _check_bytes(len(payload) * 3 // 4 if is_base64 else len(payload) // 3, "The data: URI", limits)
    name = f"{printable(header)} URI"
    if not is_base64:
        return OpenedSource(name=name, stream=io.BytesIO(unquote_to_bytes(payload)))
    try:
        return OpenedSource(name=name, stream=_decode_base64(unquote(payload)))
    except (binascii.Error, ValueError) as error:
        raise MediaError(
            f"The data: URI is not valid base64 ({error}). Expected data:TYPE;base64,BYTES. "
            "Encode it again with standard base64."
        ) from error


def _decode_base64(text: str) -> io.BytesIO:
    """Strictly, and in pieces, between which other threads have their turn."""
    if 0 <= text.find("=") < len(text) - 2:
        raise binascii.Error("padding stands before its end")
    data = io.BytesIO()
    for at in range(0, len(text), BASE64_PIECE_CHARS):
        data.write(base64.b64decode(text[at : at + BASE64_PIECE_CHARS], validate=True))
    return data


def _open_file_object(file: Any, limits: MediaLimits) -> OpenedSource:
    name = printable(str(getattr(file, "name", None) or "file object"))
    if isinstance(file, io.TextIOBase):
        raise ArgumentError(f"{name} is open in text mode. Expected bytes. Open it with mode 'rb'.")
    is_seekable = getattr(file, "seekable", None)
    if callable(is_seekable) and is_seekable():
        return OpenedSource(name=name, stream=file)
    data = file.read(limits.max_bytes + 1)
    _check_bytes(len(data), name, limits)
    return OpenedSource(name=name, stream=io.BytesIO(data))


def _check_bytes(num_bytes: int, name: str, limits: MediaLimits) -> None:
    if num_bytes > limits.max_bytes:
        raise MediaLimitError(
            f"{name} holds more than {limits.max_bytes} bytes. Expected at most max_bytes in memory. "
            "Save it to a file and pass its path, or raise max_bytes.",
            limit="max_bytes",
        )


def _unreadable(name: str, error: Exception) -> MediaError:
    reason = getattr(error, "strerror", None) or str(error)
    return MediaError(
        f"{name} cannot be opened: {reason}. Expected a file that this user may read. Check its path and permissions."
    )
