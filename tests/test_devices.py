"""Devices and dtypes: auto fits the machine, what is not there is refused with what is."""

from __future__ import annotations

import pytest
import torch

from videolm import devices
from videolm.devices import choose_device, choose_dtype
from videolm.errors import DeviceError

CPU = torch.device("cpu")
CUDA = torch.device("cuda:0")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available_devices", lambda: ("cpu", "cuda:0", "cuda:1"))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available_devices", lambda: ("cpu",))


@pytest.mark.usefixtures("no_gpu")
def test_auto_is_the_cpu_where_there_is_nothing_else() -> None:
    assert choose_device() == CPU


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("name", "expected"),
    [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu"), (torch.device("cuda"), "cuda:0")],
)
def test_devices_that_are_there(name: str, expected: str) -> None:
    assert choose_device(name) == torch.device(expected)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda:9", "cuda", "cdua", "", "cpu:x", "cuda:-4", "meta"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        choose_device(name)
    assert str(caught.value) == (
        f"Device {name!r} is not on this machine: expected cpu, the only device here. "
        "Use device='auto' to take the best of these."
    )


@pytest.mark.usefixtures("two_gpus")
def test_a_missing_gpu_lists_those_that_are_there() -> None:
    with pytest.raises(DeviceError, match="'cuda:9' is not on this machine: expected one of cpu, cuda:0, cuda:1"):
        choose_device("cuda:9")


def test_this_machines_devices_can_be_chosen() -> None:
    for name in devices.available_devices():
        assert str(choose_device(name)) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("float32", torch.float32),
        ("bf16", torch.bfloat16),
        ("float16", torch.float16),
        (torch.bfloat16, torch.bfloat16),
    ],
)
def test_dtypes_by_name(name: str, expected: torch.dtype) -> None:
    assert choose_dtype(name, device=CPU) == expected


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_auto_on_a_cpu_follows_the_processor_unless_exactness_is_wanted(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool
) -> None:
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: has_bfloat16)
    fast = torch.bfloat16 if has_bfloat16 else torch.float32
    assert choose_dtype(device=CPU) == fast
    assert choose_dtype(device=CPU, prefer_exact=True) == torch.float32


def test_auto_on_a_gpu_is_the_checkpoints_own() -> None:
    assert choose_dtype(device=CUDA) is None
    assert choose_dtype(device=CUDA, prefer_exact=True) is None
    assert choose_dtype("float32", device=CUDA) == torch.float32


@pytest.mark.parametrize("name", ["float7", "int8", torch.int64, ""])
def test_an_unknown_dtype_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="does not exist: expected auto, float32, bfloat16 or float16"):
        choose_dtype(name, device=CPU)
