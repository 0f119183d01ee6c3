"""The bytes of a multipart form in, one stored file out: written as they come, kept whole or not at all."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, get_args

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from videolm.media.sniff import HEAD_BYTES, sniff
from videolm.media.wording import printable
from videolm.server.errors import ApiError
from videolm.server.file_store import LEAST_BYTES, FileObject, FileStore, Purpose

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
MAX_FIELD_BYTES = 100
MAX_HEADERS = 8
_NOWHERE = logging.Logger("multipart", logging.CRITICAL + 1)
"""Where the parser tells what it found in a body."""
PLAIN = (b"", b"binary", b"8bit", b"7bit")

__all__ = ["PURPOSES", "Upload", "UploadForm", "too_large"]


class Upload:
    """One file that is being written: a context that removes it where it is not finished; all here may block."""

    def __init__(self, store: FileStore, filename: str) -> None:
        self._store = store
        # Only ever shown: the name on disk is the id.
        self._filename = printable(filename.replace("\\", "/").rpartition("/")[2].strip()) or "upload"
        self._name = f"file-{secrets.token_hex(16)}"
        self._path = store.folder / f"{self._name}.part"
        self._size = 0
        self._head = b""
        self._is_kept = False
        store.expire()
        store.reserve(LEAST_BYTES)
        self._reserved = LEAST_BYTES
        try:
            self._descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError as error:
            store.release(self._reserved)
            raise _not_written(error) from error

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):
            os.close(self._descriptor)
        if not self._is_kept:
            self._path.unlink(missing_ok=True)
            self._store.release(self._reserved)

    def write(self, data: bytes) -> None:
        """Append."""
        self._size += len(data)
        if self._size > self._store.max_bytes:
            raise too_large(self._size, self._store.max_bytes)
        if self._size > self._reserved:
            self._store.reserve(self._size - self._reserved)
            self._reserved = self._size
        if len(self._head) < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - len(self._head)]
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise _not_written(error) from error

    def finish(self, purpose: Purpose) -> FileObject:
        """Keep it, unless its first bytes show that it is no medium.

        Raises:
            MediaError: It is empty, a playlist, a web page or the like.
        """
        sniff(self._head, self._filename)
        try:
            file = self._store.keep(self._name, self._size, self._filename, purpose)
        except OSError as error:
            raise _not_written(error) from error
        self._is_kept = True
        return file


class UploadForm:
    """Takes a form apart while it comes; to be closed, which leaves nothing behind where it did not end well.

    May be closed while another thread still feeds it, for a request that was cancelled.
    """

    def __init__(self, store: FileStore, content_type: str) -> None:
        """``content_type`` is that of the whole body, which tells where the parts end."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise ApiError(
                400,
                f"The body is {printable(content_type)[:60] or 'of no type'}: expected multipart/form-data with its "
                "boundary. Send the file as the field named file of a form.",
                code="invalid_form",
            )
        self._store = store
        self._lock = threading.Lock()
        self._is_closed = False
        self._stack = ExitStack()
        self._upload: Upload | None = None
        self._purpose: bytes | None = None
        self._take: Callable[[bytes], None] = self._drop
        self._header: tuple[bytes, bytes] = (b"", b"")
        self._headers: dict[bytes, bytes] = {}
        self._is_whole = False
        try:
            self._parser = MultipartParser(boundary, self._callbacks(), max_header_count=MAX_HEADERS)
        except FormParserError as error:
            raise _no_form(str(error)) from error
        self._parser.logger = _NOWHERE

    def close(self) -> None:
        """Take nothing more, and remove what is unfinished."""
        with self._lock:
            self._is_closed = True
            self._stack.close()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body; this writes to disk."""
        with self._lock:
            if self._is_closed:
                return
            try:
                self._parser.write(data)
            except FormParserError as error:
                raise _no_form(str(error)) from error

    def finish(self) -> FileObject:
        """The file, now that the body is over.

        Raises:
            MediaError: It is no medium at first sight.
        """
        with self._lock:
            if not self._is_whole or self._is_closed:
                raise _no_form("it ends before its last boundary")
            if self._upload is None:
                raise ApiError(
                    400,
                    "The form has no field file: expected the medium there, with a filename. Add it.",
                    param="file",
                    code="missing_field",
                )
            return self._upload.finish(_purpose(b"user_data" if self._purpose is None else self._purpose))

    def _callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._headers.clear,
            "on_header_field": self._on_header_name,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers,
            "on_part_data": lambda data, start, end: self._take(data[start:end]),
            "on_end": self._on_end,
        }

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0] + data[start:end], b"")

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0], self._header[1] + data[start:end])

    def _on_header_end(self) -> None:
        name, value = self._header
        self._headers[name.lower()] = value
        self._header = (b"", b"")

    def _on_headers(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b"").decode("latin-1"))
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise _no_form("a part has no name")
        if self._headers.get(b"content-transfer-encoding", b"").lower() not in PLAIN:
            raise _no_form("a part is encoded")
        if name == b"file" and self._upload is None:
            filename = options.get(b"filename", b"").decode("utf-8", "replace")
            self._upload = self._stack.enter_context(Upload(self._store, filename))
            self._take = self._upload.write
        elif name == b"purpose" and self._purpose is None:
            self._purpose = b""
            self._take = self._take_purpose
        else:
            told = printable(name.decode("utf-8", "replace"))[:60]
            twice = name in (b"file", b"purpose")
            raise ApiError(
                400,
                f"{told} {'stands twice in the form' if twice else 'is no field that is supported'}: expected file "
                "and, if at all, purpose, once each. Remove it.",
                param=told,
                code="unknown_field",
            )

    def _take_purpose(self, data: bytes) -> None:
        self._purpose = (self._purpose or b"") + data
        if len(self._purpose) > MAX_FIELD_BYTES:
            raise _no_form(f"purpose has more than {MAX_FIELD_BYTES} bytes")

    def _drop(self, data: bytes) -> None:
        """Before the first part there is nothing to take."""

    def _on_end(self) -> None:
        self._is_whole = True


def too_large(num_bytes: int, max_bytes: int) -> ApiError:
    """Why a file is not taken, or not any further."""
    return ApiError(
        413,
        f"The file has {num_bytes} bytes or more: expected at most {max_bytes} (--files-max-bytes). "
        "Send a smaller one.",
        param="file",
        code="file_too_large",
    )


def _purpose(given: bytes) -> Purpose:
    for purpose in PURPOSES:
        if given == purpose.encode():
            return purpose
    raise ApiError(
        400,
        f"purpose is {printable(given.decode('utf-8', 'replace'))!r}: expected {' or '.join(PURPOSES)}. "
        "Choose one of these.",
        param="purpose",
        code="invalid_value",
    )


def _no_form(reason: str) -> ApiError:
    return ApiError(
        400,
        f"The body is no whole form ({printable(reason)}): expected multipart/form-data with the medium in its field "
        "file. Send it again.",
        code="invalid_form",
    )


def _not_written(error: OSError) -> ApiError:
    is_full = error.errno in NO_ROOM
    return ApiError(
        507 if is_full else 500,
        f"The file was not kept ({error.strerror or error}): expected room for it on the server. "
        + ("Delete files that are not needed any more." if is_full else "Tell who runs the server."),
        type="server_error",
        param="file",
        code="storage_full" if is_full else "storage_failed",
    )
