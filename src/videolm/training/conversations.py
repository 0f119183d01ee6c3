"""Conversations about media in a JSON or JSONL file, in the spellings people have: read one record at a time."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videolm.contracts import Message
from videolm.errors import ConfigError, ProcessingError
from videolm.training.samples import TrainingSample

ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "system": "system",
}
MARK = re.compile(r"\n?<(image|video)>\n?")
MEDIA_KEYS = {"image": "image", "images": "image", "video": "video", "videos": "video"}

__all__ = ["ConversationFile", "parse_record"]


class ConversationFile:
    """Records of a JSON list or of JSON lines; only their places are kept in memory."""

    def __init__(self, path: str | Path, *, media_root: str | Path | None = None) -> None:
        self.path = Path(path).expanduser()
        self.media_root = Path(media_root).expanduser() if media_root is not None else self.path.parent
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"The data file {self.path} cannot be read ({error.strerror}), expected a JSON or JSONL file. "
                "Check the path."
            ) from None
        self._starts, self._ends = _find_records(data, self.path)

    def __len__(self) -> int:
        return len(self._starts)

    def record(self, index: int) -> Any:
        """The record as the file has it."""
        with self.path.open("rb") as file:
            file.seek(self._starts[index])
            return json.loads(file.read(self._ends[index] - self._starts[index]))

    def sample(self, index: int) -> TrainingSample:
        """The record as a sample; media paths are joined to the media folder."""
        return parse_record(self.record(index), name=str(index), media_root=self.media_root)


def _find_records(data: bytes, path: Path) -> tuple[array[int], array[int]]:
    starts, ends = array("q"), array("q")
    if data.lstrip()[:1] == b"[":
        # In Latin-1 a character is a byte, so positions in the text are positions in the file.
        text, decoder = data.decode("latin-1"), json.JSONDecoder()
        skip = re.compile(r"[\s,]*")
        match = skip.match(text, text.index("[") + 1)
        try:
            while match is not None and text[match.end()] != "]":
                _, end = decoder.raw_decode(text, match.end())
                starts.append(match.end())
                ends.append(end)
                match = skip.match(text, end)
        except (ValueError, IndexError):
            raise ConfigError(
                f"{path} is not valid JSON after record {len(starts)}, expected a list of records. Correct the file."
            ) from None
    else:
        position = 0
        for line in data.splitlines(keepends=True):
            if line.strip():
                starts.append(position)
                ends.append(position + len(line))
            position += len(line)
    if not starts:
        raise ConfigError(f"The data file {path} holds no records, expected at least one. Check the path.")
    return starts, ends


def parse_record(record: Any, *, name: str, media_root: Path) -> TrainingSample:
    """A sample from ``{id, image|video, conversations: [{from, value}]}`` or ``{images|videos, messages}``.

    ``<image>`` and ``<video>`` in a text stand where a medium goes; without any, the media come first. A mark only says
    where: whether it is a picture or a video says the key that names the file.
    """
    if not isinstance(record, Mapping):
        raise ProcessingError(f"Record {name} is a {type(record).__name__}, expected a JSON object. Correct the file.")
    identifier = str(record.get("id", name))
    turns = record.get("conversations", record.get("messages"))
    if not isinstance(turns, list) or not turns:
        raise ProcessingError(
            f"Record {identifier} has no turns under 'conversations' or 'messages', expected a list of them. "
            "Correct the file."
        )
    kinds, media = _named_media(record, media_root)
    messages = [_read_turn(turn, identifier) for turn in turns]
    num_marks = sum(len(MARK.findall(text)) for _, text in messages)
    if num_marks not in (0, len(media)):
        raise ProcessingError(
            f"Record {identifier} names {len(media)} media and its text has {num_marks} marks, expected as many marks "
            "as media, or none. Correct the file."
        )
    queue = list(kinds)
    if num_marks == 0 and queue:
        first = next((i for i, (role, _) in enumerate(messages) if role == "user"), 0)
        messages[first] = (messages[first][0], "<image>" * len(queue) + messages[first][1])
    placed = tuple(_place_marks(role, text, queue) for role, text in messages)
    return TrainingSample(id=identifier, media=media, messages=placed)


def _named_media(record: Mapping[str, Any], media_root: Path) -> tuple[list[str], tuple[str, ...]]:
    kinds: list[str] = []
    media: list[str] = []
    for key, kind in MEDIA_KEYS.items():
        value = record.get(key)
        for item in [] if value is None else value if isinstance(value, list) else [value]:
            kinds.append(kind)
            text = str(item)
            media.append(text if "://" in text or text.startswith("data:") else str(media_root / text))
    return kinds, tuple(media)


def _read_turn(turn: Any, identifier: str) -> tuple[str, str]:
    speaker = turn.get("from", turn.get("role")) if isinstance(turn, Mapping) else None
    text = turn.get("value", turn.get("content")) if isinstance(turn, Mapping) else None
    if speaker not in ROLES or not isinstance(text, str):
        raise ProcessingError(
            f"A turn of record {identifier} is from {speaker!r} with {type(text).__name__} text, expected "
            f"{{from, value}} or {{role, content}} with one of {', '.join(ROLES)}. Correct the file."
        )
    return ROLES[speaker], text


def _place_marks(role: str, text: str, queue: list[str]) -> Message:
    content: list[dict[str, str]] = []
    position = 0
    for match in MARK.finditer(text):
        content.append({"type": "text", "text": text[position : match.start()]})
        content.append({"type": queue.pop(0)})
        position = match.end()
    content.append({"type": "text", "text": text[position:]})
    return {"role": role, "content": [item for item in content if item["type"] != "text" or item["text"]]}
