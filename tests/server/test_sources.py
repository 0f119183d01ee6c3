"""What a request's media may be read from, and what is refused by name."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from videolm.cli import serve
from videolm.cli.parser import Parser
from videolm.errors import FetchError, MediaError, MediaLimitError
from videolm.media.limits import MediaLimits
from videolm.media.source import LaterSource, open_source
from videolm.server.errors import ApiError, as_api_error
from videolm.server.file_store import FileStore
from videolm.server.limits import FLAGS, media_limits, server_words
from videolm.server.settings import ServerSettings
from videolm.server.sources import MediaPolicy, open_below
from videolm.server.uploads import Upload

DATA = b"\0RIFF not quite a film" * 40
Make = Callable[..., MediaPolicy]


@pytest.fixture
def policy() -> Iterator[Make]:
    """Makes a policy of some settings."""
    stores = []

    def make(**options: Any) -> MediaPolicy:
        settings = ServerSettings(**options)
        stores.append(FileStore(settings))
        return MediaPolicy(settings=settings, files=stores[-1])

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder to read from, with a neighbour that is none."""
    folder = tmp_path / "media"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "clip one.mp4").write_bytes(DATA)
    (tmp_path / "media-not").mkdir()
    (tmp_path / "media-not" / "secret.mp4").write_bytes(b"secret")
    return folder


def video(url: str) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": url}}


def refusal(policy: MediaPolicy, part: dict[str, Any]) -> ApiError:
    with pytest.raises(ApiError) as error:
        open_source(policy.resolve(part, param="messages[0].content[1]")[0])
    assert error.value.status in (400, 404)
    assert ": expected " in error.value.message
    assert "\n" not in error.value.message
    return error.value


# --- URLs and data ---


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        (video("https://example.com/a.mp4?key=1"), "video"),
        ({"type": "video_url", "video_url": "HTTP://example.com/a.mp4"}, "video"),
        ({"type": "image_url", "image_url": {"url": "http://example.com/a.png", "detail": "auto"}}, "image"),
        ({"type": "image_url", "image_url": "data:image/png;base64,AAAA"}, "image"),
        (video("data:video/mp4;codecs=avc1.42;base64,AAAA"), "video"),
        (video("DATA:;BASE64,AAAA"), "video"),
    ],
)
def test_urls_and_data_are_passed_on_unread(policy: Make, part: dict[str, Any], kind: str) -> None:
    place = part[part["type"]]
    url = place if isinstance(place, str) else place["url"]
    assert policy().resolve(part, param="p") == (url, kind)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("clip.mp4", "invalid_url"),
        ("/etc/passwd", "invalid_url"),
        ("", "invalid_url"),
        ("ftp://example.com/a.mp4", "invalid_url"),
        ("rtsp://example.com/a", "invalid_url"),
        ("concat:a.ts|b.ts", "invalid_url"),
        ("subfile,,start,0,end,9,,:/etc/passwd", "invalid_url"),
        ("\nhttp://example.com", "invalid_url"),
        ("http://example.com/" + "a" * 9000, "invalid_url"),
        ("data:video/mp4,AAAA", "invalid_url"),
        ("data:video/mp4;base64", "invalid_url"),
        ("data:video/mp4;base64 ,AAAA", "invalid_url"),
        ("data:" + "a" * 9000 + ";base64,AAAA", "invalid_url"),
        ("data:a\nb;base64,AAAA", "invalid_url"),
        ("file:///etc/passwd", "local_media_off"),
        ("file:/etc/passwd", "local_media_off"),
        ("file://localhost/etc/passwd", "local_media_off"),
        ("FILE:///etc/passwd", "local_media_off"),
        ("file://otherhost/etc/passwd", "invalid_url"),
        ("file:///etc/passwd?x", "invalid_url"),
        ("file:passwd", "invalid_url"),
        ("file://", "invalid_url"),
        ("file://[", "invalid_url"),
        ("file://file-00", "file_not_found"),
        ("file://..", "file_not_found"),
    ],
)
def test_other_places_are_refused(policy: Make, url: str, code: str) -> None:
    error = refusal(policy(), video(url))
    assert (error.code, error.param) == (code, "messages[0].content[1].video_url.url")


def test_a_refusal_holds_no_key_of_a_url(policy: Make) -> None:
    assert "secret" not in refusal(policy(), video("ftp://me:secret@example.com/?secret#secret")).message


def test_remote_media_may_be_off(policy: Make) -> None:
    off = policy(no_remote_media=True)
    error = refusal(off, video("https://example.com/a.mp4"))
    assert error.code == "remote_media_off"
    assert "--no-remote-media" in error.message
    assert off.resolve(video("data:video/mp4;base64,AAAA"), param="p")[0] == "data:video/mp4;base64,AAAA"


