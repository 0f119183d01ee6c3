"""The folder of uploads: what is kept, for how long, and what is left when something goes wrong."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from videolm.errors import ArgumentError, MediaError
from videolm.server import file_store, uploads
from videolm.server.errors import ApiError
from videolm.server.file_store import LEAST_BYTES, FileObject, FileStore
from videolm.server.settings import ServerSettings
from videolm.server.uploads import Upload, UploadForm

DATA = os.urandom(100_000)
TYPE = "multipart/form-data; boundary=XX"
Open = Callable[..., FileStore]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens stores in one folder, one after another."""
    stores: list[FileStore] = []

    def open_(**options: Any) -> FileStore:
        if stores:
            stores.pop().close()
        stores.append(FileStore(ServerSettings(**{"files_dir": tmp_path / "files", **options})))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def keep(store: FileStore, data: bytes = DATA, filename: str = "clip.mp4") -> FileObject:
    with Upload(store, filename) as upload:
        upload.write(data)
        return upload.finish("user_data")


def names(store: FileStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir() if path.name != ".lock")


def read(store: FileStore, file: FileObject) -> bytes:
    return store.open(file.id).rewound().read()


def part(name: str, data: bytes, filename: str | None = None, extra: str = "") -> bytes:
    told = f'; filename="{filename}"' if filename is not None else ""
    head = f'--XX\r\nContent-Disposition: form-data; name="{name}"{told}\r\n{extra}\r\n'
    return head.encode() + data + b"\r\n"


def send(store: FileStore, body: bytes, *, content_type: str = TYPE, piece: int = 1 << 20) -> FileObject:
    form = UploadForm(store, content_type)
    try:
        for at in range(0, len(body), piece):
            form.feed(body[at : at + piece])
        return form.finish()
    finally:
        form.close()


# --- keeping ---


