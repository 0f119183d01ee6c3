"""YAML or JSON values into frozen dataclasses: every key checked, every complaint with the path of its key."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from videolm.errors import ConfigError

Settings = TypeVar("Settings")

__all__ = ["build", "nearest_key", "plain", "read_yaml", "require"]


def build(kind: type[Settings], values: Any, path: str = "") -> Settings:
    """A ``kind`` from a mapping; nested dataclasses, tuples, literals and optional values are built in turn.

    Args:
        path: where ``values`` stands in the file, for messages; empty at the top.
    """
    name = path or "the configuration"
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name} is {_show(values)}, expected a mapping of keys to values. Write 'key: value' lines.")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise ConfigError(_unknown(str(key), name, list(fields)))
    missing = [name for name, field in fields.items() if _is_required(field) and name not in values]
    if missing:
        raise ConfigError(
            f"{name} lacks {', '.join(missing)}, which {'have' if len(missing) > 1 else 'has'} no default. "
            f"Add '{_join(path, missing[0])}' to the configuration."
        )
    hints: dict[str, Any] = typing.get_type_hints(kind)
    converted = {key: _convert(hints[key], value, _join(path, key)) for key, value in values.items()}
    try:
        return kind(**converted)
    except ConfigError as error:
        where = f"{path}: " if path else ""
        raise ConfigError(f"{where}{error}") from None


class _EachKeyOnce(yaml.SafeLoader):
    """YAML would take the last of several values for one key, and say nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            line = node.start_mark.line + 1
            raise ConfigError(
                f"The key '{twice}' stands twice in the mapping at line {line}, expected each key once. Remove one."
            )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """What a YAML file holds."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_EachKeyOnce)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"The configuration {path} cannot be read ({reason}), expected a YAML file. Check the path."
        ) from None
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"{path} is not valid YAML: {text}. Expected 'key: value' lines; correct them.") from None


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """ConfigError unless a value is as it should be; ``build`` puts the path of its mapping before the message."""
    if not holds:
        raise ConfigError(f"{name} is {value}, expected {expected}. Correct its value.")


def plain(value: Any) -> Any:
    """The dictionaries, lists and scalars that ``build`` would make ``value`` from."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def nearest_key(key: str, known: list[str]) -> str | None:
    """The known key that looks most like ``key``."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return close[0] if close else None


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _show(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _unknown(key: str, name: str, known: list[str]) -> str:
    nearest = nearest_key(key, known)
    return (
        f"Unknown key '{key}' in {name}, expected one of {', '.join(sorted(known))}. "
        f"Did you mean '{nearest}'? Rename or remove it."
    )


def _wrong(path: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(f"{path} is {_show(value)}, expected {expected}. Correct its value.")


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        inner = [option for option in typing.get_args(hint) if option is not type(None)]
        return None if value is None else _convert(inner[0], value, path)
    if origin is Literal:
        options = typing.get_args(hint)
        if value in options and not isinstance(value, bool):
            return value
        raise _wrong(path, value, f"one of {', '.join(map(str, options))}")
    if origin is tuple:
        return _convert_sequence(typing.get_args(hint), value, path)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast("type[Any]", hint), value, path)
    if hint in _SCALARS:
        return _convert_scalar(hint, value, path)
    if not isinstance(value, Mapping):
        raise _wrong(path, value, "a mapping of keys to values")
    return dict(value)


def _convert_sequence(inner: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _wrong(path, value, "a list")
    if inner[-1] is Ellipsis:
        return tuple(_convert(inner[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if len(inner) != len(value):
        raise _wrong(path, value, f"a list of {len(inner)} values")
    return tuple(_convert(hint, item, f"{path}[{i}]") for i, (hint, item) in enumerate(zip(inner, value, strict=True)))


_SCALARS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _convert_scalar(hint: Any, value: Any, path: str) -> Any:
    if hint is float:
        number = _as_float(value)
        if number is not None:
            return number
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise _wrong(path, value, _SCALARS[hint])


def _as_float(value: Any) -> float | None:
    """A number; YAML 1.1 reads ``1e-3`` as text, which people mean as a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None
