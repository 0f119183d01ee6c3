"""Starts the peer in its own environment and talks to it in JSON lines."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from reports import ROOT
from worker_loop import anonymous_bytes

PYTHON = ROOT / ".venv-bench" / "bin" / "python"
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment() -> dict[str, str]:
    """What both sides run in: all cores, no network."""
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    kept.pop("PYTHONPATH", None)
    return {**kept, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}


def peer_python() -> str:
    """The interpreter of the peer's environment."""
    found = Path(os.environ.get("VIDEOLM_PEER_PYTHON", PYTHON))
    if not found.exists():
        raise SystemExit(f"{found} is not there: the peer has an environment of its own. Run `make bench-env`.")
    return str(found)


class Apart:
    """A process of its own with one model: ours where it is not said otherwise."""

    def __init__(self, folder: Path, dtype: str = "bfloat16", *, threads: int = THREADS) -> None:
        self.process = subprocess.Popen(
            self.command(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=self.environment(),
        )  # fmt: skip
        self.most_anonymous = 0
        """The most memory without a file behind it that was seen while loading."""
        is_loaded = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(is_loaded,))
        watcher.start()
        try:
            self.loaded = self.call("load", folder=str(folder), dtype=dtype, threads=threads)
        finally:
            is_loaded.set()
            watcher.join()

    def command(self) -> list[str]:
        return [sys.executable, str(ROOT / "benchmarks" / "ours_process.py")]

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def _watch(self, is_loaded: threading.Event) -> None:
        while not is_loaded.wait(0.005):
            with contextlib.suppress(OSError, StopIteration):
                self.most_anonymous = max(self.most_anonymous, anonymous_bytes(self.process.pid))

    def call(self, name: str, **values: Any) -> dict[str, Any]:
        """One call; what the peer raises is raised here."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"call": name, **values}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        result: dict[str, Any] = json.loads(line) if line else {"error": f"ended with status {self.process.wait()}"}
        if "error" in result:
            raise SystemExit(f"{type(self).__name__} failed in {name}: {result['error']}")
        return result

    def cpu_s(self) -> float:
        """CPU seconds of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Peer(Apart):
    """transformers, in an environment of its own."""

    def command(self) -> list[str]:
        return [peer_python(), str(ROOT / "benchmarks" / "peer.py")]

    def environment(self) -> dict[str, str]:
        return environment()
