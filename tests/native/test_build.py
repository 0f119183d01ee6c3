"""Where compiled code is kept, and what happens where it cannot be had."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from videolm.native import build
from videolm.native.build import cache_folder, load_library

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_library.cache_clear()
    yield tmp_path / "videolm" / "native"
    load_library.cache_clear()


@needs_compiler
def test_it_is_compiled_once_and_kept_for_this_user_alone(cache: Path) -> None:
    assert isinstance(load_library("attention"), ctypes.CDLL)
    (kept,) = cache.iterdir()
    assert kept.name.startswith("attention-")
    assert cache.stat().st_mode & 0o077 == 0
    written = kept.stat().st_mtime_ns
    load_library.cache_clear()
    assert load_library("attention") is not None
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [written]


def test_no_compiler_is_no_library_and_the_reason_is_logged(
    monkeypatch: pytest.MonkeyPatch, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with caplog.at_level("INFO"):
        assert load_library("attention") is None
    assert caplog.messages == [
        "attention.c is not compiled, and PyTorch's operations do its work: there is no C compiler 'no-such-compiler' "
        "(CC names another)"
    ]
    assert not cache.exists()


@pytest.mark.parametrize("script", ["exit 1", '[ "$1" = --version ] && exit 0; echo broken >&2; exit 1', "exit 0"])
def test_a_compiler_that_fails_leaves_nothing(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with caplog.at_level("INFO"):
        assert load_library("attention") is None
    assert ("do its work: broken" in caplog.text) == ("broken" in script)
    assert not list(cache.iterdir())


@needs_compiler
def test_a_user_without_a_home_has_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # As for a user whom the system does not know.
    assert load_library("attention") is None


@needs_compiler
def test_what_others_may_write_into_is_not_run(cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    with pytest.raises(PermissionError, match="belongs to another user, or others may write into it"):
        cache_folder()
    assert load_library("attention") is None


@needs_compiler
@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_what_is_another_users_is_not_run(cache: Path) -> None:
    cache.mkdir(parents=True, mode=0o700)
    os.chown(cache, 12345, -1)
    assert load_library("attention") is None


def test_another_source_or_compiler_has_another_name(tmp_path: Path) -> None:
    compilers = [tmp_path / "cc", tmp_path / "other-cc"]
    for compiler in compilers:
        compiler.write_text("")
    keys = {build._key(source, str(compiler)) for source in (b"one", b"other") for compiler in compilers}
    compilers[0].write_text("newer")
    keys.add(build._key(b"one", str(compilers[0])))
    assert len(keys) == 5
