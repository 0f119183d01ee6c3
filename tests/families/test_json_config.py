"""Configurations as objects: defaults, checks, other spellings, unknown keys."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from videolm.errors import ConfigError, ModelNotFoundError
from videolm.families.json_config import JsonConfig, Key, flag, number, optional, whole, word


class Small(JsonConfig):
    model_type = "small"
    keys: ClassVar[dict[str, Key]] = {
        "size": whole(4),
        "scale": number(0.5),
        "mode": word("fast", ("fast", "slow")),
        "deep": flag(False),
        "limit": optional(whole(1)),
    }
    aliases: ClassVar[dict[str, str]] = JsonConfig.aliases | {"width": "size"}


def test_defaults() -> None:
    assert Small().to_dict() == {
        "model_type": "small",
        "size": 4,
        "scale": 0.5,
        "mode": "fast",
        "deep": False,
        "limit": None,
        "dtype": None,
    }


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("size", 0, "a whole number, at least 1"),
        ("size", 2.0, "a whole number, at least 1"),
        ("size", True, "a whole number, at least 1"),
        ("size", "4", "a whole number, at least 1"),
        ("scale", -1, "a positive number"),
        ("mode", "medium", "one of fast, slow"),
        ("deep", 1, "true or false"),
        ("limit", 0, "a whole number, at least 1, or null"),
        ("dtype", "float7", "float32, bfloat16, float16 or null"),
        ("dtype", 3, "float32, bfloat16, float16 or null"),
    ],
)
def test_a_wrong_value_names_its_key(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Small(**{name: value})
    assert str(caught.value) == (
        f"{name} is {value!r} in the configuration of small: expected {expected}. Correct that key."
    )


def test_unknown_keys_are_kept() -> None:
    config = Small(colour="red")
    assert (config.colour, config.to_dict()["colour"]) == ("red", "red")


def test_an_alias_reads_writes_and_constructs() -> None:
    config = Small(width=7)
    assert (config.size, config.width) == (7, 7)
    config.width = 8
    assert config.size == 8
    assert "width" not in config.to_dict()


@pytest.mark.parametrize("value", ["bfloat16", "torch.bfloat16", torch.bfloat16])
@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_dtypes_in_every_spelling(name: str, value: Any) -> None:
    config = Small(**{name: value})
    assert (config.dtype, config.torch_dtype, config.to_dict()["dtype"]) == (torch.bfloat16, torch.bfloat16, "bfloat16")


def test_a_missing_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Small has no attribute 'nothing'"):
        _ = Small().nothing


def test_configurations_compare_copy_and_travel() -> None:
    config = Small(size=3, extra=[1])
    assert copy.deepcopy(config) == config == pickle.loads(pickle.dumps(config))
    assert config != Small()


def test_saved_and_read_again(tmp_path: Path) -> None:
    config = Small(size=3, dtype="float16", extra={"a": [1, 2]})
    config.save_pretrained(tmp_path / "new")
    assert Small.from_pretrained(tmp_path / "new") == config
    assert Small.from_pretrained(tmp_path / "new", size=9).size == 9
    assert json.loads((tmp_path / "new" / "config.json").read_text())["extra"] == {"a": [1, 2]}


def test_a_dict_given_is_not_shared() -> None:
    values = {"extra": [1]}
    config = Small.from_dict(values)
    config.extra.append(2)
    assert values == {"extra": [1]}


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"config\.json does not exist"):
        Small.from_pretrained(tmp_path)
