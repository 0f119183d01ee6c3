"""Files of bitsandbytes: read without the package to the values that it gives itself; damage is named."""

from __future__ import annotations

import json
from typing import Any

import bitsandbytes
import pytest
import torch
from torch import Tensor, nn

from videolm.errors import CheckpointError
from videolm.weights import bitsandbytes_files
from videolm.weights.bitsandbytes_files import find_bitsandbytes
from videolm.weights.files import WeightFiles

# As transformers makes such layers; the package itself quantises them when they are moved.
SHAPE = (96, 128)


def four_bit(storage: torch.dtype = torch.uint8, **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    layer = bitsandbytes.nn.Linear4bit(SHAPE[1], SHAPE[0], bias=False, quant_storage=storage, **options).to("cpu")
    return {f"up.{name}": tensor.clone() for name, tensor in layer.state_dict().items()}


def eight_bit() -> dict[str, Tensor]:
    torch.manual_seed(0)
    layer = bitsandbytes.nn.Linear8bitLt(SHAPE[1], SHAPE[0], bias=False, has_fp16_weights=False).to("cpu")
    return {f"up.{name}": tensor.clone() for name, tensor in layer.state_dict().items()}


def by_the_package(state: dict[str, Tensor]) -> Tensor:
    parts = {name.removeprefix("up.weight."): tensor.clone() for name, tensor in state.items() if name != "up.weight"}
    weight = bitsandbytes.nn.Params4bit.from_prequantized(state["up.weight"], parts, device="cpu")
    found: Tensor = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
    return found


@pytest.mark.parametrize("chunk", [1_000_000, 640])
@pytest.mark.parametrize("storage", [torch.uint8, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("compress_statistics", [False, True])
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_four_bits_give_the_values_of_the_package(
    quant_type: str, compress_statistics: bool, storage: torch.dtype, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bitsandbytes_files, "_CHUNK", chunk)
    state = four_bit(quant_type=quant_type, compress_statistics=compress_statistics, storage=storage)
    (weight,) = find_bitsandbytes(WeightFiles.from_state_dict(state)).values()
    assert weight.kind == quant_type
    assert weight.shape == SHAPE
    assert set(weight.keys) == set(state)
    torch.testing.assert_close(weight.dequantize(), by_the_package(state), rtol=0, atol=0)


def test_rows_that_blocks_do_not_divide_are_read_too() -> None:
    # The package's own kernel for CPUs takes wrong scales here; its generic one does not.
    layer = bitsandbytes.nn.Linear4bit(96, 5, bias=False, quant_type="nf4", compress_statistics=False).to("cpu")
    state = {f"up.{name}": tensor.clone() for name, tensor in layer.state_dict().items()}
    (weight,) = find_bitsandbytes(WeightFiles.from_state_dict(state)).values()
    packed = state["up.weight"].flatten().int()
    numbers = [half for byte in packed.tolist() for half in (byte >> 4, byte & 15)]
    table, scales = state["up.weight.quant_map"], state["up.weight.absmax"]
    expected = [table[number] * scales[index // 64] for index, number in enumerate(numbers)]
    torch.testing.assert_close(weight.dequantize().flatten(), torch.stack(expected), rtol=0, atol=0)


def test_eight_bits_give_the_values_of_the_package() -> None:
    state = eight_bit()
    (weight,) = find_bitsandbytes(WeightFiles.from_state_dict(state)).values()
    assert weight.kind == "int8"
    assert set(weight.keys) == set(state)
    expected = bitsandbytes.functional.int8_vectorwise_dequant(state["up.weight"], state["up.SCB"])
    torch.testing.assert_close(weight.dequantize(), expected)


@pytest.mark.parametrize(
    "state",
    [
        four_bit(quant_type="nf4"),
        four_bit(quant_type="fp4", compress_statistics=False),
        four_bit(quant_type="nf4", storage=torch.bfloat16),
        eight_bit(),
    ],
    ids=["nested nf4", "fp4", "in bfloat16", "int8"],
)
@torch.inference_mode()
def test_layers_hold_what_the_files_hold(state: dict[str, Tensor]) -> None:
    (weight,) = find_bitsandbytes(WeightFiles.from_state_dict(state)).values()
    linear = nn.Linear(SHAPE[1], SHAPE[0])
    layer = weight.layer(linear, "cpu")
    hidden = torch.randn(3, SHAPE[1])
    expected = nn.functional.linear(hidden, weight.dequantize(), linear.bias)
    # In eight bits activations are rounded to 255 numbers too: half a step of each, and steps add up as their root.
    tolerance = {"rtol": 0.02, "atol": 0.02} if weight.kind == "int8" else {"rtol": None, "atol": None}
    torch.testing.assert_close(layer(hidden), expected, **tolerance)
    again = {f"up.{name}": tensor for name, tensor in layer.state_dict().items() if name != "bias"}
    assert set(again) == set(state)
    for name, tensor in again.items():
        assert torch.equal(as_bytes(tensor), as_bytes(state[name])), name


def as_bytes(tensor: Tensor) -> Tensor:
    return tensor.flatten().view(torch.uint8)


def damaged(name: str, change: Any) -> dict[str, Tensor]:
    state = four_bit(quant_type="nf4", compress_statistics=True)
    if change is None:
        del state[name]
    else:
        state[name] = change(state[name])
    return state


def with_entry(name: str, value: Any) -> Any:
    def change(tensor: Tensor) -> Tensor:
        values = json.loads(bytes(tensor.tolist())) | {name: value}
        return torch.tensor(list(json.dumps(values).encode()), dtype=torch.uint8)

    return change


STATE = "up.weight.quant_state.bitsandbytes__nf4"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("up.weight.absmax", None, "up.weight in state dict lacks up.weight.absmax"),
        ("up.weight.absmax", lambda tensor: tensor[:-1], "up.weight.absmax of the shape [191] in the place of [192]"),
        ("up.weight.quant_map", lambda tensor: tensor[:8], "up.weight.quant_map of the shape [8] in the place of [16]"),
        ("up.weight", lambda tensor: tensor[:-4], "up.weight in state dict has 6140 bytes for 12288 numbers"),
        (STATE, lambda tensor: tensor[:-9], f"{STATE} in state dict cannot be read (JSONDecodeError"),
        (STATE, with_entry("shape", [96]), f"{STATE} in state dict cannot be read (ValueError: sizes"),
        (STATE, with_entry("blocksize", -64), f"{STATE} in state dict cannot be read (ValueError: sizes"),
        (STATE, with_entry("nested_offset", "x"), f"{STATE} in state dict cannot be read (ValueError: blocksize 64"),
    ],
)
def test_damaged_four_bit_weights_are_named(name: str, change: Any, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        find_bitsandbytes(WeightFiles.from_state_dict(damaged(name, change)))
    assert message in str(caught.value)
    assert "Save or download the model again" in str(caught.value) or "save or download" in str(caught.value)


def test_damaged_eight_bit_weights_are_named() -> None:
    state = eight_bit()
    with pytest.raises(CheckpointError, match=r"\[96, 128\] and its SCB \[95\]: expected one entry for each row"):
        find_bitsandbytes(WeightFiles.from_state_dict(state | {"up.SCB": state["up.SCB"][:-1]}))
    with pytest.raises(CheckpointError, match=r"laid out for a kind of GPU \(weight_format 2\)"):
        find_bitsandbytes(WeightFiles.from_state_dict(state | {"up.weight_format": torch.tensor(2)}))
