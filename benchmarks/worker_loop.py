"""What a process does that answers calls in JSON lines, ours or the peer's; it needs Python alone.

Each line on standard input is ``{"call": name, ...}``; each line on standard output its result, or ``{"error": ...}``.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def answer_lines(load: Callable[..., tuple[Any, dict[str, Any]]]) -> None:
    """Answer until the input ends: the call ``load`` makes the object whose methods the other calls name."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Whatever libraries print goes elsewhere.
    worker: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        call = request.pop("call")
        try:
            if call == "load":
                worker, result = load(**request)
            else:
                result = memory() if call == "memory" else getattr(worker, call)(**request)
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(result) + "\n")
        replies.flush()


def memory() -> dict[str, Any]:
    """Bytes of this process that were resident at most."""
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that no file stands behind."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")) * 1024
