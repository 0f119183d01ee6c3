"""An http(s) URL -> its bytes, from public addresses only, within a size, a time and a number of redirects."""

from __future__ import annotations

import http.client
import io
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from videolm.errors import FetchError, MediaLimitError
from videolm.media.limits import MediaLimits
from videolm.media.wording import printable, url_name

__all__ = ["fetch", "is_public_address"]

CHUNK_BYTES = 1 << 16
REDIRECTS = (301, 302, 303, 307, 308)
NAT64 = ipaddress.ip_network("64:ff9b::/96")
URL_CHARS = "%/:?#[]@!$&'()*+,;="
DEFAULT_PORTS = {"http": 80, "https": 443}


def fetch(
    url: str, limits: MediaLimits, progress: Callable[[int, int | None], None] | None = None
) -> tuple[bytes, str]:
    """Download a URL.

    The host is resolved once for each request, every address it has is checked, and the connection goes to one of
    the checked addresses: a name that answers differently a moment later gains nothing. Proxies are not used.

    Returns:
        The body, and the URL as it may be shown: without user name, query and fragment.
    """
    parts = _split(url)
    clock = _Clock(name=url_name(parts), limit_s=limits.timeout_s)
    for _ in range(limits.max_redirects + 1):
        connection = _connect(parts, limits, clock)
        try:
            answer = _request(connection, parts, clock)
            if answer.status not in REDIRECTS:
                return _read_body(answer, limits, clock, progress), clock.name
            location = answer.getheader("Location")
        except (OSError, http.client.HTTPException) as error:
            raise clock.failure(error) from error
        finally:
            connection.close()
        if location is None:
            raise FetchError(
                f"{clock.name} answered {answer.status} without a new address. Expected the medium itself. "
                "Check the URL in a browser."
            )
        url = urljoin(url, location)
        try:
            parts = _split(url)
        except FetchError as error:
            raise FetchError(f"{clock.name} redirects to where nothing is read from: {error}") from error
    raise FetchError(
        f"{clock.name} redirects more than {limits.max_redirects} times. Expected at most max_redirects. "
        "Pass the final address, or raise max_redirects.",
        limit="max_redirects",
    )


def is_public_address(address: str) -> bool:
    """Whether an IP address belongs to the public internet, looking inside IPv6 forms that carry an IPv4 address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast


@dataclass(frozen=True, kw_only=True)
class _Clock:
    """The one deadline of a download, and what to call it."""

    name: str
    limit_s: float
    started: float = field(default_factory=time.monotonic)

    def remaining_s(self) -> float:
        """Seconds left; raises TimeoutError where there are none."""
        remaining = self.started + self.limit_s - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return remaining

    def failure(self, error: Exception) -> FetchError:
        if isinstance(error, FetchError):
            return error
        if isinstance(error, TimeoutError):
            return FetchError(
                f"{self.name} was not downloaded within {self.limit_s:g} s. Expected it to end within timeout_s. "
                "Download it by other means and pass its path, or raise timeout_s.",
                limit="timeout_s",
            )
        reason = printable(getattr(error, "strerror", None) or str(error) or type(error).__name__)
        return FetchError(
            f"{self.name} cannot be downloaded: {reason}. Expected an http(s) server that answers with the medium. "
            "Check the URL and the network."
        )


class _TimedReader(io.RawIOBase):
    """A socket's bytes; every read waits no longer than the whole download may still take."""

    def __init__(self, sock: socket.socket, clock: _Clock) -> None:
        self._sock = sock
        self._clock = clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._clock.remaining_s())
        return self._sock.recv_into(buffer)


