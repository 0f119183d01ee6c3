"""A model without values and a request about fewer bits in, the layers that take the place of its linear ones out."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from videolm.errors import ArgumentError, CheckpointError
from videolm.families.bitsandbytes_config import BitsAndBytesConfig
from videolm.families.placement import dtype_for
from videolm.families.quantization import UNQUANTIZED, Request
from videolm.models.video_lm import VideoLM
from videolm.weights.bitsandbytes_layers import EightBit, FourBit, eight_bit_layer, four_bit_layer
from videolm.weights.files import WeightFiles
from videolm.weights.loading import LayerMaker
from videolm.weights.packed_files import FourBitWeight, PackedWeight
from videolm.weights.quantize import WeightQuantization
from videolm.weights.quantized_linear import Int8Linear, QuantizedLinear, quantized_linear

__all__ = ["layer_maker", "num_weights", "quantization_entry"]

_PREFIXES = {
    "decoder": ("model.language_model.layers.",),
    "head": ("lm_head.",),
    "projector": ("model.multi_modal_projector.",),
    "vision": ("model.vision_tower.", "model.image_tower.", "model.video_tower."),
}
"""Where the linear layers of each part stand."""
_BLOCK = 64
"""Of weights that share a scale, as bitsandbytes chooses it."""

_LOG = logging.getLogger(__name__)


def layer_maker(
    model: VideoLM,
    files: WeightFiles,
    packed: Mapping[str, PackedWeight],
    asked: Request,
    *,
    dtype: torch.dtype | None,
    device: torch.device | str,
) -> LayerMaker | None:
    """What makes quantised layers while weights are loaded; None where there are none.

    Args:
        files: All weights in floating point, whatever the files hold.
        packed: Those that the files hold in fewer bits.
        asked: As ``settle_request`` gives it.
        dtype: Of weights before bitsandbytes quantises them; None: as the files hold them.
    """
    device = torch.device(device)
    if asked == UNQUANTIZED or (asked is None and not packed):
        return None
    if asked is None:
        return _StoredLayers(packed, getattr(model.config, "quantization_config", None), device)
    if isinstance(asked, WeightQuantization):
        return _OwnLayers(files, asked, _chosen_parts(model, asked), device)
    assert isinstance(asked, BitsAndBytesConfig)
    return _BitsAndBytesLayers(files, asked, _chosen_modules(model, asked, device), dtype, device)


class _StoredLayers:
    """Layers as the files hold them."""

    def __init__(self, packed: Mapping[str, PackedWeight], entry: Any, device: torch.device) -> None:
        self._packed = packed
        self._device = device
        name = entry.get("bnb_4bit_compute_dtype") if isinstance(entry, Mapping) else None
        found = getattr(torch, str(name), None)
        self._compute_dtype = dtype_for(found if isinstance(found, torch.dtype) else torch.float32, device)
        self._rounds_activations = isinstance(entry, Mapping) and entry.get("activations") == "int8"

    def __call__(self, path: str, linear: nn.Linear, key: str) -> nn.Module | None:
        weight = self._packed.get(key)
        if isinstance(weight, FourBitWeight):
            if self._device.type == "cpu" and weight.shape[1] % weight.block_size:
                _LOG.warning("%s is converted to floating point: on a CPU %s", path, _wrong_scales(weight.block_size))
                return None
            return weight.layer(linear, self._device, compute_dtype=self._compute_dtype)
        made = None if weight is None else weight.layer(linear, self._device)
        if isinstance(made, Int8Linear):
            made.rounds_activations = self._rounds_activations
        return made


class _OwnLayers:
    """Layers of this library, from weights in floating point."""

    def __init__(
        self, files: WeightFiles, how: WeightQuantization, paths: Collection[str], device: torch.device
    ) -> None:
        self._files = files
        self._how = how
        self._paths = paths
        self._device = device

    def __call__(self, path: str, linear: nn.Linear, key: str) -> nn.Module | None:
        if path not in self._paths:
            return None
        made = quantized_linear(self._files.read(key).to(self._device), linear.bias, self._how)
        _check_scales(made.weight_scale, key, self._files, self._how.scheme)
        return made


class _BitsAndBytesLayers:
    """Layers of bitsandbytes, from weights in floating point."""

    def __init__(
        self,
        files: WeightFiles,
        how: BitsAndBytesConfig,
        paths: Collection[str],
        dtype: torch.dtype | None,
        device: torch.device,
    ) -> None:
        assert isinstance(how.bnb_4bit_compute_dtype, torch.dtype)
        self._files = files
        self._how = how
        self._paths = paths
        self._dtype = dtype
        self._device = device
        self._compute_dtype = dtype_for(how.bnb_4bit_compute_dtype, device) if how.load_in_4bit else None

    def __call__(self, path: str, linear: nn.Linear, key: str) -> nn.Module | None:
        if path not in self._paths:
            return None
        weight = self._files.read(key)
        weight = weight.to(self._device, self._dtype or weight.dtype)
        _check_scales(weight, key, self._files, f"bitsandbytes' {self._how.method}")
        if self._how.load_in_8bit:
            return eight_bit_layer(
                linear, weight, EightBit(threshold=self._how.llm_int8_threshold), device=self._device
            )
        four_bit = FourBit(quant_type=self._how.bnb_4bit_quant_type, double_quant=self._how.bnb_4bit_use_double_quant)
        return four_bit_layer(linear, weight, four_bit, compute_dtype=self._compute_dtype, device=self._device)


def _check_scales(values: Tensor, key: str, files: WeightFiles, method: str) -> None:
    if not bool(values.isfinite().all()):
        raise CheckpointError(
            f"{key} in {files.folder} holds numbers that are not finite, which nothing in {method} stands for: "
            "expected finite weights. Download the model again."
        )


def _linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    return {path: module for path, module in model.named_modules() if type(module) is nn.Linear}


def _chosen_parts(model: VideoLM, how: WeightQuantization) -> list[str]:
    """The paths of the layers to quantise in the model's order, each of a width that can be."""
    prefixes = tuple(prefix for part in how.parts for prefix in _PREFIXES[part])
    chosen = [path for path in _linear_layers(model) if f"{path}.".startswith(prefixes)]
    _check_head(model, chosen, "Leave head out of the parts.")
    for path in chosen:
        how.check_width(path, model.get_submodule(path).in_features)  # type: ignore[arg-type]
    return chosen


