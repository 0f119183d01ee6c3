"""A model's name in, its folder and what its processor files say out, for classes that are not built whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from videolm.errors import ConfigError, ModelNotFoundError
from videolm.families import processors
from videolm.families.auto import family_of, load_config
from videolm.families.declaration import Family, FamilyConfig
from videolm.families.hub import HubOptions, resolve
from videolm.families.json_config import read_json
from videolm.processing.callable_tokenizer import CallableTokenizer
from videolm.processing.chat import ChatTemplate
from videolm.processing.tokenizer import Tokenizer

if TYPE_CHECKING:
    from videolm.families.processor_spec import ProcessorSpec

__all__ = [
    "chat_template_in",
    "constructor_values",
    "family_in",
    "folder_of",
    "image_settings",
    "read_optional",
    "video_settings",
]


def folder_of(name_or_path: str | Path, options: dict[str, Any]) -> Path:
    """The local folder; what ``options`` say about the hub is taken out of them."""
    hub = {name: options.pop(name) for name in ("revision", "cache_dir", "token", "subfolder") if name in options}
    download = not options.pop("local_files_only", False)
    if options.pop("trust_remote_code", False):
        raise ConfigError(
            "trust_remote_code is True: expected a model of the families that are built in, which bring no code. "
            "Leave it out."
        )
    return resolve(name_or_path, options=HubOptions(**hub, download=download, weights=False))


def family_in(folder: Path, processor_class: str) -> Family | None:
    """The family of the model that stands beside the processor's files, which must have this class; None without."""
    if not (folder / "config.json").is_file():
        return None
    family = family_of(folder)
    if family.processor_class != processor_class:
        raise ConfigError(
            f"{folder} is a model of {family.model_type}, whose processor is {family.processor_class}, not "
            f"{processor_class}. Use {family.processor_class} or AutoProcessor."
        )
    return family


def image_settings(folder: Path) -> dict[str, Any]:
    """What the folder says about pictures; no such file is an error."""
    return processors.image_settings(folder, read_optional(folder, "processor_config.json"))


def video_settings(folder: Path) -> dict[str, Any]:
    """What the folder says about frames; no such file is an error."""
    return processors.video_settings(folder, read_optional(folder, "processor_config.json"))


def read_optional(folder: Path, name: str) -> dict[str, Any]:
    """The object in a file of the folder, empty where there is none."""
    try:
        return read_json(folder / name)
    except ModelNotFoundError:
        return {}


def chat_template_in(folder: Path, tokenizer: Tokenizer) -> str | None:
    """The template of a folder, or that of its model's family."""
    if (folder / "config.json").is_file():
        return processors.chat_template_of(folder, family_of(folder), load_config(folder), tokenizer).source
    found = ChatTemplate.from_folder(folder, tokenizer.special_tokens)
    return found.source if found is not None else None


def constructor_values(folder: Path, spec: ProcessorSpec, config: FamilyConfig | None) -> dict[str, Any]:
    """The arguments of a documented processor that the folder's files say, the model's ``config.json`` included."""
    known = {} if config is None else processors.model_keys(config)
    known |= {
        name: value for name, value in read_optional(folder, "processor_config.json").items() if value is not None
    }
    tokenizer = CallableTokenizer.from_folder(folder)
    tokenizer.chat_template = chat_template_in(folder, tokenizer)
    return {
        **{name: value for name, value in known.items() if name in spec.defaults},
        "image_processor": spec.image_part.from_dict(image_settings(folder)),
        "video_processor": spec.video_part.from_dict(video_settings(folder)),
        "tokenizer": tokenizer,
        "chat_template": tokenizer.chat_template,
    }