class _TimedSocket:
    """What ``http.client`` asks of a socket to read an answer from it."""

    def __init__(self, sock: socket.socket, clock: _Clock) -> None:
        self._reader = _TimedReader(sock, clock)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._reader)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise FetchError(
            f"A URL cannot be understood ({printable(str(error))}). Expected http(s)://host/path. Check the URL."
        ) from error
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or port == 0 or not url.isprintable():
        raise FetchError(f"{url_name(parts)} is not an http(s) URL. Expected http(s)://host/path. Check the URL.")
    if "@" in parts.netloc:
        raise FetchError(
            f"The URL of {url_name(parts)} carries a user name. Expected one without. "
            "Download it by other means and pass its path."
        )
    return parts


def _connect(parts: SplitResult, limits: MediaLimits, clock: _Clock) -> socket.socket:
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
    try:
        addresses = _resolve(host, port, clock)
        if not limits.allow_private_hosts:
            _check_public(url_name(parts), addresses)
        sock = _connect_to_any(addresses, port, clock)
        if parts.scheme == "http":
            return sock
        try:
            return ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise
    except (OSError, UnicodeError) as error:
        raise clock.failure(error) from error


def _resolve(host: str, port: int, clock: _Clock) -> list[str]:
    """Look a name up on a thread of its own: the system's resolver takes no timeout."""
    answers: queue.Queue[list[str] | Exception] = queue.Queue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([str(entry[4][0]) for entry in found])
        except Exception as error:
            answers.put(error)

    threading.Thread(target=look_up, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=clock.remaining_s())
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return list(dict.fromkeys(answer))


def _check_public(name: str, addresses: list[str]) -> None:
    for address in addresses:
        if not is_public_address(address):
            raise FetchError(
                f"{name} is at {address}, which is no public address. Expected a host on the public internet. "
                "If you trust it, allow private hosts (allow_private_hosts=True, --allow-private-hosts).",
                limit="allow_private_hosts",
            )


def _connect_to_any(addresses: list[str], port: int, clock: _Clock) -> socket.socket:
    failure: OSError = OSError("the host has no address")
    for address in addresses:
        try:
            sock = socket.create_connection((address, port), timeout=clock.remaining_s())
            sock.settimeout(clock.remaining_s())
            return sock
        except OSError as error:
            failure = error
    raise failure


def _request(sock: socket.socket, parts: SplitResult, clock: _Clock) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme])
    connection.sock = sock
    target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=URL_CHARS)
    connection.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", parts.netloc.encode("idna" if not parts.netloc.isascii() else "ascii"))
    connection.putheader("User-Agent", "videolm")
    connection.putheader("Accept-Encoding", "identity")
    connection.putheader("Connection", "close")
    connection.endheaders()
    answer = http.client.HTTPResponse(_TimedSocket(sock, clock), method="GET")  # type: ignore[arg-type]
    answer.begin()
    return answer


def _read_body(
    answer: http.client.HTTPResponse,
    limits: MediaLimits,
    clock: _Clock,
    progress: Callable[[int, int | None], None] | None,
) -> bytes:
    packing = answer.getheader("Content-Encoding", "identity")
    if answer.status != 200 or packing != "identity":
        packed = "" if packing == "identity" else f", packed as {printable(packing)}"
        raise FetchError(
            f"{clock.name} answered {answer.status} {printable(answer.reason)}{packed}. "
            "Expected 200 with the plain medium. Check the URL in a browser."
        )
    total = answer.length
    body = io.BytesIO()
    if total is None or total <= limits.max_bytes:
        while chunk := answer.read1(CHUNK_BYTES):
            body.write(chunk)
            if body.tell() > limits.max_bytes:
                break
            if progress is not None:
                progress(body.tell(), total)
            clock.remaining_s()
    if (total or body.tell()) > limits.max_bytes:
        raise MediaLimitError(
            f"{clock.name} holds more than {limits.max_bytes} bytes. Expected at most max_bytes for a download. "
            "Download it by other means and pass its path, or raise max_bytes.",
            limit="max_bytes",
        )
    if total is not None and body.tell() < total:
        raise FetchError(
            f"{clock.name} ended after {body.tell()} of {total} bytes. Expected the whole medium. Try again."
        )
    return body.getvalue()