@pytest.mark.parametrize(
    "payload",
    ["A", "AAA", "AA=A", "AAAA=AAA", "AA==AAAA", "AAAA\nAAAA", " AAAA", "AA-_", "A===", "====", "%", "AAAAé"],
)
def test_base64_is_strict(payload: str) -> None:
    with pytest.raises(MediaError, match=r"^The data: URI is not valid base64 .*Expected data:TYPE;base64,BYTES"):
        open_source(f"data:video/mp4;base64,{payload}")


def test_long_base64_is_decoded_in_pieces_so_that_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(5_000_001)
    url = f"data:video/mp4;base64,{base64.b64encode(data).decode()}"
    lengths: list[int] = []
    decode = base64.b64decode

    def watched(text: str, *, validate: bool) -> bytes:
        lengths.append(len(text))
        return decode(text, validate=validate)

    monkeypatch.setattr(base64, "b64decode", watched)
    assert open_source(url).rewound().read() == data
    assert sum(lengths) == len(url.partition(",")[2])
    assert max(lengths) <= 1 << 20


def test_data_uris_are_bounded() -> None:
    with pytest.raises(MediaLimitError) as error:
        open_source("data:video/mp4;base64," + "AAAA" * 400, MediaLimits(max_bytes=1000))
    assert server_words(error.value) == (
        "The data: URI holds more than 1000 bytes. Expected at most --max-media-bytes in memory. Upload it to "
        "/v1/files, or start the server with a higher --max-media-bytes."
    )


# --- private hosts, at each step of a download ---


class Redirecting(BaseHTTPRequestHandler):
    target = ""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", self.target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "0.0.0.0", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "[::1]"),
        *("[::ffff:127.0.0.1]", "[fe80::1]", "[fd00::1]", "2130706433", "0x7f.1", "127.1", "[64:ff9b::7f00:1]"),
    ],
)
def test_private_hosts_are_refused_without_telling_their_address(policy: Make, host: str) -> None:
    made = policy()
    source, _ = made.resolve(video(f"http://{host}:9/a.mp4"), param="p")
    with pytest.raises(FetchError) as error:
        open_source(source, media_limits(made.settings))
    told = as_api_error(error.value, param="p")
    assert (told.status, told.code, told.param) == (400, "media_not_fetched", "p")
    assert told.message == (
        "The medium's host is at no public address: expected one on the public internet. Upload the medium to "
        "/v1/files, or start the server with --allow-private-hosts if it may fetch from its own network."
    )


