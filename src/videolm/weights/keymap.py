"""Names of tensors in files in, names of parameters out, and back: anchored prefix renames, grouped into layouts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from videolm.errors import CheckpointError

__all__ = ["KeyLayout", "KeyRule", "detect_layout"]


@dataclass(frozen=True, kw_only=True)
class KeyRule:
    """One rename, anchored at the start of the name."""

    file: str
    """What a name in the file starts with."""
    module: str
    """What takes its place in the model."""


@dataclass(frozen=True, kw_only=True)
class KeyLayout:
    """How one kind of checkpoint names its tensors."""

    name: str
    marks: tuple[str, ...]
    """The layout is this one when a name in the file starts with one of these."""
    rules: tuple[KeyRule, ...]
    """Of several that fit, the longest prefix applies. A name that none fits is unexpected."""
    ignored: tuple[str, ...] = ()
    """Patterns, matched against the whole name in the file, of tensors that the model computes or never uses."""
    cannot_hold: tuple[str, ...] = ()
    """Patterns, matched against the whole name of a parameter, of those that other readers of such files leave out."""

    def to_module(self, key: str) -> str | None:
        """The parameter that a name in the file stands for; None when no rule fits."""
        rule = _longest(self.rules, key, "file")
        return None if rule is None else rule.module + key[len(rule.file) :]

    def to_file(self, key: str) -> str:
        """The name that a parameter has in the file."""
        rule = _longest(self.rules, key, "module")
        if rule is None:
            raise CheckpointError(
                f"The parameter {key} has no name in the layout {self.name}: expected one that starts with "
                f"{', '.join(sorted(rule.module for rule in self.rules))}. Save in another layout."
            )
        return rule.file + key[len(rule.module) :]

    def left_out(self, keys: Iterable[str]) -> list[str]:
        """Of these parameters those that other readers of this layout would leave out."""
        return [key for key in keys if any(re.fullmatch(pattern, key) for pattern in self.cannot_hold)]

    def is_ignored(self, key: str) -> bool:
        """Whether a rule allows this name in the file to have no parameter."""
        return any(re.fullmatch(pattern, key) for pattern in self.ignored)


def _longest(rules: Sequence[KeyRule], key: str, side: str) -> KeyRule | None:
    fitting = [rule for rule in rules if key.startswith(getattr(rule, side))]
    return max(fitting, key=lambda rule: len(getattr(rule, side)), default=None)


def detect_layout(keys: Iterable[str], layouts: Sequence[KeyLayout]) -> KeyLayout:
    """The first layout of which the keys bear a mark."""
    keys = tuple(keys)
    for layout in layouts:
        if any(key.startswith(layout.marks) for key in keys):
            return layout
    known = "; ".join(f"{layout.name} ({', '.join(layout.marks)})" for layout in layouts)
    sample = ", ".join(keys[:3]) or "nothing"
    raise CheckpointError(
        f"The weights hold {len(keys)} tensors of no known layout, the first: {sample}. Expected names of one of: "
        f"{known}. Check that the weights belong to the config.json beside them."
    )
