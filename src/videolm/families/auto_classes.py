"""A model's folder or hub name in, whatever its files ask for out, under the names that scripts know."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from videolm.errors import ConfigError
from videolm.families.auto import family_of, load_config, model_class_of
from videolm.families.base import FamilyModel
from videolm.families.declaration import FamilyConfig
from videolm.families.pixel_part import PixelPart
from videolm.families.processor_base import DocumentedProcessor
from videolm.families.processor_classes import PROCESSOR_CLASSES
from videolm.families.processor_files import folder_of, image_settings, read_optional
from videolm.processing.callable_tokenizer import TOKENIZER_SETTINGS, CallableTokenizer
from videolm.processing.chat import ChatTemplate

__all__ = ["AutoConfig", "AutoImageProcessor", "AutoModelForImageTextToText", "AutoProcessor", "AutoTokenizer"]


class _Auto:
    """A name to load with, and nothing to make."""

    def __init__(self, *arguments: Any, **options: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is not made directly: use {type(self).__name__}.from_pretrained(...)")


class AutoConfig(_Auto):
    """The configuration class of a model."""

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **options: Any) -> FamilyConfig:
        """The model's configuration; options say where to look, or replace keys."""
        folder = folder_of(name_or_path, options)
        return type(load_config(folder)).from_dict({**load_config(folder).to_dict(), **options})


class AutoTokenizer(_Auto):
    """The tokenizer of a model."""

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **options: Any) -> CallableTokenizer:
        """The model's tokenizer; options say where to look, or set attributes such as ``padding_side``."""
        options.pop("use_fast", None)
        folder = folder_of(name_or_path, options)
        tokenizer = CallableTokenizer.from_folder(folder)
        template = ChatTemplate.from_folder(folder)
        tokenizer.chat_template = None if template is None else template.source
        for name, value in options.items():
            if name not in TOKENIZER_SETTINGS:
                raise ConfigError(
                    f"The tokenizer has no attribute {name!r}: expected one of {', '.join(TOKENIZER_SETTINGS)}. "
                    "Leave it out."
                )
            setattr(tokenizer, name, value)
        return tokenizer


class AutoProcessor(_Auto):
    """The processor class of a model."""

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **options: Any) -> DocumentedProcessor:
        """The model's processor; options as its own class takes them."""
        return _processor_class(folder_of(name_or_path, dict(options))).from_pretrained(name_or_path, **options)


class AutoImageProcessor(_Auto):
    """The class for pictures that a model's files name."""

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **options: Any) -> PixelPart:
        """The model's processor of pictures; options replace its settings."""
        folder = folder_of(name_or_path, dict(options))
        settings = image_settings(folder)
        named = settings.get("image_processor_type")
        parts = {spec.image_part.__name__: spec.image_part for spec in (c.spec for c in PROCESSOR_CLASSES.values())}
        part = parts.get(str(named)) or _processor_class(folder).spec.image_part
        return part.from_pretrained(name_or_path, **options)


class AutoModelForImageTextToText(_Auto):
    """The model class of a model."""

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **options: Any) -> FamilyModel:
        """The model; options as its own class takes them."""
        model_class = model_class_of(folder_of(name_or_path, dict(options)), base=options.get("base"))
        return model_class.from_pretrained(name_or_path, **options)


def _processor_class(folder: Path) -> type[DocumentedProcessor]:
    """By the model beside the processor's files, or by the name that they hold."""
    has_model = (folder / "config.json").is_file()
    files = ("processor_config.json", "preprocessor_config.json")
    written = [read_optional(folder, name).get("processor_class") for name in files]
    name = family_of(folder).processor_class if has_model else next((each for each in written if each), None)
    if name not in PROCESSOR_CLASSES:
        raise ConfigError(
            f"{folder} names the processor {name!r}: supported are {', '.join(PROCESSOR_CLASSES)}. "
            "Choose a model of one of these families."
        )
    return PROCESSOR_CLASSES[name]
