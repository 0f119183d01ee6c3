"""Clients that ask at random, give up at random and make mistakes; every answer is held against the one given alone."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from http_exchange import Address, Exchange, ask
from soak_media import File
from soak_requests import Mistake, Question

CANCELLED_SHARE = 0.2
BAD_SHARE = 0.1
_LONGEST_WAIT_S = 0.6


@dataclass(kw_only=True)
class Client:
    """What all clients of one soak share."""

    address: Address
    model: str
    files: Sequence[File]
    questions: Sequence[Question]
    mistakes: Sequence[Mistake]
    dice: random.Random
    alone: dict[int, str] = field(default_factory=dict)
    """Answers by the number of the question."""
    done: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    async def answer_alone(self) -> None:
        """Ask each question once, one after the other."""
        for number, question in enumerate(self.questions):
            parts = [self.files[index].part() for index in question.files]
            found = await ask(self.address, question.body(self.model, parts))
            if found.problem is not None:
                raise SystemExit(f"Question {number} was not answered alone: {found.problem}")
            self.alone[number] = found.text

    async def act(self) -> None:
        """Do one thing at random."""
        kinds: dict[str, tuple[float, Callable[[], Awaitable[None]]]] = {
            "bad": (BAD_SHARE, self._make_mistake),
            "cancelled": (CANCELLED_SHARE, self._give_up),
            "asked": (0.44, self._ask),
            "new media": (0.1, self._ask_about_copies),
            "uploaded": (0.08, self._upload_and_ask),
            "inspected": (0.05, self._inspect),
            "looked": (0.03, self._look),
        }
        (name,) = self.dice.choices(list(kinds), [weight for weight, _ in kinds.values()])
        try:
            await kinds[name][1]()
        except (OSError, EOFError, ValueError, LookupError) as error:
            self.problems.append(f"{name}: {type(error).__name__}: {error}")
        self.done[name] += 1

    async def burst(self, count: int) -> None:
        """So many of each kind at once, which make every pool as large as it gets."""
        kinds = (self._ask, self._ask_about_copies, self._upload_and_ask, self._inspect)
        await asyncio.gather(*(kind() for kind in kinds for _ in range(count)))

    async def _ask(self) -> None:
        number = self.dice.randrange(len(self.questions))
        await self._check(number, [self.files[index].part() for index in self.questions[number].files])

    async def _ask_about_copies(self) -> None:
        number = self.dice.choice([n for n, question in enumerate(self.questions) if question.files])
        await self._check(number, [self.files[index].copy(self.dice).part() for index in self.questions[number].files])

    async def _upload_and_ask(self) -> None:
        number = self.dice.choice([n for n, question in enumerate(self.questions) if question.files])
        names = [await self._upload(self.files[index]) for index in self.questions[number].files]
        await self._check(number, [{"type": "file", "file": {"file_id": name}} for name in names])
        for name in names:
            await self._expect(200, "GET", f"/v1/files/{name}")
            await self._expect(200, "DELETE", f"/v1/files/{name}")

    async def _check(self, number: int, parts: list[dict[str, object]]) -> None:
        streams = self.dice.random() < 0.6
        found = await ask(self.address, self.questions[number].body(self.model, parts, stream=streams))
        if found.problem is not None:
            self.problems.append(f"question {number}: {found.problem}")
        elif found.text != self.alone[number]:
            self.problems.append(f"question {number}: {found.text!r} instead of {self.alone[number]!r}")

    async def _give_up(self) -> None:
        """Close the connection at any moment, if the answer was not sooner."""
        try:
            async with asyncio.timeout(self.dice.random() * _LONGEST_WAIT_S):
                await self.dice.choice((self._ask, self._ask_about_copies, self._inspect))()
        except TimeoutError:
            self.done["closed early"] += 1

    async def _make_mistake(self) -> None:
        wrong = self.dice.choice(self.mistakes)
        body = await self._expect(wrong.status, wrong.method, wrong.path, wrong.body)
        error = json.loads(body)["error"]
        if not (error["message"] and error["type"]):
            self.problems.append(f"{wrong.name}: {error}")

    async def _inspect(self) -> None:
        number = self.dice.choice([n for n, question in enumerate(self.questions) if question.files])
        content = [self.files[index].part() for index in self.questions[number].files]
        body = await self._expect(200, "POST", "/v1/inspect", json.dumps({"content": content}).encode())
        if not json.loads(body):
            self.problems.append("inspect: nothing was told")

    async def _look(self) -> None:
        for path in ("/health", "/v1/models", "/metrics"):
            await self._expect(200, "GET", path)

    async def _upload(self, file: File) -> str:
        border = secrets.token_hex(16)
        head = f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
        head += f"Content-Type: {file.media_type}\r\n\r\n"
        body = head.encode() + file.content + f"\r\n--{border}--\r\n".encode()
        kind = f"multipart/form-data; boundary={border}"
        return str(json.loads(await self._expect(200, "POST", "/v1/files", body, content_type=kind))["id"])

    async def _expect(
        self, status: int, method: str, path: str, body: bytes = b"", *, content_type: str = "application/json"
    ) -> bytes:
        async with Exchange(self.address, method, path, body, content_type=content_type) as exchange:
            found = await exchange.body()
        if exchange.status != status:
            told = found[:200].decode(errors="replace")
            raise ValueError(f"{method} {path} gave status {exchange.status} instead of {status}: {told}")
        return found
