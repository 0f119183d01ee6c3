"""Many requests: a list of videos to describe, and users who ask about a few videos as they please."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench_asking import WAYS
from clips import make_clip
from engine_model import model_folder
from engine_ours import (
    Ours,
    answer_arriving,
    arrival_times,
    behind_queue,
    check_small,
    equal_share,
    greedy,
    logit_errors,
    mean,
    messages,
    prompt_text,
    setting_text,
)
from engine_plan import EnginePlan
from engine_rows import EngineRow, Sampler, SubRow
from peers import Peer

from videolm.engine.config import EngineConfig
from videolm.engine.request import Request
from videolm.media.sampling import FrameSampling

QUESTION = "Describe this video."
CACHE_BYTES = 4 << 30


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question about one video."""

    path: Path
    num_frames: int
    question: str = QUESTION
    came_s: float = 0.0


def many_videos(plan: EnginePlan, cache: Path) -> EngineRow:
    """Distinct videos of several lengths, all there at once."""
    asked = [_short_video(plan, cache, index) for index in range(plan.many_videos)]
    folder, checked = model_folder(plan.kind, "bfloat16", cache), check_small(cache, asked[0].path)
    sampling = FrameSampling(rule="fps", fps=1.0)
    config = EngineConfig(cache_bytes=CACHE_BYTES, sampling=sampling, max_batch_tokens=8192)
    models = [Ours(folder, quantize=way.quantize, config=config) for way in WAYS["bfloat16"]]
    answers: list[list[list[int]]] = [[] for _ in range(len(models) + 1)]
    with Peer(folder) as peer:
        errors = logit_errors(
            folder, [ours.model for ours in models], peer, models[0].prompt(asked[0].path, 1, QUESTION)
        )  # fmt: skip
        alike = [each for each in asked if each.num_frames == asked[1].num_frames]
        size, tried = _best_batch(peer, folder, alike, plan.many_new, plan.batch_sizes)
        sampler = Sampler(repeats=1, attempts=1, peer_cpu_s=peer.cpu_s)
        ours_in_turn = [
            lambda _, ours=ours, kept=kept: _generate_all(ours, asked, plan.many_new, kept)
            for ours, kept in zip(models, answers, strict=False)
        ]
        *mine, theirs = sampler.rounds(
            [*ours_in_turn, lambda _: _peer_in_batches(peer, folder, asked, size, plan.many_new, answers[-1])]
        )
    shares = [mean([equal_share(*pair) for pair in zip(kept, answers[-1], strict=True)]) for kept in answers[:-1]]
    return EngineRow(
        name="many_videos",
        question=f"How long do {plan.many_videos} different short videos take, {plan.many_new} new tokens each?",
        setting=f"{setting_text(plan)} {plan.short_clip.description.replace('1 s', 'Clips')}, of "
        f"{', '.join(map(str, plan.short_lengths_s))} s in turn, one frame a second. The peer takes videos of as many "
        f"frames together, in batches of {size}, its best: {tried}. {checked} from the same pixels, ours together. "
        "One sample a side, since each takes minutes.",
        rows=tuple(
            SubRow(
                name=f"{way.name}, all videos", aim=2, ours=values, peer=theirs, unit="s",
                outputs=f"{share:.0%} of ids equal; {error}",
            )
            for way, values, share, error in zip(WAYS["bfloat16"], mine, shares, errors, strict=True)
        ),
        others_share=sampler.others_share,
    )  # fmt: skip


def many_questions(plan: EnginePlan, cache: Path) -> EngineRow:
    """Users who ask about a few videos, at times of a Poisson process."""
    asked = questions_of_users(plan, cache)
    folder, checked = model_folder(plan.kind, "bfloat16", cache), check_small(cache, asked[0].path)
    sampling = FrameSampling(rule="arange", num_frames=plan.user_frames)
    found: dict[str, list[tuple[list[float], list[list[int]]]]] = {"ours": [], "peer": []}

    def ask_ours(_: int) -> float:
        ours = Ours(folder, config=EngineConfig(cache_bytes=CACHE_BYTES, sampling=sampling))
        requests = [(each.came_s, _request(ours, each, plan.user_new)) for each in asked]
        answers = answer_arriving(ours, requests)
        found["ours"].append(([each.last_s - each.came_s for each in answers], [list(each.ids) for each in answers]))
        return max(each.last_s for each in answers)

    with Peer(folder) as peer:
        size, tried = _best_batch(peer, folder, asked, plan.user_new, plan.batch_sizes[:2])

        def ask_peer(_: int) -> float:
            waits, ids, end_s = _peer_behind_queue(peer, folder, asked, size, plan.user_new)
            found["peer"].append((waits, ids))
            return end_s

        sampler = Sampler(repeats=1, attempts=1, peer_cpu_s=peer.cpu_s)
        values = sampler.pairs(ask_ours, ask_peer)
    waits = {side: tuple(mean(taken[0]) for taken in sides) for side, sides in found.items()}
    share = mean([equal_share(*pair) for pair in zip(found["ours"][0][1], found["peer"][0][1], strict=True)])
    outputs = f"{checked}, ours together; bf16: {share:.0%} of ids equal"
    return EngineRow(
        name="many_questions",
        question=f"{plan.users} users ask {plan.user_questions} questions each about {plan.user_videos} videos: how "
        "long does it take to answer them?",
        setting=f"{setting_text(plan)} {len(asked)} requests, a Poisson process of {plan.arrivals_s:g} s on average; "
        f"{plan.user_frames} frames a video, {plan.user_new} new tokens. The peer's own server takes requests one by "
        f"one; here it is behind a queue that gives it up to {size} waiting requests at a time, its best: {tried}. One "
        "sample a side, since the peer's takes minutes.",
        rows=(
            SubRow(name="all answers", aim=5, ours=values[0], peer=values[1], unit="s", outputs=outputs),
            SubRow(name="a request, mean", aim=5, ours=waits["ours"], peer=waits["peer"], unit="s", outputs=outputs),
        ),
        others_share=sampler.others_share,
    )


