"""A function for frames in, decoder processes out: forked from one process that imported everything once."""

from __future__ import annotations

import base64
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from videolm.errors import EngineError
from videolm.media.worker_wire import WireError, receive, send

__all__ = ["Decoder", "ForkServer"]

START_TIMEOUT_S = 120.0
"""Importing torch takes seconds, and many of them on a machine that is busy."""
END_TIMEOUT_S = 1.0
"""For it to end by itself; decoders end with it, however it does."""
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


@dataclass(kw_only=True)
class Decoder:
    """One decoder process, as its pool sees it."""

    pid: int
    sock: socket.socket
    num_sources: int = 0
    """How many media it was given."""


class ForkServer:
    """Starts decoder processes and ends them; safe from many threads."""

    def __init__(
        self, prepare_frame: Callable[[np.ndarray], np.ndarray], *, max_memory_bytes: int, timeout_s: float
    ) -> None:
        """As for ``DecodePool``. Returns at once, while modules are still imported over there."""
        self._hello = {
            "prepare_frame": base64.b64encode(pickle.dumps(prepare_frame)).decode("ascii"),
            "max_memory_bytes": max_memory_bytes,
            "timeout_s": timeout_s,
        }
        self._lock = threading.Lock()
        self._is_closed = False
        self._start()

    def fork(self) -> Decoder:
        """Start a decoder.

        Raises:
            EngineError: None can be started.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs, self._lock:
                try:
                    answer = self._ask({}, theirs)
                except (OSError, WireError):
                    self._stop()
                    if self._is_closed:
                        raise
                    self._start()  # Somebody killed it; nothing that is kept was lost.
                    answer = self._ask({}, theirs)
            return Decoder(pid=answer["pid"], sock=ours)
        except (OSError, WireError) as error:
            ours.close()
            raise EngineError(
                f"No decoder process can be started ({error}). Expected one to read the medium with. Ask again later."
            ) from error

    def end(self, decoder: Decoder) -> int | None:
        """Kill a decoder; how it ended where it was dead already: its exit status, or minus the signal."""
        decoder.sock.close()
        with self._lock, suppress(OSError, WireError):
            status: int = self._ask({"end": decoder.pid})["status"]
            return status
        return None  # Decoders end with the process that forked them.

    def close(self) -> None:
        """End all decoders and the process that forks them."""
        with self._lock:
            self._is_closed = True
            self._stop()

    def _ask(self, message: dict[str, Any], *sockets: socket.socket) -> dict[str, Any]:
        send(self._control, message, descriptors=[each.fileno() for each in sockets])
        return receive(self._control, ends=time.monotonic() + START_TIMEOUT_S)[0]

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        # Of the environment only what programs need to run: the rest is not for processes that hostile files may take.
        variables = {name: value for name, value in os.environ.items() if name in KEPT_VARIABLES}
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "videolm.media.worker", str(theirs.fileno())],
                env=variables | ONE_THREAD | {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the server, which ends its decoders itself.
            )
        send(self._control, self._hello)

    def _stop(self) -> None:
        self._control.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
