"""The processes in which media are decoded: one that has everything imported and forks, and those that it forks.

None of them holds anything of the server's: no key, no socket of a client, no thread. A forked one may use so much
memory and time, writes no file, and says what it found as JSON and raw pixels.
"""

from __future__ import annotations

import base64
import ctypes
import math
import os
import pickle
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from videolm.media.held_file import HeldFile
from videolm.media.limits import MediaLimits
from videolm.media.load import load_media
from videolm.media.source import OpenedSource
from videolm.media.worker_answer import send_error, send_frames
from videolm.media.worker_wire import WireError, receive, send

PR_SET_PDEATHSIG = 1
SPARE_CPU_S = 2.0
"""The pool's clock is the first to end a decoder; the processor's is for when nobody watches any more."""

PrepareFrame = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Fork decoders as the other end of an inherited socket asks for them, until it closes."""
    # Whoever started this decides when it ends: a signal to all processes must not cost requests that may finish.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    hello, _ = receive(control)
    prepare_frame: PrepareFrame = pickle.loads(base64.b64decode(hello["prepare_frame"]))
    Image.init()
    children: set[int] = set()
    try:
        while True:
            asked, descriptors = receive(control)
            if "end" in asked:
                send(control, {"status": _end(asked["end"], children)})
            else:
                send(control, {"pid": _fork(control, descriptors[0], prepare_frame, hello, children)})
    except (WireError, OSError):
        for pid in list(children):
            _end(pid, children)


def _end(pid: int, children: set[int]) -> int:
    """Kill a child that may be dead already, and tell how it ended; its number is not given to others before."""
    children.remove(pid)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _fork(
    control: socket.socket, descriptor: int, prepare_frame: PrepareFrame, hello: dict[str, Any], children: set[int]
) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            control.close()
            _confine(parent, int(hello["max_memory_bytes"]))
            _serve(socket.socket(fileno=descriptor), prepare_frame, float(hello["timeout_s"]))
        finally:
            os._exit(0)
    os.close(descriptor)
    children.add(pid)
    return pid


def _confine(parent: int, max_memory_bytes: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # Decoders' libraries write what a file makes them write.
        os.dup2(null, stream)
    os.close(null)
    with open("/proc/self/statm", encoding="ascii") as file:
        num_pages = int(file.read().split()[0])  # What is imported counts as address space too.
    num_bytes = num_pages * resource.getpagesize() + max_memory_bytes
    for limit, value in ((resource.RLIMIT_AS, num_bytes), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (value, value))


def _serve(sock: socket.socket, prepare_frame: PrepareFrame, timeout_s: float) -> None:
    """Decode one medium after another, until the other side closes."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    while True:
        try:
            request, descriptors = receive(sock)
        except (WireError, OSError):
            return
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + timeout_s + SPARE_CPU_S), hard))
        _answer(sock, request, descriptors, prepare_frame)


def _answer(sock: socket.socket, request: dict[str, Any], descriptors: list[int], prepare_frame: PrepareFrame) -> None:
    name, path = request["name"], request["path"]
    held: Any = HeldFile(descriptors[0]) if descriptors else None
    try:
        frames = load_media(
            OpenedSource(name=name, path=None if path is None else Path(path), stream=held),
            sampling=pickle.loads(base64.b64decode(request["sampling"])),
            on_frame=prepare_frame,
            kind=request["kind"],
            limits=MediaLimits(**request["limits"]),
        )
    except Exception as error:
        send_error(sock, error, name)
    else:
        send_frames(sock, frames)
    finally:
        if held is not None:
            held.close()


if __name__ == "__main__":
    main()
