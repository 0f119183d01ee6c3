"""What a family declares, as data, and the configuration of a whole model."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from videolm.errors import ArgumentError, ConfigError
from videolm.families.json_config import JsonConfig
from videolm.families.not_offered import REFUSED_OPTIONS, refused_option
from videolm.media.sampling import FrameSampling
from videolm.models.config import VideoLMConfig
from videolm.visual_tokens import VisualTokens
from videolm.weights.files import WeightFiles
from videolm.weights.keymap import KeyLayout

__all__ = ["Family", "FamilyConfig", "Port", "check_keys", "read_config", "read_dtype"]


class FamilyConfig(JsonConfig):
    """The ``config.json`` of a whole model."""

    rope_policy: Any = "fixed"
    """``fixed``: positions are stretched as ``text_config`` says; ``auto``: as far as each prompt's videos need it;
    ``none``: not at all."""

    def settings(self) -> VideoLMConfig:
        """What the model is built from, but for ``rope_policy``."""
        raise NotImplementedError

    def model_settings(self) -> VideoLMConfig:
        """What the model is built from."""
        settings = self.settings()
        return replace(settings, decoder=replace(settings.decoder, rope_policy=self.rope_policy))

    def fitted_to(self, files: WeightFiles) -> Self:
        """The configuration with what it leaves to the weights to say."""
        return self

    def record_quantization(self, entry: dict[str, Any] | None) -> None:
        """Say how the weights are quantised; None: they are not."""
        if entry is not None:
            self.quantization_config = entry
        elif hasattr(self, "quantization_config"):
            del self.quantization_config

    def visual_tokens(self) -> VisualTokens:
        """How many tokens a picture and a video become."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Port:
    """What another library's class of the same model can do."""

    takes: Mapping[str, tuple[Any, ...]]
    """By the name of a key, with a dot where it is in a part: the values that it knows; where it has no such key, the
    one that it behaves as. The first stands for all others."""
    placeholders: tuple[str, ...] = ("image_token_index", "video_token_index")
    """Whose ids it looks up in the table of embeddings."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Everything that is particular to one family of models, as data."""

    model_type: str
    """What ``config.json`` calls it."""
    config_class: type[FamilyConfig]
    architecture: str
    """The class name that saved files carry."""
    processor_class: str
    layouts: tuple[KeyLayout, ...]
    """How its checkpoints may name their tensors, in the order to try."""
    save_layouts: Mapping[str, KeyLayout]
    """Names for writing; the first is the default."""
    port: Port | None = None
    """Of transformers, which the layouts ``hf`` and ``hf5`` are for; None where it has no such class."""
    sampling: FrameSampling
    """How frames are chosen where the checkpoint's files do not say."""
    image_token: str
    video_token: str
    features_apart: bool = False
    """Whether pictures and frames have their features one above the other, ``[N, tokens, D]``, as the documentation of
    the family says, and not all rows in one."""
    chat_templates: Mapping[str, str]
    """For folders without one: ``chatml`` or ``llama_3`` where the tokenizer knows their markers, else by the decoder's
    model_type."""

    def save_layout(self, name: str) -> KeyLayout:
        """The layout to write that has this name."""
        if name not in self.save_layouts:
            raise ArgumentError(
                f"layout is {name!r}: {self.model_type} can be written as {', '.join(self.save_layouts)}. "
                "Choose one of these."
            )
        return self.save_layouts[name]


def read_config(family: Family, config: JsonConfig | Mapping[str, Any], wanted_by: str) -> FamilyConfig:
    """The configuration of this family from an object or from what a file holds."""
    if not isinstance(config, JsonConfig):
        config = family.config_class.from_dict(config)
    if not isinstance(config, family.config_class):
        raise ConfigError(
            f"{wanted_by} was given the configuration of a {config.model_type}: expected one of "
            f"{family.model_type}. Use the model class of the same family."
        )
    return config


def check_keys(family: Family, values: Mapping[str, Any], options: Iterable[str]) -> None:
    """Refuse values that are no keys of the family's configuration.

    Args:
        options: Names that might have been meant as well.
    """
    known = (*family.config_class.keys, *family.config_class.aliases, "vision_config", "text_config", "rope_policy")
    known = (*known, "return_dict", "output_attentions", "output_hidden_states")
    for name in values:
        if name in REFUSED_OPTIONS and name not in known:
            raise refused_option(name)
        if name not in known:
            near = difflib.get_close_matches(name, (*known, *options), n=1)
            hint = f"Did you mean {near[0]}?" if near else "Leave it out."
            raise ArgumentError(
                f"from_pretrained got {name}, which is no option of it and no key of {family.config_class.__name__}: "
                f"expected one of these. {hint}"
            )


def read_dtype(value: torch.dtype | str | None) -> torch.dtype | None:
    """A dtype from its name; None and ``auto`` mean that of the files."""
    if value is None or value == "auto":
        return None
    found = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ArgumentError(f"dtype is {value!r}: expected float32, bfloat16, float16 or auto. Choose one of these.")
    return found
