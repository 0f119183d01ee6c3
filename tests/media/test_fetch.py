"""Downloads from a real local server: what is fetched, and what is refused and when."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from videolm.errors import FetchError, MediaLimitError
from videolm.media import fetch as fetch_module
from videolm.media.fetch import fetch, is_public_address
from videolm.media.limits import MediaLimits

BODY = bytes(range(256)) * 1000
LOCAL = MediaLimits(allow_private_hosts=True, timeout_s=5.0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[str]
    is_over: threading.Event

    def do_GET(self) -> None:
        type(self).seen.append(self.path)
        path = self.path.partition("?")[0].strip("/")
        getattr(self, "answer_" + path.partition("/")[0].replace("-", "_"))(path.partition("/")[2])

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def answer_file(self, _: str) -> None:
        self.answer(200, {}, BODY)

    def answer_chunked(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(BODY), 100_000):
            chunk = BODY[start : start + 100_000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def answer_missing(self, _: str) -> None:
        self.answer(404, {}, b"no such thing")

    def answer_packed(self, _: str) -> None:
        self.answer(200, {"Content-Encoding": "gzip"}, b"packed")

    def answer_short(self, _: str) -> None:
        self.answer(200, {"Content-Length": "1000"}, b"x" * 10)
        self.close_connection = True

    def answer_redirect(self, count: str) -> None:
        self.answer(302, {"Location": f"/redirect/{int(count) - 1}" if int(count) > 1 else "/file"})

    def answer_away(self, target: str) -> None:
        self.answer(302, {"Location": target})

    def answer_nowhere(self, _: str) -> None:
        self.answer(302, {})

    def answer_huge(self, _: str) -> None:
        self.answer(200, {"Content-Length": str(1 << 40)})
        self.drip(b"x" * 65536, 0.0)

    def answer_endless(self, _: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.drip(b"x" * 65536, 0.0)

    def answer_slow(self, _: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.drip(b"x", 0.02)

    def answer_slow_header(self, _: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self.drip(b"x", 0.02)

    def answer_silence(self, _: str) -> None:
        self.is_over.wait(10)

    def drip(self, data: bytes, pause_s: float) -> None:
        self.close_connection = True
        while not self.is_over.is_set():
            try:
                self.wfile.write(data)
            except OSError:
                return
            time.sleep(pause_s)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    handler = type("CountingHandler", (Handler,), {"seen": [], "is_over": threading.Event()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        handler.is_over.set()  # type: ignore[attr-defined]
        server.shutdown()


def refusal(url: str, limits: MediaLimits = LOCAL) -> str:
    with pytest.raises((FetchError, MediaLimitError)) as caught:
        fetch(url, limits)
    message = str(caught.value)
    assert "\n" not in message
    assert "secret" not in message
    return message


@pytest.mark.parametrize("path", ["file", "chunked", "redirect/1", "redirect/5", "file?key=secret"])
def test_a_body_arrives_whole(server: str, path: str) -> None:
    data, name = fetch(f"{server}/{path}", LOCAL)

    assert data == BODY
    assert name == f"{server}/{path.partition('?')[0]}"


def test_progress_is_told(server: str) -> None:
    told: list[tuple[int, int | None]] = []

    fetch(f"{server}/file", LOCAL, lambda done, total: told.append((done, total)))

    assert told[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in told] == sorted({done for done, _ in told})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_a_loopback_address_is_refused_however_it_is_written(host: str) -> None:
    message = refusal(f"http://{host}:9/clip.mp4?key=secret", MediaLimits())

    assert "which is no public address. Expected a host on the public internet." in message


def test_the_advice_for_a_private_host_works(server: str) -> None:
    assert "allow_private_hosts=True" in refusal(f"{server}/file", MediaLimits())
    assert fetch(f"{server}/file", MediaLimits(allow_private_hosts=True))[0] == BODY


def test_a_redirect_to_a_private_address_is_refused(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first host counts as public here; the one it sends us to is resolved and checked anew."""
    monkeypatch.setattr(fetch_module, "is_public_address", lambda address: address == "127.0.0.1")

    message = refusal(f"{server}/away/http://127.0.0.2:9/file", MediaLimits(timeout_s=5))

    assert message.startswith("http://127.0.0.2:9/file is at 127.0.0.2, which is no public address.")


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", answer)

    assert refusal("http://two-faced.example/", MediaLimits()).startswith("http://two-faced.example/ is at 10.0.0.1,")


