"""Devices, dtypes and ways to attend, as ``from_pretrained`` reads them."""

from __future__ import annotations

import logging
import sys
import types
from typing import Any

import pytest
import torch

from videolm.errors import ArgumentError, DeviceError, MissingExtraError
from videolm.families import placement
from videolm.families.placement import check_attention, dtype_for, flash_attention, read_device

CPU = torch.device("cpu")


@pytest.mark.parametrize("device_map", [None, "cpu", CPU, {"": "cpu"}, {"model": "cpu", "lm_head": CPU}], ids=str)
def test_maps_that_name_the_cpu(device_map: Any) -> None:
    assert read_device(device_map, None) == CPU


def test_auto_is_the_best_device() -> None:
    best = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    assert read_device("auto", None) == read_device("balanced", None) == best


@pytest.mark.parametrize(
    ("device_map", "device", "error", "message"),
    [
        ({"model": "cpu", "lm_head": 0}, None, DeviceError, r"over 2 places \(cpu, cuda:0\): expected one device"),
        ({}, None, DeviceError, "over 0 places"),
        ("cpu", "cpu", ArgumentError, "expected one of them"),
        (99, None, DeviceError, "'cuda:99' is not on this machine"),
        ("disk", None, DeviceError, "'disk' is not on this machine"),
    ],
)
def test_maps_that_cannot_be(device_map: Any, device: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_device(device_map, device)


@pytest.mark.parametrize(("has_bfloat16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_float16_on_a_cpu_is_replaced_with_a_log_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, has_bfloat16: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(placement, "cpu_has_bfloat16", lambda: has_bfloat16)
    with caplog.at_level(logging.WARNING):
        assert dtype_for(torch.float16, CPU) == dtype
    assert len(caplog.records) == 1
    assert str(dtype).removeprefix("torch.") in caplog.text


def test_other_dtypes_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    assert dtype_for(torch.float16, CPU, keep=True) == torch.float16
    assert dtype_for(torch.float16, torch.device("cuda:0")) == torch.float16
    assert dtype_for(torch.bfloat16, CPU) == torch.bfloat16
    assert dtype_for(None, CPU) is None
    assert not caplog.records


def test_ways_to_attend() -> None:
    assert check_attention(None) == "sdpa"
    assert check_attention(None, use_flash_attention_2=True) == "flash_attention_2"
    with pytest.raises(ArgumentError, match="attn_implementation is 'fast': expected one of sdpa, eager"):
        check_attention("fast")
    with pytest.raises(ArgumentError, match="two ways to attend"):
        check_attention("eager", use_flash_attention_2=True)


def test_flash_attention_needs_a_gpu_half_precision_and_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda:0")
    with pytest.raises(DeviceError, match=r"on cpu in bfloat16: .*='sdpa' already runs the same kernel"):
        flash_attention(CPU, torch.bfloat16)
    with pytest.raises(DeviceError, match="on cuda:0 in float32"):
        flash_attention(gpu, torch.float32)
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    with pytest.raises(
        MissingExtraError, match=r"pip install flash-attn --no-build-isolation, or leave it out: .*sdpa"
    ):
        flash_attention(gpu, torch.float16)
    package = types.SimpleNamespace(flash_attn_func=max)
    monkeypatch.setitem(sys.modules, "flash_attn", package)  # type: ignore[arg-type]
    assert flash_attention(gpu, torch.float16) is max
