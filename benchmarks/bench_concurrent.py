"""Several requests about videos at once, streamed, against ``transformers serve``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from bench_asking import WAYS, Way
from clips import make_clip
from engine_model import model_folder
from engine_ours import Ours, answer_arriving, check_small, greedy, mean, messages, setting_text
from engine_plan import EnginePlan
from engine_rows import EngineRow, Sampler, SubRow
from servers import PeerServer, Streamed, video_body

from videolm.engine.config import EngineConfig
from videolm.engine.request import Request
from videolm.media.sampling import FrameSampling

Measured = tuple[float, float, list[str]]
"""Tokens a second, 95th percentile of the seconds to the first token, the texts."""


def concurrent(plan: EnginePlan, cache: Path) -> EngineRow:
    """Requests about different videos that come at the same time."""
    asked = [
        (make_clip(replace(plan.clip, seed=index + 1), cache), f"What happens in video {index}?")
        for index in range(plan.concurrent)
    ]
    folder, checked = model_folder(plan.kind, "bfloat16", cache), check_small(cache, asked[0][0])
    ways = WAYS["bfloat16"]
    found: dict[str, Measured] = {}
    with PeerServer(folder) as server:

        def ask_peer(_: int) -> float:
            found["peer"] = _ask_peer(server, plan, asked)
            return found["peer"][0]

        def ask_ours(_: int, way: Way) -> float:
            found[way.name] = _ask_ours(plan, way, folder, asked)
            return found[way.name][0]

        sampler = Sampler(repeats=1, attempts=1, peer_cpu_s=server.cpu_s)
        sampler.rounds([*(lambda i, way=way: ask_ours(i, way) for way in ways), ask_peer])
    return EngineRow(
        name="concurrent",
        question=f"How soon are {plan.concurrent} requests about videos answered that come at once?",
        setting=f"{setting_text(plan)} {plan.clip.description}, a different one each; {plan.concurrent_frames} frames, "
        f"{plan.concurrent_new} new tokens, streamed. The peer is `transformers serve --continuous-batching`, which "
        "says that this model cannot be batched and answers one request after the other; it is given PyAV as its "
        "reader of videos and spared their sound, without which it answers none. Ours is an `AsyncEngine`. "
        f"{checked} from the same pixels, ours together. One sample a side, since each takes minutes.",
        rows=tuple(row for way in ways for row in _rows(way, found[way.name], found["peer"])),
        others_share=sampler.others_share,
    )


def _rows(way: Way, ours: Measured, peer: Measured) -> list[SubRow]:
    # Single bytes are shown in more than one way; all other tokens of the made-up tokenizer are numbered words.
    shares = [_equal_words(one, other) for one, other in zip(ours[2], peer[2], strict=True)]
    outputs = f"{mean(shares):.0%} of words equal"
    # Tokens a second: more is better, so both are given as seconds for a thousand tokens.
    return [
        SubRow(
            name=f"{way.name}, 1000 tokens", aim=2.5, ours=(1000 / ours[0],), peer=(1000 / peer[0],), unit="s",
            outputs=outputs,
        ),
        SubRow(
            name=f"{way.name}, first token, p95", aim=2.5, ours=(ours[1],), peer=(peer[1],), unit="s", outputs=outputs
        ),
    ]  # fmt: skip


def _equal_words(one: str, other: str) -> float:
    words = [re.findall(r"w\d+", text) for text in (one, other)]
    length = max(map(len, words))
    return sum(a == b for a, b in zip(*words, strict=False)) / length if length else 1.0


def _ask_ours(plan: EnginePlan, way: Way, folder: Path, asked: Sequence[tuple[Path, str]]) -> Measured:
    sampling = FrameSampling(rule="arange", num_frames=plan.concurrent_frames)
    ours = Ours(folder, quantize=way.quantize, config=EngineConfig(cache_bytes=3 << 30, sampling=sampling))
    params = greedy(plan.concurrent_new)
    requests = [Request(id=ours.new_id(), messages=messages(text, path), params=params) for path, text in asked]
    answers = answer_arriving(ours, [(0.0, request) for request in requests])
    texts = [ours.engine.processor.decode(answer.ids) for answer in answers]
    rate = sum(len(answer.ids) for answer in answers) / max(answer.last_s for answer in answers)
    return rate, float(np.percentile([answer.first_s for answer in answers], 95)), texts


def _ask_peer(server: PeerServer, plan: EnginePlan, asked: Sequence[tuple[Path, str]]) -> Measured:
    bodies = [
        video_body(path, text, num_frames=plan.concurrent_frames, num_new=plan.concurrent_new) for path, text in asked
    ]
    answers: list[Streamed] = server.ask_at_once(bodies)
    rate = sum(answer.num_tokens for answer in answers) / max(answer.last_s for answer in answers)
    return rate, float(np.percentile([answer.first_s for answer in answers], 95)), [answer.text for answer in answers]
