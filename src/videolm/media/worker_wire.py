"""What a pool and its decoder processes say to each other: JSON with a length in front, then bytes as they are.

What comes from a decoder is data that a hostile file may have shaped: lengths are bounded, nothing is unpickled.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["WireError", "receive", "receive_into", "send", "set_timeout"]

LENGTH = struct.Struct(">I")
MAX_HEADER_BYTES = 1 << 22
"""The positions, times and warnings of many thousand frames."""


class WireError(Exception):
    """The other side is gone, or says what nobody can understand."""


def send(sock: socket.socket, header: Mapping[str, Any], *, descriptors: Sequence[int] = ()) -> None:
    """Send one message; the descriptors travel with its first byte."""
    body = json.dumps(header).encode()
    socket.send_fds(sock, [LENGTH.pack(len(body))], list(descriptors))
    sock.sendall(body)


def receive(sock: socket.socket, *, ends: float | None = None) -> tuple[dict[str, Any], list[int]]:
    """Receive one message, and at most one descriptor, which then belongs to the caller.

    Args:
        ends: When it must be here, on the monotonic clock.

    Raises:
        TimeoutError: It is not.
        WireError: The other side is gone, or the message is none.
    """
    length = bytearray(LENGTH.size)
    set_timeout(sock, ends)
    first, descriptors, _, _ = socket.recv_fds(sock, LENGTH.size, 1)
    if not first:
        raise WireError("the other side is gone")
    length[: len(first)] = first
    receive_into(sock, memoryview(length)[len(first) :], ends=ends)
    (num_bytes,) = LENGTH.unpack(length)
    if num_bytes > MAX_HEADER_BYTES:
        raise WireError(f"a header of {num_bytes} bytes is too long")
    body = bytearray(num_bytes)
    receive_into(sock, memoryview(body), ends=ends)
    try:
        header = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError("a header is no JSON") from error
    if not isinstance(header, dict):
        raise WireError("a header is no object")
    return header, descriptors


def receive_into(sock: socket.socket, room: memoryview, *, ends: float | None = None) -> None:
    """Fill a buffer."""
    while room:
        set_timeout(sock, ends)
        num_bytes = sock.recv_into(room)
        if not num_bytes:
            raise WireError("the other side is gone")
        room = room[num_bytes:]


def set_timeout(sock: socket.socket, ends: float | None) -> None:
    """Let the next call wait until then, or for ever."""
    remaining = None if ends is None else ends - time.monotonic()
    if remaining is not None and remaining <= 0:
        raise TimeoutError
    sock.settimeout(remaining)
