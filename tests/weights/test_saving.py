"""Saving: sharded or not, a round trip is bit-identical, and a failure leaves nothing behind."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videolm.errors import ArgumentError, CheckpointError
from videolm.weights.files import open_weights
from videolm.weights.keymap import KeyLayout, KeyRule
from videolm.weights.saving import parse_size, save_weights, staged_folder

LAYOUT = KeyLayout(name="plain", marks=("body.",), rules=(KeyRule(file="body.", module=""),))
STATE = {"a": torch.randn(4, 4), "b": torch.randn(8), "c": torch.randn(100), "n": torch.tensor([7])}


def saved(folder: Path) -> dict[str, torch.Tensor]:
    files = open_weights(folder)
    return {key: files.read(key) for key in files}


@pytest.mark.parametrize("max_shard_size", [10**9, "100B", 1])
def test_round_trip(tmp_path: Path, max_shard_size: int | str) -> None:
    save_weights(tmp_path, STATE, LAYOUT, max_shard_size=max_shard_size)
    torch.testing.assert_close(saved(tmp_path), {f"body.{key}": value for key, value in STATE.items()}, rtol=0, atol=0)


def test_shards_hold_at_most_their_size_and_the_index_says_what_is_where(tmp_path: Path) -> None:
    save_weights(tmp_path, STATE, LAYOUT, max_shard_size=100)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index == {
        "metadata": {"total_size": 64 + 32 + 400 + 8},
        "weight_map": {
            "body.a": "model-00001-of-00003.safetensors",
            "body.b": "model-00001-of-00003.safetensors",
            "body.c": "model-00002-of-00003.safetensors",
            "body.n": "model-00003-of-00003.safetensors",
        },
    }


def test_a_dtype_converts_floating_point_tensors_only(tmp_path: Path) -> None:
    save_weights(tmp_path, STATE, LAYOUT, dtype=torch.bfloat16)
    assert {key: tensor.dtype for key, tensor in saved(tmp_path).items()} == {
        "body.a": torch.bfloat16,
        "body.b": torch.bfloat16,
        "body.c": torch.bfloat16,
        "body.n": torch.int64,
    }


def test_a_tied_tensor_is_written_once(tmp_path: Path) -> None:
    save_weights(tmp_path, {"embed": STATE["a"], "head": STATE["a"]}, LAYOUT)
    assert list(saved(tmp_path)) == ["body.embed"]


def test_a_transposed_view_is_written_as_it_reads(tmp_path: Path) -> None:
    view = torch.arange(6.0).reshape(2, 3).T
    save_weights(tmp_path, {"a": view}, LAYOUT)
    torch.testing.assert_close(saved(tmp_path)["body.a"], view, rtol=0, atol=0)


def test_a_new_folder_appears_whole_and_readable_by_others(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model"
    with staged_folder(target) as stage:
        save_weights(stage, STATE, LAYOUT)
        assert not target.exists()
    assert len(saved(target)) == 4
    assert [path.name for path in target.parent.iterdir()] == ["model"]
    assert target.stat().st_mode & stat.S_IROTH


def test_a_failure_leaves_the_old_save_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with staged_folder(target) as stage:
        save_weights(stage, {"a": STATE["a"]}, LAYOUT)

    def save_and_fail() -> None:
        with staged_folder(target) as stage:
            save_weights(stage, STATE, LAYOUT)
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        save_and_fail()
    assert list(saved(target)) == ["body.a"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(("first", "second"), [(100, 10**9), (10**9, 100)])
def test_a_second_save_replaces_the_weights_and_keeps_other_files(tmp_path: Path, first: int, second: int) -> None:
    for size, state in ((first, STATE), (second, {"a": STATE["a"] + 1, "b": STATE["b"], "c": STATE["c"]})):
        with staged_folder(tmp_path / "model") as stage:
            save_weights(stage, state, LAYOUT, max_shard_size=size)
        (tmp_path / "model" / "README.md").touch()
    assert sorted(saved(tmp_path / "model")) == ["body.a", "body.b", "body.c"]
    torch.testing.assert_close(saved(tmp_path / "model")["body.a"], STATE["a"] + 1, rtol=0, atol=0)
    assert (tmp_path / "model" / "README.md").exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="Nothing can be written beside"), staged_folder(tmp_path / "file" / "x"):
        pass


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("2 MiB", 2 * 2**20), ("1.5kb", 1500), (300, 300), ("40B", 40)]
)
def test_sizes(text: int | str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "5 parsecs", "-1GB", 0, "GB"])
def test_sizes_that_are_none(text: int | str) -> None:
    with pytest.raises(ArgumentError, match="expected a number of bytes"):
        parse_size(text)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(4, 200))
def test_every_tensor_survives_any_sharding(lengths: list[int], max_bytes: int) -> None:
    import tempfile

    state = {f"t{index}": torch.full((length,), float(index)) for index, length in enumerate(lengths)}
    with tempfile.TemporaryDirectory() as folder:
        save_weights(Path(folder), state, LAYOUT, max_shard_size=max_bytes)
        torch.testing.assert_close(saved(Path(folder)), {f"body.{key}": value for key, value in state.items()})