def test_a_redirect_to_a_private_host_is_refused(policy: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from videolm.media import fetch

    # The first host stands for a public one; the second is what it sends to.
    monkeypatch.setattr(fetch, "is_public_address", lambda address: address == "127.0.0.1")
    made = policy()
    handler = type("Handler", (Redirecting,), {"target": "http://127.0.0.2:9/latest/meta-data"})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            for target in ("http://127.0.0.2:9/latest/meta-data", "http://[::1]:9/", "//127.0.0.3/"):
                handler.target = target
                with pytest.raises(FetchError) as error:
                    open_source(f"http://127.0.0.1:{server.server_port}/a.mp4", media_limits(made.settings))
                assert error.value.limit == "allow_private_hosts"
            for target in ("file:///etc/passwd", "ftp://127.0.0.1/", "data:,x"):
                handler.target = target
                with pytest.raises(FetchError, match="redirects to where nothing is read from"):
                    open_source(f"http://127.0.0.1:{server.server_port}/a.mp4", media_limits(made.settings))
        finally:
            server.shutdown()


# --- local files ---


def test_files_below_the_root_are_read(policy: Make, root: Path) -> None:
    made = policy(allowed_media_root=root)
    for url in (f"file://{root}/inner/clip%20one.mp4", f"file://localhost{root}/inner/../inner/clip%20one.mp4"):
        source, kind = made.resolve(video(url), param="p")
        opened = open_source(source)
        assert kind == "video"
        assert opened.rewound().read() == DATA
    assert opened.name == f"{root}/inner/../inner/clip one.mp4"


def test_links_are_followed_where_they_stay_below_the_root(policy: Make, root: Path, tmp_path: Path) -> None:
    (root / "link.mp4").symlink_to(root / "inner" / "clip one.mp4")
    (tmp_path / "way").symlink_to(root)
    for made in (policy(allowed_media_root=root), policy(allowed_media_root=tmp_path / "way")):
        for path in (root / "link.mp4", tmp_path / "way" / "link.mp4"):
            assert open_source(made.resolve(video(f"file://{path}"), param="p")[0]).rewound().read() == DATA


def test_what_lies_elsewhere_is_refused_whether_it_is_there_or_not(policy: Make, root: Path) -> None:
    (root / "out.mp4").symlink_to(root.parent / "media-not" / "secret.mp4")
    (root / "out").symlink_to(root.parent / "media-not")
    made = policy(allowed_media_root=root)
    for path in (
        f"{root}/out.mp4",
        f"{root}/out/secret.mp4",
        f"{root}/../media-not/secret.mp4",
        f"{root}/%2e%2e/media-not/secret.mp4",
        f"{root}-not/secret.mp4",
        "/etc/passwd",
        "/etc/nothing-of-this-name",
        str(root),
        "/",
    ):
        error = refusal(made, video(f"file://{path}"))
        assert error.code == "local_media_refused", path
        assert "--allowed-media-root" in error.message


def test_what_is_no_file_is_refused_without_waiting(policy: Make, root: Path) -> None:
    os.mkfifo(root / "pipe.mp4")
    made = policy(allowed_media_root=root)
    for name in ("pipe.mp4", "inner", "gone.mp4", "gone/clip.mp4", "nul%00.mp4", "a" * 300):
        assert refusal(made, video(f"file://{root}/{name}")).code == "local_media_not_found", name


def test_a_link_that_is_put_in_the_way_meanwhile_is_not_followed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "inner" / "clip one.mp4"
    real = os.path.realpath

    def then_exchange(name: Any) -> str:
        resolved = real(name)
        if str(name) == str(path) and not path.is_symlink():
            path.unlink()
            path.symlink_to(root.parent / "media-not" / "secret.mp4")
        return resolved

    monkeypatch.setattr(os.path, "realpath", then_exchange)
    with pytest.raises(OSError, match="symbolic links"):
        open_below(root, str(path))
    monkeypatch.undo()

    path.unlink()
    path.write_bytes(DATA)

    def then_exchange_the_folder(name: Any) -> str:
        resolved = real(name)
        if str(name) == str(path) and not (root / "inner").is_symlink():
            (root / "inner").rename(root / "before")
            (root / "inner").symlink_to(root.parent / "media-not")
        return resolved

    monkeypatch.setattr(os.path, "realpath", then_exchange_the_folder)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        open_below(root, str(path))


# --- uploads ---


def test_uploads_are_read_by_their_id_and_called_by_their_name(policy: Make) -> None:
    made = policy()
    with Upload(made.files, "../my clip.mp4") as upload:
        upload.write(DATA)
        file = upload.finish("vision")
    for part in (
        {"type": "file", "file": {"file_id": file.id}},
        video(f"file://{file.id}"),
        video(f"file://{file.id}/"),
    ):
        source, kind = made.resolve(part, param="p")
        assert isinstance(source, LaterSource)
        opened = open_source(source)
        assert (opened.name, kind) == ("my clip.mp4", "auto" if part["type"] == "file" else "video")
        made_again = open_source(source)
        assert opened.rewound().read() == made_again.rewound().read() == DATA


def test_an_upload_deleted_meanwhile_is_told_or_read_whole(policy: Make) -> None:
    made = policy()
    with Upload(made.files, "clip.mp4") as upload:
        upload.write(DATA)
        file = upload.finish("vision")
    source, _ = made.resolve({"type": "file", "file": {"file_id": file.id}}, param="p")
    opened = open_source(source)
    made.files.delete(file.id)
    assert opened.rewound().read() == DATA
    with pytest.raises(ApiError) as error:
        open_source(source)
    assert (error.value.status, error.value.param) == (404, "p.file.file_id")


def test_an_unknown_upload_is_refused_at_once(policy: Make) -> None:
    with pytest.raises(ApiError, match="There is no file 'file-1'") as error:
        policy().resolve({"type": "file", "file": {"file_id": "file-1"}}, param="p")
    assert (error.value.status, error.value.code, error.value.param) == (404, "file_not_found", "p.file.file_id")


# --- words ---


def test_every_limit_has_a_flag() -> None:
    assert set(FLAGS) == set(MediaLimits.__dataclass_fields__)
    parser = Parser("serve", usage=serve.USAGE, description=serve.DESCRIPTION)
    serve.add_arguments(parser)
    assert set(FLAGS.values()) <= parser._option_string_actions.keys()


@pytest.mark.parametrize("limit", sorted(set(FLAGS) - {"allow_private_hosts"}))
def test_a_refusal_names_the_flag_and_not_the_argument(limit: str) -> None:
    error = MediaLimitError(f"It is long. Expected at most {limit}. Cut it, or raise {limit}.", limit=limit)
    told = as_api_error(error)
    assert told.message == (
        f"It is long. Expected at most {FLAGS[limit]}. Cut it, or start the server with a higher {FLAGS[limit]}."
    )
    assert (told.status, told.code) == (400, "media_limit_exceeded")


def test_advice_for_python_becomes_advice_for_clients(tmp_path: Path) -> None:
    from videolm.media.load import load_media
    from videolm.media.sampling import FrameSampling

    load = partial(load_media, sampling=FrameSampling())
    with pytest.raises(MediaError) as error:
        load(b"some film\0", kind="image")
    assert server_words(error.value).endswith(
        'is no picture. Expected a picture, as kind is "image". Send it as a video_url.'
    )
