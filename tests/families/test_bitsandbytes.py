"""bitsandbytes by its documented arguments, each honoured or refused: what is quantised, saved and loaded again."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from videolm import BitsAndBytesConfig
from videolm import LlavaNextVideoForConditionalGeneration as Model
from videolm.errors import ArgumentError, CheckpointError, MissingExtraError
from videolm.families import quantization
from videolm.families.auto import new_model
from videolm.weights import bitsandbytes_layers
from videolm.weights.quantized_linear import Int8Linear

IDS = torch.tensor([[1, 5, 6, 7, 8, 9, 30]])
NF4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")


@pytest.fixture(scope="session")
def wide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose decoder's rows are multiples of 64. Do not write to it."""
    from .conftest import CONFIG, TEXT

    folder = tmp_path_factory.mktemp("wide")
    text = TEXT | {"hidden_size": 64, "intermediate_size": 128}
    new_model({**CONFIG, "text_config": text}, seed=3).save_pretrained(folder)
    return folder


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bitsandbytes_layers, quantization):
        monkeypatch.setattr(module, "has_bitsandbytes", lambda: False)


def layer_types(model: nn.Module) -> dict[str, type[nn.Module]]:
    return {path: type(module) for path, module in model.named_modules() if isinstance(module, nn.Linear)}


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(IDS).logits
    return found


@pytest.mark.parametrize(
    ("options", "layer_class"),
    [
        ({"load_in_4bit": True}, bitsandbytes.nn.Linear4bit),
        ({"load_in_8bit": True}, bitsandbytes.nn.Linear8bitLt),
        ({"quantization_config": NF4}, bitsandbytes.nn.Linear4bit),
        ({"quantization_config": NF4.to_dict()}, bitsandbytes.nn.Linear4bit),
        ({"quantize": NF4}, bitsandbytes.nn.Linear4bit),
    ],
)
def test_only_the_decoder_is_quantised(wide_folder: Path, options: dict[str, Any], layer_class: type) -> None:
    model = Model.from_pretrained(wide_folder, **options)
    for path, found in layer_types(model).items():
        expected = layer_class if path.startswith("model.language_model.layers.") else nn.Linear
        assert found is expected, path
    assert model.num_parameters() == Model.from_pretrained(wide_folder).num_parameters()
    assert model.config.quantization_config["quant_method"] == "bitsandbytes"


def test_four_bits_compute_with_what_the_package_dequantises(wide_folder: Path) -> None:
    model = Model.from_pretrained(wide_folder, quantization_config=NF4)
    plain = Model.from_pretrained(wide_folder)
    for path, module in model.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            weight = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            plain.get_submodule(path).weight.data = weight
    torch.testing.assert_close(logits(model), logits(plain))


def test_a_list_of_skipped_modules_is_the_whole_list(wide_folder: Path) -> None:
    skipped = ["lm_head", "vision_tower", "layers.1", "down_proj"]
    how = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    model = Model.from_pretrained(wide_folder, quantization_config=how)
    for path, found in layer_types(model).items():
        stays = "vision_tower" in path or path == "lm_head" or ".layers.1." in path or path.endswith("down_proj")
        assert found is (nn.Linear if stays else bitsandbytes.nn.Linear8bitLt), path
    names = model.config.quantization_config["llm_int8_skip_modules"]
    assert {"lm_head", "model.vision_tower", "vision_tower", "model.language_model.layers.0.mlp.down_proj"} <= set(
        names
    )
    assert "model.multi_modal_projector" not in names


def test_arguments_reach_the_package(wide_folder: Path) -> None:
    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype="bfloat16",
    )
    layer = Model.from_pretrained(wide_folder, quantization_config=how).model.language_model.layers[0].mlp.up_proj
    assert layer.compute_dtype == torch.bfloat16
    assert layer.weight.quant_state.nested
    assert layer.weight.quant_state.quant_type == "nf4"
    how = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=3.5)
    layer = Model.from_pretrained(wide_folder, quantization_config=how).model.language_model.layers[0].mlp.up_proj
    assert layer.state.threshold == 3.5


