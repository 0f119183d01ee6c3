"""A folder that tunes a base model in, the whole model out: a LoRA adapter or a projector over what it was made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from videolm.errors import CheckpointError, ConfigError, ModelNotFoundError
from videolm.families.hub import HubOptions, resolve
from videolm.families.json_config import read_json
from videolm.weights.files import WeightFiles, open_file, open_weights
from videolm.weights.keymap import KeyLayout, detect_layout
from videolm.weights.lora import LoraSettings, merged, overlaid, without_wrapper

__all__ = ["ModelParts", "find_parts", "open_parts"]

_ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
_TRAINED = ("non_lora_trainables.safetensors", "non_lora_trainables.bin")
_PROJECTOR = ("mm_projector.safetensors", "mm_projector.bin")
_TOKENIZER = ("tokenizer.json", "tokenizer.model")
_TOWERS = {"mm_vision_tower": "vision_tower", "mm_image_tower": "image_tower", "mm_video_tower": "video_tower"}


@dataclass(frozen=True, kw_only=True)
class ModelParts:
    """Where the parts of one model stand."""

    folder: Path
    """The one that was named."""
    base: Path | None
    """The model that ``folder`` tunes; None where it holds a whole one."""
    hub: HubOptions
    """Where a tower would come from."""

    @property
    def config(self) -> Path:
        """The folder of ``config.json`` and of what it implies."""
        return self.folder if self.base is None or (self.folder / "config.json").is_file() else self.base

    @property
    def num_bytes(self) -> int:
        """Of the weight files."""
        folders = [self.folder] if self.base is None else [self.folder, self.base]
        paths = [path for folder in folders for path in folder.iterdir()]
        return sum(path.stat().st_size for path in paths if path.suffix in (".safetensors", ".bin"))

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer."""
        has_own = any((self.folder / name).is_file() for name in _TOKENIZER)
        return self.folder if self.base is None or has_own else self.base


def find_parts(folder: Path, base: str | Path | None = None, *, hub: HubOptions | None = None) -> ModelParts:
    """The parts of the model in a folder.

    Args:
        base: The folder or hub name of the model that ``folder`` tunes; None: the one that it names itself.
        hub: How a base model and a tower are looked for.
    """
    options = replace(hub or HubOptions(), revision=None, subfolder="")
    kind = _kind(folder)
    if kind is None:
        if base is not None:
            raise CheckpointError(
                f"base is {str(base)!r}, but {folder} holds a whole model: expected a folder with {_ADAPTER[0]} or "
                f"{_PROJECTOR[1]}. Leave base out."
            )
        return ModelParts(folder=folder, base=None, hub=options)
    return ModelParts(folder=folder, base=_base_of(folder, kind, base, options), hub=options)


def _kind(folder: Path) -> str | None:
    """What tunes a base model there; None where the folder holds a whole one."""
    if (folder / "adapter_config.json").is_file() or _first(folder, _ADAPTER):
        return "LoRA adapter"
    has_weights = any(folder.glob("model*.safetensors")) or any(folder.glob("pytorch_model*.bin"))
    return "projector" if not has_weights and _first(folder, _PROJECTOR) else None


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _base_of(folder: Path, kind: str, base: str | Path | None, options: HubOptions) -> Path:
    name = base
    if name is None:
        file, key = {
            "LoRA adapter": ("adapter_config.json", "base_model_name_or_path"),
            "projector": ("config.json", "_name_or_path"),
        }[kind]
        name = read_json(folder / file).get(key) if (folder / file).is_file() else None
    if not name:
        raise ModelNotFoundError(
            f"{folder} holds a {kind} and does not say of which model: expected that model as well. "
            "Pass it as base (--base)."
        )
    try:
        return resolve(name, options=options)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"{folder} holds a {kind} for {name}, which cannot be found: {error} Or pass the folder of that model as "
            "base (--base)."
        ) from error


