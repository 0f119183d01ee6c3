"""Our side of the rows about the engine, and what both sides are given: prompts, pixels, a check of equal ids."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from engine_model import model_folder
from engine_plan import EnginePlan
from peers import THREADS, Peer

from videolm.contracts import ModelInputs, VisualInput
from videolm.engine.config import EngineConfig
from videolm.engine.engine import Engine
from videolm.engine.request import Request
from videolm.families import auto
from videolm.generation.params import SamplingParams
from videolm.weights.quantize import WeightQuantization

FIRST_ID, VIDEO_ID = 5, 3


class Ours:
    """A model with an engine."""

    def __init__(
        self,
        folder: Path,
        *,
        quantize: str | WeightQuantization | None = None,
        dtype: str = "bfloat16",
        config: EngineConfig | None = None,
    ) -> None:
        torch.set_num_threads(THREADS)
        self.model = auto.load_model(folder, device=torch.device("cpu"), dtype=getattr(torch, dtype), quantize=quantize)
        config = config or EngineConfig(max_batch_tokens=8192, reuses_prefixes=False, cache_bytes=3 << 30)
        self.engine = Engine(self.model, auto.load_processor(folder), config)
        self._count = 0

    def generate(
        self, inputs: ModelInputs, num_new: int, media_keys: tuple[str, ...] | None = None
    ) -> tuple[list[int], list[float]]:
        """Greedy ids, and the seconds from the call to each of them."""
        return self.answer(Request(id=self.new_id(), inputs=inputs, params=greedy(num_new), media_keys=media_keys))

    def answer(self, request: Request) -> tuple[list[int], list[float]]:
        """Ids, and the seconds from the call to each of them; reading the request's media counts."""
        start, times = time.perf_counter(), list[float]()
        self.engine.add(request)
        ids: tuple[int, ...] = ()
        while self.engine.has_requests:
            for output in self.engine.step():
                if output.error is not None:
                    raise output.error
                times += [time.perf_counter() - start] * (len(output.output_ids) - len(ids))
                ids = output.output_ids
        return list(ids), times

    def new_id(self) -> str:
        """A name that no other request has."""
        self._count += 1
        return str(self._count)


def greedy(num_new: int) -> SamplingParams:
    """Exactly so many tokens, each the likeliest."""
    return SamplingParams(max_new_tokens=num_new, min_new_tokens=num_new)


def setting_text(plan: EnginePlan) -> str:
    """What every row's setting begins with."""
    shape = (
        "CLIP-L/14-336 tower of 24 layers, Llama decoder of 16 layers 1024 wide"
        if plan.kind == "mid"
        else "a trial with tiny weights, no measurement"
    )
    return f"Random weights ({shape}), bfloat16 on both sides, {THREADS} threads, transformers 5.23.0 with SDPA."


def text_ids(length: int, seed: int) -> list[int]:
    """A prompt of text alone."""
    generator = torch.Generator().manual_seed(seed)
    return [1, *torch.randint(FIRST_ID, 200, (length - 1,), generator=generator).tolist()]


def question_ids(medium: VisualInput, index: int) -> list[int]:
    """One of several questions about a medium."""
    return [1, *[VIDEO_ID] * medium.num_tokens, *text_ids(20, 500 + index)[1:]]


def random_video(plan: EnginePlan, num_frames: int) -> VisualInput:
    """Pixel values that both sides get in bfloat16."""
    generator = torch.Generator().manual_seed(num_frames)
    pixels = torch.randn(num_frames, 3, plan.side, plan.side, generator=generator)
    return VisualInput(
        kind="video",
        pixel_values=pixels.bfloat16().float(),
        size=(plan.side, plan.side),
        num_tokens=num_frames * plan.tokens_a_frame,
    )


def seconds(function: Callable[[], object]) -> float:
    """How long a call takes."""
    with torch.inference_mode():
        start = time.perf_counter()
        function()
        return time.perf_counter() - start


def equal_share(one: Sequence[int], other: Sequence[int]) -> float:
    """The part of ids that are the same at the same place."""
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def errors_text(mine: torch.Tensor, theirs: torch.Tensor, exact: torch.Tensor) -> str:
    """How far both sides are from float32."""
    own, other = (float((values - exact).square().mean().sqrt()) for values in (mine, theirs))
    return f"RMS error against float32: ours {own:.2g}, peer {other:.2g}"


def check_small(cache: Path) -> str:
    """In float32 the ids of both sides are equal; anything else ends the benchmark."""
    folder = model_folder("small", "float32", cache)
    ours = Ours(folder, dtype="float32")
    with Peer(folder, "float32") as peer:
        for seed in range(3):
            ids = text_ids(30 + seed, seed)
            mine, _ = ours.generate(ModelInputs(input_ids=tuple(ids)), 16)
            expect_equal(mine, peer.call("generate", ids=[ids], max_new_tokens=16)["ids"][0])
    return "float32: equal ids"


def expect_equal(mine: Sequence[int], theirs: Sequence[int]) -> None:
    """Ends the benchmark unless both sides gave the same ids."""
    if list(mine) != list(theirs):
        raise SystemExit(f"In float32 ours gives {list(mine)} and the peer {list(theirs)}: expected the same ids.")