def questions_of_users(plan: EnginePlan, cache: Path) -> list[Asked]:
    """All questions in the order in which they come."""
    dice = random.Random(0)
    clips = [_short_video(plan, cache, index, length_s=max(plan.short_lengths_s)) for index in range(plan.user_videos)]
    questions = [
        replace(
            clips[user % plan.user_videos],
            num_frames=plan.user_frames,
            question=f"User {user} asks question {number} about this video: what happens?",
        )
        for user in range(plan.users)
        for number in range(plan.user_questions)
    ]
    dice.shuffle(questions)
    times = arrival_times(len(questions), plan.arrivals_s, dice)
    return [replace(question, came_s=came_s) for question, came_s in zip(questions, times, strict=True)]


def _short_video(plan: EnginePlan, cache: Path, index: int, length_s: int | None = None) -> Asked:
    length_s = length_s or plan.short_lengths_s[index % len(plan.short_lengths_s)]
    clip = replace(plan.short_clip, duration_s=length_s, seed=index + 1)
    return Asked(path=make_clip(clip, cache), num_frames=length_s)


def _request(ours: Ours, asked: Asked, num_new: int) -> Request:
    return Request(id=ours.new_id(), messages=messages(asked.question, asked.path), params=greedy(num_new))


def _generate_all(ours: Ours, asked: Sequence[Asked], num_new: int, kept: list[list[int]]) -> float:
    start = time.perf_counter()
    outputs = ours.engine.generate([_request(ours, each, num_new) for each in asked])
    taken = time.perf_counter() - start
    for output in outputs:
        if output.error is not None:
            raise output.error
        kept.append(list(output.output_ids))
    return taken


def _ask_peer(peer: Peer, folder: Path, asked: Sequence[Asked], num_new: int) -> tuple[float, list[list[int]]]:
    """One batch of videos of as many frames."""
    found = peer.call(
        "ask_batch",
        paths=[str(each.path) for each in asked],
        texts=[prompt_text(folder, each.question) for each in asked],
        num_frames=asked[0].num_frames,
        max_new_tokens=num_new,
    )
    return float(found["total_s"]), found["ids"]


def _best_batch(
    peer: Peer, folder: Path, asked: Sequence[Asked], num_new: int, sizes: Sequence[int]
) -> tuple[int, str]:
    """The size that takes the least time a video, and what each took."""
    _ask_peer(peer, folder, asked[:1], num_new)  # The first call of all takes longer.
    times = {size: _ask_peer(peer, folder, asked[:size], num_new)[0] / size for size in sizes}
    return min(times, key=lambda size: times[size]), ", ".join(
        f"{size}: {t:.2f} s a video" for size, t in times.items()
    )


def _peer_in_batches(
    peer: Peer, folder: Path, asked: Sequence[Asked], size: int, num_new: int, kept: list[list[int]]
) -> float:
    taken, answers = 0.0, dict[int, list[int]]()
    for count in sorted({each.num_frames for each in asked}):
        alike = [index for index, each in enumerate(asked) if each.num_frames == count]
        for first in range(0, len(alike), size):
            batch = alike[first : first + size]
            batch_s, ids = _ask_peer(peer, folder, [asked[index] for index in batch], num_new)
            taken += batch_s
            answers.update(zip(batch, ids, strict=True))
    kept += [answers[index] for index in range(len(asked))]
    return taken


def _peer_behind_queue(
    peer: Peer, folder: Path, asked: Sequence[Asked], size: int, num_new: int
) -> tuple[list[float], list[list[int]], float]:
    """Seconds that each request waited for its answer, the answers, and when the last was there."""
    return behind_queue(
        [each.came_s for each in asked],
        size,
        lambda places: _ask_peer(peer, folder, [asked[place] for place in places], num_new)[1],
    )
