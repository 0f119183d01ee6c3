"""Loading into a module: names and shapes are checked first, then each tensor goes straight to its dtype."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from videolm.errors import CheckpointError
from videolm.weights.files import WeightFiles, open_weights
from videolm.weights.keymap import KeyLayout, KeyRule
from videolm.weights.loading import load_weights

LAYOUT = KeyLayout(
    name="plain",
    marks=("body.",),
    rules=(KeyRule(file="body.", module=""),),
    ignored=(r".*\.position_ids",),
)


class Small(nn.Module):
    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        if tied:
            self.head.weight = self.embed.weight


def small(tied: bool = False) -> Small:
    with torch.device("meta"):
        return Small(tied)


def tensors() -> dict[str, torch.Tensor]:
    return {"body.embed.weight": torch.arange(15.0).reshape(5, 3), "body.head.weight": torch.ones(5, 3)}


def source(state: dict[str, torch.Tensor]) -> WeightFiles:
    return WeightFiles.from_state_dict(state)


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_a_meta_module_is_filled(dtype: torch.dtype | None) -> None:
    module = small()
    steps: list[tuple[int, int | None]] = []
    layout = load_weights(
        module, source(tensors()), (LAYOUT,), dtype=dtype, progress=lambda done, total: steps.append((done, total))
    )
    assert layout is LAYOUT
    expected = {"embed.weight": tensors()["body.embed.weight"], "head.weight": torch.ones(5, 3)}
    expected = {key: value.to(dtype or torch.float32) for key, value in expected.items()}
    torch.testing.assert_close(dict(module.state_dict()), expected, rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert steps == [(1, 2), (2, 2)]


def test_loaded_tensors_do_not_share_memory_with_the_file(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "model.safetensors")
    module = small()
    load_weights(module, open_weights(tmp_path), (LAYOUT,))
    with torch.no_grad():
        module.head.weight.zero_()
    assert open_weights(tmp_path).read("body.head.weight").sum() == 15


LARGE = torch.arange(2**20).reshape(1024, 1024)


def mapped(folder: Path, dtype: torch.dtype, wanted: torch.dtype | None, *, maps: bool = True) -> nn.Linear:
    save_file(
        {"body.weight": LARGE.to(dtype), "body.bias": torch.ones(1024, dtype=dtype)}, folder / "model.safetensors"
    )
    with torch.device("meta"):
        module = nn.Linear(1024, 1024)
    load_weights(module, open_weights(folder), (LAYOUT,), dtype=wanted, maps=maps)
    assert torch.equal(module.weight, LARGE.to(dtype).to(wanted or dtype))
    assert torch.equal(module.bias, torch.ones(1024, dtype=wanted or dtype))
    return module


def mappings(folder: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(folder / "model.safetensors"))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not list what is mapped")
@pytest.mark.parametrize(
    ("stored", "wanted", "maps", "expected"),
    [
        (torch.bfloat16, None, True, 1),
        (torch.bfloat16, torch.bfloat16, True, 1),
        (torch.bfloat16, torch.float32, True, 0),
        (torch.float32, None, True, 0),
        (torch.bfloat16, None, False, 0),
    ],
)
def test_large_tensors_stay_in_their_file_if_they_need_not_change(
    tmp_path: Path, stored: torch.dtype, wanted: torch.dtype | None, maps: bool, expected: int
) -> None:
    module = mapped(tmp_path, stored, wanted, maps=maps)
    assert mappings(tmp_path) == expected
    with torch.no_grad():
        module.weight[0] = 7  # Which the file does not see.
    assert torch.equal(open_weights(tmp_path).read("body.weight"), LARGE.to(stored))
    del module
    assert mappings(tmp_path) == 0


def test_a_file_that_was_replaced_is_read_as_it_was(tmp_path: Path) -> None:
    module = mapped(tmp_path, torch.bfloat16, None)
    save_file({"body.weight": torch.zeros(2, 2)}, tmp_path / "new")
    (tmp_path / "new").replace(tmp_path / "model.safetensors")
    assert torch.equal(module.weight, LARGE.bfloat16())


@pytest.mark.parametrize("with_head", [True, False])
def test_tied_weights_stay_tied_with_and_without_a_second_copy(with_head: bool) -> None:
    state = tensors()
    if not with_head:
        del state["body.head.weight"]
    module = small(tied=True)
    load_weights(module, source(state), (LAYOUT,))
    assert module.head.weight is module.embed.weight
    torch.testing.assert_close(module.head.weight.detach(), state["body.embed.weight"])


def test_a_missing_tensor_names_the_nearest() -> None:
    state = tensors()
    state["body.heads.weight"] = state.pop("body.head.weight")
    with pytest.raises(CheckpointError) as caught:
        load_weights(small(), source(state), (LAYOUT,))
    assert str(caught.value) == (
        "The weights in state dict, read as layout plain, lack 1 tensors (body.head.weight; nearest there: "
        "body.heads.weight) and hold 1 that the model has no place for (body.heads.weight): expected exactly the "
        "tensors that config.json describes. Check that both come from the same model and that no shard is missing."
    )


def test_an_unexpected_tensor_is_an_error_unless_ignored() -> None:
    load_weights(small(), source({**tensors(), "visual.position_ids": torch.zeros(1)}), (LAYOUT,))
    with pytest.raises(CheckpointError, match=r"hold 1 that the model has no place for \(other\.weight\)"):
        load_weights(small(), source({**tensors(), "other.weight": torch.zeros(1)}), (LAYOUT,))


def test_a_wrong_shape_names_the_key_and_both_shapes() -> None:
    state = {**tensors(), "body.head.weight": torch.ones(4, 3)}
    module = small()
    with pytest.raises(
        CheckpointError, match=r"body\.head\.weight .* has the shape \[4, 3\], but the configuration asks for \[5, 3\]"
    ):
        load_weights(module, source(state), (LAYOUT,))
    assert module.embed.weight.is_meta, "nothing is loaded before everything is checked"


def test_integer_tensors_keep_their_dtype() -> None:
    module = nn.Module()
    module.register_buffer("steps", torch.zeros(2, dtype=torch.int64))
    load_weights(module, source({"body.steps": torch.tensor([3, 4])}), (LAYOUT,), dtype=torch.bfloat16)
    assert module.steps.tolist() == [3, 4]


class _Fresh:
    """Tensors that are made when they are read; at most one of them is ever alive."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = state
        self.last: weakref.ref[torch.Tensor] = weakref.ref(torch.zeros(1))
        self.num_read = 0

    def keys(self) -> list[str]:
        return list(self.state)

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self.state[key].shape)

    def dtype(self, key: str) -> torch.dtype:
        return self.state[key].dtype

    def read(self, key: str) -> torch.Tensor:
        assert self.last() is None, "the tensor before is still held"
        made = self.state[key].clone()
        self.last = weakref.ref(made)
        self.num_read += 1
        return made


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_no_tensor_is_held_while_the_next_is_read(dtype: torch.dtype | None) -> None:
    fresh = _Fresh(tensors())
    load_weights(small(), WeightFiles.over(Path("fresh"), fresh), (LAYOUT,), dtype=dtype)
    assert (fresh.num_read, fresh.last()) == (2, None)
