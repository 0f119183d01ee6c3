"""LoRA adapters and projectors over their base models: merged as the sum is written, or refused by name."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from videolm.cli.main import main
from videolm.errors import CheckpointError, ConfigError, ModelNotFoundError
from videolm.families.auto import load_config, load_model, load_processor
from videolm.families.convert import convert

WriteSmallModel = Callable[..., Path]
RANK, ALPHA = 4, 6.0
ADAPTED = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, write_small_model: WriteSmallModel) -> dict[str, Path]:
    """A model of the original code, the same as transformers has it, and one with two towers."""
    root = tmp_path_factory.mktemp("bases")
    hf = write_small_model("llava_next_video", root / "hf")
    twin = write_small_model("video_llava", root / "twin")
    return {
        "hf": hf,
        "original": convert(hf, root / "original", layout="original").folder,
        "twin": convert(twin, root / "twin-original", layout="original").folder,
    }


def factors(base: Path, prefix: str, modules: Iterable[str], *, transposed: bool = False) -> dict[str, Tensor]:
    """A pair for each module, by the name that peft gives it."""
    state = load_file(base / "model.safetensors")
    generator = torch.Generator().manual_seed(3)
    pairs = {}
    for module in modules:
        rows, columns = state[f"{module}.weight"].shape[:: -1 if transposed else 1]
        pairs[f"{prefix}{module}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator)
        pairs[f"{prefix}{module}.lora_B.weight"] = torch.randn(rows, RANK, generator=generator)
    return pairs


def modules_of(layers: str) -> list[str]:
    return [f"{layers}{index}.{name}" for index in (0, 1) for name in ADAPTED]


def write_adapter(folder: Path, base: Path, tensors: dict[str, Tensor], form: str = "bin", **changes: Any) -> Path:
    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", "fan_in_fan_out": False}
    settings |= {"base_model_name_or_path": str(base)} | changes
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    if form == "bin":
        torch.save(tensors, folder / "adapter_model.bin")
    else:
        save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def trained_beside() -> dict[str, Tensor]:
    """What the original training keeps whole: the projector and the newline."""
    generator = torch.Generator().manual_seed(4)
    shapes = {"mm_projector.0.weight": (32, 32), "mm_projector.2.bias": (32,), "image_newline": (32,)}
    return {f"model.{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def assert_sum(base: Path, folder: Path, pairs: dict[str, Tensor], prefix: str, scale: float = ALPHA / RANK) -> None:
    """Every tensor is the base's, with the product added where there is a pair, in float64 by hand."""
    before = load_file(base / "model.safetensors")
    after = load_file(convert(folder, folder.with_name("merged"), layout="original").folder / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        expected, module = before[name].double(), f"{prefix}{name.removesuffix('.weight')}"
        if f"{module}.lora_A.weight" in pairs:
            first, second = (pairs[f"{module}.lora_{factor}.weight"].double() for factor in "AB")
            expected = expected + scale * (second @ first)
            torch.testing.assert_close(tensor, expected.float(), rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(tensor, before[name]), name


# --- LoRA ---


@pytest.mark.parametrize("form", ["bin", "safetensors"])
@pytest.mark.parametrize("prefix", ["base_model.model.", "module.base_model.model.", ""])
@pytest.mark.parametrize("end", [".weight", ".default.weight"])
def test_the_sum_of_base_and_product(bases: dict[str, Path], tmp_path: Path, prefix: str, form: str, end: str) -> None:
    base = bases["original"]
    pairs = factors(base, prefix, modules_of("model.layers."))
    written = {name.replace(".weight", end): tensor for name, tensor in pairs.items()}
    folder = write_adapter(tmp_path / "lora", base, written, form)
    shutil.copy(base / "config.json", folder / "config.json")
    assert_sum(base, folder, pairs, prefix)


def test_what_was_trained_beside_the_adapter(bases: dict[str, Path], tmp_path: Path) -> None:
    base, prefix = bases["original"], "base_model.model."
    folder = write_adapter(tmp_path / "lora", base, factors(base, prefix, modules_of("model.layers.")))
    shutil.copy(base / "config.json", folder / "config.json")
    whole = trained_beside()
    torch.save({prefix + name: tensor for name, tensor in whole.items()}, folder / "non_lora_trainables.bin")
    model, state = load_model(folder), load_model(base).state_dict()
    found = model.state_dict()
    assert torch.equal(found["model.image_newline"], whole["model.image_newline"])
    assert torch.equal(found["model.multi_modal_projector.linear_1.weight"], whole["model.mm_projector.0.weight"])
    assert torch.equal(found["model.multi_modal_projector.linear_2.bias"], whole["model.mm_projector.2.bias"])
    name = "model.multi_modal_projector.linear_2.weight"
    assert torch.equal(found[name], state[name])
    assert not torch.equal(*(each["model.language_model.layers.0.mlp.down_proj.weight"] for each in (found, state)))


@pytest.mark.parametrize(
    ("changes", "scale"),
    [({"use_rslora": True}, ALPHA / math.sqrt(RANK)), ({"lora_alpha": 16, "init_lora_weights": "gaussian"}, 4.0)],
)
def test_how_the_product_is_scaled(
    bases: dict[str, Path], tmp_path: Path, changes: dict[str, Any], scale: float
) -> None:
    base, prefix = bases["original"], "base_model.model."
    pairs = factors(base, prefix, modules_of("model.layers."))
    assert_sum(base, write_adapter(tmp_path / "lora", base, pairs, **changes), pairs, prefix, scale)


def test_transposed_factors(bases: dict[str, Path], tmp_path: Path) -> None:
    base, prefix, module = bases["original"], "base_model.model.", "model.layers.0.mlp.down_proj"
    pairs = factors(base, prefix, [module], transposed=True)
    folder = write_adapter(tmp_path / "lora", base, pairs, fan_in_fan_out=True)
    first, second = (pairs[f"{prefix}{module}.lora_{factor}.weight"] for factor in "AB")
    weight = load_model(base).state_dict()["model.language_model.layers.0.mlp.down_proj.weight"]
    found = load_model(folder).state_dict()["model.language_model.layers.0.mlp.down_proj.weight"]
    torch.testing.assert_close(found, weight + ALPHA / RANK * (second @ first).T)


def test_half_precision_is_rounded_once(bases: dict[str, Path], tmp_path: Path) -> None:
    base, prefix, module = tmp_path / "half", "base_model.model.", "model.layers.0.mlp.down_proj"
    load_model(bases["original"]).save_pretrained(base, layout="original", dtype=torch.bfloat16)
    pairs = factors(base, prefix, [module])
    half = {name: tensor.bfloat16() for name, tensor in pairs.items()}
    found = load_model(write_adapter(tmp_path / "lora", base, half)).state_dict()
    weight = load_file(base / "model.safetensors")[f"{module}.weight"].float()
    first, second = (half[f"{prefix}{module}.lora_{factor}.weight"].float() for factor in "AB")
    expected = (weight + ALPHA / RANK * (second @ first)).bfloat16()
    assert torch.equal(found["model.language_model.layers.0.mlp.down_proj.weight"], expected)


@pytest.mark.parametrize("layers", ["language_model.model.layers.", "model.language_model.layers."])
def test_adapters_of_the_port(bases: dict[str, Path], tmp_path: Path, layers: str) -> None:
    """Names as old and new releases have them, over either form of the base model."""
    prefix = "base_model.model."
    pairs = factors(bases["original"], prefix, modules_of("model.layers."))
    renamed = {name.replace("model.layers.", layers, 1): tensor for name, tensor in pairs.items()}
    renamed = {name.replace("base_language_model.model.", "base_"): tensor for name, tensor in renamed.items()}
    expected = load_model(write_adapter(tmp_path / "original", bases["original"], pairs)).state_dict()
    for name in ("hf", "original"):
        found = load_model(write_adapter(tmp_path / f"{name}-{len(layers)}", bases[name], renamed)).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_two_towers(bases: dict[str, Path], tmp_path: Path) -> None:
    base, prefix = bases["twin"], "base_model.model."
    pairs = factors(base, prefix, modules_of("model.layers."))
    assert_sum(base, write_adapter(tmp_path / "lora", base, pairs), pairs, prefix)


def test_asking_a_tuned_model(bases: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    base = bases["original"]
    pairs = factors(base, "base_model.model.", modules_of("model.layers."))
    folder = write_adapter(tmp_path / "lora", Path("no/such/model"), pairs)
    shutil.copy(base / "config.json", folder / "config.json")
    Image.new("RGB", (40, 30), (200, 0, 90)).save(tmp_path / "picture.png")
    command = ["ask", str(tmp_path / "picture.png"), "What is this?", "--json", "--max-new-tokens", "8", "--model"]
    assert main([*command, str(folder)]) == 1
    message = capsys.readouterr().err
    assert "holds a LoRA adapter for no/such/model, which cannot be found: no/such/model does not exist" in message
    assert message.endswith("Or pass the folder of that model as base (--base).\n")
    assert main([*command, str(folder), "--base", str(base)]) == 0
    tuned = json.loads(capsys.readouterr().out)
    assert main(["convert", str(folder), str(tmp_path / "whole"), "--layout", "hf5", "--base", str(base)]) == 0
    capsys.readouterr()
    assert main([*command, str(tmp_path / "whole")]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == tuned["answer"]


# --- projectors ---


@pytest.mark.parametrize("form", ["bin", "safetensors"])
@pytest.mark.parametrize("prefix", ["model.mm_projector.", "mm_projector.", "module.model.mm_projector."])
def test_a_projector_of_the_first_stage(bases: dict[str, Path], tmp_path: Path, prefix: str, form: str) -> None:
    base = bases["original"]
    generator = torch.Generator().manual_seed(5)
    shapes = {"0.weight": (32, 32), "0.bias": (32,), "2.weight": (32, 32), "2.bias": (32,)}
    own = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    (tmp_path / "stage1").mkdir()
    values = json.loads((base / "config.json").read_text()) | {"_name_or_path": str(base)}
    (tmp_path / "stage1" / "config.json").write_text(json.dumps(values))
    tensors = {prefix + name: tensor for name, tensor in own.items()}
    if form == "bin":
        torch.save(tensors, tmp_path / "stage1" / "mm_projector.bin")
    else:
        save_file(tensors, tmp_path / "stage1" / "mm_projector.safetensors")
    found, state = load_model(tmp_path / "stage1").state_dict(), load_model(base).state_dict()
    for name, tensor in own.items():
        index, kind = name.split(".")
        assert torch.equal(found.pop(f"model.multi_modal_projector.linear_{int(index) // 2 + 1}.{kind}"), tensor)
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.items())
    assert load_processor(tmp_path / "stage1").tokenizer.size == load_processor(base).tokenizer.size


def test_a_language_model_and_the_tower_that_the_file_names(bases: dict[str, Path], tmp_path: Path) -> None:
    """As the original training has it: neither of the two holds the other."""
    whole = load_file(bases["original"] / "model.safetensors")
    start, words, eyes, stage = (
        "model.vision_tower.vision_tower.",
        *(tmp_path / name for name in ("llm", "clip", "stage")),
    )
    for folder in (words, eyes, stage):
        folder.mkdir()
    is_own = ("mm_projector", "image_newline")
    save_file(
        {k: v for k, v in whole.items() if "vision_tower" not in k and not any(part in k for part in is_own)},
        words / "model.safetensors",
    )
    tower = {k.removeprefix(start): v for k, v in whole.items() if k.startswith(start)}
    tower |= {"text_model.final_layer_norm.bias": torch.zeros(3), "logit_scale": torch.zeros(())}
    torch.save(tower, eyes / "pytorch_model.bin")
    torch.save({k: v for k, v in whole.items() if any(part in k for part in is_own)}, stage / "mm_projector.bin")
    shutil.copy(bases["original"] / "tokenizer.json", words / "tokenizer.json")
    shutil.copy(bases["original"] / "tokenizer_config.json", words / "tokenizer_config.json")
    values = json.loads((bases["original"] / "config.json").read_text())
    values |= {"_name_or_path": str(words), "mm_vision_tower": str(eyes)}
    (stage / "config.json").write_text(json.dumps(values))
    found, expected = load_model(stage).state_dict(), load_model(bases["original"]).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    shutil.rmtree(eyes)
    with pytest.raises(ModelNotFoundError, match=r"is a language model without a vision tower, and the tower .*clip"):
        load_model(stage)


# --- what cannot be ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "has use_dora True: only False or None can be merged"),
        ({"peft_type": "IA3"}, "has peft_type 'IA3': only 'LORA' can be merged"),
        ({"bias": "lora_only"}, "has bias 'lora_only'"),
        ({"rank_pattern": {"q_proj": 8}}, r"has rank_pattern \{'q_proj': 8\}"),
        ({"init_lora_weights": "pissa"}, "has init_lora_weights 'pissa'"),
        ({"r": 0}, "has r 0: expected a number above 0"),
        ({"lora_alpha": None}, "has lora_alpha None: expected a number above 0"),
        ({"r": 8}, r"has the rank 4, but adapter_config\.json says r 8"),
    ],
)
def test_settings_that_cannot_be_merged(
    bases: dict[str, Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    pairs = factors(bases["original"], "base_model.model.", modules_of("model.layers."))
    folder = write_adapter(tmp_path / "lora", bases["original"], pairs, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def strange_pairs(case: str, pairs: dict[str, Tensor]) -> dict[str, Tensor]:
    first = next(name for name in pairs if name.endswith("q_proj.lora_A.weight"))
    if case == "unknown":
        return {name.replace("q_proj", "query"): tensor for name, tensor in pairs.items()}
    if case == "single":
        return {name: tensor for name, tensor in pairs.items() if name != first}
    if case == "shape":
        return pairs | {first: torch.zeros(RANK, 7)}
    if case == "none":
        return {"base_model.model.model.norm.weight": torch.ones(32)}
    return pairs | {"base_model.model.lm_head.lora_embedding_A": torch.zeros(3, 3)}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("unknown", r"adapts 2 tensors .*query\.weight, …; nearest there: model\.language_model\.layers\.0"),
        ("single", r"holds .*q_proj\.lora_B\.weight without its other factor"),
        ("shape", r"q_proj\.lora_A\.weight \[4, 7\] and .* do not make .*q_proj\.weight, which is \[32, 32\]"),
        ("none", "holds no factors of LoRA"),
        ("embedding", r"adapts 1 tensors that the base model does not have \(lm_head\.lora_embedding_A"),
    ],
)
def test_tensors_that_fit_nowhere(bases: dict[str, Path], tmp_path: Path, case: str, message: str) -> None:
    pairs = factors(bases["original"], "base_model.model.", modules_of("model.layers."))
    folder = write_adapter(tmp_path / "lora", bases["original"], strange_pairs(case, pairs))
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_a_stranger_beside_the_adapter_is_unexpected(bases: dict[str, Path], tmp_path: Path) -> None:
    pairs = factors(bases["original"], "base_model.model.", modules_of("model.layers."))
    folder = write_adapter(tmp_path / "lora", bases["original"], pairs)
    torch.save({"base_model.model.model.mm_projektor.0.weight": torch.zeros(3)}, folder / "non_lora_trainables.bin")
    with pytest.raises(CheckpointError, match=r"hold 1 that the model has no place for \(.*mm_projektor\.0\.weight\)"):
        load_model(folder)


def test_folders_that_are_not_complete(bases: dict[str, Path], tmp_path: Path) -> None:
    pairs = factors(bases["original"], "base_model.model.", modules_of("model.layers."))
    folder = write_adapter(tmp_path / "lora", bases["original"], pairs)
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(CheckpointError, match=r"adapter_config\.json and neither adapter_model\.safetensors nor"):
        load_model(folder)
    nameless = write_adapter(tmp_path / "nameless", bases["original"], pairs, base_model_name_or_path=None)
    with pytest.raises(ModelNotFoundError, match="holds a LoRA adapter and does not say of which model"):
        load_config(nameless)
    assert load_config(nameless, base=bases["original"]).model_type == "llava_next_video"
    with pytest.raises(CheckpointError, match=r"base is '.*', but .* holds a whole model"):
        load_model(bases["original"], base=bases["hf"])


def test_code_in_a_bin_file_is_never_run(bases: dict[str, Path], tmp_path: Path) -> None:
    class Dangerous:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return eval, ("1 + 1",)

    pairs = factors(bases["original"], "base_model.model.", modules_of("model.layers."))
    folder = write_adapter(tmp_path / "lora", bases["original"], pairs)
    torch.save({"a": Dangerous()}, folder / "non_lora_trainables.bin")
    with pytest.raises(CheckpointError, match="reading it could run code"):
        load_model(folder)


def test_a_tower_that_is_none(bases: dict[str, Path], tmp_path: Path) -> None:
    whole = load_file(bases["original"] / "model.safetensors")
    words, eyes, stage = (tmp_path / name for name in ("llm", "clip", "stage"))
    for folder in (words, eyes, stage):
        folder.mkdir()
    save_file({k: v for k, v in whole.items() if "vision_tower" not in k}, words / "model.safetensors")
    save_file({"encoder.weight": torch.zeros(1)}, eyes / "model.safetensors")
    torch.save({k: v for k, v in whole.items() if "mm_projector" in k}, stage / "mm_projector.bin")
    values = json.loads((bases["original"] / "config.json").read_text())
    values |= {"_name_or_path": str(words), "mm_vision_tower": str(eyes)}
    (stage / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"holds no tensors that begin with vision_model\."):
        load_model(stage)
