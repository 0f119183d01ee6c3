"""bitsandbytes against transformers: the same bits from the same weights, the same logits, files that both read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch

from videolm import BitsAndBytesConfig, LlavaNextVideoForConditionalGeneration

from .comparing import assert_same_logits
from .conftest import text_settings

transformers = pytest.importorskip("transformers")

Reference = Callable[..., Any]
MakeBatch = Callable[..., Any]
# What ours leaves as it is unless asked; transformers leaves the head alone.
SKIPPED = ["lm_head", "model.vision_tower", "model.multi_modal_projector"]
OPTIONS: list[dict[str, Any]] = [
    {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"},
    {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    {"load_in_8bit": True},
]
NAMES = ["double nf4", "nf4 in bfloat16", "fp4", "int8"]


@pytest.fixture
def plain_folder(make_reference: Reference, tmp_path: Path) -> Path:
    """Rows of 64 numbers and more, which the package's kernel for CPUs needs."""
    make_reference(text_config=text_settings(hidden_size=64, intermediate_size=128)).save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


def theirs_from(folder: Path, options: dict[str, Any] | None = None) -> Any:
    how = None if options is None else transformers.BitsAndBytesConfig(llm_int8_skip_modules=SKIPPED, **options)
    model = transformers.LlavaNextVideoForConditionalGeneration.from_pretrained(
        folder, quantization_config=how, device_map="cpu", dtype=torch.float32
    )
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            # On some CPUs it would round scales to bfloat16 for a kernel of another package; ours never does.
            module.support_avx512bf16_for_cpu = False
    return model.eval()


def as_bytes(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().contiguous().flatten().view(torch.uint8) for name, tensor in state.items()}


def assert_equal_models(ours: Any, theirs: Any, make_batch: MakeBatch) -> None:
    """The same bits, and the same logits for text: with media, features differ by the rounding of float32."""
    inputs = make_batch(ours, "text_only").inputs
    with torch.inference_mode():
        assert torch.equal(ours(**inputs).logits, theirs(**inputs).logits)
    torch.testing.assert_close(as_bytes(ours.state_dict()), as_bytes(theirs.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_the_same_weights_become_the_same_bits(
    plain_folder: Path, make_batch: MakeBatch, options: dict[str, Any]
) -> None:
    ours = LlavaNextVideoForConditionalGeneration.from_pretrained(
        plain_folder, quantization_config=BitsAndBytesConfig(**options)
    )
    assert_equal_models(ours, theirs_from(plain_folder, options), make_batch)


def test_videos_give_the_same_logits(plain_folder: Path, make_batch: MakeBatch) -> None:
    ours = LlavaNextVideoForConditionalGeneration.from_pretrained(
        plain_folder, quantization_config=BitsAndBytesConfig(**OPTIONS[0])
    )
    assert_same_logits(ours, theirs_from(plain_folder, OPTIONS[0]), make_batch(ours, "image_and_video"))


def test_their_configuration_is_taken_too(plain_folder: Path, make_batch: MakeBatch) -> None:
    how = transformers.BitsAndBytesConfig(llm_int8_skip_modules=SKIPPED, **OPTIONS[0])
    ours = LlavaNextVideoForConditionalGeneration.from_pretrained(plain_folder, quantization_config=how)
    assert_equal_models(ours, theirs_from(plain_folder, OPTIONS[0]), make_batch)


@pytest.mark.parametrize("storage", ["uint8", "bfloat16"])
@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[3]], ids=[NAMES[0], NAMES[3]])
def test_what_they_save_is_read_with_and_without_the_package(
    plain_folder: Path, make_batch: MakeBatch, tmp_path: Path, options: dict[str, Any], storage: str
) -> None:
    theirs = theirs_from(plain_folder, options | {"bnb_4bit_quant_storage": storage})
    theirs.save_pretrained(tmp_path / "saved")
    ours = LlavaNextVideoForConditionalGeneration.from_pretrained(tmp_path / "saved")
    assert_equal_models(ours, theirs, make_batch)
    batch = make_batch(ours, "one_video")
    plain = LlavaNextVideoForConditionalGeneration.from_pretrained(tmp_path / "saved", quantize="none")
    with torch.inference_mode():
        found, expected = plain(**batch.inputs).logits, theirs(**batch.inputs).logits
    # In eight bits theirs rounds activations too, the dequantised model does not: two hundredths of the largest logit.
    rounds = "load_in_8bit" in options
    tolerance = {"rtol": 0.0, "atol": 0.02 * float(expected.abs().max())} if rounds else {"rtol": None, "atol": None}
    torch.testing.assert_close(found, expected, **tolerance)


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_what_ours_saves_they_read(
    plain_folder: Path, make_batch: MakeBatch, tmp_path: Path, options: dict[str, Any]
) -> None:
    ours = LlavaNextVideoForConditionalGeneration.from_pretrained(
        plain_folder, quantization_config=BitsAndBytesConfig(**options)
    )
    ours.save_pretrained(tmp_path / "saved")
    assert_equal_models(ours, theirs_from(tmp_path / "saved"), make_batch)
