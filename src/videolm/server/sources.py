"""A content part in, what its medium is read from out: whatever a client may not have read is refused here."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from videolm.media.held_file import HeldFile
from videolm.media.source import LaterSource, OpenedSource
from videolm.media.wording import printable
from videolm.reader import Source
from videolm.server.errors import ApiError
from videolm.server.file_store import FileStore
from videolm.server.settings import ServerSettings

MAX_URL_CHARS = 8192
DATA_HEADER = re.compile(r"data:[\w.+/-]*(;[\w.+-]+=[\w.+-]*)*;base64", re.ASCII | re.IGNORECASE)
SHOWN_CHARS = 80
KINDS: dict[str, Literal["image", "video"]] = {"image_url": "image", "video_url": "video"}

__all__ = ["MediaPolicy", "open_below"]


@dataclass(frozen=True, kw_only=True)
class MediaPolicy:
    """What media of requests may be read from."""

    settings: ServerSettings
    files: FileStore

    def resolve(self, part: Mapping[str, Any], *, param: str) -> Source:
        """The source of one part's medium and its kind; nothing is read or looked up on disk before the reader does it.

        Args:
            part: Of the type image_url, video_url or file, checked as to its fields.
            param: What to call the part in errors.

        Raises:
            ApiError: It may not be read from there; also raised later, where a file cannot be opened.
        """
        if part["type"] == "file":
            return self._upload(part["file"]["file_id"], f"{param}.file.file_id"), "auto"
        name = part["type"]
        place = part[name]
        url = place if isinstance(place, str) else place["url"]
        return self._of_url(url, f"{param}.{name}" if isinstance(place, str) else f"{param}.{name}.url"), KINDS[name]

    def _of_url(self, url: str, param: str) -> Any:
        scheme = url.partition(":")[0].lower()
        if scheme == "data":
            return _checked_data_uri(url, param)
        if len(url) > MAX_URL_CHARS:
            raise _refused(
                f"The URL has {len(url)} characters: expected at most {MAX_URL_CHARS}. Shorten it", param, "invalid_url"
            )
        if scheme in ("http", "https"):
            return self._checked_address(url, param)
        if scheme == "file":
            return self._of_file_url(url, param)
        raise _refused(
            f"{_shown(url)} is no URL that is read here: expected http, https, data:TYPE;base64,BYTES, or file:// and "
            "the id of an upload. Upload the medium to /v1/files",
            param,
            "invalid_url",
        )

    def _checked_address(self, url: str, param: str) -> str:
        if self.settings.no_remote_media:
            raise _refused(
                "The medium is a URL, and this server fetches none (--no-remote-media): expected an upload or a data: "
                "URI. Upload it to /v1/files",
                param,
                "remote_media_off",
            )
        return url

    def _of_file_url(self, url: str, param: str) -> LaterSource:
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("file:")
        if parts.netloc not in ("", "localhost") and not parts.path.strip("/") and not (parts.query or parts.fragment):
            return self._upload(parts.netloc, param)
        if not parts.path.startswith("/") or parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
            raise _refused(
                f"{_shown(url)} is no file: URL that is read here: expected file:// and the id of an upload, or "
                "file:///absolute/path. Correct it",
                param,
                "invalid_url",
            )
        if self.settings.allowed_media_root is None:
            raise _refused(
                f"{_shown(url)} names a local file, and this server reads none: expected an upload. Upload it to "
                "/v1/files, or start the server with --allowed-media-root",
                param,
                "local_media_off",
            )
        return LaterSource(partial(_open_local, self.settings.allowed_media_root, unquote(parts.path), param))

    def _upload(self, file_id: str, param: str) -> LaterSource:
        self.files.get(file_id, param=param)
        return LaterSource(partial(self.files.open, file_id, param=param))


def open_below(root: Path, path: str) -> HeldFile:
    """Open a regular file that really lies below a folder, wherever symbolic links on its way lead.

    Links are resolved first. The result is opened from folder to folder without following any: what somebody exchanges
    for a link meanwhile is not read.

    Raises:
        PermissionError: It lies elsewhere.
        OSError: It cannot be opened, or is no regular file.
    """
    real_root = os.path.realpath(root)
    real = os.path.realpath(path)
    if os.path.commonpath([real_root, real]) != real_root or real == real_root:
        raise PermissionError
    *folders, name = os.path.relpath(real, real_root).split(os.sep)
    folder = os.open(real_root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for each in folders:
            inner = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        # A pipe would let its opener wait for ever.
        held = HeldFile(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder))
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(held.fileno()).st_mode):
        held.close()
        raise OSError("it is no regular file")
    return held


def _open_local(root: Path, path: str, param: str) -> OpenedSource:
    name = printable(path)
    try:
        return OpenedSource(name=name, stream=open_below(root, path))
    except PermissionError:
        raise _refused(
            f"{name} does not lie below the folder that this server reads from, or may not be read: expected a file "
            "there (--allowed-media-root). Correct the path, or upload the file to /v1/files",
            param,
            "local_media_refused",
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or printable(str(error))
        raise _refused(
            f"{name} cannot be opened ({reason}): expected a regular file that is there. Correct the path",
            param,
            "local_media_not_found",
        ) from None


def _checked_data_uri(url: str, param: str) -> str:
    # Whether the rest is base64 shows when it is decoded, in a thread and within the limit on bytes.
    comma = url.find(",", 0, MAX_URL_CHARS)
    if comma < 0 or not DATA_HEADER.fullmatch(url, 0, comma):
        raise _refused(
            f"{_shown(url)} is no data: URI that is read here: expected data:TYPE;base64,BYTES. Encode it again",
            param,
            "invalid_url",
        )
    return url


def _shown(url: str) -> str:
    """The beginning of a URL, without what may be a key in it."""
    bare = re.split(r"[?#,]", url, maxsplit=1)[0].rpartition("@")[2]
    return printable(bare[:SHOWN_CHARS])


def _refused(message: str, param: str, code: str) -> ApiError:
    return ApiError(400, f"{message}.", param=param, code=code)
