"""C files of this package, compiled on the machine they run on, once for each user and processor."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

__all__ = ["cache_folder", "load_library"]

# No -ffast-math: a library that is linked with it changes how the whole process rounds the smallest numbers.
_FLAGS = (
    "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fPIC",
    "-shared",
)  # fmt: skip
_TIMEOUT_S = 120.0
_LOG = logging.getLogger(__name__)


@functools.cache
def load_library(name: str) -> ctypes.CDLL | None:
    """The compiled ``name``.c; None where it cannot be had: no compiler, no OpenMP, or nowhere to put it.

    What was compiled is kept (see ``cache_folder``) under a name that says of what, by what and for which processor.
    Why there is none is logged.
    """
    try:
        return _load(name)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: a user without a home.
        told = getattr(error, "stderr", None) or str(error).encode()
        reason = next(iter(told.decode(errors="replace").splitlines()), type(error).__name__)
        _LOG.info("%s.c is not compiled, and PyTorch's operations do its work: %s", name, reason)
        return None


def _load(name: str) -> ctypes.CDLL:
    command = os.environ.get("CC") or "cc"
    compiler = shutil.which(command)
    if compiler is None or os.name != "posix":
        raise FileNotFoundError(f"there is no C compiler {command!r} (CC names another)")
    source = resources.files(__package__).joinpath(f"{name}.c").read_bytes()
    path = cache_folder() / f"{name}-{_key(source, compiler)}.so"
    if not path.exists():
        _compile(compiler, source, path)
    return ctypes.CDLL(str(path))


def cache_folder() -> Path:
    """``videolm/native`` in the user's cache (``XDG_CACHE_HOME``); code in it is run, so it is nobody else's.

    Raises:
        OSError: It cannot be made, or belongs to another user, or others may write into it.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "videolm" / "native"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder} belongs to another user, or others may write into it: expected neither.")
    return folder


def _key(source: bytes, compiler: str) -> str:
    status = os.stat(compiler)  # Asking it for its version would take longer than all the rest.
    parts = (source, " ".join(_FLAGS).encode(), os.path.realpath(compiler).encode(), b"%d" % status.st_size)
    machine = (b"%d" % status.st_mtime_ns, platform.machine().encode(), _processor())
    return hashlib.sha256(b"\0".join(parts + machine)).hexdigest()[:16]


def _processor() -> bytes:
    """What the processor can do: a folder of a user may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.processor().encode()
    return next((line for line in lines if line.startswith((b"flags", b"Features"))), b"")


def _compile(compiler: str, source: bytes, path: Path) -> None:
    """Compile beside ``path`` and move the result there, so that it is never half there."""
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        code, built = Path(work) / "source.c", Path(work) / "built.so"
        code.write_bytes(source)
        command = [compiler, *_FLAGS, "-o", str(built), str(code), "-lm"]
        subprocess.run(command, capture_output=True, check=True, timeout=_TIMEOUT_S)
        os.replace(built, path)
