"""Weights in few bits: which numbers stand for a weight, and how far from it they can be."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from videolm.errors import ArgumentError
from videolm.weights import quantize
from videolm.weights.quantize import WeightQuantization, from_nibbles, quantize_int4, quantize_int8, to_nibbles


def test_int8_rounds_each_row_by_its_largest_entry() -> None:
    numbers, scales = quantize_int8(torch.tensor([[127.0, -63.4, 0.6], [0.0, -0.5, 0.24], [0.0, 0.0, 0.0]]))
    assert numbers.tolist() == [[127, -63, 1], [0, -127, 61], [0, 0, 0]]
    # 0.5 / 127 as bfloat16 has it.
    assert scales.tolist() == [1.0, 0.003936767578125, 1.0]
    assert scales.dtype == torch.bfloat16


def test_int4_lets_the_lowest_number_stand_for_the_entry_farthest_from_zero() -> None:
    row = torch.zeros(1, 64)
    row[0, :4] = torch.tensor([8.0, -7.0, 3.4, -1.0])
    row[0, 32:34] = torch.tensor([-4.0, 3.5])
    numbers, scales = quantize_int4(row, 32)
    assert scales.tolist() == [[-1.0, 0.5]]
    assert from_nibbles(numbers)[0, :5].tolist() == [0, 15, 5, 9, 8]
    assert from_nibbles(numbers)[0, 32:35].tolist() == [0, 15, 8]


@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_int4_is_within_half_a_step_unless_the_range_ends(group_size: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 256)
    numbers, scales = quantize_int4(weight, group_size)
    steps = scales.float().repeat_interleave(group_size, dim=1)
    back = (from_nibbles(numbers).float() - 8) * steps
    ends = from_nibbles(numbers) == 15
    error = ((back - weight) / steps).abs()
    # Half a step, and what rounding a scale to eight bits moves its largest entry, which is eight steps away.
    assert error[~ends].max() <= 0.5 + 8 * 2**-8
    assert error[ends].max() <= 1.0 + 8 * 2**-8


def test_int8_is_within_half_a_step() -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 256)
    numbers, scales = quantize_int8(weight)
    error = (numbers.float() * scales.float()[:, None] - weight).abs() / scales.float()[:, None]
    assert error.max() <= 0.5 + 127 * 2**-9


def test_the_order_of_work_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    weight = torch.randn(7, 64).bfloat16()
    whole = [*quantize_int8(weight), *quantize_int4(weight, 32)]
    monkeypatch.setattr(quantize, "_BLOCK_NUMEL", 130)
    parts = [*quantize_int8(weight), *quantize_int4(weight, 32)]
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))


def test_the_first_of_two_numbers_lies_in_the_low_half() -> None:
    numbers = torch.tensor([[1, 2, 15, 0]], dtype=torch.uint8)
    assert to_nibbles(numbers).tolist() == [[0x21, 0x0F]]
    assert torch.equal(from_nibbles(to_nibbles(numbers)), numbers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "int6"}, "quantize is 'int6': expected int8 or int4. Did you mean int8?"),
        ({"scheme": "awq"}, "quantize is 'awq': expected int8 or int4. Choose one of these, or leave quantize out."),
        (
            {"scheme": "int4", "group_size": 48},
            "group_size is 48 for int4: expected 32, 64 or 128. Correct it.",
        ),
        (
            {"scheme": "int8", "group_size": 32},
            "group_size is 32 for int8: expected none, since int8 has one scale a channel. Correct it.",
        ),
        (
            {"scheme": "int8", "parts": ("decoder", "tower")},
            "parts is ['decoder', 'tower']: expected some of decoder, head, projector, vision. Name those to quantise.",
        ),
        (
            {"scheme": "int8", "activations": "int4"},
            "activations is 'int4' for int8: expected int8 or none. Correct it.",
        ),
        (
            {"scheme": "int4", "activations": "int8"},
            "activations is 'int8' for int4: expected none, since only int8 is multiplied as such. Correct it.",
        ),
        (
            {"scheme": "int8", "bits": 3},
            "The quantisation of the weights holds bits: expected activations, group_size, parts, scheme. "
            "Correct these keys.",
        ),
        (
            {"group_size": 32},
            "The quantisation of the weights names no scheme: expected activations, group_size, parts, scheme. "
            "Correct these keys.",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        WeightQuantization.of(options)
    assert str(caught.value) == message


def test_a_configuration_holds_what_makes_it_again() -> None:
    how = WeightQuantization(scheme="int4", parts=("decoder", "head"))
    assert how.to_dict() == {
        "quant_method": "videolm",
        "scheme": "int4",
        "group_size": 32,
        "parts": ["decoder", "head"],
    }
    assert WeightQuantization.of(how.to_dict()) == how
    assert WeightQuantization.of("int8").to_dict() == {
        "quant_method": "videolm",
        "scheme": "int8",
        "parts": ["decoder"],
    }


@pytest.mark.parametrize(
    ("width", "group_size", "advice"),
    [(96, 64, "Use a group size of 32, or"), (40, 32, "Use int8, or"), (64, 128, "Use a group size of 32 or 64, or")],
)
def test_a_width_that_groups_do_not_divide_is_refused(width: int, group_size: int, advice: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        WeightQuantization(scheme="int4", group_size=group_size).check_width("layers.0.mlp.up_proj", width)
    assert str(caught.value) == (
        f"layers.0.mlp.up_proj has {width} inputs, which the group size {group_size} of int4 does not divide: expected "
        f"a multiple of it. {advice} leave that part of the model as it is."
    )
