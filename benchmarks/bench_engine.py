"""The engine against transformers with the same weights, dtype and threads: decoding, prefill, vision, asking again.

Random weights with real shapes (``engine_model``). Ours runs in this process, the peer in its own (``peers``); samples
alternate. The peer decodes in its better way, a growing or a static cache.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from engine_model import model_folder
from engine_rows import EngineRow, Sampler, SubRow
from peers import THREADS, Peer

from videolm.contracts import ModelInputs, VisualInput
from videolm.engine.config import EngineConfig
from videolm.engine.engine import Engine
from videolm.engine.features import medium_key
from videolm.engine.request import Request
from videolm.families import auto
from videolm.generation.params import SamplingParams

NUM_NEW = 33
FIRST_ID, VIDEO_ID = 5, 3


@dataclass(frozen=True, kw_only=True)
class EnginePlan:
    """Sizes of the full measurement; the quick one only shows that it works."""

    kind: str = "mid"
    contexts: tuple[int, ...] = (1188, 4644)
    prefill_len: int = 4644
    vision_frames: tuple[int, ...] = (8, 32)
    again_frames: int = 32
    questions: int = 10
    repeats: int = 5
    vision_repeats: int = 5
    again_repeats: int = 1
    tokens_a_frame: int = 144
    side: int = 336


QUICK = EnginePlan(
    kind="small", contexts=(40,), prefill_len=70, vision_frames=(2,), again_frames=2, questions=3, repeats=2,
    vision_repeats=2, tokens_a_frame=4, side=56,
)  # fmt: skip


class Ours:
    """Our side: a model with an engine."""

    def __init__(
        self, folder: Path, *, quantize: str | None = None, reuses: bool = False, dtype: str = "bfloat16"
    ) -> None:
        torch.set_num_threads(THREADS)
        self.model = auto.load_model(folder, device=torch.device("cpu"), dtype=getattr(torch, dtype), quantize=quantize)
        config = EngineConfig(max_batch_tokens=8192, reuses_prefixes=reuses, cache_bytes=3 << 30)
        self.engine = Engine(self.model, auto.load_processor(folder), config)
        self._count = 0

    def generate(
        self, inputs: ModelInputs, num_new: int, media_keys: tuple[str, ...] | None = None
    ) -> tuple[list[int], list[float]]:
        """Greedy ids, and the seconds from the call to each of them."""
        self._count += 1
        start, times = time.perf_counter(), list[float]()
        params = SamplingParams(max_new_tokens=num_new, min_new_tokens=num_new)
        self.engine.add(Request(id=str(self._count), inputs=inputs, params=params, media_keys=media_keys))
        ids: tuple[int, ...] = ()
        while self.engine.has_requests:
            for output in self.engine.step():
                if output.error is not None:
                    raise output.error
                times += [time.perf_counter() - start] * (len(output.output_ids) - len(ids))
                ids = output.output_ids
        return list(ids), times


def run(name: str, plan: EnginePlan, cache: Path) -> EngineRow:
    """One row by its name."""
    rows = {"decode_cpu": _decode, "prefill": _prefill, "vision": _vision, "ask_again": _ask_again}
    return rows[name](plan, cache)


NAMES = ("decode_cpu", "prefill", "vision", "ask_again")


def _setting(plan: EnginePlan) -> str:
    shape = (
        "CLIP-L/14-336 tower of 24 layers, Llama decoder of 16 layers 1024 wide"
        if plan.kind == "mid"
        else "a trial with tiny weights, no measurement"
    )
    return f"Random weights ({shape}), bfloat16 on both sides, {THREADS} threads, transformers 5.23.0 with SDPA."


def _text(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return [1, *torch.randint(FIRST_ID, 200, (length - 1,), generator=generator).tolist()]


def _equal_share(one: list[int], other: list[int]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def _check_small(cache: Path) -> str:
    """In float32 the ids of both sides are equal; anything else ends the benchmark."""
    folder = model_folder("small", "float32", cache)
    ours = Ours(folder, dtype="float32")
    with Peer(folder, "float32") as peer:
        for seed in range(3):
            ids = _text(30 + seed, seed)
            mine, _ = ours.generate(ModelInputs(input_ids=tuple(ids)), 16)
            theirs = peer.call("generate", ids=[ids], max_new_tokens=16)["ids"][0]
            if mine != theirs:
                raise SystemExit(f"In float32 ours gives {mine} and the peer {theirs}: expected the same ids.")
    return "float32: equal ids"


def _decode(plan: EnginePlan, cache: Path) -> EngineRow:
    folder, checked, rows = model_folder(plan.kind, "bfloat16", cache), _check_small(cache), []
    busy: list[float] = []
    with Peer(folder) as peer:
        ways = {
            length: min(("", "static"), key=lambda kind, n=length: _peer_decode(peer, n, 999, kind)[0])
            for length in plan.contexts
        }
        for quantize, aim in ((None, 2.2), ("int8", 3.0), ("int4", 3.2)):
            ours = Ours(folder, quantize=quantize)
            for length in plan.contexts:
                found: dict[int, tuple[list[int], list[int]]] = {}
                _our_decode(ours, length, 998)

                def mine(seed: int, ours: Ours = ours, length: int = length, found: dict = found) -> float:
                    per_token, ids = _our_decode(ours, length, seed)
                    found[seed] = (ids, found.get(seed, ([], []))[1])
                    return per_token

                def theirs(seed: int, length: int = length, found: dict = found) -> float:
                    per_token, ids = _peer_decode(peer, length, seed, ways[length])
                    found[seed] = (found.get(seed, ([], []))[0], ids)
                    return per_token

                sampler = Sampler(repeats=plan.repeats, peer_cpu_s=peer.cpu_s)
                values = sampler.pairs(mine, theirs)
                busy += sampler.busy
                shares = [_equal_share(*pair) for pair in found.values() if pair[0] and pair[1]]
                rows.append(
                    SubRow(
                        name=f"{quantize or 'bf16'}, context {length}",
                        aim=aim,
                        ours=values[0],
                        peer=values[1],
                        unit="ms/token",
                        outputs=f"{checked}; {quantize or 'bf16'}: {sum(shares) / len(shares):.0%} of ids equal",
                    )
                )
            del ours
            gc.collect()
    return EngineRow(
        name="decode_cpu",
        question="How long does each further token take after a prompt of so many tokens?",
        setting=f"{_setting(plan)} {NUM_NEW} tokens, the first not counted; {plan.repeats} prompts a side, in turn. "
        f"The peer's faster cache by context: {_ways_text(ways)}. "
        "Its weights are bfloat16 in every row.",
        rows=tuple(rows),
        others_share=max(busy, default=None),
    )


def _ways_text(ways: dict[int, str]) -> str:
    return ", ".join(f"{length}: {way or 'dynamic'}" for length, way in ways.items())


def _our_decode(ours: Ours, length: int, seed: int) -> tuple[float, list[int]]:
    ids, times = ours.generate(ModelInputs(input_ids=tuple(_text(length, seed))), NUM_NEW)
    return (times[-1] - times[0]) / (NUM_NEW - 1) * 1000, ids


def _peer_decode(peer: Peer, length: int, seed: int, kind: str) -> tuple[float, list[int]]:
    found = peer.call("generate", ids=[_text(length, seed)], max_new_tokens=NUM_NEW, cache=kind or None)
    times = found["times_s"]
    return (times[-1] - times[0]) / (NUM_NEW - 1) * 1000, found["ids"][0]


def _prefill(plan: EnginePlan, cache: Path) -> EngineRow:
    folder, length = model_folder(plan.kind, "bfloat16", cache), plan.prefill_len
    ours = Ours(folder)
    with Peer(folder) as peer, tempfile.TemporaryDirectory() as work:
        logits = Path(work) / "logits.pt"
        peer.call("prefill", ids=_text(length, 999), logits=str(logits))
        ours.generate(ModelInputs(input_ids=tuple(_text(length, 999))), 1)
        error = _prefill_errors(folder, ours, _text(length, 999), torch.load(logits)[0])
        sampler = Sampler(repeats=plan.repeats, peer_cpu_s=peer.cpu_s)
        values = sampler.pairs(
            lambda seed: ours.generate(ModelInputs(input_ids=tuple(_text(length, seed))), 1)[1][0],
            lambda seed: peer.call("prefill", ids=_text(length, seed))["total_s"],
        )
    row = SubRow(name=f"{length} tokens", aim=1.3, ours=values[0], peer=values[1], unit="s", outputs=error)
    return EngineRow(
        name="prefill",
        question="How long does it take to read a prompt?",
        setting=f"{_setting(plan)} Text of one request to its first token; the peer's is one forward pass with the "
        f"logits of the last position. {plan.repeats} prompts a side, in turn.",
        rows=(row,),
        others_share=sampler.others_share,
    )


@torch.inference_mode()
def _prefill_errors(folder: Path, ours: Ours, ids: list[int], theirs: torch.Tensor) -> str:
    inputs = ModelInputs(input_ids=tuple(ids))
    mine = ours.model.prefill(inputs, ours.model.new_cache()).float()
    exact_model = auto.load_model(folder, device=torch.device("cpu"), dtype=torch.float32)
    exact = exact_model.prefill(inputs, exact_model.new_cache())
    return _errors_text(mine, theirs, exact)


def _errors_text(mine: torch.Tensor, theirs: torch.Tensor, exact: torch.Tensor) -> str:
    own, other = (float((values - exact).square().mean().sqrt()) for values in (mine, theirs))
    return f"RMS error against float32: ours {own:.2g}, peer {other:.2g}"


def _vision(plan: EnginePlan, cache: Path) -> EngineRow:
    folder, rows, busy = model_folder(plan.kind, "bfloat16", cache), [], list[float]()
    ours = Ours(folder)
    exact = auto.load_model(folder, device=torch.device("cpu"), dtype=torch.float32)
    with Peer(folder) as peer, tempfile.TemporaryDirectory() as work:
        for num_frames in plan.vision_frames:
            pixels, features = Path(work) / "pixels.pt", Path(work) / "features.pt"
            medium = _video(plan, num_frames)
            torch.save(medium.pixel_values[None].bfloat16(), pixels)
            peer.call("encode", pixels=str(pixels), save=str(features))
            with torch.inference_mode():
                mine, whole = (model.encode_media([medium])[0].tokens.float() for model in (ours.model, exact))
            outputs = _errors_text(mine, torch.load(features), whole)
            sampler = Sampler(repeats=plan.vision_repeats if num_frames <= 8 else 3, peer_cpu_s=peer.cpu_s)
            values = sampler.pairs(
                lambda _, medium=medium: _seconds(lambda: ours.model.encode_media([medium])),
                lambda _, pixels=pixels: peer.call("encode", pixels=str(pixels))["total_s"],
            )
            busy += sampler.busy
            rows.append(
                SubRow(name=f"{num_frames} frames", aim=1.3, ours=values[0], peer=values[1], unit="s", outputs=outputs)
            )
    return EngineRow(
        name="vision",
        question="How long does it take to encode frames, tower and projector?",
        setting=f"{_setting(plan)} Pixel values in, features out; samples of both sides in turn.",
        rows=tuple(rows),
        others_share=max(busy, default=None),
    )


def _seconds(function: Callable[[], object]) -> float:
    with torch.inference_mode():
        start = time.perf_counter()
        function()
        return time.perf_counter() - start


def _video(plan: EnginePlan, num_frames: int) -> VisualInput:
    generator = torch.Generator().manual_seed(num_frames)
    pixels = torch.randn(num_frames, 3, plan.side, plan.side, generator=generator)
    # Both sides get the same values in bfloat16.
    return VisualInput(
        kind="video",
        pixel_values=pixels.bfloat16().float(),
        size=(plan.side, plan.side),
        num_tokens=num_frames * plan.tokens_a_frame,
    )


def _ask_again(plan: EnginePlan, cache: Path) -> EngineRow:
    folder, medium = model_folder(plan.kind, "bfloat16", cache), _video(plan, plan.again_frames)
    first_mine, first_theirs, all_mine, all_theirs, shares = [], [], [], [], []
    num_new = 8
    busy: list[float] = []
    with Peer(folder) as peer, tempfile.TemporaryDirectory() as work:
        pixels = Path(work) / "pixels.pt"
        torch.save(medium.pixel_values[None].bfloat16(), pixels)
        for _ in range(plan.again_repeats):
            ours = Ours(folder, reuses=True)
            mine: list[tuple[list[int], list[float]]] = []
            theirs: list[tuple[list[int], list[float]]] = []

            keys: list[str] = []

            def ask_mine(index: int, ours: Ours = ours, mine: list = mine, keys: list[str] = keys) -> float:
                ids = _question(medium, index)
                inputs = ModelInputs(input_ids=tuple(ids), media=(medium,), media_starts=(1,))
                start = time.perf_counter()
                if not keys:  # A session does it once, when it reads the medium.
                    keys.append(medium_key(medium))
                late = time.perf_counter() - start
                found, times = ours.generate(inputs, num_new, tuple(keys))
                mine.append((found, [late + each for each in times]))
                return mine[-1][1][0]

            def ask_theirs(index: int, theirs: list = theirs) -> float:
                ids = _question(medium, index)
                found = peer.call("generate", ids=[ids], pixels=str(pixels), max_new_tokens=num_new)
                theirs.append((found["ids"][0], found["times_s"]))
                return theirs[-1][1][0]

            sampler = Sampler(repeats=plan.questions, peer_cpu_s=peer.cpu_s)
            sampler.pairs(ask_mine, ask_theirs)
            busy += sampler.busy
            first_mine += [times[0] for _, times in mine[1:]]
            first_theirs += [times[0] for _, times in theirs[1:]]
            all_mine.append(sum(times[-1] for _, times in mine[: plan.questions]))
            all_theirs.append(sum(times[-1] for _, times in theirs[: plan.questions]))
            shares += [_equal_share(a[0], b[0]) for a, b in zip(mine, theirs, strict=False)]
    outputs = f"bf16: {sum(shares) / len(shares):.0%} of ids equal"
    return EngineRow(
        name="ask_again",
        question=f"How long do {plan.questions} questions about one video of {plan.again_frames} frames take?",
        setting=f"{_setting(plan)} {num_new} new tokens each; the peer encodes and reads the video for each question, "
        f"ours once, and hashes its pixels once. {plan.again_repeats} round(s): one of the peer takes minutes.",
        rows=(
            SubRow(
                name="first token, questions from the second on",
                aim=50,
                ours=tuple(first_mine),
                peer=tuple(first_theirs),
                unit="s",
                outputs=outputs,
            ),
            SubRow(
                name="all questions", aim=6, ours=tuple(all_mine), peer=tuple(all_theirs), unit="s", outputs=outputs
            ),
        ),
        others_share=max(busy, default=None),
    )


def _question(medium: VisualInput, index: int) -> list[int]:
    return [1, *[VIDEO_ID] * medium.num_tokens, *_text(20, 500 + index)[1:]]