def open_parts(parts: ModelParts, layouts: Sequence[KeyLayout]) -> WeightFiles:
    """The weights of a whole model; those of a tuned one are put together as they are read, by names in the module."""
    if parts.base is None:
        return open_weights(parts.folder)
    files = _in_module_names(open_weights(parts.base), layouts)
    files = _with_towers(files, parts)
    adapter, trained = _first(parts.folder, _ADAPTER), _first(parts.folder, _TRAINED)
    projector = _first(parts.folder, _PROJECTOR)
    if adapter is not None:
        files = _with_adapter(files, parts.folder, adapter, layouts)
    elif (parts.folder / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{parts.folder} has an adapter_config.json and neither {' nor '.join(_ADAPTER)}: expected the adapter's "
            "weights beside it. Copy them from where the adapter came from."
        )
    for path in (trained, projector):
        if path is not None:
            files = _with_trained(files, path, layouts)
    return files


def _in_module_names(files: WeightFiles, layouts: Sequence[KeyLayout]) -> WeightFiles:
    layout = detect_layout(files, layouts)
    kept = [key for key in files if not layout.is_ignored(key)]
    return files.named({layout.to_module(key) or key: key for key in kept})


def _layout_of(files: WeightFiles, layouts: Sequence[KeyLayout]) -> KeyLayout:
    """The first layout that has a rule for every name: a part of a model bears no layout's marks."""
    names = [key.partition(".lora_")[0] + "." for key in files]
    for layout in layouts:
        if all(layout.to_module(name) is not None for name in names):
            return layout
    strange = next(key for key in files if layouts[-1].to_module(key) is None)
    raise CheckpointError(
        f"{files.folder} holds {strange}, which is no part of any known layout: expected names such as "
        "model.layers.0.self_attn.q_proj or model.mm_projector.0.weight. Check that it tunes a model of this family."
    )


def _with_adapter(files: WeightFiles, folder: Path, path: Path, layouts: Sequence[KeyLayout]) -> WeightFiles:
    config = folder / "adapter_config.json"
    settings = LoraSettings.from_dict(read_json(config), str(config))
    adapter = without_wrapper(open_file(path))
    layout = _layout_of(adapter, layouts)
    return merged(files, adapter, settings, lambda key: layout.to_module(key) or key)


def _with_trained(files: WeightFiles, path: Path, layouts: Sequence[KeyLayout]) -> WeightFiles:
    """The whole tensors that were trained beside an adapter, or alone."""
    own = without_wrapper(open_file(path))
    if all(key.startswith("mm_projector.") for key in own):
        own = own.named({f"model.{key}": key for key in own})
    layout = _layout_of(own, layouts)
    return overlaid(files, own.named({layout.to_module(key) or key: key for key in own}))


def _with_towers(files: WeightFiles, parts: ModelParts) -> WeightFiles:
    """Language models have no tower; ``config.json`` names the one that they were trained with."""
    values = read_json(parts.config / "config.json")
    for key, tower in _TOWERS.items():
        name, prefix = values.get(key), f"model.{tower}."
        if not isinstance(name, str) or any(known.startswith(prefix) for known in files):
            continue
        if key == "mm_vision_tower" and isinstance(values.get("mm_video_tower"), str):
            continue
        files = overlaid(files, _tower(name, prefix, parts))
    return files


def _tower(name: str, prefix: str, parts: ModelParts) -> WeightFiles:
    try:
        files = open_weights(resolve(name, options=parts.hub))
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"{parts.base} is a language model without a vision tower, and the tower {name} that {parts.folder} names "
            f"cannot be found: {error} Or pass a whole model as base (--base)."
        ) from error
    start = "vision_model."
    kept = [key for key in files if key.startswith(start) and not key.endswith(".position_ids")]
    if not kept:
        raise ConfigError(
            f"{files.folder} is named as a vision tower and holds no tensors that begin with {start}: expected a CLIP "
            "or SigLIP model. Pass a whole model as base (--base)."
        )
    return files.named({prefix + key.removeprefix(start): key for key in kept})
