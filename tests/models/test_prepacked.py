"""Prepacked layers: bit for bit what the ordinary ones give, one copy of the weights, and back again."""

from __future__ import annotations

import copy
import pickle
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from videolm.models.prepacked import PrepackedLinear, lay_out_linears, prepack_linears, unpack_linears

from .tiny import clip, prompt, tiny_model

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has no bfloat16 on this processor"
)


def linear(shape: tuple[int, int] = (64, 96), *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(shape[1], shape[0], bias=bias, dtype=torch.bfloat16)


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("num_rows", [0, 1, 3, 16, 200])
@pytest.mark.parametrize("shape", [(64, 96), (1024, 512), (17, 33)])
@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_products_are_those_of_the_ordinary_layer_to_the_bit(
    bias: bool, shape: tuple[int, int], num_rows: int, num_threads: int
) -> None:
    plain = linear(shape, bias=bias)
    packed = PrepackedLinear(plain)
    packed.lay_out()
    assert packed.weight.is_mkldnn
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        rows = torch.randn(num_rows, shape[1]).bfloat16()
        for hidden in (rows, rows.t().contiguous().t(), rows[None].repeat(2, 1, 1)):
            assert torch.equal(packed(hidden), plain(hidden))
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def test_a_whole_model_gives_the_same_logits_and_holds_nothing_twice() -> None:
    model = tiny_model().bfloat16()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inputs = prompt([1, 5], clip(), [6, 7, 8])
    expected = model.prefill(inputs, model.new_cache())
    num_linear = sum(type(module) is nn.Linear for module in model.modules())

    prepack_linears(model)
    packed = [module for module in model.modules() if isinstance(module, PrepackedLinear)]
    assert len(packed) == num_linear
    assert all(len(list(module.parameters())) == 1 + (module.bias is not None) for module in packed)
    assert torch.equal(model.prefill(inputs, model.new_cache()), expected)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())

    unpack_linears(model)
    assert sum(type(module) is nn.Linear for module in model.modules()) == num_linear
    assert torch.equal(model.prefill(inputs, model.new_cache()), expected)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == dict.fromkeys(state, True)


def test_what_is_shared_or_not_bfloat16_stays() -> None:
    model = nn.ModuleDict({"table": nn.Embedding(5, 8), "head": linear((5, 8), bias=False), "wide": nn.Linear(8, 8)})
    model["head"].weight = model["table"].weight
    prepack_linears(model)
    assert type(model["head"]) is nn.Linear
    assert type(model["wide"]) is nn.Linear


@pytest.mark.parametrize("used_before", [False, True])
def test_gradients_reach_what_comes_in(used_before: bool) -> None:
    plain = linear()
    packed = PrepackedLinear(plain)
    if used_before:
        with torch.inference_mode():
            packed(torch.randn(3, 96).bfloat16())
    hidden = torch.randn(3, 96, dtype=torch.bfloat16, requires_grad=True)
    (mine,) = torch.autograd.grad(packed(hidden).sum(), hidden)
    (expected,) = torch.autograd.grad(functional.linear(hidden, plain.weight, plain.bias).sum(), hidden)
    assert torch.equal(mine, expected)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@torch.inference_mode()
def test_a_copy_is_packed_and_computes_the_same(copied: Callable[[Any], Any]) -> None:
    packed = PrepackedLinear(linear())
    again = copied(packed)
    hidden = torch.randn(3, 96).bfloat16()
    assert torch.equal(again(hidden), packed(hidden))
    assert again.weight.is_mkldnn
    assert again.weight is not packed.weight


@torch.inference_mode()
def test_another_dtype_is_computed_in_without_packing() -> None:
    plain = linear()
    packed = PrepackedLinear(plain)
    packed.lay_out()
    packed.float()
    hidden = torch.randn(3, 96)
    assert packed.weight.dtype == torch.float32
    assert torch.equal(packed(hidden), plain.float()(hidden))
    packed.bfloat16()(hidden.bfloat16())
    assert packed.weight.is_mkldnn


@torch.inference_mode()
def test_weights_are_laid_out_as_they_are_used_or_at_once() -> None:
    model = nn.ModuleDict({"used": linear(), "other": linear()})
    plain = model["used"].weight.data.clone()
    prepack_linears(model)
    assert not any(layer.weight.is_mkldnn for layer in model.values())
    gone = weakref.ref(model["used"].weight.untyped_storage())
    model["used"](torch.randn(3, 96).bfloat16())
    assert [layer.weight.is_mkldnn for layer in model.values()] == [True, False]
    assert gone() is None
    lay_out_linears(model)
    assert all(layer.weight.is_mkldnn for layer in model.values())
    assert torch.equal(model["used"].plain_weight(), plain)


@torch.inference_mode()
def test_threads_that_use_a_layer_first_at_the_same_time_all_get_its_product() -> None:
    plain = linear((512, 256))
    hidden = torch.randn(3, 256).bfloat16()
    expected = plain(hidden)
    for _ in range(20):
        packed = PrepackedLinear(copy.deepcopy(plain))
        barrier = threading.Barrier(4)

        def use(packed: PrepackedLinear = packed, barrier: threading.Barrier = barrier) -> torch.Tensor:
            with torch.inference_mode():
                barrier.wait()
                return packed(hidden)

        with ThreadPoolExecutor(4) as pool:
            found = [future.result() for future in [pool.submit(use) for _ in range(4)]]
        assert all(torch.equal(product, expected) for product in found)