def _chosen_modules(model: VideoLM, how: BitsAndBytesConfig, device: torch.device) -> list[str]:
    linear = _linear_layers(model)
    if how.llm_int8_skip_modules is None:
        chosen = [path for path in linear if path.startswith(_PREFIXES["decoder"])]
    else:
        paths = [path for path, _ in model.named_modules()]
        for name in how.llm_int8_skip_modules:
            if not any(_is_inside(path, name) for path in paths):
                raise ArgumentError(
                    f"llm_int8_skip_modules holds {name!r}, which no part of the model is called: expected names such "
                    "as lm_head, multi_modal_projector, vision_tower or down_proj. Correct it, or it is quantised."
                )
        chosen = [path for path in linear if not any(_is_inside(path, name) for name in how.llm_int8_skip_modules)]
    _check_head(model, chosen, "Add lm_head to llm_int8_skip_modules.")
    odd = [path for path in chosen if linear[path].in_features % _BLOCK]
    if odd and how.load_in_4bit and device.type == "cpu":
        raise ArgumentError(
            f"{odd[0]} has {linear[odd[0]].in_features} inputs, and on a CPU {_wrong_scales(_BLOCK)}. Add it to "
            "llm_int8_skip_modules, use load_in_8bit, or quantize='int8'."
        )
    return chosen


def _is_inside(path: str, name: str) -> bool:
    """Whether a module is, or stands in, one of this name, which may be the end of a path."""
    return f".{name}." in f".{path}."


def _wrong_scales(block_size: int) -> str:
    return f"bitsandbytes takes wrong scales for rows whose length is no multiple of {block_size}"


def _check_head(model: VideoLM, chosen: Collection[str], advice: str) -> None:
    if "lm_head" in chosen and model.lm_head.weight is model.model.language_model.embed_tokens.weight:
        raise ArgumentError(
            "The head was to be quantised, but it is the table of embeddings, from which rows are read: expected a "
            f"model whose head has weights of its own. {advice}"
        )


def quantization_entry(model: VideoLM, asked: Request, stored: Any) -> dict[str, Any] | None:
    """What the configuration of a loaded model says about its layers; ``stored``: what that of its files said."""
    if isinstance(asked, WeightQuantization):
        return asked.to_dict()
    if isinstance(asked, BitsAndBytesConfig):
        return replace(asked, llm_int8_skip_modules=_left_alone(model)).to_dict()
    if asked is not None or all(map(_is_plain, model.modules())):
        return None
    # Numbers that files keep in another dtype are bytes here.
    return {**stored, "bnb_4bit_quant_storage": "uint8"} if "bnb_4bit_quant_storage" in (stored or {}) else stored


def _left_alone(model: VideoLM) -> list[str]:
    """Names by which other readers of the files know the layers that are not quantised."""
    plain = list(_linear_layers(model))
    prefixes = [prefix for part in ("head", "projector", "vision") for prefix in _PREFIXES[part]]
    quantized = [f"{path}." for path, module in model.named_modules() if not _is_plain(module)]
    whole = [
        prefix
        for prefix in prefixes
        if not any(path.startswith(prefix) for path in quantized)
        and any(f"{path}.".startswith(prefix) for path in plain)
    ]
    names = [prefix.removesuffix(".") for prefix in whole]
    names += [path for path in plain if not f"{path}.".startswith(tuple(whole))]
    # Before release 5 transformers has no model. in front of the parts.
    return sorted({*names, *(name.removeprefix("model.") for name in names)})


def _is_plain(module: nn.Module) -> bool:
    return type(module) is nn.Linear or not isinstance(module, nn.Linear | QuantizedLinear)


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
