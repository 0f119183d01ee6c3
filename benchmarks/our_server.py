"""Flags in, a ``videolm serve`` that answers out, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from http_exchange import Address
from peers import environment
from processes import taken_by
from reports import ROOT

_LONGEST_END_S = 60.0


class OurServer:
    """Takes requests as long as the context is open."""

    def __init__(self, flags: Sequence[str], *, log: Path) -> None:
        """``log`` is where standard error goes."""
        command = [sys.executable, "-m", "videolm.cli.main", "serve", "--port", "0", *flags]
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=environment() | {"PYTHONPATH": str(ROOT / "src")},
            )  # fmt: skip
        self.status: int | None = None
        """Of the process, once it has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if " at http://" not in line:
            self.end()
            raise SystemExit(f"The server ended with status {self.status}: {log.read_text()[-2000:]}")
        self.model = line.split(" answers at ")[0]
        found = urlsplit(line.split()[-1])
        assert found.hostname is not None
        assert found.port is not None
        self.address = Address(host=found.hostname, port=found.port)

    def cpu_s(self) -> float:
        """CPU seconds of it and of the processes that it has now."""
        return taken_by(self.process.pid).cpu_s

    def end(self) -> float:
        """Tell it to end; the seconds that it took, and its status in ``status``."""
        start = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.status = self.process.wait(_LONGEST_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.status = self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return time.monotonic() - start

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.status is None:
            self.end()
