"""What the row about the server asks: how many clients ask how many questions about how many clips and pictures."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from clips import Clip, make_clip
from PIL import Image

Workload = Literal["same", "distinct"]
AIMS: dict[Workload, float] = {"same": 3.0, "distinct": 1.5}
_BEFORE = 1_000_000
"""Number of the first question that is asked before the others."""
NUM_CLIPS, NUM_PICTURES = 4, 2
"""Of the workload that asks about the same ones again and again."""
_KINDS = ("video", "video", "image", "video", "video", "text", "video", "video")
"""In turn."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """One load."""

    num_clients: int
    num_requests: int


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One model and what it is asked."""

    kind: str
    """As ``engine_model`` calls it."""
    dtype: str
    levels: tuple[Level, ...]
    open_requests: int
    """Of the load in which nobody waits for an answer; 0 for none."""
    clip: Clip
    picture: tuple[int, int]
    """Width and height, in pixels."""
    num_frames: int
    num_new: int


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request."""

    kind: str
    text: str
    path: Path | None
    num_frames: int
    num_new: int

    def ours(self, model: str) -> dict[str, Any]:
        """As our server takes it."""
        frames = {"num_frames": self.num_frames} if self.kind == "video" else {}
        return {"model": model, **self._body("file://"), **frames}

    def peers(self, model: str) -> dict[str, Any]:
        """As the peer's server takes it."""
        frames = {"chat_template_kwargs": {"num_frames": self.num_frames}} if self.kind == "video" else {}
        return {"model": model, **self._body(""), **frames}

    def _body(self, scheme: str) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": self.text}]
        if self.path is not None:
            name = f"{self.kind}_url"
            content.insert(0, {"type": name, name: {"url": f"{scheme}{self.path}"}})
        message = {"role": "user", "content": content}
        return {"messages": [message], "max_tokens": self.num_new, "temperature": 0, "stream": True}


_TINY = Clip(duration_s=1, height=96, width=128, bit_rate=150_000)
_SHORT = Clip(duration_s=1, height=360, width=640, bit_rate=600_000)
SMALL = Weights(
    kind="small", dtype="float32", clip=_TINY, picture=(160, 120), num_frames=4, num_new=16, open_requests=64,
    levels=(
        Level(num_clients=1, num_requests=16), Level(num_clients=8, num_requests=32),
        Level(num_clients=32, num_requests=64), Level(num_clients=128, num_requests=256),
    ),
)  # fmt: skip
MID = Weights(
    kind="mid", dtype="bfloat16", clip=_SHORT, picture=(600, 300), num_frames=2, num_new=16, open_requests=0,
    levels=(
        Level(num_clients=1, num_requests=4), Level(num_clients=8, num_requests=8),
        Level(num_clients=32, num_requests=32),
    ),
)  # fmt: skip
QUICK = replace(
    SMALL, num_frames=2, num_new=4, open_requests=6,
    levels=(Level(num_clients=1, num_requests=3), Level(num_clients=4, num_requests=8)),
)  # fmt: skip


def requests_of(weights: Weights, workload: Workload, count: int, *, first: int, cache: Path) -> list[Asked]:
    """So many requests, of all kinds in turn.

    Args:
        first: The number of the first one; media and questions of other numbers are others.
    """
    asked = []
    for number in range(first, first + count):
        kind = _KINDS[number % len(_KINDS)]
        most = {"video": NUM_CLIPS, "image": NUM_PICTURES, "text": 1}[kind]
        medium = number if workload == "distinct" else number % most
        path = {"video": _clip, "image": _picture, "text": _none}[kind](weights, workload, medium, cache)
        asked.append(
            Asked(
                kind=kind, text=f"Question {number}: what is there to see?", path=path,
                num_frames=weights.num_frames, num_new=weights.num_new,
            )
        )  # fmt: skip
    random.Random(first).shuffle(asked)
    return asked


def one_about_each(weights: Weights, *, cache: Path) -> list[Asked]:
    """A question of its own about each medium of the workload that asks about the same ones again and again."""
    many = requests_of(weights, "same", len(_KINDS) * NUM_CLIPS, first=_BEFORE, cache=cache)
    return list({asked.path: asked for asked in many if asked.path is not None}.values())


def arrivals_s(count: int, per_s: float) -> list[float]:
    """Times of a Poisson process."""
    dice, now_s, times = random.Random(count), 0.0, list[float]()
    for _ in range(count):
        times.append(now_s)
        now_s += dice.expovariate(per_s)
    return times


def setting_of(weights: Weights) -> str:
    """What was asked, in words."""
    width, height = weights.picture
    return (
        f"Of 8 requests 6 are about a clip ({weights.num_frames} frames of {weights.clip.description}), 1 about a "
        f"picture of {width}x{height} and 1 about neither; {weights.num_new} new tokens, {weights.dtype}."
    )


def _clip(weights: Weights, workload: Workload, number: int, cache: Path) -> Path:
    seed = number + 1 + (1000 if workload == "distinct" else 0)
    return make_clip(replace(weights.clip, seed=seed), cache)


def _picture(weights: Weights, workload: Workload, number: int, cache: Path) -> Path:
    width, height = weights.picture
    path = cache / f"picture_{width}x{height}_{workload}_{number}.png"
    if not path.exists():
        dice = random.Random(f"{workload} {number}")
        small = Image.frombytes("RGB", (8, 6), dice.randbytes(144))
        small.resize(weights.picture, Image.Resampling.BICUBIC).save(path)
    return path


def _none(*_: object) -> None:
    return None
