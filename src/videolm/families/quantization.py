"""What is asked about fewer bits and what the files hold in, the layers of a model that is being loaded out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from videolm.devices import cpu_has_bfloat16
from videolm.errors import ArgumentError, CheckpointError
from videolm.families.declaration import FamilyConfig
from videolm.weights.files import WeightFiles
from videolm.weights.loading import LayerMaker
from videolm.weights.packed_files import PackedWeight
from videolm.weights.quantize import WeightQuantization
from videolm.weights.quantized_linear import QuantizedLinear, quantized_linear

__all__ = [
    "UNQUANTIZED",
    "check_request",
    "check_saving",
    "default_dtype",
    "layer_maker",
    "num_weights",
    "read_quantize",
    "record",
    "stored_quantization",
]

UNQUANTIZED = "none"
"""What ``quantize`` is called where quantised files are to be read as floating point."""

_PREFIXES = {
    "decoder": ("model.language_model.layers.",),
    "head": ("lm_head.",),
    "projector": ("model.multi_modal_projector.",),
    "vision": ("model.vision_tower.", "model.image_tower.", "model.video_tower."),
}
"""Where the linear layers of each part stand."""


def read_quantize(quantize: str | Mapping[str, Any] | WeightQuantization | None) -> WeightQuantization | str | None:
    """What was asked for: ``UNQUANTIZED``, a scheme, or None for what the files hold."""
    return quantize if quantize in (None, UNQUANTIZED) else WeightQuantization.of(quantize)


def stored_quantization(config: FamilyConfig) -> WeightQuantization | None:
    """What a configuration says about its files, if this library quantised them."""
    entry = getattr(config, "quantization_config", None)
    if isinstance(entry, Mapping) and entry.get("quant_method") == "videolm":
        return WeightQuantization.of(entry)
    return None


def default_dtype(
    config: FamilyConfig, asked: WeightQuantization | str | None, device: torch.device
) -> torch.dtype | None:
    """The dtype to load in where none was named; None for that of each tensor in the files."""
    if isinstance(asked, WeightQuantization) and device.type == "cpu" and cpu_has_bfloat16():
        return torch.bfloat16  # Of which alone torch's packed kernels multiply with such weights.
    if asked == UNQUANTIZED:
        return config.dtype or torch.bfloat16
    return config.dtype if config.dtype == torch.float16 else None


def record(config: FamilyConfig, how: WeightQuantization | str) -> None:
    """Let a configuration say what its model's layers are now."""
    if isinstance(how, WeightQuantization):
        config.quantization_config = how.to_dict()
    elif hasattr(config, "quantization_config"):
        del config.quantization_config


def check_saving(config: FamilyConfig, layout: str | None, dtype: torch.dtype | None) -> None:
    """Refuse what the files of a quantised model cannot be."""
    if layout is not None and stored_quantization(config) is not None:
        raise ArgumentError(
            f"layout is {layout!r} and the model is quantised, which only this library reads: expected no layout. "
            "Leave it out, or load the model with quantize='none' first."
        )
    if dtype is not None and hasattr(config, "quantization_config"):
        name = str(dtype).removeprefix("torch.")
        raise ArgumentError(
            f"The model is quantised and was to be saved in {name}: expected no dtype, since scales keep theirs. "
            f"Leave it out, or move the rest of the model first: model.to(torch.{name}).save_pretrained(...)."
        )


def layer_maker(
    model: nn.Module,
    files: WeightFiles,
    packed: Mapping[str, PackedWeight],
    *,
    asked: WeightQuantization | str | None,
    device: torch.device | str,
) -> LayerMaker | None:
    """What makes quantised layers while weights are loaded; None where there are none.

    Args:
        files: All weights in floating point, whatever the files hold.
        packed: Those that the files hold in fewer bits.
        asked: As ``read_quantize`` gives it.
    """
    if asked == UNQUANTIZED or (asked is None and not packed):
        return None
    if asked is None:
        return lambda path, linear, key: packed[key].layer(linear, device) if key in packed else None
    assert isinstance(asked, WeightQuantization)
    how, chosen = asked, _chosen(model, asked)

    def quantise(path: str, linear: nn.Linear, key: str) -> nn.Module | None:
        if path not in chosen:
            return None
        made = quantized_linear(files.read(key).to(device), linear.bias, how)
        if not bool(made.weight_scale.isfinite().all()):
            raise CheckpointError(
                f"{key} in {files.folder} holds numbers that are not finite, which nothing in {how.scheme} stands for: "
                "expected finite weights. Download the model again."
            )
        return made

    return quantise


def check_request(
    config: FamilyConfig, packed: Mapping[str, PackedWeight], asked: WeightQuantization | str | None
) -> WeightQuantization | str | None:
    """The request, or None where the files already are as it asks; other requests of quantised files are refused."""
    stored = stored_quantization(config)
    if not packed or stored is None or not isinstance(asked, WeightQuantization):
        return asked
    if asked != stored:
        raise ArgumentError(
            f"quantize asks for {asked.to_dict()} and the files are quantised already, as {stored.to_dict()}: expected "
            "the same, since what they lost does not come back. Leave quantize out, or start from the original weights."
        )
    return None


def _chosen(model: nn.Module, how: WeightQuantization) -> set[str]:
    """The paths of the layers to quantise, each of a width that can be."""
    prefixes = tuple(prefix for part in how.parts for prefix in _PREFIXES[part])
    chosen = set()
    for path, module in model.named_modules():
        if type(module) is not nn.Linear or not f"{path}.".startswith(prefixes):
            continue
        if path == "lm_head" and module.weight is model.get_parameter("model.language_model.embed_tokens.weight"):
            raise ArgumentError(
                "The head was to be quantised, but it is the table of embeddings, from which rows are read: expected a "
                "model whose head has weights of its own. Leave head out of the parts."
            )
        how.check_width(path, module.in_features)
        chosen.add(path)
    return chosen


def num_weights(model: nn.Module, only_trainable: bool = False) -> int:
    """How many numbers a model has, tied ones once; scales and the like are none of them."""
    linear = {
        id(module.weight): module.in_features * module.out_features
        for module in model.modules()
        if isinstance(module, nn.Linear | QuantizedLinear)
    }
    scales = {id(module.weight_scale) for module in model.modules() if isinstance(module, QuantizedLinear)}
    return sum(
        linear.get(id(parameter), parameter.numel())
        for parameter in model.parameters()
        if id(parameter) not in scales and (parameter.requires_grad or not only_trainable)
    )
