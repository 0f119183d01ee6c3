"""A model's folder in, its processor out: every file about tokens, prompts and pixels is read here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videolm.errors import ArgumentError, ConfigError, ModelNotFoundError
from videolm.families.base import Family, FamilyConfig
from videolm.families.json_config import read_json
from videolm.families.original_configs import is_original, original_preprocessor
from videolm.media.sampling import FrameSampling
from videolm.processing.chat import ChatTemplate
from videolm.processing.pixels import PixelSettings
from videolm.processing.processor import Processor
from videolm.processing.tokenizer import Tokenizer
from videolm.visual_tokens import VisualTokens

__all__ = [
    "build_processor",
    "chat_template_of",
    "check_keys",
    "family_template",
    "image_settings",
    "model_keys",
    "read_sampling",
    "sampling_in",
    "video_settings",
]

_PROMPT_MARKERS = {"chatml": "<|im_start|>", "llama_3": "<|start_header_id|>"}
"""Tokens of tokenizers that were trained for one format of prompts."""


def build_processor(folder: Path, family: Family, config: FamilyConfig, *, tokenizer: Path | None = None) -> Processor:
    """The processor of the model in ``folder``, checked against the model's configuration.

    Args:
        tokenizer: The folder of the tokenizer, if that is another.
    """
    tokens = config.visual_tokens()
    whole = _read(folder, "processor_config.json")
    check_keys(whole, model_keys(config), str(folder / "processor_config.json"))
    image_file, video_file = image_settings(folder, whole), video_settings(folder, whole)
    words = Tokenizer.from_folder(tokenizer or folder)
    image_pixels = _pixels(folder, image_file, tokens)
    return Processor(
        tokenizer=words,
        chat_template=chat_template_of(folder, family, config, words),
        image_pixels=_checked_tiles(folder, image_pixels, tokens),
        video_pixels=_pixels(folder, video_file, tokens),
        tokens=tokens,
        image_token=whole.get("image_token", family.image_token),
        video_token=whole.get("video_token", family.video_token),
        image_token_id=config.image_token_index,
        video_token_id=config.video_token_index,
        time_instruction=bool(getattr(config, "add_time_instruction", False)),
        preprocessor_config=_others(image_file, image_pixels),
        video_preprocessor_config=_others(video_file, image_pixels),
        processor_config=_processor_keys(whole, family, config),
    )


def read_sampling(folder: Path, family: Family) -> FrameSampling:
    """How frames are chosen: as the video processor's ``num_frames`` or ``fps`` says, else as the family does."""
    settings = video_settings(folder, _read(folder, "processor_config.json"))
    try:
        return sampling_in(settings, family)
    except ArgumentError as error:
        raise ConfigError(f"The video processor's settings in {folder} cannot be used: {error}") from error


def sampling_in(settings: Mapping[str, Any], family: Family) -> FrameSampling:
    """How frames are chosen as the settings of a video processor say, else as the family does."""
    num_frames, fps = settings.get("num_frames"), settings.get("fps")
    if fps is not None:
        bound = num_frames if num_frames is not None else family.sampling.num_frames
        return FrameSampling(rule="fps", fps=fps, num_frames=bound)
    if num_frames is not None:
        return FrameSampling(rule=family.sampling.rule, num_frames=num_frames)
    return family.sampling


def _read(folder: Path, name: str) -> dict[str, Any]:
    return read_json(folder / name) if (folder / name).is_file() else {}


def image_settings(folder: Path, whole: Mapping[str, Any]) -> dict[str, Any]:
    """What the folder says about pictures, given its ``processor_config.json``; no such file is an error."""
    nested = whole.get("image_processor")
    if isinstance(nested, dict):
        return nested
    return _required(folder, ("preprocessor_config.json",), of_frames=False)


def video_settings(folder: Path, whole: Mapping[str, Any]) -> dict[str, Any]:
    """The same about frames, for which the settings of pictures serve where there are no others."""
    files = ("video_preprocessor_config.json", "preprocessor_config.json")
    nested = whole.get("video_processor")
    if not isinstance(nested, dict) and not any((folder / name).is_file() for name in files):
        nested = whole.get("image_processor")
    return nested if isinstance(nested, dict) else _required(folder, files, of_frames=True)


