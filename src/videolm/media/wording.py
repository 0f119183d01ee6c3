"""Names from outside -> text that keeps a message on one line and free of secrets."""

from __future__ import annotations

from urllib.parse import SplitResult

__all__ = ["printable", "url_name"]

MAX_CHARS = 200


def printable(text: str) -> str:
    """Replace line ends and other control characters, and shorten what is too long for a message."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return shown if len(shown) <= MAX_CHARS else f"{shown[: MAX_CHARS // 2]}…{shown[-MAX_CHARS // 2 :]}"


def url_name(parts: SplitResult) -> str:
    """A URL without user name, query and fragment, which may hold keys."""
    host = parts.netloc.rpartition("@")[2]
    return printable(f"{parts.scheme}://{host}{parts.path}")
