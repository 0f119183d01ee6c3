"""Quantised linear layers: by every way the products that the dequantised weights give, in fp32 and in bf16."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from videolm.weights import int4_layout
from videolm.weights.int8_products import can_multiply_int8
from videolm.weights.quantize import WeightQuantization
from videolm.weights.quantized_linear import Int4Linear, Int8Linear, QuantizedLinear, quantized_linear

INT8 = WeightQuantization(scheme="int8")
INT4 = WeightQuantization(scheme="int4", group_size=64)
ROUNDED = WeightQuantization(scheme="int8", activations="int8")
# The kernel for int4 takes multiples of 64 channels, the one for int8 multiples of 16 inputs.
SHAPES = [(128, 256), (640, 64), (50, 64)]
# An output is rounded to bfloat16 (2**-9 of it), and once more where scales are applied to it or a weight is rounded
# before the sum: three roundings, each at most 2**-9 of the sum of the magnitudes.
BF16_ERROR = 3 * 2**-9


def layer(how: WeightQuantization, shape: tuple[int, int], *, bias: bool = True) -> QuantizedLinear:
    torch.manual_seed(0)
    values = nn.Parameter(torch.randn(shape[0]).bfloat16().float()) if bias else None
    return quantized_linear(torch.randn(shape) / 8, values, how)


def error(output: Tensor, quantised: QuantizedLinear, hidden: Tensor) -> float:
    """Largest error against the dequantised product in float64, by the sum of the magnitudes."""
    weight = quantised.dequantize(torch.float32).double()
    bias = None if quantised.bias is None else quantised.bias.double()
    exact = functional.linear(hidden.double(), weight, bias)
    size = functional.linear(hidden.double().abs(), weight.abs(), None if bias is None else bias.abs())
    return float(((output.double() - exact).abs() / size).max())


@pytest.mark.parametrize("num_rows", [1, 4, 200])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", [INT8, INT4], ids=["int8", "int4"])
@torch.inference_mode()
def test_bfloat16_products_are_those_of_the_dequantised_weights(
    how: WeightQuantization, shape: tuple[int, int], num_rows: int
) -> None:
    quantised = layer(how, shape).bfloat16()
    hidden = torch.randn(2, num_rows, shape[1]).bfloat16()
    output = quantised(hidden)
    assert output.shape == (2, num_rows, shape[0])
    assert output.dtype == torch.bfloat16
    assert error(output, quantised, hidden) < BF16_ERROR


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", [INT8, INT4], ids=["int8", "int4"])
@torch.inference_mode()
def test_float32_products_are_those_of_the_dequantised_weights(how: WeightQuantization, shape: tuple[int, int]) -> None:
    quantised = layer(how, shape)
    hidden = torch.randn(5, shape[1])
    expected = functional.linear(hidden, quantised.dequantize(torch.float32), quantised.bias)
    torch.testing.assert_close(quantised(hidden), expected)


@pytest.mark.parametrize("how", [INT8, INT4], ids=["int8", "int4"])
@torch.inference_mode()
def test_kernel_and_unpacking_agree(how: WeightQuantization, monkeypatch: pytest.MonkeyPatch) -> None:
    quantised = layer(how, (128, 256)).bfloat16()
    hidden = torch.randn(3, 256).bfloat16()
    by_kernel = quantised(hidden)
    monkeypatch.setattr(type(quantised), "_by_kernel", None)  # Would be called no more.
    monkeypatch.setattr(type(quantised), "max_kernel_rows", 0)
    by_unpacking = quantised(hidden)
    assert error(by_kernel, quantised, hidden) < BF16_ERROR
    assert error(by_unpacking, quantised, hidden) < BF16_ERROR


@torch.inference_mode()
def test_the_kernel_for_int8_is_not_given_rows_that_it_would_read_past() -> None:
    quantised = layer(INT8, (32, 40)).bfloat16()
    hidden = torch.randn(1, 40).bfloat16()
    assert error(quantised(hidden), quantised, hidden) < BF16_ERROR


NEEDS_VNNI = pytest.mark.skipif(not can_multiply_int8(), reason="this processor does not multiply int8")


@NEEDS_VNNI
@pytest.mark.parametrize("num_rows", [9, 128, 300])
@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_rounded_activations_give_the_products_of_what_they_are_rounded_to(
    shape: tuple[int, int], num_rows: int
) -> None:
    quantised = layer(ROUNDED, shape, bias=False).bfloat16()
    hidden = (torch.randn(num_rows, shape[1]) * torch.logspace(-3, 3, num_rows)[:, None]).bfloat16()
    hidden[1] = 0
    scales = (hidden.abs().amax(1, keepdim=True) / 126).float()
    rounded = (hidden.float() / scales.clamp(min=1e-30) + 0.5).floor() * scales
    assert (rounded - hidden.float()).abs().max() > 0
    found, exact = quantised(hidden).double(), rounded.double() @ quantised.dequantize(torch.float32).double().T
    size = rounded.double().abs() @ quantised.dequantize(torch.float32).double().abs().T
    # A number that stands at a half may go to either side: one step of one activation beside the roundings.
    step = scales.double() * quantised.dequantize(torch.float32).double().abs().amax(1)
    assert ((found - exact).abs() <= BF16_ERROR * size + step).all()


@NEEDS_VNNI
@torch.inference_mode()
def test_activations_are_left_alone_in_few_rows_and_in_float32() -> None:
    rounded, plain = (layer(how, (128, 256)) for how in (ROUNDED, INT8))
    hidden = torch.randn(40, 256)
    torch.testing.assert_close(rounded(hidden), plain(hidden), rtol=0, atol=0)
    few = hidden[: Int8Linear.max_kernel_rows_beside_rounding].bfloat16()
    torch.testing.assert_close(rounded.bfloat16()(few), plain.bfloat16()(few), rtol=0, atol=0)
    for count in (len(few) + 1, len(hidden)):
        more = hidden[:count].bfloat16()
        assert not torch.equal(rounded(more), plain(more))


@NEEDS_VNNI
@torch.inference_mode()
def test_activations_that_are_not_numbers_show() -> None:
    hidden = torch.randn(40, 64).bfloat16()
    hidden[3, 5] = torch.nan
    found = layer(ROUNDED, (50, 64)).bfloat16()(hidden)
    assert found[3].isnan().all()
    assert not found[[*range(3), *range(4, 40)]].isnan().any()


@NEEDS_VNNI
@torch.inference_mode()
def test_a_layer_that_was_laid_out_is_copied_and_changed_like_any_other() -> None:
    quantised = layer(ROUNDED, (50, 64)).bfloat16()
    hidden = torch.randn(40, 64).bfloat16()
    before = quantised(hidden)
    names = list(quantised.state_dict())
    assert names == ["weight", "weight_scale", "bias"]
    twin = copy.deepcopy(quantised)
    assert torch.equal(twin(hidden), before)
    twin.float()
    torch.testing.assert_close(twin(hidden.float()), layer(INT8, (50, 64))(hidden.float()), rtol=0, atol=0)


@pytest.mark.parametrize("how", [INT8, INT4], ids=["int8", "int4"])
def test_no_rows_give_no_rows(how: WeightQuantization) -> None:
    assert layer(how, (64, 64)).bfloat16()(torch.empty(0, 64, dtype=torch.bfloat16)).shape == (0, 64)


@pytest.mark.parametrize("how", [INT8, INT4], ids=["int8", "int4"])
def test_gradients_reach_what_comes_in(how: WeightQuantization) -> None:
    quantised = layer(how, (64, 128), bias=False)
    hidden = torch.randn(2, 128, requires_grad=True)
    quantised(hidden).sum().backward()
    torch.testing.assert_close(hidden.grad, quantised.dequantize(torch.float32).sum(0).expand(2, -1))
    assert not any(parameter.requires_grad for parameter in quantised.parameters())


def test_nothing_is_held_twice() -> None:
    quantised = layer(INT4, (128, 256), bias=False)
    assert isinstance(quantised, Int4Linear)
    assert quantised.is_packed
    sizes = [tensor.numel() * tensor.element_size() for tensor in (*quantised.parameters(), *quantised.buffers())]
    # Half a byte a weight; a scale and the kernel's zero point for each 64 of them.
    assert sum(sizes) == 128 * 256 // 2 + 128 * 256 // 64 * 4


def test_a_state_dict_holds_the_plain_numbers() -> None:
    torch.manual_seed(0)
    weight = torch.randn(128, 256)
    quantised = quantized_linear(weight, None, INT4)
    state = quantised.state_dict()
    assert {name: (tensor.dtype, list(tensor.shape)) for name, tensor in state.items()} == {
        "weight": (torch.uint8, [128, 128]),
        "weight_scale": (torch.bfloat16, [128, 4]),
    }
    again = Int4Linear(state["weight"], state["weight_scale"], None, in_features=256)
    assert torch.equal(again.dequantize(torch.float32), quantised.dequantize(torch.float32))


@pytest.mark.parametrize("order", [None, torch.cat([torch.arange(0, 64, 2), torch.arange(1, 64, 2)])])
def test_without_the_kernel_or_in_another_order_the_products_are_the_same(
    order: Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_kernel = layer(INT4, (128, 256))
    hidden = torch.randn(3, 256)
    expected, state = with_kernel(hidden), with_kernel.state_dict()
    if order is None:
        monkeypatch.setattr(int4_layout, "_row_order", lambda: None)
    else:
        monkeypatch.setattr(int4_layout, "_row_order", lambda: order)
        monkeypatch.setattr(torch.ops.aten, "_convert_weight_to_int4pack_for_cpu", interleaved)
    other = layer(INT4, (128, 256))
    assert isinstance(other, Int4Linear)
    assert other.is_packed == (order is not None)
    assert torch.equal(other(hidden), expected)
    assert torch.equal(other.state_dict()["weight"], state["weight"])


def interleaved(numbers: Tensor, _: int) -> Tensor:
    """The layout of processors without vector instructions: neighbouring rows share a byte."""
    columns = numbers.view(-1, 32, 2, numbers.shape[1]).permute(0, 3, 1, 2)  # [blocks, in, 32, 2]
    return (columns[..., 0] | columns[..., 1] << 4).to(torch.uint8).reshape(len(numbers), -1)


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["avx2", "default"])
def test_other_processors_layouts_are_read_back(capability: str) -> None:
    code = """if True:
        import torch
        from videolm.weights import int4_layout
        stored = torch.randint(0, 256, (192, 64), dtype=torch.uint8)
        packed = int4_layout.pack(stored)
        assert int4_layout.has_kernel()
        assert not torch.equal(packed, stored)
        assert torch.equal(int4_layout.unpack(packed), stored)
    """
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "ATEN_CPU_CAPABILITY": capability})


@pytest.mark.parametrize("how", [INT8, INT4], ids=["int8", "int4"])
def test_another_dtype_changes_the_bias_alone(how: WeightQuantization) -> None:
    quantised = layer(how, (128, 256))
    before = copy.deepcopy(quantised.state_dict())
    quantised.half().float()
    after = quantised.state_dict()
    assert torch.equal(after["bias"], before["bias"].half().float())
    for name in ("weight", "weight_scale"):
        assert after[name].dtype == before[name].dtype
        assert torch.equal(after[name], before[name])


def test_a_copy_computes_the_same() -> None:
    quantised = layer(INT4, (128, 256))
    hidden = torch.randn(3, 256)
    assert torch.equal(copy.deepcopy(quantised)(hidden), quantised(hidden))
    assert isinstance(layer(INT8, (16, 16)), Int8Linear)
