"""Uploaded files in one folder: random ids, a bound on their bytes and on their age, written whole or not at all."""

from __future__ import annotations

import fcntl
import math
import os
import re
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Literal

import msgspec

from videolm.errors import ArgumentError
from videolm.media.held_file import HeldFile
from videolm.media.source import OpenedSource
from videolm.media.wording import printable
from videolm.server.errors import ApiError
from videolm.server.settings import ServerSettings

LEAST_BYTES = 1 << 14
"""What a file counts for at least: many tiny ones cost too."""
OURS = re.compile(r"(file-[0-9a-f]{32})(\.json|\.part)?")

Purpose = Literal["user_data", "vision"]

__all__ = ["LEAST_BYTES", "FileObject", "FileStore", "Purpose"]


class FileObject(msgspec.Struct, kw_only=True):
    """An uploaded file as clients know it, and as it is noted beside the file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    """Unix seconds."""
    expires_at: int
    """When it is removed at the latest."""
    filename: str
    """What the client called it."""
    purpose: Purpose
    status: Literal["processed"] = "processed"


class FileStore:
    """Keeps uploads; safe from many threads."""

    def __init__(self, settings: ServerSettings) -> None:
        """Take the folder of the settings, with what an earlier server left there, or make a temporary one.

        Raises:
            ArgumentError: The folder cannot be used, or another server uses it.
        """
        self.max_bytes = settings.files_max_bytes
        """Of all files together."""
        self._max_age_s = settings.files_max_age_s
        self._is_temporary = settings.files_dir is None
        self._lock = threading.Lock()
        self._files: dict[str, FileObject] = {}
        self._num_bytes = 0
        self.folder = settings.files_dir or Path(tempfile.mkdtemp(prefix="videolm-files-"))
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._guard = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _unusable(self.folder, error.strerror or str(error)) from error
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._guard)
            raise _unusable(self.folder, "another server keeps its files there") from error
        self._adopt()

    @property
    def num_bytes(self) -> int:
        """What all files count for together, unfinished ones too."""
        return self._num_bytes

    def get(self, file_id: str, *, param: str | None = None) -> FileObject:
        """What is known of a file; 404 where there is none."""
        self.expire()
        with self._lock:
            file = self._files.get(file_id)
        if file is None:
            raise ApiError(
                404,
                f"There is no file {printable(file_id)[:60]!r}: expected the id of an upload that was neither deleted "
                f"nor is older than {self._max_age_s:g} s (--files-max-age). Upload it to /v1/files.",
                param=param,
                code="file_not_found",
            )
        return file

    def open(self, file_id: str, *, param: str | None = None) -> OpenedSource:
        """A file to read, which stays whole for its reader if it is deleted meanwhile."""
        file = self.get(file_id, param=param)
        try:
            held = HeldFile(os.open(self.folder / file.id, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
        except FileNotFoundError:  # Deleted between the two lines, or by somebody who tidied the folder.
            self._forget(file.id)
            return self.open(file_id, param=param)
        return OpenedSource(name=file.filename, stream=held)

    def delete(self, file_id: str) -> None:
        """Remove a file; 404 where there is none."""
        self._forget(self.get(file_id).id)

    def expire(self) -> None:
        """Remove what is too old."""
        now = time.time()
        with self._lock:  # The dictionary holds the oldest first.
            old = list(takewhile(lambda file: file.expires_at <= now, self._files.values()))
        for file in old:
            self._forget(file.id)

    def close(self) -> None:
        """Let go of the folder, and remove it where it is a temporary one."""
        os.close(self._guard)
        if self._is_temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    # --- for uploads ---

    def reserve(self, num_bytes: int) -> None:
        """Count so many bytes more of an unfinished file; refused where all files become too large."""
        with self._lock:
            if self._num_bytes + num_bytes <= self.max_bytes:
                self._num_bytes += num_bytes
                return
        raise ApiError(
            507,
            f"There is no room for the file: expected all files together to have at most {self.max_bytes} bytes "
            "(--files-max-bytes). Delete files that are not needed any more, or wait until they expire.",
            type="server_error",
            param="file",
            code="storage_full",
        )

    def release(self, num_bytes: int) -> None:
        """Count bytes of an unfinished file no longer."""
        with self._lock:
            self._num_bytes -= num_bytes

    def keep(self, name: str, size: int, filename: str, purpose: Purpose) -> FileObject:
        """Make an unfinished file, which was counted before, one that can be asked for."""
        now = int(time.time())
        file = FileObject(
            id=name,
            bytes=size,
            created_at=now,
            expires_at=now + math.ceil(self._max_age_s),
            filename=filename,
            purpose=purpose,
        )
        told = self.folder / f"{name}.json"
        try:
            told.write_bytes(msgspec.json.encode(file))
            (self.folder / f"{name}.part").rename(self.folder / name)
        except OSError:
            told.unlink(missing_ok=True)
            raise
        with self._lock:
            self._files[name] = file
        return file

    # --- inside ---

    def _forget(self, file_id: str) -> None:
        with self._lock:
            file = self._files.pop(file_id, None)
            if file is None:
                return
            self._num_bytes -= max(file.bytes, LEAST_BYTES)
        for name in (file_id, f"{file_id}.json"):
            (self.folder / name).unlink(missing_ok=True)

    def _adopt(self) -> None:
        """Take over what is whole; only what has a name of ours is ever removed."""
        names = {match[1] for path in self.folder.iterdir() if (match := OURS.fullmatch(path.name))}
        told = {name: self._told(name) for name in names}
        whole = sorted((file for file in told.values() if file is not None), key=lambda file: file.created_at)
        self._files = {file.id: file for file in whole}
        self._num_bytes = sum(max(file.bytes, LEAST_BYTES) for file in whole)
        for name, file in told.items():
            for suffix in (".part",) if file is not None else (".part", ".json", ""):
                (self.folder / f"{name}{suffix}").unlink(missing_ok=True)
        self.expire()

    def _told(self, name: str) -> FileObject | None:
        with suppress(OSError, msgspec.MsgspecError):
            file = msgspec.json.decode((self.folder / f"{name}.json").read_bytes(), type=FileObject)
            if file.id == name and (self.folder / name).stat().st_size == file.bytes:
                return file
        return None


def _unusable(folder: Path, reason: str) -> ArgumentError:
    return ArgumentError(
        f"files_dir is {folder}, which cannot be used: {reason}. Expected a folder that this server alone writes to. "
        "Choose another --files-dir."
    )
