"""What the soak asks: questions about all kinds of media, and mistakes with the status that each deserves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from http_exchange import CHAT
from soak_media import File

QUESTIONS = ("What moves?", "Which colour is the shape?", "Describe this.", "How many shapes are there?")
MAX_TOKENS = 24


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about some files, greedy."""

    text: str
    files: tuple[int, ...] = ()
    """Their numbers."""
    num_frames: int | None = None
    before: tuple[str, str] | None = None
    """An earlier question and its answer."""

    def body(self, model: str, parts: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """The request, with a part of a message for each file."""
        earlier: list[dict[str, Any]] = []
        if self.before is not None:
            first = [*parts, {"type": "text", "text": self.before[0]}]
            earlier = [{"role": "user", "content": first}, {"role": "assistant", "content": self.before[1]}]
            parts = ()
        content = [*parts, {"type": "text", "text": self.text}]
        body = {"model": model, "messages": [*earlier, {"role": "user", "content": content}], "max_tokens": MAX_TOKENS}
        return body | ({} if self.num_frames is None else {"num_frames": self.num_frames}) | more


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A request that is to be refused."""

    name: str
    status: int
    method: str = "POST"
    path: str = CHAT
    body: bytes = b""


def make_questions(files: Sequence[File]) -> list[Question]:
    """Text alone, one medium, several, and follow-ups."""
    questions = [Question(text=f"Say something about the number {number}.") for number in range(6)]
    for index, file in enumerate(files):
        questions += [Question(text=text, files=(index,)) for text in QUESTIONS[index % 2 :: 2]]
        if file.kind == "video":
            questions.append(Question(text=QUESTIONS[0], files=(index,), num_frames=1 + index % 3))
            before = (QUESTIONS[2], "A shape.")
            questions.append(Question(text=QUESTIONS[1], files=(index,), before=before))
    last = len(files) - 1
    questions += [Question(text=f"What do {index} and {last} share?", files=(index, last)) for index in range(3)]
    questions.append(Question(text="Compare these.", files=(0, 1, last)))
    return questions


def make_mistakes(model: str, files: Sequence[File]) -> list[Mistake]:
    """One of each kind."""
    plain = Question(text="What is it?").body(model, [])

    def about(kind: str, url: str) -> bytes:
        part = {"type": f"{kind}_url", f"{kind}_url": {"url": url}}
        return json.dumps(Question(text="What is it?").body(model, [part])).encode()

    half = File(kind="video", content=files[0].content[: len(files[0].content) // 2]).part()
    other = json.dumps(plain | {"model": "another"}).encode()
    return [
        Mistake(name="no JSON", status=400, body=b'{"model": '),
        Mistake(name="not UTF-8", status=400, body=b'{"model": "\xff"}'),
        Mistake(name="unknown field", status=400, body=json.dumps(plain | {"tools": []}).encode()),
        Mistake(name="negative number", status=400, body=json.dumps(plain | {"max_tokens": -1}).encode()),
        Mistake(name="no messages", status=400, body=json.dumps({"model": model}).encode()),
        Mistake(name="other model", status=404, body=other),
        Mistake(name="bad base64", status=400, body=about("video", "data:video/mp4;base64,!!!")),
        Mistake(name="no video", status=400, body=about("video", "data:video/mp4;base64,bm90aGluZw==")),
        Mistake(name="half a video", status=400, body=json.dumps(Question(text="?").body(model, [half])).encode()),
        Mistake(name="private host", status=400, body=about("image", "http://127.0.0.1:9/a.png")),
        Mistake(name="local file", status=400, body=about("image", "file:///etc/hostname")),
        Mistake(name="too long", status=400, body=json.dumps(Question(text="a " * 60_000).body(model, [])).encode()),
        Mistake(name="no such file", status=404, method="GET", path="/v1/files/file-0"),
        Mistake(name="no such path", status=404, method="GET", path="/v1/nothing"),
        Mistake(name="other method", status=405, method="GET"),
    ]