def test_a_file_is_kept_with_what_is_told_of_it(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_store.time, "time", lambda: 1000.6)
    store = opened(files_max_age_s=50)
    file = keep(store)
    assert re.fullmatch(r"file-[0-9a-f]{32}", file.id)
    assert file == FileObject(
        id=file.id, bytes=len(DATA), created_at=1000, expires_at=1050, filename="clip.mp4", purpose="user_data"
    )
    assert store.get(file.id) == file
    assert read(store, file) == DATA
    assert names(store) == [file.id, f"{file.id}.json"]
    assert stat.S_IMODE((store.folder / file.id).stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


def test_ids_cannot_be_guessed_or_be_paths(opened: Open) -> None:
    store = opened()
    file = keep(store)
    assert keep(store).id != file.id
    guesses = (file.id[:-1], file.id.upper(), f"{file.id}.json", f"../{store.folder.name}/{file.id}", ".lock", "", "..")
    for guess in guesses:
        with pytest.raises(ApiError) as error:
            store.open(guess)
        assert (error.value.status, error.value.code) == (404, "file_not_found")


def test_files_outlive_their_server_where_a_folder_is_given(opened: Open) -> None:
    store = opened()
    first, second = keep(store), keep(store, DATA[:50_000], "b.mp4")
    used = store.num_bytes
    again = opened()
    assert again.get(first.id) == first
    assert read(again, second) == DATA[:50_000]
    assert again.num_bytes == used == 150_000


def test_what_is_not_whole_is_not_taken_over_and_what_is_not_ours_stays(opened: Open) -> None:
    store = opened()
    whole, cut, untold = (keep(store) for _ in range(3))
    (store.folder / cut.id).write_bytes(b"cut")
    (store.folder / f"{untold.id}.json").write_text("{")
    (store.folder / f"file-{'0' * 32}.part").write_bytes(b"unfinished")
    (store.folder / f"file-{'1' * 32}.json").write_bytes((store.folder / f"{whole.id}.json").read_bytes())
    for name in ("notes.txt", "file-short", "film.mp4"):
        (store.folder / name).write_bytes(b"mine")
    again = opened()
    assert names(again) == sorted([whole.id, f"{whole.id}.json", "notes.txt", "file-short", "film.mp4"])
    assert again.num_bytes == len(DATA)


def test_a_temporary_folder_goes_with_its_server() -> None:
    store = FileStore(ServerSettings())
    keep(store)
    assert store.folder.is_dir()
    store.close()
    assert not store.folder.exists()


def test_one_folder_belongs_to_one_server(opened: Open, tmp_path: Path) -> None:
    opened()
    with pytest.raises(ArgumentError, match=r"another server keeps its files there\. .* Choose another --files-dir\."):
        FileStore(ServerSettings(files_dir=tmp_path / "files"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArgumentError, match="cannot be used"):
        FileStore(ServerSettings(files_dir=tmp_path / "file"))


# --- bounds ---


def test_old_files_go(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(file_store.time, "time", lambda: now)
    store = opened(files_max_age_s=50)
    old = keep(store)
    now = 1049.0
    young = keep(store)
    now = 1050.0
    with pytest.raises(ApiError) as error:
        store.get(old.id)
    assert "--files-max-age" in error.value.message
    assert store.get(young.id) == young
    assert names(store) == [young.id, f"{young.id}.json"]
    assert store.num_bytes == len(DATA)
    now = 2000.0
    assert names(opened(files_max_age_s=50)) == []


def test_files_together_are_bounded(opened: Open) -> None:
    store = opened(files_max_bytes=250_000)
    first, second = keep(store), keep(store)
    with pytest.raises(ApiError, match=r"no room for the file: .* at most 250000 bytes .*--files-max-bytes") as error:
        keep(store)
    assert (error.value.status, error.value.code, error.value.param) == (507, "storage_full", "file")
    assert len(names(store)) == 4
    store.delete(first.id)
    third = keep(store)
    assert read(store, second) == read(store, third) == DATA
    assert store.num_bytes == 200_000


def test_one_file_is_bounded_as_it_comes(opened: Open) -> None:
    store = opened(files_max_bytes=150_000)
    with Upload(store, "clip.mp4") as upload:
        upload.write(DATA)
        with pytest.raises(
            ApiError, match=r"has 200000 bytes or more: expected at most 150000 \(--files-max-bytes\)"
        ) as error:
            upload.write(DATA)
    assert (error.value.status, error.value.code) == (413, "file_too_large")
    assert_nothing_is_left(store)


def test_many_tiny_files_are_bounded_too(opened: Open) -> None:
    store = opened(files_max_bytes=3 * LEAST_BYTES)
    for _ in range(3):
        keep(store, b"\0tiny")
    with pytest.raises(ApiError, match="--files-max-bytes"):
        keep(store, b"\0tiny")


def test_many_at_once_stay_within_the_bound(opened: Open) -> None:
    store = opened(files_max_bytes=500_000)

    def one(_: int) -> bool:
        try:
            return bool(keep(store))
        except ApiError:
            return False

    with ThreadPoolExecutor(8) as threads:
        kept = list(threads.map(one, range(24)))
    assert 1 <= sum(kept) <= 5
    assert store.num_bytes == sum(kept) * len(DATA)
    assert len(names(store)) == 2 * sum(kept)


# --- what goes wrong ---


def assert_nothing_is_left(store: FileStore) -> None:
    assert names(store) == []
    assert store.num_bytes == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_and_leaves_nothing(opened: Open, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    store = opened()
    written = 0

    def write(descriptor: int, data: bytes) -> int:
        nonlocal written
        if written > 50_000:
            raise OSError(number, os.strerror(number))
        written += 30_000
        return real(descriptor, data[:30_000])

    real = os.write
    monkeypatch.setattr(uploads.os, "write", write)
    with pytest.raises(ApiError, match="The file was not kept") as error:
        keep(store)
    assert (error.value.status, error.value.type, error.value.code) == (507, "server_error", "storage_full")
    assert_nothing_is_left(store)
    monkeypatch.undo()
    assert read(store, keep(store)) == DATA


def test_a_disk_that_is_full_at_the_last_moment_leaves_nothing(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for owner, name in ((Path, "write_bytes"), (Path, "rename"), (uploads.os, "open")):
        monkeypatch.setattr(owner, name, full)
        with pytest.raises(ApiError) as error:
            keep(store)
        assert (error.value.status, error.value.code) == (507, "storage_full")
        monkeypatch.undo()
        assert_nothing_is_left(store)


def test_a_broken_disk_is_no_full_one(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()

    def broken(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(uploads.os, "write", broken)
    with pytest.raises(ApiError, match="Input/output error") as error:
        keep(store)
    assert (error.value.status, error.value.code) == (500, "storage_failed")
    assert_nothing_is_left(store)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "empty"),
        (b"#EXTM3U\nhttp://example.com/a.ts\n", "playlist"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "concat script"),
        (b"<!DOCTYPE html><script>alert(1)</script>", "web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    ],
)
def test_what_is_no_medium_at_first_sight_is_not_kept(opened: Open, data: bytes, what: str) -> None:
    store = opened()
    with pytest.raises(MediaError, match=what):
        keep(store, data)
    assert_nothing_is_left(store)


# --- forms ---


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize("order", ["purpose first", "file first"])
def test_a_form_is_taken_apart_however_it_comes(opened: Open, piece: int, order: str) -> None:
    store = opened()
    data = b"\r\n--X\n--XX is no end\r\n" + DATA[:3000] + b"\r\n--X"
    parts = [part("purpose", b"vision"), part("file", data, "clip.mp4", "Content-Type: video/mp4\r\n")]
    body = b"".join(parts if order == "purpose first" else reversed(parts)) + b"--XX--\r\n"
    file = send(store, body, piece=piece)
    assert (file.purpose, file.filename, file.bytes) == ("vision", "clip.mp4", len(data))
    assert read(store, file) == data


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/etc/cron.d/x", "x"),
        ("C:\\films\\a.mp4", "a.mp4"),
        ("..", ".."),
        ("a\x1b[31m.mp4", "a\N{REPLACEMENT CHARACTER}[31m.mp4"),
        ("", "upload"),
        ("dir/", "upload"),
        ("ä🎬.mp4", "ä🎬.mp4"),
        ("<script>.mp4", "<script>.mp4"),
        ("n" * 500, "n" * 100 + "…" + "n" * 100),
    ],
)
def test_filenames_are_only_ever_shown(opened: Open, tmp_path: Path, filename: str, shown: str) -> None:
    store = opened()
    before = sorted(path for path in tmp_path.rglob("*") if store.folder not in path.parents)
    file = send(store, part("file", DATA, filename.replace("\\", "\\\\")) + b"--XX--\r\n")
    assert file.filename == shown
    assert names(store) == [file.id, f"{file.id}.json"]
    assert sorted(path for path in tmp_path.rglob("*") if store.folder not in path.parents) == before


END = b"--XX--\r\n"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_form", None),
        (b"no form at all", "invalid_form", None),
        (END, "missing_field", "file"),
        (part("purpose", b"vision") + END, "missing_field", "file"),
        (part("file", DATA, "a"), "invalid_form", None),
        (part("file", DATA, "a")[:-2], "invalid_form", None),
        (part("file", DATA, "a") + part("purpose", b"assistants") + END, "invalid_value", "purpose"),
        (part("file", DATA, "a") + part("purpose", b"") + END, "invalid_value", "purpose"),
        (part("file", DATA, "a") + part("purpose", b"v" * 200) + END, "invalid_form", None),
        (part("file", DATA, "a") + part("file", DATA, "b") + END, "unknown_field", "file"),
        (part("purpose", b"vision") * 2 + END, "unknown_field", "purpose"),
        (part("file", DATA, "a") + part("expires_after[anchor]", b"x") + END, "unknown_field", "expires_after[anchor]"),
        (part("file", DATA, "a", "Content-Transfer-Encoding: base64\r\n") + END, "invalid_form", None),
        (b"--XX\r\nContent-Type: video/mp4\r\n\r\n" + DATA + b"\r\n" + END, "invalid_form", None),
        (b"--XX\r\nContent-Disposition: attachment; name=file\r\n\r\n" + DATA + b"\r\n" + END, "invalid_form", None),
        (part("file", DATA, "a", "X: y\r\n" * 100) + END, "invalid_form", None),
        (part("file", DATA, "a", "X: " + "y" * 100_000 + "\r\n") + END, "invalid_form", None),
    ],
)
def test_a_wrong_form_is_refused_and_leaves_nothing(
    opened: Open, body: bytes, code: str, param: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened()
    with pytest.raises(ApiError, match=": expected ") as error:
        send(store, body)
    assert (error.value.status, error.value.code, error.value.param) == (400, code, param)
    assert_nothing_is_left(store)
    assert caplog.records == []  # What is in a body is nobody's business.


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/mixed; boundary=XX",
        "multipart/form-data; boundary=" + "b" * 300,
    ],
)
def test_a_body_that_is_no_form_is_refused(opened: Open, content_type: str) -> None:
    with pytest.raises(ApiError, match="multipart/form-data") as error:
        send(opened(), part("file", DATA, "a") + END, content_type=content_type)
    assert error.value.code == "invalid_form"


def test_a_form_closed_meanwhile_takes_nothing_more(opened: Open) -> None:
    store = opened()
    form = UploadForm(store, TYPE)
    form.feed(part("file", DATA, "a"))
    form.close()
    form.feed(part("file", DATA, "a"))
    with pytest.raises(ApiError, match="no whole form"):
        form.finish()
    assert_nothing_is_left(store)
