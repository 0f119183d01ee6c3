"""Freed memory really goes back to the system."""

import platform
import subprocess
import sys

import pytest

from videolm.freed_memory import give_back_free_memory


def _anonymous_bytes() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))


needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone keeps freed memory in this way")


@needs_glibc
def test_memory_between_things_that_stay_is_given_back() -> None:
    blocks = [bytearray(64_000) for _ in range(1600)]
    stay = blocks[-1]  # What lies below it cannot go back by itself.
    full = _anonymous_bytes()
    del blocks
    give_back_free_memory()
    assert full - _anonymous_bytes() > 80_000_000
    assert len(stay) == 64_000


_HEAPS = """
import ctypes, sys, tempfile
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from videolm.freed_memory import keep_one_heap

if sys.argv[1] == "one":
    keep_one_heap()
barrier = Barrier(4)

def allocate(_):
    barrier.wait()
    return bytearray(100_000)

kept = list(ThreadPoolExecutor(4).map(allocate, range(4)))
library = ctypes.CDLL(None)
library.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(library.fopen(file.name.encode(), b"w"))
    library.malloc_info(0, stream)
    library.fclose(stream)
    print(file.read().count(b"<heap nr="))
"""


@needs_glibc
@pytest.mark.parametrize(("heaps", "least", "most"), [("one", 1, 1), ("many", 4, 99)])
def test_threads_share_one_heap_if_they_are_told_to(heaps: str, least: int, most: int) -> None:
    command = [sys.executable, "-c", _HEAPS, heaps]
    found = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert least <= found <= most
