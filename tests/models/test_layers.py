"""Activations over what they are given, against those that gradients are recorded for."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch.nn import functional

from videolm.models.config import Activation
from videolm.models.layers import activation, gated

NAMES = get_args(Activation)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_without_gradients_the_same_numbers_stand_in_the_argument(name: Activation, dtype: torch.dtype) -> None:
    activate = activation(name)
    hidden = torch.randn(3, 100, 24, generator=torch.Generator().manual_seed(0)).to(dtype) * 3
    recorded = activate(hidden.clone().requires_grad_()).detach()
    with torch.inference_mode():
        given = hidden.clone()
        found = activate(given)
    assert found.data_ptr() == given.data_ptr()
    assert torch.equal(found, recorded)
    assert not torch.equal(found, hidden)


@pytest.mark.parametrize("name", NAMES)
def test_with_gradients_the_argument_is_left_alone(name: Activation) -> None:
    hidden = torch.randn(5, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
    before = hidden.detach().clone()
    activation(name)(hidden).sum().backward()
    assert torch.equal(hidden, before)
    assert hidden.grad is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_gate_multiplies(name: Activation) -> None:
    gate, up = torch.randn(2, 1, 300, 16, generator=torch.Generator().manual_seed(2))
    expected = gated(activation(name), gate.clone().requires_grad_(), up).detach()
    assert torch.equal(gated(activation(name), gate.clone(), up), expected)


def test_values() -> None:
    hidden = torch.linspace(-4, 4, 101)[None]
    torch.testing.assert_close(activation("quick_gelu")(hidden.clone()), hidden * torch.sigmoid(1.702 * hidden))
    torch.testing.assert_close(
        activation("gelu_pytorch_tanh")(hidden.clone()), functional.gelu(hidden, approximate="tanh")
    )
    torch.testing.assert_close(activation("gelu")(hidden.clone()), functional.gelu(hidden))
    torch.testing.assert_close(activation("silu")(hidden.clone()), hidden * torch.sigmoid(hidden))
