"""Weight files on disk: every form is read, and what is missing or damaged is named in one line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from videolm.errors import CheckpointError, ModelNotFoundError
from videolm.weights.files import WeightFiles, open_weights
from videolm.weights.writing import DTYPES, PlannedTensor, write_safetensors

FIRST = {"a.weight": torch.arange(6.0).reshape(2, 3)}
SECOND = {"b.bias": torch.tensor([1, 2], dtype=torch.bfloat16)}


def write_sharded(folder: Path, kind: str = "safetensors") -> None:
    stem = "model" if kind == "safetensors" else "pytorch_model"
    names = [f"{stem}-0000{index}-of-00002.{kind}" for index in (1, 2)]
    for name, tensors in zip(names, (FIRST, SECOND), strict=True):
        if kind == "safetensors":
            save_file(tensors, folder / name)
        else:
            torch.save(tensors, folder / name)
    weight_map = {"a.weight": names[0], "b.bias": names[1]}
    (folder / f"{stem}.{kind}.index.json").write_text(json.dumps({"weight_map": weight_map}))


def read_all(files: WeightFiles) -> dict[str, torch.Tensor]:
    return {key: files.read(key) for key in files}


def assert_whole(files: WeightFiles) -> None:
    torch.testing.assert_close(read_all(files), {**FIRST, **SECOND}, rtol=0, atol=0)
    assert {key: files.shape(key) for key in files} == {"a.weight": (2, 3), "b.bias": (2,)}


def test_single_safetensors(tmp_path: Path) -> None:
    save_file({**FIRST, **SECOND}, tmp_path / "model.safetensors")
    assert_whole(open_weights(tmp_path))


@pytest.mark.parametrize("zipped", [True, False])
def test_single_bin(tmp_path: Path, zipped: bool) -> None:
    torch.save({**FIRST, **SECOND}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    assert_whole(open_weights(tmp_path))


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards(tmp_path: Path, kind: str) -> None:
    write_sharded(tmp_path, kind)
    assert_whole(open_weights(tmp_path))


def test_tensors_of_a_shard_that_the_index_forgot_are_seen(tmp_path: Path) -> None:
    write_sharded(tmp_path)
    save_file({**SECOND, "c": torch.zeros(1)}, tmp_path / "model-00002-of-00002.safetensors")
    assert list(open_weights(tmp_path)) == ["a.weight", "b.bias", "c"]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_sharded(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError) as caught:
        open_weights(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} lacks 1 of its 2 weight shards (model-00002-of-00002.safetensors): "
        "model.safetensors.index.json expects them beside it. "
        "Copy the missing files there, or download the model again."
    )


def test_shards_without_their_index(tmp_path: Path) -> None:
    write_sharded(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match=r"2 weight shards such as .* but no model\.safetensors\.index\.json"):
        open_weights(tmp_path)


def test_a_shard_that_lacks_what_the_index_promises(tmp_path: Path) -> None:
    write_sharded(tmp_path)
    save_file({"other": torch.zeros(1)}, tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"does not hold b\.bias, which .* places there"):
        open_weights(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weight_map": 3}', "{}"])
def test_a_broken_index(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="is no weight index"):
        open_weights(tmp_path)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "a/b.safetensors", "..", ""])
def test_an_index_that_points_outside_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="expected the name of a file beside the index"):
        open_weights(tmp_path)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"holds no weights: expected model\.safetensors"):
        open_weights(tmp_path)


@pytest.mark.parametrize("cut", [0, 4, 20, -1])
def test_a_truncated_safetensors_file(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "model.safetensors"
    save_file(FIRST, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match=r"model\.safetensors \(\d+ bytes\) cannot be read as weights") as caught:
        open_weights(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_truncated_bin_file(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save(FIRST, path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="the file is damaged or incomplete"):
        open_weights(tmp_path)


def test_a_git_lfs_pointer_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(CheckpointError, match="Run git lfs pull in that folder"):
        open_weights(tmp_path)


class Dangerous:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 + 1",)


def test_a_bin_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"a": Dangerous()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="reading it could run code") as caught:
        open_weights(tmp_path)
    assert isinstance(caught.value.__cause__, pickle.UnpicklingError)


def test_a_bin_file_without_tensors(tmp_path: Path) -> None:
    torch.save({"a": 1}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="not a dictionary of tensors"):
        open_weights(tmp_path)


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ({"a": {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}}, 8),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, 8),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, 7),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, 12),
        ({"a": 3}, 0),
    ],
    ids=["dtype", "shape", "too short", "hole", "no entry"],
)
def test_a_header_that_is_wrong(tmp_path: Path, header: dict[str, object], size: int) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
    with pytest.raises(CheckpointError, match=r"cannot be read as weights \(SafetensorError") as caught:
        open_weights(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_written_the_library_reads(tmp_path: Path) -> None:
    """One tensor of each type that such files know, odd sizes among them, and one without numbers."""
    kinds = [dtype for dtype in DTYPES.values() if dtype != torch.float8_e8m0fnu]
    state = {f"t{index}": torch.ones(3, 1, dtype=torch.float32).to(dtype) for index, dtype in enumerate(kinds)}
    state |= {"empty": torch.zeros(0, 4), "scalar": torch.tensor(2.5)}
    planned = [
        PlannedTensor(name=name, shape=tuple(t.shape), dtype=t.dtype, read=lambda t=t: t)  # type: ignore[misc]
        for name, t in state.items()
    ]
    write_safetensors(tmp_path / "model.safetensors", planned)
    read = load_file(tmp_path / "model.safetensors")
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name].view(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)), name
    files = open_weights(tmp_path)
    assert {name: files.dtype(name) for name in files} == {name: tensor.dtype for name, tensor in state.items()}
