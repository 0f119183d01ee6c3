"""Starts the peer in its own environment and talks to it in JSON lines."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from reports import ROOT

PYTHON = ROOT / ".venv-bench" / "bin" / "python"
THREADS = os.cpu_count() or 1


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


class Peer:
    """A process with one model."""

    def __init__(self, folder: Path, dtype: str = "bfloat16", *, threads: int = THREADS) -> None:
        self.process = subprocess.Popen(
            [peer_python(), str(ROOT / "benchmarks" / "peer.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(),
        )  # fmt: skip
        self.loaded = self.call("load", folder=str(folder), dtype=dtype, threads=threads)

    def call(self, name: str, **values: Any) -> dict[str, Any]:
        """One call; what the peer raises is raised here."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"call": name, **values}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        result: dict[str, Any] = json.loads(line) if line else {"error": f"ended with status {self.process.wait()}"}
        if "error" in result:
            raise SystemExit(f"The peer failed in {name}: {result['error']}")
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
