"""Key rules: anchored, longest prefix first, invertible, detected by their marks."""

from __future__ import annotations

import pytest

from videolm.errors import CheckpointError
from videolm.weights.keymap import KeyLayout, KeyRule, detect_layout

NEW = KeyLayout(name="new", marks=("model.inner.",), rules=(KeyRule(file="", module=""),))
OLD = KeyLayout(
    name="old",
    marks=("model.layers.",),
    rules=(
        KeyRule(file="model.", module="model.inner."),
        KeyRule(file="model.proj.0.", module="model.linear."),
        KeyRule(file="head.", module="head."),
    ),
    ignored=(r".*\.position_ids",),
)


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("model.layers.0.weight", "model.inner.layers.0.weight"),
        ("model.proj.0.weight", "model.linear.weight"),
        ("head.weight", "head.weight"),
    ],
)
def test_a_rename_and_its_inverse(file: str, module: str) -> None:
    assert (OLD.to_module(file), OLD.to_file(module)) == (module, file)


def test_a_prefix_in_the_middle_of_a_name_is_left_alone() -> None:
    assert OLD.to_module("head.model.proj.0.weight") == "head.model.proj.0.weight"


def test_a_name_that_no_rule_fits() -> None:
    assert OLD.to_module("visual.weight") is None
    with pytest.raises(CheckpointError, match="The parameter visual has no name in the layout old"):
        OLD.to_file("visual")


def test_ignored_names_match_whole() -> None:
    assert OLD.is_ignored("model.position_ids")
    assert not OLD.is_ignored("model.position_ids.weight")


def test_layouts_are_told_apart_by_their_marks() -> None:
    assert detect_layout(["head.weight", "model.layers.0.weight"], (NEW, OLD)) is OLD
    assert detect_layout(["head.weight", "model.inner.norm"], (NEW, OLD)) is NEW


def test_an_unknown_layout_names_the_known_ones() -> None:
    with pytest.raises(CheckpointError) as caught:
        detect_layout(["encoder.weight"], (NEW, OLD))
    assert str(caught.value) == (
        "The weights hold 1 tensors of no known layout, the first: encoder.weight. Expected names of one of: "
        "new (model.inner.); old (model.layers.). Check that the weights belong to the config.json beside them."
    )
