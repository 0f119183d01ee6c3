"""Checkpoints: whole or ignored, the newest few kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from videolm.errors import CheckpointError
from videolm.training.checkpoint import find_checkpoints, load_newest, read_checkpoint, write_checkpoint


def state(number: int) -> dict[str, object]:
    return {"weights": {"a": torch.full((3,), float(number))}, "progress": {"step": number}, "none": None}


def no_warning(message: str) -> None:
    raise AssertionError(message)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "c", 12, state(12), keep=1)
    assert path.name == "step_00000012"
    read = read_checkpoint(path)
    assert torch.equal(read["weights"].pop("a"), torch.full((3,), 12.0))
    assert read == {"weights": {}, "progress": {"step": 12}, "none": None}


def test_the_newest_few_stay_and_leftovers_go(tmp_path: Path) -> None:
    (tmp_path / "unfinished_00000001").mkdir()
    for step in (1, 2, 10, 9):
        write_checkpoint(tmp_path, step, state(step), keep=2)
    assert names(tmp_path) == ["step_00000009", "step_00000010"]
    found = load_newest(tmp_path, warn=no_warning)
    assert found is not None
    assert found["progress"] == {"step": 10}


def test_the_same_step_can_be_written_again(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 3, state(1), keep=2)
    write_checkpoint(tmp_path, 3, state(2), keep=2)
    assert names(tmp_path) == ["step_00000003"]
    assert read_checkpoint(tmp_path / "step_00000003")["progress"] == {"step": 2}


@pytest.mark.parametrize("damage", ["cut", "changed", "no seal", "empty seal", "no state"])
def test_a_damaged_checkpoint_is_skipped_with_a_message(tmp_path: Path, damage: str) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path, step, state(step), keep=3)
    stored, seal = tmp_path / "step_00000002/state.pt", tmp_path / "step_00000002/seal.json"
    content = stored.read_bytes()
    match damage:
        case "cut":
            stored.write_bytes(content[:-100])
        case "changed":
            stored.write_bytes(content.replace(b"\x00\x00\x00\x40", b"\x00\x00\x40\x40"))
        case "no seal":
            seal.unlink()
        case "empty seal":
            seal.write_text("")
        case "no state":
            stored.unlink()

    with pytest.raises(CheckpointError, match=r"step_00000002 .*Remove it"):
        read_checkpoint(tmp_path / "step_00000002")
    said: list[str] = []
    found = load_newest(tmp_path, warn=said.append)
    assert found is not None
    assert found["progress"] == {"step": 1}
    assert [message.startswith("Skipped: The checkpoint") for message in said] == [True]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "missing", warn=no_warning) is None
    assert find_checkpoints(tmp_path) == []


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="The checkpoint of step 3 cannot be written to"):
        write_checkpoint(tmp_path / "file", 3, state(3), keep=1)
