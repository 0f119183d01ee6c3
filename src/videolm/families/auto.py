"""A folder or a name in, whatever stands there out: the one list of families."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from videolm.errors import CheckpointError, ConfigError, ModelNotFoundError
from videolm.families.base import Family, FamilyConfig, FamilyModel, read_dtype
from videolm.families.fine_tunes import ModelParts, find_parts
from videolm.families.hub import resolve
from videolm.families.initialise import without_values
from videolm.families.json_config import read_json
from videolm.families.llava_next import LlavaNextForConditionalGeneration
from videolm.families.llava_next_video import LlavaNextVideoForConditionalGeneration
from videolm.families.llava_next_video2 import LlavaNextVideo2ForConditionalGeneration
from videolm.families.original_configs import from_original
from videolm.families.processors import build_processor, read_sampling
from videolm.families.video_llava import VideoLlavaForConditionalGeneration
from videolm.processing.processor import Processor
from videolm.weights.files import open_weights
from videolm.weights.quantize import WeightQuantization
from videolm.weights.saving import DEFAULT_MAX_SHARD_SIZE, staged_folder

__all__ = [
    "MODEL_CLASSES",
    "describe_folder",
    "family_of",
    "load_config",
    "load_model",
    "load_processor",
    "model_class_for",
    "model_class_of",
    "new_model",
    "resolve",
    "save_model",
]

MODEL_CLASSES: tuple[type[FamilyModel], ...] = (
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideo2ForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    VideoLlavaForConditionalGeneration,
)
"""One row a family."""

_BY_TYPE = {model_class.family.model_type: model_class for model_class in MODEL_CLASSES}

Progress = Callable[[int, int | None], None]


def load_config(folder: str | Path, *, base: str | Path | None = None) -> FamilyConfig:
    """The configuration of the model in a local folder; ``base`` is the model that it tunes, if it does."""
    values = _read_config(_parts(folder, base).config)
    return model_class_for(values, str(folder)).family.config_class.from_dict(values)


def family_of(folder: str | Path, *, base: str | Path | None = None) -> Family:
    """The family of the model in a local folder; its ``sampling`` is what the folder's files say, if they do."""
    folder = _parts(folder, base).config
    family = model_class_for(_read_config(folder), str(folder)).family
    return replace(family, sampling=read_sampling(folder, family))


def model_class_of(folder: str | Path, *, base: str | Path | None = None) -> type[FamilyModel]:
    """The class of the model in a local folder."""
    return model_class_for(_read_config(_parts(folder, base).config), str(folder))


def load_model(
    folder: str | Path,
    *,
    base: str | Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    quantize: str | WeightQuantization | None = None,
    progress: Progress | None = None,
    **config_values: Any,
) -> FamilyModel:
    """The model in a local folder, ready to answer.

    Args:
        dtype: None or ``auto`` keeps that of its files.
        config_values: Keys of the configuration that replace what the file says.
    """
    model_class = model_class_of(folder, base=base)
    return model_class.from_pretrained(
        folder, base=base, dtype=dtype, device=device, quantize=quantize, progress=progress, **config_values
    )


def load_processor(folder: str | Path, *, base: str | Path | None = None) -> Processor:
    """The processor of the model in a local folder."""
    parts = _parts(folder, base)
    values = _read_config(parts.config)
    family = model_class_for(values, str(folder)).family
    return build_processor(parts.config, family, family.config_class.from_dict(values), tokenizer=parts.tokenizer)


def new_model(
    config: Mapping[str, Any] | FamilyConfig,
    *,
    seed: int = 0,
    dtype: torch.dtype | str = torch.float32,
    device: torch.device | str = "cpu",
) -> FamilyModel:
    """A model with random parameters, the same for the same seed."""
    values = config.to_dict() if isinstance(config, FamilyConfig) else dict(config)
    model_class = model_class_for(values, "the configuration")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(values)
    model.config.dtype = read_dtype(dtype)
    return model.to(device=device, dtype=read_dtype(dtype))


def save_model(
    model: FamilyModel,
    processor: Processor,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    *,
    layout: str | None = None,
    max_shard_size: int | str = DEFAULT_MAX_SHARD_SIZE,
) -> None:
    """Write model and processor into one folder, all of it or nothing, readable by Hugging Face libraries.

    Args:
        dtype: Of the weights in the files; None: as they are.
    """
    with staged_folder(folder) as stage:
        model.write_files(stage, layout=layout, dtype=dtype, max_shard_size=max_shard_size)
        processor.save_pretrained(stage)


def describe_folder(folder: str | Path) -> dict[str, Any]:
    """What a local folder holds: ``family``, ``num_parameters``, ``bytes`` of weights, whether they are ``present``."""
    folder = Path(folder)
    values = _read_config(folder)
    model_class = model_class_for(values, str(folder))
    config = model_class.family.config_class.from_dict(values)
    with contextlib.suppress(CheckpointError):  # Missing weights are part of the description.
        config = config.fitted_to(open_weights(folder))
    with without_values():
        model = model_class(config)
    weights = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin")]
    return {
        "family": model_class.family.model_type,
        "num_parameters": model.num_parameters(),
        "bytes": sum(path.stat().st_size for path in weights),
        "present": bool(weights),
    }


def _parts(folder: str | Path, base: str | Path | None) -> ModelParts:
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelNotFoundError(
            f"{folder} is no folder: expected the folder of a model, which holds config.json and weights. "
            "Check the path."
        )
    return find_parts(folder, base)


def _read_config(folder: Path) -> dict[str, Any]:
    return from_original(read_json(folder / "config.json"))


def model_class_for(values: Mapping[str, Any], where: str) -> type[FamilyModel]:
    """The class for a configuration in the form of this library; ``where`` it is from is for messages."""
    model_type = values.get("model_type")
    if model_type not in _BY_TYPE:
        raise ConfigError(
            f"model_type is {model_type!r} in {where}: supported are {', '.join(sorted(_BY_TYPE))}. "
            "Choose a model of one of these families."
        )
    return _BY_TYPE[model_type]