@pytest.mark.parametrize("how", [NF4, BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_use_double_quant=True), "int8"])
def test_saved_and_loaded_again_every_bit_is_the_same(wide_folder: Path, tmp_path: Path, how: Any) -> None:
    how = BitsAndBytesConfig(load_in_8bit=True) if how == "int8" else how
    model = Model.from_pretrained(wide_folder, quantization_config=how)
    expected = logits(model)  # Before it is saved: computing changes nothing that is.
    model.save_pretrained(tmp_path / "once")
    again = Model.from_pretrained(tmp_path / "once")
    assert torch.equal(logits(again), expected)
    assert again.config == model.config
    again.save_pretrained(tmp_path / "twice")
    once, twice = (load_file(tmp_path / name / "model.safetensors") for name in ("once", "twice"))
    assert once.keys() == twice.keys()
    assert all(torch.equal(tensor, twice[name]) for name, tensor in once.items())
    assert json.loads((tmp_path / "once" / "config.json").read_text())["quantization_config"] == {
        **how.to_dict(),
        "llm_int8_skip_modules": [
            *("lm_head", "model.multi_modal_projector", "model.vision_tower", "multi_modal_projector", "vision_tower")
        ],
    }


@pytest.mark.usefixtures("without_package")
def test_without_the_package_files_become_floating_point(
    wide_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setattr(bitsandbytes_layers, "has_bitsandbytes", lambda: True)
        model = Model.from_pretrained(wide_folder, quantization_config=NF4)
    model.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        plain = Model.from_pretrained(tmp_path)
    assert "bitsandbytes, which quantised these weights, is not installed: they are converted" in caplog.text
    assert set(layer_types(plain).values()) == {nn.Linear}
    assert "quantization_config" not in plain.config.to_dict()
    torch.testing.assert_close(logits(plain), logits(model))
    small = Model.from_pretrained(tmp_path, quantize="int8", dtype=torch.float32)
    assert isinstance(small.model.language_model.layers[0].mlp.up_proj, Int8Linear)


@pytest.mark.usefixtures("without_package")
def test_asking_for_it_without_the_package_says_what_to_install(wide_folder: Path) -> None:
    with pytest.raises(MissingExtraError) as caught:
        Model.from_pretrained(wide_folder, load_in_4bit=True)
    assert str(caught.value) == (
        "Weights were to be quantised by bitsandbytes, which is not installed: run pip install "
        "'videolm[bitsandbytes]', or use quantize='int8' or 'int4', which need no package."
    )


def test_stored_layers_compute_in_the_dtype_that_is_asked_for(wide_folder: Path, tmp_path: Path) -> None:
    Model.from_pretrained(wide_folder, quantization_config=NF4).save_pretrained(tmp_path)
    how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    model = Model.from_pretrained(tmp_path, quantization_config=how)
    assert model.model.language_model.layers[0].mlp.up_proj.compute_dtype == torch.bfloat16
    assert model.config.quantization_config["bnb_4bit_compute_dtype"] == "bfloat16"
    with pytest.raises(ArgumentError, match=r"asks for fp4 and bitsandbytes has quantised the files to nf4 already"):
        Model.from_pretrained(tmp_path, load_in_4bit=True)


def test_each_product_in_eight_bits_is_not_a_line_in_the_log(
    wide_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = Model.from_pretrained(wide_folder, load_in_8bit=True)
    with caplog.at_level(logging.WARNING):
        logits(model)
        logits(model)
    assert sum("inputs will be cast" in record.message for record in caplog.records) <= 1


def test_rows_for_which_the_cpu_kernel_is_wrong_are_refused(tiny_folder: Path) -> None:
    with pytest.raises(
        ArgumentError, match=r"has 32 inputs, and on a CPU bitsandbytes takes wrong scales for rows whose"
    ):
        Model.from_pretrained(tiny_folder, load_in_4bit=True, device="cpu")
    assert Model.from_pretrained(tiny_folder, load_in_8bit=True).config.quantization_config["load_in_8bit"]


def test_such_rows_of_files_become_floating_point(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setattr("videolm.families.quantized_layers._BLOCK", 32)
        Model.from_pretrained(tiny_folder, load_in_4bit=True).save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        model = Model.from_pretrained(tmp_path)
    types = layer_types(model)
    assert (
        "layers.1.mlp.up_proj is converted to floating point: on a CPU bitsandbytes takes wrong scales" in caplog.text
    )
    assert types["model.language_model.layers.1.mlp.up_proj"] is nn.Linear
    assert types["model.language_model.layers.1.mlp.down_proj"] is bitsandbytes.nn.Linear4bit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"load_in_4bit": True, "load_in_8bit": True},
            "load_in_4bit and load_in_8bit were given: expected one of them, which each say how weights are quantised. "
            "Leave one out.",
        ),
        (
            {"quantize": "int8", "quantization_config": NF4},
            "quantize and quantization_config were given: expected one of them, which each say how weights are "
            "quantised. Leave one out.",
        ),
        (
            {"quantization_config": BitsAndBytesConfig()},
            "quantization_config asks for nothing: expected a BitsAndBytesConfig with load_in_4bit or load_in_8bit. "
            "Set one of these, or leave quantization_config out.",
        ),
        (
            {"quantization_config": 4},
            "quantization_config is a int: expected a BitsAndBytesConfig with load_in_4bit or load_in_8bit. Set one of "
            "these, or leave quantization_config out.",
        ),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            "quantization_config asks for gptq: supported is bitsandbytes, and without any package quantize='int8' or "
            "'int4'. Choose one of these.",
        ),
        (
            {"quantization_config": {"load_in_4bit": True, "bits": 4}},
            "The quantisation by bitsandbytes holds bits: expected load_in_8bit, load_in_4bit, llm_int8_threshold, "
            "llm_int8_skip_modules, llm_int8_enable_fp32_cpu_offload, llm_int8_has_fp16_weight, "
            "bnb_4bit_compute_dtype, bnb_4bit_quant_type, bnb_4bit_use_double_quant, bnb_4bit_quant_storage. "
            "Leave these keys out.",
        ),
        (
            {"quantization_config": {"load_in_8bit": True, "llm_int8_skip_modules": ["lm_head", "mm_projector"]}},
            "llm_int8_skip_modules holds 'mm_projector', which no part of the model is called: expected names such as "
            "lm_head, multi_modal_projector, vision_tower or down_proj. Correct it, or it is quantised.",
        ),
    ],
)
def test_requests_that_cannot_be_are_refused(wide_folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Model.from_pretrained(wide_folder, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"bnb_4bit_quant_type": "int4"},
            "bnb_4bit_quant_type is 'int4' in a BitsAndBytesConfig: expected fp4 or nf4.",
        ),
        (
            {"llm_int8_threshold": -1.0},
            "llm_int8_threshold is -1.0 in a BitsAndBytesConfig: expected a number, at least",
        ),
        (
            {"llm_int8_skip_modules": "lm_head"},
            "llm_int8_skip_modules is 'lm_head' in a BitsAndBytesConfig: expected a l",
        ),
        (
            {"bnb_4bit_compute_dtype": "int9"},
            "bnb_4bit_compute_dtype is None in a BitsAndBytesConfig: expected float32, ",
        ),
        (
            {"bnb_4bit_quant_storage": "float16"},
            "bnb_4bit_quant_storage is torch.float16 in a BitsAndBytesConfig: expect",
        ),
        (
            {"llm_int8_enable_fp32_cpu_offload": True},
            "llm_int8_enable_fp32_cpu_offload is True: expected False, since a",
        ),
        ({"llm_int8_has_fp16_weight": True}, "llm_int8_has_fp16_weight is True: expected False, since weights in half"),
        (
            {"load_in_8bit": True, "load_in_4bit": True},
            "load_in_4bit and load_in_8bit are both true: expected one of th",
        ),
    ],
)
def test_arguments_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        BitsAndBytesConfig(**options)
    assert str(caught.value).startswith(message)


def test_a_configuration_holds_what_makes_it_again() -> None:
    how = BitsAndBytesConfig(False, True, 4.0, ["lm_head"], bnb_4bit_compute_dtype="float16")
    assert how.bnb_4bit_compute_dtype == torch.float16
    assert BitsAndBytesConfig.from_dict(how.to_dict()) == how
    assert BitsAndBytesConfig.from_dict({"_load_in_8bit": True, "quant_method": "bitsandbytes"}).method == "int8"


def test_files_of_another_method_are_refused_by_name(wide_folder: Path, tmp_path: Path) -> None:
    model = Model.from_pretrained(wide_folder)
    model.config.quantization_config = {"quant_method": "awq", "bits": 4}
    model.save_pretrained(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"The weights are quantised by awq: supported are bitsandbytes and this lib"
    ):
        Model.from_pretrained(tmp_path)
