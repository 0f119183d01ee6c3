"""What people write as a conversation, checked and brought into the one form that chat templates expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from videolm.contracts import MediaKind, Message
from videolm.errors import ProcessingError

ROLES = ("system", "user", "assistant")
_MEDIA_KINDS: tuple[MediaKind, ...] = ("image", "video")
_SOURCE_KEYS = ("url", "path", "source")

__all__ = ["ROLES", "MediaPart", "normalise_messages"]


@dataclass(frozen=True, kw_only=True)
class MediaPart:
    """A picture or video mentioned by a message."""

    kind: MediaKind
    source: Any = None
    """What the part names as its source; None for a bare placeholder."""


def normalise_messages(messages: Sequence[Message]) -> tuple[list[dict[str, Any]], list[MediaPart]]:
    """Messages as ``{"role", "content": [parts]}`` with bare parts, and the media they mention, in order.

    Raises:
        ProcessingError: An unknown role or part, a message without text, a medium outside a user's message.
    """
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Sequence):
        raise ProcessingError(
            f"The messages are of type {type(messages).__name__}: expected a list of "
            '{"role": ..., "content": ...}. Put the one message into a list.'
        )
    if not messages:
        raise ProcessingError("There are no messages: at least one question is expected. Add a message of the user.")
    normal, media = [], []
    for index, message in enumerate(messages):
        parts, found = _normalise_message(index, message)
        normal.append({"role": message["role"], "content": parts})
        media += found
    return normal, media


def _normalise_message(index: int, message: Any) -> tuple[list[dict[str, str]], list[MediaPart]]:
    where = f"Message {index + 1}"
    if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
        raise ProcessingError(
            f"{where} is {_short(message)}: expected a mapping with the keys role and content. "
            'Write {"role": "user", "content": "your question"}.'
        )
    role = message["role"]
    if role not in ROLES:
        raise ProcessingError(
            f"{where} has the role {_short(role)}: expected one of {', '.join(ROLES)}. Change its role."
        )
    unknown = sorted(str(key) for key in set(message) - {"role", "content"})
    if unknown:
        raise ProcessingError(
            f"{where} has the key {unknown[0]!r}: expected role and content alone. Remove the key {unknown[0]!r}."
        )
    parts: list[dict[str, str]] = []
    media: list[MediaPart] = []
    for part in _as_parts(where, message["content"]):
        normal = _normalise_part(where, part)
        if isinstance(normal, MediaPart):
            media.append(normal)
            parts.append({"type": normal.kind})
        else:
            parts.append({"type": "text", "text": normal})
    _check_content(where, role, parts, media)
    return parts, media


def _as_parts(where: str, content: Any) -> Sequence[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, Sequence) and not isinstance(content, (bytes, bytearray)):
        return content
    raise ProcessingError(
        f"{where} has content of type {type(content).__name__}: expected a string or a list of parts. "
        'Write {"type": "text", "text": ...}, {"type": "image"} or {"type": "video"} parts.'
    )


def _normalise_part(where: str, part: Any) -> str | MediaPart:
    if isinstance(part, str):
        return _check_text(where, part)
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return _check_text(where, part["text"])
    for media_kind in _MEDIA_KINDS:
        if kind == media_kind:
            sources = [part[key] for key in (media_kind, *_SOURCE_KEYS) if part.get(key) is not None]
            return MediaPart(kind=media_kind, source=sources[0] if sources else None)
    raise ProcessingError(
        f"{where} holds the part {_short(part)}: expected a part of type text, image or video. "
        'Write {"type": "text", "text": ...}, {"type": "image"} or {"type": "video"}.'
    )


def _check_text(where: str, text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ProcessingError(
            f"{where} holds the lone surrogate {text[error.start]!r} at character {error.start}: expected text that "
            "can be written as UTF-8. Remove that character."
        ) from error
    return text


def _check_content(where: str, role: str, parts: list[dict[str, str]], media: list[MediaPart]) -> None:
    if media and role != "user":
        article = "an" if media[0].kind == "image" else "a"
        raise ProcessingError(
            f"{where} ({role}) holds {article} {media[0].kind}: pictures and videos are expected in messages of the "
            "user. Move it there."
        )
    if not any(part.get("text", "").strip() for part in parts):
        what = "The question is empty" if role == "user" else f"{where} ({role}) is empty"
        raise ProcessingError(f"{what}: expected some text in every message. Write it, or leave the message out.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
