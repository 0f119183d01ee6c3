"""Our side of the rows about the engine, and what both sides are given: prompts, pixels, a check of equal ids."""

from __future__ import annotations

import asyncio
import functools
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from engine_model import model_folder
from engine_plan import EnginePlan
from peers import THREADS, Peer

from videolm.contracts import Frames, ModelInputs, VisualInput
from videolm.engine.async_engine import AsyncEngine
from videolm.engine.config import EngineConfig
from videolm.engine.engine import Engine
from videolm.engine.request import Request
from videolm.families import auto
from videolm.generation.params import SamplingParams
from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling
from videolm.models.video_lm import VideoLM
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
        # The same video is asked about again and again, and is new each time.
        alone = EngineConfig(max_batch_tokens=8192, reuses_prefixes=False, feature_bytes=0, cache_bytes=3 << 30)
        self.engine = Engine(self.model, auto.load_processor(folder), config or alone)
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

    def ask(self, path: Path, num_frames: int, num_new: int, question: str) -> tuple[list[int], list[float]]:
        """From a file to an answer; reading it counts."""
        start = time.perf_counter()
        media = (self.read(path, num_frames),)
        late = time.perf_counter() - start
        params = greedy(num_new)
        ids, times = self.answer(Request(id=self.new_id(), messages=messages(question), media=media, params=params))
        return ids, [late + each for each in times]

    def read(self, path: Path, num_frames: int) -> Frames:
        """The frames that the models' documentation takes."""
        sampling = FrameSampling(rule="arange", num_frames=num_frames)
        return load_media(path, sampling=sampling, on_frame=self.engine.processor.prepare_frame)

    def prompt(self, path: Path, num_frames: int, question: str) -> ModelInputs:
        """What the model is given for such a question."""
        processor = self.engine.processor
        return processor.prepare_text(messages(question), [processor.prepare_medium(self.read(path, num_frames))])

    def new_id(self) -> str:
        """A name that no other request has."""
        self._count += 1
        return str(self._count)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One request's answer; seconds since the first request could have come, as when it came itself."""

    ids: tuple[int, ...]
    came_s: float
    first_s: float
    last_s: float


def answer_arriving(ours: Ours, arrivals: Sequence[tuple[float, Request]]) -> list[Answered]:
    """Answer requests that arrive at given times, streaming, as a server does."""

    async def answer(engine: AsyncEngine, came_s: float, request: Request) -> Answered:
        await asyncio.sleep(max(came_s - (time.perf_counter() - start), 0))
        first_s, ids = 0.0, tuple[int, ...]()
        async for output in engine.stream(request):
            ids, first_s = output.output_ids, first_s or time.perf_counter() - start
        return Answered(ids=ids, came_s=came_s, first_s=first_s, last_s=time.perf_counter() - start)

    async def answer_all() -> list[Answered]:
        async with AsyncEngine(ours.engine) as engine:
            return await asyncio.gather(*(answer(engine, came_s, request) for came_s, request in arrivals))

    start = time.perf_counter()
    return asyncio.run(answer_all())


def arrival_times(count: int, mean_s: float, dice: random.Random) -> list[float]:
    """A Poisson process: when each of ``count`` requests comes, all of them in ``mean_s`` on average."""
    came_s = [0.0]
    while len(came_s) < count:
        came_s.append(came_s[-1] + dice.expovariate(count / mean_s))
    return came_s


def behind_queue(
    came_s: Sequence[float], size: int, answer: Callable[[Sequence[int]], list[list[int]]]
) -> tuple[list[float], list[list[int]], float]:
    """A side that takes up to ``size`` waiting requests at a time, as they come.

    Args:
        came_s: When each request comes, in order.
        size: The most that it takes.
        answer: Places of requests to the ids of their answers.

    Returns:
        Seconds that each request waited for its answer, the answers, and when the last was there.
    """
    start, waits, answers = time.perf_counter(), list[float](), list[list[int]]()
    while len(answers) < len(came_s):
        first, now_s = len(answers), time.perf_counter() - start
        waiting = [place for place in range(first, len(came_s)) if came_s[place] <= now_s][:size]
        if not waiting:
            time.sleep(came_s[first] - now_s)
            continue
        answers += answer(waiting)
        waits += [time.perf_counter() - start - came_s[place] for place in waiting]
    return waits, answers, time.perf_counter() - start


