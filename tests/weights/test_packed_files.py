"""Quantised files: read as they are, or as if they were not quantised; damage is named."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from videolm.errors import CheckpointError
from videolm.weights.files import WeightFiles
from videolm.weights.packed_files import dequantized_files, find_packed
from videolm.weights.quantize import WeightQuantization
from videolm.weights.quantized_linear import Int4Linear, Int8Linear, quantized_linear


def stored(scheme: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    layer = quantized_linear(torch.randn(64, 96), None, WeightQuantization(scheme=scheme))
    return {f"up.{name}": tensor for name, tensor in layer.state_dict().items()} | {"norm.weight": torch.ones(3)}


@pytest.mark.parametrize(("scheme", "layer_class"), [("int8", Int8Linear), ("int4", Int4Linear)])
def test_packed_weights_stand_under_one_name_and_shape(scheme: str, layer_class: type[nn.Module]) -> None:
    state = stored(scheme)
    files = WeightFiles.from_state_dict(state)
    packed = find_packed(files)
    plain = dequantized_files(files, packed)
    assert list(packed) == ["up.weight"]
    assert {name: plain.shape(name) for name in plain} == {"up.weight": (64, 96), "norm.weight": (3,)}
    layer = packed["up.weight"].layer(nn.Linear(96, 64), "cpu")
    assert isinstance(layer, layer_class)
    assert torch.equal(plain.read("up.weight"), layer.dequantize(torch.float32))
    assert torch.equal(plain.read("norm.weight"), torch.ones(3))
    kept = layer.state_dict()
    assert all(torch.equal(kept[name], state[f"up.{name}"]) for name in ("weight", "weight_scale"))


def test_files_without_packed_weights_stay_as_they_are() -> None:
    files = WeightFiles.from_state_dict({"up.weight": torch.ones(2, 2)})
    assert dequantized_files(files, find_packed(files)) is files


@pytest.mark.parametrize("scales", [(32,), (64, 5), (64, 12), (64, 2, 1)])
def test_scales_that_do_not_fit_are_named_with_both_shapes(scales: tuple[int, ...]) -> None:
    state = stored("int4") | {"up.weight_scale": torch.ones(scales, dtype=torch.bfloat16)}
    with pytest.raises(CheckpointError) as caught:
        find_packed(WeightFiles.from_state_dict(state))
    assert str(caught.value) == (
        f"up.weight in state dict has the shape [64, 48] and its scales {list(scales)}: expected one scale for each "
        "row, or for each 32, 64 or 128 numbers in it. The file is damaged; save it again."
    )


def test_a_wrong_dtype_is_named() -> None:
    state = stored("int8")
    state["up.weight"] = state["up.weight"].float()
    files = WeightFiles.from_state_dict(state)
    with pytest.raises(CheckpointError, match=r"up\.weight in state dict is torch\.float32 with scales of torch\.bf"):
        dequantized_files(files, find_packed(files)).read("up.weight")
