"""Quantised models: loaded as such from any checkpoint, saved as such, the same bits and answers when loaded again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import videolm
from videolm import LlavaNextVideoForConditionalGeneration as Model
from videolm.devices import cpu_has_bfloat16
from videolm.errors import ArgumentError, CheckpointError
from videolm.families.auto import new_model
from videolm.families.convert import convert
from videolm.session import bundled_folder
from videolm.weights.quantize import WeightQuantization
from videolm.weights.quantized_linear import Int4Linear, Int8Linear, QuantizedLinear

IDS = torch.tensor([[1, 5, 6, 7, 8, 9, 30]])
CLASSES = {"int8": Int8Linear, "int4": Int4Linear}


def quantized_paths(model: torch.nn.Module) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, QuantizedLinear)]


@torch.inference_mode()
@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_only_the_decoder_is_quantised_and_computes_with_the_dequantised_weights(
    tiny_folder: Path, scheme: str
) -> None:
    model = Model.from_pretrained(tiny_folder, quantize=scheme, dtype=torch.float32)
    plain = Model.from_pretrained(tiny_folder)
    paths = quantized_paths(model)
    assert len(paths) == 2 * 7
    assert all(path.startswith("model.language_model.layers.") for path in paths)
    assert all(type(model.get_submodule(path)) is CLASSES[scheme] for path in paths)
    assert model.num_parameters() == plain.num_parameters()
    for path in paths:
        quantised, linear = model.get_submodule(path), plain.get_submodule(path)
        linear.weight.data = quantised.dequantize(torch.float32)
        distance = (linear.weight - Model.from_pretrained(tiny_folder).get_submodule(path).weight).abs().max()
        assert distance > 0
    torch.testing.assert_close(model(IDS).logits, plain(IDS).logits)


def rounds_activations(layer: torch.nn.Module) -> bool:
    return isinstance(layer, Int8Linear) and layer.rounds_activations


@torch.inference_mode()
@pytest.mark.parametrize(
    "how",
    [
        "int8",
        "int4",
        WeightQuantization(scheme="int8", parts=("head", "vision")),
        WeightQuantization(scheme="int8", activations="int8"),
    ],
)
def test_saved_and_loaded_again_every_bit_is_the_same(tiny_folder: Path, tmp_path: Path, how: Any) -> None:
    model = Model.from_pretrained(tiny_folder, quantize=how)
    model.save_pretrained(tmp_path / "saved")
    again = Model.from_pretrained(tmp_path / "saved")
    before, after = model.state_dict(), again.state_dict()
    assert list(before) == list(after)
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype, name
        assert torch.equal(after[name], tensor), name
    assert torch.equal(model(IDS).logits, again(IDS).logits)
    assert [rounds_activations(each) for each in again.modules()] == [
        rounds_activations(each) for each in model.modules()
    ]
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["quantization_config"] == WeightQuantization.of(how).to_dict()
    assert again.config == model.config
    again.save_pretrained(tmp_path / "twice")
    files = [load_file(tmp_path / name / "model.safetensors") for name in ("saved", "twice")]
    assert all(torch.equal(files[1][name], tensor) for name, tensor in files[0].items())


@torch.inference_mode()
def test_quantised_files_can_be_read_as_floating_point(tiny_folder: Path, tmp_path: Path) -> None:
    model = Model.from_pretrained(tiny_folder, quantize="int4", dtype=torch.float32)
    model.save_pretrained(tmp_path / "saved")
    plain = Model.from_pretrained(tmp_path / "saved", quantize="none")
    assert not quantized_paths(plain)
    assert plain.dtype == torch.float32
    assert "quantization_config" not in plain.config.to_dict()
    torch.testing.assert_close(plain(IDS).logits, model(IDS).logits)
    plain.save_pretrained(tmp_path / "plain")
    assert set(Model.from_pretrained(tmp_path / "plain").state_dict()) == set(plain.state_dict())


@pytest.mark.skipif(not cpu_has_bfloat16(), reason="this processor has no bfloat16")
@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_a_cpu_computes_in_bfloat16_then(tiny_model_folder: Path, tmp_path: Path, scheme: str) -> None:
    saved = Path(shutil.copytree(tiny_model_folder, tmp_path / "saved"))
    Model.from_pretrained(tiny_model_folder, quantize=scheme).save_pretrained(saved)
    assert videolm.load(tiny_model_folder).model.dtype == torch.float32
    assert videolm.load(tiny_model_folder, quantize=scheme).model.dtype == torch.bfloat16
    assert videolm.load(saved).model.dtype == torch.bfloat16


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_the_bundled_model_still_answers(scheme: str) -> None:
    clip = Path(videolm.__file__).parent / "mini" / "media" / "clip.mp4"
    question = "Which way does the shape move?"
    exact = videolm.load().ask(clip, question)
    quantised = videolm.load(quantize=scheme).ask(clip, question)
    assert quantised.text == exact.text


@pytest.mark.parametrize(("scheme", "share"), [("int8", 0.52), ("int4", 0.31)])
def test_files_are_smaller(tmp_path: Path, scheme: str, share: float) -> None:
    model = Model.from_pretrained(bundled_folder(), quantize=scheme)
    model.save_pretrained(tmp_path)
    plain, packed = (load_file(folder / "model.safetensors") for folder in (bundled_folder(), tmp_path))
    layers = [name for name in packed if ".layers." in name and "language_model" in name and "norm" not in name]
    size = sum(packed[name].numel() * packed[name].element_size() for name in layers)
    assert size < share * sum(plain[name].numel() * 2 for name in layers if name in plain)


@pytest.mark.parametrize(
    ("changes", "how", "message"),
    [
        (
            {"intermediate_size": 48},
            "int4",
            "model.language_model.layers.0.mlp.down_proj has 48 inputs, which the group size 32 of int4 does not "
            "divide: expected a multiple of it. Use int8, or leave that part of the model as it is.",
        ),
        (
            {"tie_word_embeddings": True},
            WeightQuantization(scheme="int8", parts=("head",)),
            "The head was to be quantised, but it is the table of embeddings, from which rows are read: expected a "
            "model whose head has weights of its own. Leave head out of the parts.",
        ),
    ],
)
def test_layers_that_cannot_be_quantised_are_named(
    tiny_config: dict[str, Any], tmp_path: Path, changes: dict[str, Any], how: Any, message: str
) -> None:
    tiny_config["text_config"] |= changes
    tiny_config["tie_word_embeddings"] = changes.get("tie_word_embeddings", False)
    new_model(tiny_config).save_pretrained(tmp_path)
    with pytest.raises(ArgumentError) as caught:
        Model.from_pretrained(tmp_path, quantize=how)
    assert str(caught.value) == message


def test_quantised_files_are_not_quantised_again(tiny_folder: Path, tmp_path: Path) -> None:
    Model.from_pretrained(tiny_folder, quantize="int8").save_pretrained(tmp_path)
    assert quantized_paths(Model.from_pretrained(tmp_path, quantize="int8"))
    with pytest.raises(ArgumentError, match=r"int4.* and the files are quantised already, as .*int8"):
        Model.from_pretrained(tmp_path, quantize="int4")


def test_weights_that_are_no_numbers_are_refused(tiny_folder: Path) -> None:
    state = load_file(tiny_folder / "model.safetensors")
    name = "language_model.model.layers.1.mlp.up_proj.weight"
    state[name][3, 3] = float("nan")
    torch.save(state, tiny_folder / "pytorch_model.bin")
    (tiny_folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=rf"{name} in .* holds numbers that are not finite"):
        Model.from_pretrained(tiny_folder, quantize="int8")


def test_a_quantised_model_is_saved_in_its_own_dtypes(tiny_folder: Path, tmp_path: Path) -> None:
    model = Model.from_pretrained(tiny_folder, quantize="int8")
    with pytest.raises(ArgumentError, match=r"move the rest of the model first: model\.to\(torch\.float16\)\.save_pre"):
        model.save_pretrained(tmp_path, dtype=torch.float16)
    with pytest.raises(
        ArgumentError, match=r"layout is 'hf' and the model is quantised, which only this library reads"
    ):
        model.save_pretrained(tmp_path, layout="hf")
    model.to(torch.float16).save_pretrained(tmp_path)
    dtypes = {name: tensor.dtype for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    assert dtypes["language_model.model.layers.0.mlp.up_proj.weight"] == torch.int8
    assert dtypes["language_model.model.layers.0.mlp.up_proj.weight_scale"] == torch.bfloat16
    assert dtypes["language_model.model.norm.weight"] == torch.float16


def test_quantised_files_are_not_converted(tiny_folder: Path, tmp_path: Path) -> None:
    Model.from_pretrained(tiny_folder, quantize="int8").save_pretrained(tmp_path / "int8")
    with pytest.raises(
        CheckpointError, match=r"holds 14 quantised weights .*quantize='none', save it, and convert what"
    ):
        convert(tmp_path / "int8", tmp_path / "hf", layout="hf")


@pytest.mark.slow
def test_loading_holds_no_more_than_the_quantised_model(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    tiny_config["text_config"] |= {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 3}
    new_model(tiny_config, dtype=torch.bfloat16).save_pretrained(tmp_path)
    code = """if True:
        import re, sys
        from pathlib import Path
        from videolm import LlavaNextVideoForConditionalGeneration as Model

        def anonymous_mb():
            return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000

        seen, start = [], anonymous_mb()
        model = Model.from_pretrained(sys.argv[1], quantize="int8", progress=lambda *_: seen.append(anonymous_mb()))
        own = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        print(max(seen) - start, own / 1e6)
    """
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True, text=True)
    peak_mb, own_mb = map(float, run.stdout.split())
    assert 45 < own_mb < 60
    # 15 MB for working copies of a block of weights, which the allocator keeps.
    assert peak_mb < 1.1 * own_mb + 15