def greedy(num_new: int) -> SamplingParams:
    """Exactly so many tokens, each the likeliest."""
    return SamplingParams(max_new_tokens=num_new, min_new_tokens=num_new)


def messages(question: str, path: Path | None = None) -> list[dict[str, Any]]:
    """A question about a video, which comes apart where no path is given."""
    video = {"type": "video"} if path is None else {"type": "video", "video": str(path)}
    return [{"role": "user", "content": [video, {"type": "text", "text": question}]}]


def prompt_text(folder: Path, question: str) -> str:
    """The same as text with a placeholder, as the peer's processor takes it."""
    return auto.load_processor(folder).apply_chat_template(messages(question), add_generation_prompt=True)


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


@functools.cache
def check_small(cache: Path, video: Path | None = None) -> str:
    """In float32 the ids of both sides are equal; anything else ends the benchmark.

    Rows of one run that ask for the same check share it.
    """
    folder = model_folder("small", "float32", cache)
    ours = Ours(folder, dtype="float32")
    prompts = [ModelInputs(input_ids=tuple(text_ids(30 + seed, seed))) for seed in range(3)]
    if video is not None:
        prompts = [ours.prompt(video, num_frames, "What is there to see?") for num_frames in (1, 2, 4)]
    requests = [Request(id=ours.new_id(), inputs=inputs, params=greedy(16)) for inputs in prompts]
    together = ours.engine.generate(requests)
    with Peer(folder, "float32") as peer, tempfile.TemporaryDirectory() as work:
        for inputs, output in zip(prompts, together, strict=True):
            mine, _ = ours.generate(inputs, 16)
            expect_equal(mine, output.output_ids)
            pixels = saved_pixels(inputs, Path(work))
            theirs = peer.call("generate", ids=[list(inputs.input_ids)], pixels=pixels, max_new_tokens=16)["ids"][0]
            expect_equal(mine, theirs)
    return "float32: equal ids"


def saved_pixels(inputs: ModelInputs, folder: Path) -> str | None:
    """A file with the pixel values of a prompt's video, for the peer; None for a prompt of text alone."""
    if not inputs.media:
        return None
    torch.save(inputs.media[0].pixel_values[None], folder / "pixels.pt")
    return str(folder / "pixels.pt")


@torch.inference_mode()
def first_logits(model: VideoLM, inputs: ModelInputs) -> torch.Tensor:
    """What a model says after a prompt, ``[1, V]``."""
    return model.prefill(inputs, model.new_cache()).float()


def logit_errors(folder: Path, models: Sequence[VideoLM], peer: Peer, inputs: ModelInputs) -> list[str]:
    """For each of our models: how far it and the peer are from float32 after a prompt."""
    exact = first_logits(auto.load_model(folder, device=torch.device("cpu"), dtype=torch.float32), inputs)
    with tempfile.TemporaryDirectory() as work:
        file, pixels = Path(work) / "logits.pt", saved_pixels(inputs, Path(work))
        peer.call("generate", ids=[list(inputs.input_ids)], pixels=pixels, max_new_tokens=1, logits=str(file))
        theirs = torch.load(file)[:1]
    return [errors_text(first_logits(model, inputs), theirs, exact) for model in models]


def expect_equal(mine: Sequence[int], theirs: Sequence[int]) -> None:
    """Ends the benchmark unless both sides gave the same ids."""
    if list(mine) != list(theirs):
        raise SystemExit(f"In float32 ours gives {list(mine)} and the peer {list(theirs)}: expected the same ids.")
