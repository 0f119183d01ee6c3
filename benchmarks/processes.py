"""A process and all it started in, what they take out: memory, CPU time, threads, open files and sockets (Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a process, or a tree of them, takes at one moment."""

    memory_bytes: int
    """Anonymous memory in RAM: what was allocated, without files that are mapped."""
    own_memory_bytes: int
    """Of the process itself, without its descendants."""
    num_processes: int
    num_threads: int
    num_files: int
    """Open descriptors that are no sockets."""
    num_sockets: int
    cpu_s: float
    """Since it began."""


def taken_by(pid: int) -> Taken:
    """All of a process and its descendants together; those that end meanwhile count nothing."""
    each = [found for one in tree(pid) if (found := _taken_by_one(one)) is not None]
    return Taken(
        memory_bytes=sum(one.memory_bytes for one in each),
        own_memory_bytes=each[0].own_memory_bytes if each else 0,
        num_processes=len(each),
        num_threads=sum(one.num_threads for one in each),
        num_files=sum(one.num_files for one in each),
        num_sockets=sum(one.num_sockets for one in each),
        cpu_s=sum(one.cpu_s for one in each),
    )


def tree(pid: int) -> list[int]:
    """The process and its descendants."""
    children: dict[int, list[int]] = {}
    for one, parent in _parents():
        children.setdefault(parent, []).append(one)
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            yield int(folder.name), int(fields[1])


def _taken_by_one(pid: int) -> Taken | None:
    fields = _stat(pid)
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        targets = [_target(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return None
    if fields is None or "RssAnon" not in status:
        return None
    memory_bytes = int(status["RssAnon"].split()[0]) * 1024
    return Taken(
        memory_bytes=memory_bytes,
        own_memory_bytes=memory_bytes,
        num_processes=1,
        num_threads=int(status["Threads"]),
        num_files=sum(not target.startswith("socket:") for target in targets),
        num_sockets=sum(target.startswith("socket:") for target in targets),
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS,
    )


def _stat(pid: int) -> list[str] | None:
    """The fields of ``/proc/PID/stat`` behind the name, which may hold anything: state, parent and so on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except OSError:  # Closed meanwhile, such as the one that lists them.
        return ""