def test_the_connection_goes_to_the_address_that_was_checked(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that answers with another address when asked again is not asked again."""
    asked = []
    look_up = socket.getaddrinfo

    def rebind(host: str, *rest: Any, **options: Any) -> list[Any]:
        if host != "rebinding.example":
            return look_up(host, *rest, **options)
        asked.append(host)
        return [(0, 0, 0, "", ("127.0.0.1" if len(asked) == 1 else "127.0.0.2", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", rebind)
    monkeypatch.setattr(fetch_module, "is_public_address", lambda address: address == "127.0.0.1")

    data, _ = fetch(server.replace("127.0.0.1", "rebinding.example") + "/file", MediaLimits(timeout_s=5))

    assert data == BODY
    assert asked == ["rebinding.example"]


@pytest.mark.parametrize("path", ["slow", "slow-header", "silence", "endless"])
def test_a_download_without_end_ends_at_its_deadline(server: str, path: str) -> None:
    started = time.monotonic()

    message = refusal(
        f"{server}/{path}?key=secret", MediaLimits(allow_private_hosts=True, timeout_s=0.4, max_bytes=1 << 40)
    )

    assert message.startswith(f"{server}/{path} was not downloaded within 0.4 s. Expected it to end within timeout_s.")
    assert time.monotonic() - started < 3.0


def test_a_slow_resolver_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: is_over.wait(10) or [])

    message = refusal("http://slow.example/", MediaLimits(timeout_s=0.2))

    is_over.set()
    assert message.startswith("http://slow.example/ was not downloaded within 0.2 s.")


@pytest.mark.parametrize("path", ["huge", "endless", "file"])
def test_more_bytes_than_allowed_are_refused(server: str, path: str) -> None:
    limits = MediaLimits(allow_private_hosts=True, timeout_s=5, max_bytes=200_000)

    assert refusal(f"{server}/{path}", limits).startswith(f"{server}/{path} holds more than 200000 bytes.")


def test_exactly_as_many_bytes_as_allowed_are_taken(server: str) -> None:
    limits = MediaLimits(allow_private_hosts=True, max_bytes=len(BODY))

    assert fetch(f"{server}/file", limits)[0] == BODY
    assert fetch(f"{server}/chunked", limits)[0] == BODY


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing", "answered 404 Not Found. Expected 200 with the plain medium."),
        ("packed", "answered 200 OK, packed as gzip. Expected 200 with the plain medium."),
        ("short", "ended after 10 of 1000 bytes. Expected the whole medium."),
        ("redirect/6", "redirects more than 5 times. Expected at most max_redirects."),
        ("nowhere", "answered 302 without a new address. Expected the medium itself."),
        (
            "away/ftp://127.0.0.1/file",
            "redirects to where nothing is read from: ftp://127.0.0.1/file is not an http(s) URL. Expected http(s)://",
        ),
        (
            "away/file:///etc/passwd",
            "redirects to where nothing is read from: file:///etc/passwd is not an http(s) URL. Expected http(s)://",
        ),
    ],
)
def test_each_other_refusal(server: str, path: str, message: str) -> None:
    assert message in refusal(f"{server}/{path}")


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/clip.mp4"

        assert refusal(url).startswith(f"{url} cannot be downloaded: Connection refused.")


def test_a_server_that_speaks_no_tls(server: str) -> None:
    url = server.replace("http:", "https:") + "/file"

    assert refusal(url).startswith(f"{url} cannot be downloaded: ")


@pytest.mark.parametrize("url", ["http://", "http:///path", "http://host:notaport/", "http://[::1/", "https://a\nb/"])
def test_a_url_that_is_none(url: str) -> None:
    assert "Expected http(s)://host/path" in refusal(url)


def test_a_url_with_a_user_name_is_refused_without_showing_it() -> None:
    message = refusal("https://user:secret@example.com/clip.mp4?key=secret")

    assert message.startswith("The URL of https://example.com/clip.mp4 carries a user name.")


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        *((address, True) for address in ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")),
        *((address, False) for address in ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254")),
        *((address, False) for address in ("100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1")),
        *((address, False) for address in ("::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:10.0.0.1")),
        *((address, False) for address in ("64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1")),
    ],
)
def test_public_addresses_are_told_from_the_others(address: str, is_public: bool) -> None:
    assert is_public_address(address) is is_public
