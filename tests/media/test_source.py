"""Whatever names a medium: what is opened, what it is called, and what is refused before a byte is read."""

import base64
import io
import os
from pathlib import Path
from typing import Any

import pytest

from videolm.errors import ArgumentError, MediaError, MediaLimitError, MediaNotFoundError
from videolm.media.limits import MediaLimits
from videolm.media.source import is_url, open_source

DATA = b"not a video, but bytes"


def contents(source: Any) -> bytes:
    opened = open_source(source)
    return opened.path.read_bytes() if opened.path else opened.rewound().read()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my clip.bin"
    path.write_bytes(DATA)
    return path


def test_every_kind_of_source_gives_its_bytes(file: Path) -> None:
    with file.open("rb") as opened:
        opened.read(5)  # Reading starts over.
        assert contents(opened) == DATA
        assert not opened.closed
    for source in (
        *(file, str(file), DATA, bytearray(DATA), memoryview(DATA), io.BytesIO(DATA), Unseekable(DATA)),
        *(f"file://{str(file).replace(' ', '%20')}", f"file://localhost{str(file).replace(' ', '%20')}"),
        *("data:video/mp4;base64," + base64.b64encode(DATA).decode(), "data:,not%20a%20video%2C but bytes"),
    ):
        assert contents(source) == DATA


class Unseekable:
    name = "pipe"

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (DATA, "bytes"),
        (io.BytesIO(DATA), "file object"),
        (Unseekable(DATA), "pipe"),
        ("data:video/mp4;base64,AAAA", "data:video/mp4;base64 URI"),
    ],
)
def test_names(source: Any, name: str) -> None:
    assert open_source(source).name == name


def test_a_name_stays_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines.mp4"
    path.write_bytes(DATA)

    assert open_source(path).name == f"{tmp_path}/two\N{REPLACEMENT CHARACTER}lines.mp4"


def test_urls_are_told_from_paths() -> None:
    urls = ("http://host/a", "HTTPS://host/a", "data:,x", "file:///a", "file:a", "rtsp://host/a", "s3://bucket/a")
    paths = ("clip.mp4", "/a/b.mp4", "C:\\clip.mp4", "concat:a|b", "a b: c.mp4", "", "://x")

    assert [is_url(text) for text in urls] == [True] * len(urls)
    assert [is_url(text) for text in paths] == [False] * len(paths)


def test_a_file_without_a_name_from_which_a_format_could_be_guessed() -> None:
    stream = io.BytesIO(DATA)
    stream.name = "list.m3u8"

    assert not hasattr(open_source(stream).rewound(), "name")


def refusal(source: Any, error: type[Exception], limits: MediaLimits | None = None) -> str:
    with pytest.raises(error) as caught:
        open_source(source, limits)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_exist(tmp_path: Path) -> None:
    missing = tmp_path / "missing.mp4"

    for source in (missing, f"file://{missing}", missing / "deeper"):
        assert "does not exist. Expected a video, a picture or a folder" in refusal(source, MediaNotFoundError)
    assert isinstance(MediaNotFoundError(""), FileNotFoundError)


@pytest.mark.parametrize("name", ["", " "])
def test_a_blank_name_is_not_the_working_folder(name: str) -> None:
    assert refusal(name, MediaNotFoundError) == (
        f"The name of a medium is {name!r}. Expected a path or a URL. Write what to look at."
    )


def test_a_pipe_or_device_is_refused_without_opening_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)

    for source in (pipe, "/dev/zero"):
        message = f"{source} is a pipe, socket or device. Expected a regular file or a folder."
        assert refusal(source, MediaError).startswith(message)
        assert refusal(f"file://{source}", MediaError).startswith(f"{source} is a pipe, socket or device. Expected a f")


def test_a_file_url_of_a_folder_is_refused_and_its_path_is_not(tmp_path: Path) -> None:
    message = f"{tmp_path} is a folder. Expected a file: URL of a regular file. Pass its path without file:."

    assert refusal(f"file://{tmp_path}", MediaError) == message
    assert open_source(str(tmp_path)).path == tmp_path


@pytest.mark.parametrize("url", ["file://server/share/clip.mp4", "file://", "file:///clip.mp4?key=secret"])
def test_file_urls_of_other_machines(url: str) -> None:
    message = refusal(url, MediaError)

    assert "is not a file of this machine. Expected file:///absolute/path." in message
    assert "secret" not in message


def test_other_schemes() -> None:
    message = refusal("rtsp://camera/stream?key=secret", MediaError)

    assert message.startswith("rtsp: URLs are not read. Expected http, https, data or file.")
    assert "secret" not in message


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("data:video/mp4;base64", "The data: URI has no comma after its media type."),
        ("data:video/mp4;base64,A", "The data: URI is not valid base64"),
        ("data:video/mp4;base64,!!!!", "The data: URI is not valid base64"),
    ],
)
def test_data_uris_that_are_none(uri: str, message: str) -> None:
    assert refusal(uri, MediaError).startswith(message)


@pytest.mark.parametrize(
    "source",
    [DATA, Unseekable(DATA), "data:;base64," + base64.b64encode(DATA * 2).decode(), "data:," + "%20" * 50],
)
def test_more_bytes_in_memory_than_allowed(source: Any) -> None:
    message = refusal(source, MediaLimitError, MediaLimits(max_bytes=len(DATA) - 1))

    assert "holds more than 21 bytes. Expected at most max_bytes in memory." in message


def test_text_files_and_other_types_are_refused(file: Path) -> None:
    with file.open() as text:
        assert refusal(text, ArgumentError).startswith(f"{file} is open in text mode. Expected bytes.")
    assert refusal(12, ArgumentError).startswith("A medium of type int was given.")


def test_a_file_that_may_not_be_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    opened = open_source(file)
    monkeypatch.setattr("builtins.open", refuse)

    with pytest.raises(MediaError, match=r"my clip\.bin cannot be opened: Permission denied\. Expected a file that"):
        opened.head()


def test_a_path_with_a_null_character() -> None:
    assert "cannot be opened" in refusal("clip\0.mp4", MediaError)
