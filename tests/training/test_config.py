"""Configuration files: what is accepted, and what each mistake says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from videolm.errors import ConfigError
from videolm.training.config import DataConfig, PartConfig, TrainConfig, load_train_config
from videolm.training.schema import build, plain

MakeConfig = Callable[..., Path]

SMALLEST: dict[str, Any] = {
    "output_dir": "runs/a",
    "model": {"path": "some/model"},
    "data": [{"name": "a", "json": "a.jsonl"}],
    "steps": 10,
    "batch": {"max_tokens": 4096},
    "parts": {"projector": {"train": True, "lr": "1e-3"}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The smallest configuration with one key set."""
    values: dict[str, Any] = yaml.safe_load(yaml.safe_dump(SMALLEST))
    *parents, last = path.split(".")
    inner = values
    for key in parents:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return values


def test_the_smallest_configuration() -> None:
    config = build(TrainConfig, SMALLEST)
    assert config.data == (DataConfig(name="a", json="a.jsonl"),)
    assert config.parts.projector == PartConfig(train=True, lr=1e-3)
    assert not config.parts.vision.train
    assert config.optimizer.betas == (0.9, 0.999)


def test_plain_is_the_inverse_of_build() -> None:
    config = build(TrainConfig, SMALLEST)
    assert build(TrainConfig, plain(config)) == config


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("step", 3, "Unknown key 'step' in the configuration, .* Did you mean 'steps'"),
        ("optimizer.warmup_step", 3, "Unknown key 'warmup_step' in optimizer, .* Did you mean 'warmup_steps'"),
        ("parts.vison", {}, "Unknown key 'vison' in parts, .* Did you mean 'vision'"),
        ("steps", "many", r"steps is 'many' \(str\), expected a whole number"),
        ("steps", 2.5, r"steps is 2.5 \(float\), expected a whole number"),
        ("steps", True, r"steps is True \(bool\), expected a whole number"),
        ("steps", 0, "steps is 0, expected at least 1"),
        ("parts.projector.lr", "fast", r"parts.projector.lr is 'fast' \(str\), expected a number"),
        ("parts.projector.lr", -1, "parts.projector: lr is -1.0, expected a number above 0"),
        ("parts.projector.lr", None, "parts.projector: train is true without lr"),
        ("parts.projector.train", "yes please", "expected true or false"),
        ("parts.projector.train", False, "parts: no part trains"),
        ("optimizer", {"name": "sgd"}, r"optimizer.name is 'sgd' \(str\), expected one of adamw, muon"),
        ("optimizer", {"betas": [0.9]}, "optimizer.betas is .* expected a list of 2 values"),
        ("optimizer", {"betas": [0.9, "x"]}, r"optimizer.betas\[1\] is 'x' \(str\), expected a number"),
        ("optimizer", {"warmup_steps": 1, "warmup_ratio": 0.1}, "expected at most one"),
        ("optimizer", 3, r"optimizer is 3 \(int\), expected a mapping"),
        ("model", {"path": "a", "config": "b"}, "model: a model has path=a and config=b, expected exactly one"),
        ("model", {"path": "a", "position_init": "sincos"}, "model: processor and position_init are only read with"),
        ("data", {}, r"data is .* expected a list"),
        ("data", [], "data is an empty list"),
        ("data", [{"source": "a:b"}], r"data\[0\] lacks name, which has no default. Add 'data\[0\].name'"),
        ("data", [{"name": "a", "source": "module"}], "expected 'package.module:callable'"),
        ("data", [{"name": "a"}], "'a' has source=None and json=None, expected exactly one"),
        ("data", [{"name": "a", "json": "x", "options": {"b": 1}}], "mixes keys of both kinds"),
        ("data", [{"name": "a", "json": "x"}, {"name": "a", "json": "y"}], "a different name for each source"),
        ("batch", {}, "batch: neither max_tokens nor samples_per_step"),
        ("checkpoint", {"keep": 0}, "checkpoint: keep is 0, expected at least 1"),
        ("frames", {"num_frames": 0}, "frames: "),
        ("model_ema", 1.0, "model_ema is 1.0, expected between 0 and 1"),
    ],
)
def test_a_mistake_is_named_with_its_key(path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build(TrainConfig, changed(path, value))
    assert "\n" not in str(caught.value)


def test_accumulation_belongs_to_one_way_of_making_steps() -> None:
    values = changed("batch.samples_per_step", 8) | {"gradient_accumulation": 2}
    with pytest.raises(ConfigError, match="Remove gradient_accumulation"):
        build(TrainConfig, values)
    values["batch"] = {"samples_per_step": 8}
    assert build(TrainConfig, values).gradient_accumulation == 2


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "twice.yaml").write_text("steps: 1\nbatch: {samples_per_step: 2}\nsteps: 3\n")
    with pytest.raises(
        ConfigError, match="The key 'steps' stands twice in the mapping at line 1, expected each key once"
    ):
        load_train_config(tmp_path / "twice.yaml")


def test_a_missing_file_and_broken_yaml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml cannot be read \(No such file or directory\), expected"):
        load_train_config(tmp_path / "missing.yaml")
    (tmp_path / "broken.yaml").write_text("steps: [1,\nbatch: 3")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_train_config(tmp_path / "broken.yaml")
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(ConfigError, match="the configuration is None"):
        load_train_config(tmp_path / "empty.yaml")
