"""A file that is held open: read from where its holder stands, and closed when nobody holds it."""

import gc
import io
import os
import warnings
from pathlib import Path

import pytest

from videolm.media.held_file import HeldFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"0123456789")
    return tmp_path / "file"


def test_it_reads_and_moves_as_files_do(path: Path) -> None:
    held = HeldFile(os.open(path, os.O_RDONLY))
    with path.open("rb") as plain:
        for move in (
            lambda file: file.read(4),
            lambda file: file.seek(-3, io.SEEK_CUR),
            lambda file: file.read(2),
            lambda file: file.seek(-2, io.SEEK_END),
            lambda file: file.read(9),
            lambda file: file.read(1),
            lambda file: file.seek(1),
            lambda file: file.read(),
            lambda file: file.seek(20),
            lambda file: file.read(),
            lambda file: file.tell(),
            lambda file: file.seekable(),
        ):
            assert move(held) == move(plain)


def test_positions_are_its_own(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    held, other = HeldFile(descriptor), HeldFile(os.dup(descriptor))
    assert (held.read(6), other.read(3), held.read(2), other.read(3)) == (b"012345", b"012", b"67", b"345")


def test_it_is_closed_when_nobody_holds_it_and_the_file_may_be_gone_before(path: Path) -> None:
    held = HeldFile(os.open(path, os.O_RDONLY))
    descriptor = held.fileno()
    path.unlink()
    assert held.read() == b"0123456789"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del held
        gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
