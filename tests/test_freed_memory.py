"""Freed memory really goes back to the system."""

import platform

import pytest

from videolm.freed_memory import give_back_free_memory


def _anonymous_bytes() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone keeps freed memory in this way")
def test_memory_between_things_that_stay_is_given_back() -> None:
    blocks = [bytearray(64_000) for _ in range(1600)]
    stay = blocks[-1]  # What lies below it cannot go back by itself.
    full = _anonymous_bytes()
    del blocks
    give_back_free_memory()
    assert full - _anonymous_bytes() > 80_000_000
    assert len(stay) == 64_000
