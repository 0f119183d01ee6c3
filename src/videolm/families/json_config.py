"""The ``config.json`` of a model as an object: keys with defaults and checks, other spellings, unknown keys kept."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from videolm.errors import ConfigError, ModelNotFoundError
from videolm.families.hub import resolve

__all__ = ["JsonConfig", "Key", "anything", "flag", "number", "optional", "read_json", "whole", "word", "write_json"]


@dataclass(frozen=True, kw_only=True)
class Key:
    """One known key: its default, and which values it takes."""

    default: Any
    accepts: Callable[[Any], bool]
    expected: str
    """What follows "expected" in the message about a wrong value."""
    has_meaning: bool = True
    """Whether anything here depends on it."""


def whole(default: int, *, minimum: int = 1) -> Key:
    """A whole number."""
    return Key(
        default=default,
        accepts=lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= minimum,
        expected=f"a whole number, at least {minimum}",
    )


def number(default: float) -> Key:
    """A positive number."""
    return Key(
        default=default,
        accepts=lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value > 0,
        expected="a positive number",
    )


def word(default: str, choices: tuple[str, ...]) -> Key:
    """One of a few words."""
    return Key(default=default, accepts=lambda value: value in choices, expected=f"one of {', '.join(choices)}")


def flag(default: bool) -> Key:
    """True or false."""
    return Key(default=default, accepts=lambda value: isinstance(value, bool), expected="true or false")


def optional(key: Key) -> Key:
    """The same, or null, which is the default."""
    return Key(
        default=None,
        accepts=lambda value: value is None or key.accepts(value),
        expected=f"{key.expected}, or null",
    )


def anything(default: Any = None) -> Key:
    """A key that is kept and has no meaning here."""
    return Key(default=default, accepts=lambda value: True, expected="anything", has_meaning=False)


class JsonConfig:
    """Attributes are the keys of the file; ``to_dict`` and ``save_pretrained`` write them back."""

    model_type: ClassVar[str] = ""
    keys: ClassVar[dict[str, Key]] = {}
    aliases: ClassVar[dict[str, str]] = {"torch_dtype": "dtype"}
    """Other spellings, of keys and of attributes, and the name that stands for them."""

    def __init__(self, **values: Any) -> None:
        given = values.pop("model_type", None)
        if given not in (None, self.model_type):
            raise ConfigError(
                f"This is the configuration of a {given}, while {type(self).__name__} describes a {self.model_type}: "
                "expected that model_type. Use the classes of the model's own family, which AutoConfig and "
                "AutoModelForImageTextToText choose."
            )
        for alias, name in self.aliases.items():
            if alias in values:
                other = values.pop(alias)
                values.setdefault(name, other)
        dtype = values.pop("dtype", None)
        for name, key in self.keys.items():
            value = values.pop(name, copy.deepcopy(key.default))
            setattr(self, name, list(value) if isinstance(value, tuple) else value)
        for name, value in values.items():
            setattr(self, name, value)
        self.dtype = self._read_dtype(dtype)
        self._check()

    def _check(self) -> None:
        for name, key in self.keys.items():
            if not key.accepts(getattr(self, name)):
                raise self.wrong(name, getattr(self, name), key.expected)

    def wrong(self, name: str, value: Any, expected: str) -> ConfigError:
        """The error for a key whose value cannot be."""
        return ConfigError(
            f"{name} is {value!r} in the configuration of {self.model_type}: expected {expected}. Correct that key."
        )

    def _read_dtype(self, value: Any) -> torch.dtype | None:
        found = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
        if value is not None and not (isinstance(found, torch.dtype) and found.is_floating_point):
            raise self.wrong("dtype", value, "float32, bfloat16, float16 or null")
        return found

    def __getattr__(self, name: str) -> Any:
        # Only asked for what is no attribute: an alias, or a mistake.
        target = type(self).aliases.get(name)
        if target is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self, target)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(type(self).aliases.get(name, name), value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JsonConfig) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({json.dumps(self.to_dict(), indent=2)})"

    def to_dict(self) -> dict[str, Any]:
        """Everything, nested parts included, as it can be written to JSON."""
        return {"model_type": self.model_type} | {name: _plain(value) for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what a file holds."""
        return cls(**copy.deepcopy(dict(values)))

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **values: Any) -> Self:
        """From ``config.json`` in a local folder or of a hub name; ``values`` replace what the file says."""
        return cls.from_dict({**read_json(resolve(name_or_path, weights=False) / "config.json"), **values})

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json``."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / "config.json", self.to_dict())


def _plain(value: Any) -> Any:
    if isinstance(value, JsonConfig):
        return value.to_dict()
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object, readably."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; a missing or broken file is an error that names it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelNotFoundError(
            f"{path} does not exist: expected it in the folder of a model. Check the path, or copy the file there."
        ) from error
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{path} cannot be read as JSON ({reason}): expected one JSON object. Repair the file or download it again."
        ) from error
    if not isinstance(value, dict):
        raise ConfigError(
            f"{path} holds a JSON {type(value).__name__}: expected an object with keys. "
            "Repair the file or download it again."
        )
    return value
