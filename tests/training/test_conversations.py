"""Data files in the spellings people have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from videolm.errors import ConfigError, ProcessingError
from videolm.training.conversations import ConversationFile, parse_record

LLAVA = {
    "id": "7",
    "video": "clips/a.mp4",
    "conversations": [{"from": "human", "value": "<image>\nWhat moves?"}, {"from": "gpt", "value": "A ball."}],
}


def user(*content: dict[str, str]) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


VIDEO, IMAGE = {"type": "video"}, {"type": "image"}
ANSWER = {"role": "assistant", "content": [text("A ball.")]}


@pytest.mark.parametrize(
    ("record", "media", "first"),
    [
        (LLAVA, ["clips/a.mp4"], user(VIDEO, text("What moves?"))),
        (
            {"video": "a.mp4", "conversations": [{"from": "human", "value": "What moves?"}, LLAVA["conversations"][1]]},
            ["a.mp4"],
            user(VIDEO, text("What moves?")),
        ),
        (
            {
                "images": ["a.png", "b.png"],
                "messages": [
                    {"role": "user", "content": "<image> or <image>?"},
                    {"role": "assistant", "content": "A ball."},
                ],
            },
            ["a.png", "b.png"],
            user(IMAGE, text(" or "), IMAGE, text("?")),
        ),
        (
            {
                "videos": ["a.mp4"],
                "messages": [
                    {"from": "user", "value": "<video>Look."},
                    {"from": "bot", "value": "A ball."},
                ],
            },
            ["a.mp4"],
            user(VIDEO, text("Look.")),
        ),
    ],
    ids=["llava", "no mark", "two pictures in messages", "videos key"],
)
def test_spellings(record: dict[str, Any], media: list[str], first: dict[str, Any]) -> None:
    sample = parse_record(record, name="0", media_root=Path("root"))
    assert sample.media == tuple(str(Path("root") / name) for name in media)
    assert sample.messages == (first, ANSWER)


def test_urls_and_absolute_paths_stay() -> None:
    record = {**LLAVA, "video": ["https://host/a.mp4", "/data/b.mp4"]}
    record["conversations"] = [{"from": "human", "value": "Compare."}, LLAVA["conversations"][1]]
    assert parse_record(record, name="0", media_root=Path("root")).media == ("https://host/a.mp4", "/data/b.mp4")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "Record 3 is a list"),
        ({"id": "x"}, "Record x has no turns"),
        ({**LLAVA, "video": ["a", "b"]}, "Record 7 names 2 media and its text has 1 marks"),
        ({"id": "x", "conversations": [{"from": "dog", "value": "wuff"}]}, "A turn of record x is from 'dog'"),
        ({"id": "x", "conversations": [{"from": "human", "value": 3}]}, "with int text"),
    ],
)
def test_a_wrong_record_says_what_is_wrong(record: Any, message: str) -> None:
    with pytest.raises(ProcessingError, match=message):
        parse_record(record, name="3", media_root=Path())


RECORDS = [{**LLAVA, "id": name} for name in ("ä", "b ]}", "c")]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(RECORDS),
        json.dumps(RECORDS, ensure_ascii=False, indent=2) + "\n",
        "\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS),
        "\n\n".join(json.dumps(record) for record in RECORDS) + "\n\n",
    ],
    ids=["list", "indented list", "lines", "lines with gaps"],
)
def test_records_of_lists_and_lines_are_found(content: str, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(content, encoding="utf-8")
    file = ConversationFile(tmp_path / "data.json")
    assert [file.record(index) for index in range(len(file))] == RECORDS
    assert file.sample(2).media == (str(tmp_path / "clips/a.mp4"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [("[{}, {", "is not valid JSON after record 1"), ("", "holds no records"), ("[]", "holds no records")],
)
def test_a_broken_file_is_a_mistake_in_the_configuration(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        ConversationFile(tmp_path / "data.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.json cannot be read"):
        ConversationFile(tmp_path / "missing.json")
