"""Text and values in, what may stand on standard output and standard error out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

__all__ = ["one_line", "print_json", "print_warnings"]


def one_line(text: str) -> str:
    """The text on one line, with control characters of a file name or server made visible."""
    joined = " ".join(text.split())
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in joined)


def print_warnings(messages: Iterable[str]) -> None:
    """One line each, on standard error."""
    for message in messages:
        print(one_line(f"videolm: warning: {message}"), file=sys.stderr)


def print_json(value: Any) -> None:
    """One object, alone on standard output."""
    print(json.dumps(value, ensure_ascii=False))
