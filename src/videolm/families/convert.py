"""A model's folder in, the same model in another layout out: configuration, weights, tokenizer and processor files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videolm.errors import ArgumentError, CheckpointError, ModelNotFoundError
from videolm.families.auto import model_class_for
from videolm.families.declaration import Family, FamilyConfig
from videolm.families.fine_tunes import find_parts, open_parts
from videolm.families.initialise import without_values
from videolm.families.json_config import read_json, write_json
from videolm.families.original_configs import from_original, is_original
from videolm.families.processors import build_processor, read_sampling
from videolm.families.written_forms import WrittenForm, cannot_hold, written_form
from videolm.families.written_processors import (
    lost_by_processor,
    original_keys,
    with_placeholders,
    write_processor,
)
from videolm.processing.processor import Processor
from videolm.weights.files import WeightFiles
from videolm.weights.loading import match_weights
from videolm.weights.packed_files import find_packed
from videolm.weights.saving import DEFAULT_MAX_SHARD_SIZE, save_weights, staged_folder

__all__ = ["LAYOUTS", "Conversion", "convert"]

LAYOUTS = ("hf", "hf5", "original")
"""Those that other libraries read."""

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was written."""

    folder: Path
    family: str
    layout: str
    num_tensors: int
    has_processor: bool
    """Whether there was a tokenizer, with which the processor's files come."""
    lost: str
    """What was dropped, for people; empty if nothing was."""
    changed: tuple[str, ...]
    """What readers of the layout take otherwise, though no file says it."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A model's folder, opened."""

    folder: Path
    """Of ``config.json``."""
    words: Path
    """Of the tokenizer."""
    values: dict[str, Any]
    """Its ``config.json``, as it is."""
    family: Family
    config: FamilyConfig
    tensors: WeightFiles
    """By the names of parameters."""
    processor: Processor | None


def convert(
    source: Path,
    target: Path,
    *,
    layout: str,
    base: str | Path | None = None,
    drop: bool = False,
    max_shard_size: int | str = DEFAULT_MAX_SHARD_SIZE,
    progress: Progress | None = None,
) -> Conversion:
    """Write the model in one folder to another, which must not exist or be empty, tensor by tensor.

    Args:
        base: The model that a LoRA adapter or a projector in ``source`` belongs to, if it does not name it.
        layout: ``hf``, ``hf5`` or ``original``; see ``FamilyModel.save_pretrained``.
        drop: Leave out what the layout cannot hold, in place of an error that names it.
        progress: Called with the shards written so far and their number.
    """
    _check(target, layout)
    opened = _open(source, base)
    form = _form(opened, layout, drop=drop)
    with staged_folder(target) as stage:
        write_json(stage / "config.json", form.config)
        if (opened.folder / "generation_config.json").is_file():
            shutil.copyfile(opened.folder / "generation_config.json", stage / "generation_config.json")
        if opened.processor is not None:
            config = opened.family.config_class.from_dict(form.config)
            write_processor(stage, opened.processor, opened.family, config, layout=layout, source=opened.words)
        tensors = form.tensors(opened.tensors)
        save_weights(stage, tensors, form.key_layout, max_shard_size=max_shard_size, progress=progress)
    return Conversion(
        folder=target,
        family=opened.family.model_type,
        layout=layout,
        num_tensors=len(tensors),
        has_processor=opened.processor is not None,
        lost=form.lost,
        changed=form.changed,
    )


def _check(target: Path, layout: str) -> None:
    if layout not in LAYOUTS:
        raise ArgumentError(f"layout is {layout!r}: expected one of {', '.join(LAYOUTS)}. Choose one of these.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        what = f"holds {sum(1 for _ in target.iterdir())} entries" if target.is_dir() else "is a file"
        raise ArgumentError(
            f"{target} {what}: expected a folder to make, or an empty one, so that nothing is overwritten. "
            "Name another, or empty it."
        )


def _open(folder: Path, base: str | Path | None) -> _Source:
    if not folder.is_dir():
        raise ModelNotFoundError(
            f"{folder} is no folder: expected that of a model, which holds config.json and weights. Check the path."
        )
    parts = find_parts(folder, base)
    values = read_json(parts.config / "config.json")
    model_class = model_class_for(from_original(values), str(folder))
    family, files = model_class.family, open_parts(parts, model_class.family.layouts)
    if packed := find_packed(files):
        raise CheckpointError(
            f"{folder} holds {len(packed)} quantised weights ({next(iter(packed))}, …): expected floating point, which "
            "every layout can hold. Load the model with quantize='none', save it, and convert what was saved."
        )
    config = family.config_class.from_dict(values).fitted_to(files)
    with without_values():
        model = model_class(config)
    _, sources = match_weights(model, files, family.layouts)
    words = parts.tokenizer
    has_tokenizer = any((words / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))
    return _Source(
        folder=parts.config,
        words=words,
        values=values,
        family=family,
        config=config,
        tensors=files.named(sources),
        processor=build_processor(parts.config, family, config, tokenizer=words) if has_tokenizer else None,
    )


def _form(source: _Source, layout: str, *, drop: bool) -> WrittenForm:
    """What is written; refused, with everything that cannot be, unless ``drop``."""
    family, config, processor = source.family, source.config, source.processor
    if processor is not None and layout != "original" and family.port is not None:
        config = with_placeholders(config, processor)
    form = written_form(family, config, layout, source.tensors, drop=True)
    if layout == "original" and is_original(source.values):
        form = replace(form, config=source.values, lost_settings=(), changed=())
    elif layout != "original":
        form.config["architectures"] = [family.architecture]
    if processor is not None:
        sampling = read_sampling(source.folder, family)
        values = form.config | (original_keys(processor, sampling, family) if layout == "original" else {})
        lost = lost_by_processor(processor, sampling, family, layout, values)
        form = replace(form, config=values, lost_settings=(*form.lost_settings, *lost))
    if form.lost and not drop:
        others = [name for name in LAYOUTS if name != layout]
        raise cannot_hold(form, family, config, source.tensors, offered=others)
    return form
