"""A processor and a layout in, the files about tokens, prompts and pixels that its readers expect out."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from videolm.families.declaration import Family, FamilyConfig
from videolm.families.json_config import write_json
from videolm.families.original_configs import original_preprocessor
from videolm.families.processor_classes import PROCESSOR_CLASSES
from videolm.families.processors import family_template, sampling_in
from videolm.media.sampling import FrameSampling
from videolm.processing.pixels import PixelSettings
from videolm.processing.processor import Processor

__all__ = ["lost_by_processor", "original_keys", "with_placeholders", "write_processor"]

_SOURCES = ("tokenizer.model", "vocab.json", "merges.txt")
"""What some readers make a tokenizer of, in place of the tokenizer.json that is made of any of them here."""


def with_placeholders(config: FamilyConfig, processor: Processor) -> FamilyConfig:
    """The configuration with the ids that the tokenizer gives the placeholders, as ports expect it."""
    ids = {
        "image_token_index": processor.tokenizer.token_to_id(processor.image_token),
        "video_token_index": processor.tokenizer.token_to_id(processor.video_token),
    }
    return type(config).from_dict(config.to_dict() | ids)


def original_keys(processor: Processor, sampling: FrameSampling, family: Family) -> dict[str, Any]:
    """What the original code keeps in ``config.json`` and others in the processor's files."""
    keys: dict[str, Any] = {}
    if sampling != family.sampling:
        keys |= {"frames_upbound": sampling.num_frames, "force_sample": sampling.rule != "fps"}
    if processor.image_pixels.resize == "pad":
        keys["image_aspect_ratio"] = "pad"
    return keys


def lost_by_processor(
    processor: Processor, sampling: FrameSampling, family: Family, layout: str, config: Mapping[str, Any]
) -> tuple[str, ...]:
    """The settings that the readers of a layout take otherwise, each with its value.

    Args:
        config: The ``config.json`` of that layout.
    """
    if layout != "original":
        is_padded = family.port is not None and processor.image_pixels.resize == "pad"
        return ("pad_to_square True",) if is_padded else ()
    files = {kind: original_preprocessor(config, of_frames=kind == "frame") for kind in ("picture", "frame")}
    pixels = {"picture": processor.image_pixels, "frame": processor.video_pixels}
    lost = [f"{kind} {name}" for kind in pixels for name in _pixel_differences(pixels[kind], files[kind])]
    if sampling_in(files["frame"], family) != sampling:
        lost.append(f"frame sampling {sampling}")
    return tuple(lost)


def _pixel_differences(pixels: PixelSettings, settings: Mapping[str, Any]) -> list[str]:
    read = PixelSettings.from_preprocessor(settings)
    idle = {"backend", "fused"}
    idle |= set() if pixels.do_center_crop else {"crop_size"}
    idle |= set() if pixels.resize == "pad" else {"pad_color"}
    names = [field.name for field in fields(pixels) if field.name not in idle]
    return [f"{name} {getattr(pixels, name)!r}" for name in names if getattr(pixels, name) != getattr(read, name)]


def write_processor(
    folder: Path, processor: Processor, family: Family, config: FamilyConfig, *, layout: str, source: Path
) -> None:
    """Write the files.

    Args:
        config: As it is in the new layout.
        source: Where the model comes from; some readers want a tokenizer in the form that it has there.
    """
    for name in _SOURCES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if layout == "original":
        _write_original(folder, processor, family, config)
        return
    _for_port(processor, family, config).save_pretrained(folder)
    if layout == "hf":  # Where releases before 4.52 look for it.
        write_json(folder / "chat_template.json", {"chat_template": processor.chat_template.source})


def _write_original(folder: Path, processor: Processor, family: Family, config: FamilyConfig) -> None:
    processor.tokenizer.save(folder)
    template = processor.chat_template.source
    if template != family_template(family, config, processor.tokenizer):
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def _for_port(processor: Processor, family: Family, config: FamilyConfig) -> Processor:
    """The processor with the class names that other readers look for, and without what they do not know."""
    if family.port is None:
        return processor
    pixels = processor.image_pixels
    if pixels.resize == "pad":
        pixels = replace(pixels, resize="shortest_edge", do_center_crop=True, crop_size=pixels.size)
    spec = PROCESSOR_CLASSES[family.processor_class].spec
    named = {"processor_class": family.processor_class}
    return replace(
        processor,
        image_pixels=pixels,
        tokens=config.visual_tokens(),
        preprocessor_config={
            "image_processor_type": spec.image_part.__name__,
            **named,
            **processor.preprocessor_config,
        },
        video_preprocessor_config={
            "video_processor_type": spec.video_part.__name__,
            **named,
            **processor.video_preprocessor_config,
        },
    )