def _required(folder: Path, names: tuple[str, ...], *, of_frames: bool) -> dict[str, Any]:
    for name in names:
        if (folder / name).is_file():
            return read_json(folder / name)
    config = _read(folder, "config.json")
    if is_original(config):  # Folders of the original code have no such file: the tower's name says it all.
        return original_preprocessor(config, of_frames=of_frames)
    raise ModelNotFoundError(
        f"{folder} has no {' and no '.join(names)}: it says how pictures and frames are resized and normalised. "
        "Copy it from where the model came from."
    )


def _pixels(folder: Path, settings: Mapping[str, Any], tokens: VisualTokens) -> PixelSettings:
    try:
        return PixelSettings.from_preprocessor(settings, default_size=tokens.image.tile_size)
    except (ArgumentError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"The preprocessor settings in {folder} cannot be used ({error}): expected those of a Hugging Face image "
            "or video processor. Correct preprocessor_config.json."
        ) from error


def _checked_tiles(folder: Path, pixels: PixelSettings, tokens: VisualTokens) -> PixelSettings:
    """Tiles have the model's size; a file that names another belongs to another model."""
    side = tokens.image.tile_size
    named = pixels.crop_size if pixels.do_center_crop else pixels.size
    if named != (side, side):
        raise ConfigError(
            f"The preprocessor settings in {folder} make pictures of {named[1]}x{named[0]} pixels, but the model's "
            f"image_size is {side}: expected {side}x{side}. Use preprocessor_config.json and config.json of one model."
        )
    return pixels


def model_keys(config: FamilyConfig) -> dict[str, Any]:
    """What processors repeat of the model; their files have it since transformers 4.46."""
    known = {
        "patch_size": config.settings().vision.patch_size,
        "num_additional_image_tokens": int(config.settings().vision.class_token),
        "vision_feature_select_strategy": getattr(config, "vision_feature_select_strategy", None),
        "add_time_instruction": getattr(config, "add_time_instruction", None),
    }
    return {name: value for name, value in known.items() if value is not None}


def check_keys(said: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """What a processor repeats of the model must be what the model says, where it decides on numbers of tokens."""
    for name, here in known.items():
        there = said.get(name)
        if name != "add_time_instruction" and there is not None and there != here:
            raise ConfigError(
                f"{where} has {name} {there!r}, but the model has {here!r}: they would disagree about the number of "
                "visual tokens. Use both files of one model, or leave it to the model."
            )


def chat_template_of(folder: Path, family: Family, config: FamilyConfig, tokenizer: Tokenizer) -> ChatTemplate:
    """The template of the folder, or that of its family."""
    # What the tokenizer of an original folder brings is for conversations without media.
    is_only_text = is_original(_read(folder, "config.json")) and not (folder / "chat_template.jinja").is_file()
    found = None if is_only_text else ChatTemplate.from_folder(folder, tokenizer.special_tokens)
    if found is not None:
        return found
    source = family_template(family, config, tokenizer)
    if source is None:
        decoder_type = getattr(config, "text_config").model_type  # noqa: B009
        raise ConfigError(
            f"{folder} has no chat template, and none is known for a {decoder_type} decoder of {family.model_type}. "
            "Put the model's chat_template.jinja into the folder."
        )
    return ChatTemplate(source, special_tokens=tokenizer.special_tokens)


def family_template(family: Family, config: FamilyConfig, tokenizer: Tokenizer) -> str | None:
    """The template that a family's model of this kind was trained with, where it is known."""
    for name, marker in _PROMPT_MARKERS.items():
        if name in family.chat_templates and tokenizer.token_to_id(marker) is not None:
            return family.chat_templates[name]
    decoder_type = getattr(config, "text_config").model_type  # noqa: B009 - families declare it, the base does not
    return family.chat_templates.get(decoder_type)


def _others(settings: Mapping[str, Any], pixels: PixelSettings) -> dict[str, Any]:
    """The keys of a file that pixel settings do not write themselves."""
    own = {*pixels.to_preprocessor(), "image_grid_pinpoints", "pad_to_square", "pad_color"}
    return {name: value for name, value in settings.items() if name not in own}


def _processor_keys(whole: Mapping[str, Any], family: Family, config: FamilyConfig) -> dict[str, Any]:
    kept = {name: value for name, value in whole.items() if name not in ("image_processor", "video_processor")}
    return {
        "processor_class": family.processor_class,
        "num_additional_image_tokens": int(config.settings().vision.class_token),
        "vision_feature_select_strategy": getattr(config, "vision_feature_select_strategy", "default"),
    } | kept
