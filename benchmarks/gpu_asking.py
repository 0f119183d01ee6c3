"""The part of the row ``gpu`` about questions: further ones about one video, and many users who ask about a few."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from engine_ours import answer_arriving, arrival_times, behind_queue, equal_share, mean
from gpu_measured import Measured
from gpu_plan import GpuPlan, again_name, many_names
from gpu_sides import DeviceOurs, Sides, ask

from videolm.contracts import ModelInputs

NUM_AGAIN = 8
TEXT_ROOM = 128
"""Tokens of one question beside its video, and of its answer, in whole blocks."""


def questions(measured: Measured, sides: Sides) -> None:
    """Further questions about a video that was asked about, and many users at once."""
    _again(measured, sides)
    _many(measured, sides)


def _again(measured: Measured, sides: Sides) -> None:
    plan, medium = measured.plan, sides.video(measured.plan.again_frames, 0)
    prompts = [ask(medium, index) for index in range(plan.questions)]
    length = len(prompts[0].input_ids)
    ours = sides.ours(room=length + plan.questions * TEXT_ROOM, reuses=True)
    sides.ours(room=length + TEXT_ROOM).together(prompts[:1], NUM_AGAIN)
    sides.peer.generate(prompts[:1], NUM_AGAIN)
    firsts, shares = list[tuple[float, float]](), list[float]()
    for prompt in prompts:
        request = ours.request(prompt, NUM_AGAIN, "the video")
        mine, times = ours.answer(request)
        theirs, peer_times = sides.peer.generate([prompt], NUM_AGAIN)
        firsts.append((times[0] * 1000, peer_times[0][0] * 1000))
        shares.append(equal_share(mine, theirs[0]))
    first, *further = firsts
    mine_ms, theirs_ms = zip(*further, strict=True)
    measured.fill(again_name(plan), mine_ms, theirs_ms, f"{mean(shares):.0%} of ids equal")
    measured.reading.append(
        f"{plan.questions} questions about one video, the samples are those from the second on; of the first, ours "
        f"took {first[0]:.0f} ms to its first token."
    )


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A question, and when it comes."""

    came_s: float
    prompt: ModelInputs
    video_index: int


def _many(measured: Measured, sides: Sides) -> None:
    plan, names = measured.plan, many_names(measured.plan)
    asked = _questions_of_users(plan, sides)
    size, tried = _best_batch(plan, sides, [each.prompt for each in asked])
    waits, ids = dict[str, list[float]](ours=[], peer=[]), dict[str, list[list[int]]]()
    room = plan.user_videos * len(asked[0].prompt.input_ids) + len(asked) * TEXT_ROOM

    def ours(repeat: int) -> float:
        engine = sides.ours(room=room, batch=len(asked), reuses=True)
        end_s, took_s, ids["ours"] = _answer_ours(engine, asked, plan.user_new)
        waits["ours"] += [took_s * 1000] * (repeat >= 0)
        return end_s * 1000

    def peer(repeat: int) -> float:
        end_s, took_s, ids["peer"] = _answer_peer(sides, asked, size, plan.user_new)
        waits["peer"] += [took_s * 1000] * (repeat >= 0)
        return end_s * 1000

    mine, theirs, lacking = measured.sample(ours, peer)
    share = mean([equal_share(*both) for both in zip(ids["ours"], ids["peer"], strict=True)]) if not lacking else 0
    outputs = lacking or f"{share:.0%} of ids equal"
    measured.fill(names[0], mine, theirs, outputs)
    measured.fill(names[1], tuple(waits["ours"]), tuple(waits["peer"]), outputs)
    measured.reading.append(
        f"{len(asked)} questions come in {plan.arrivals_s:g} s on average, about videos of {plan.user_frames} frames, "
        f"{plan.user_new} new tokens each; transformers takes up to {size} waiting ones at a time, its best: {tried}."
    )


def _questions_of_users(plan: GpuPlan, sides: Sides) -> list[_Asked]:
    media = [sides.video(plan.user_frames, index) for index in range(plan.user_videos)]
    times = arrival_times(plan.users * plan.user_questions, plan.arrivals_s, random.Random(0))
    return [
        _Asked(came_s=came_s, prompt=ask(media[index % len(media)], index), video_index=index % len(media))
        for index, came_s in enumerate(times)
    ]


def _answer_ours(ours: DeviceOurs, asked: Sequence[_Asked], num_new: int) -> tuple[float, float, list[list[int]]]:
    """When the last answer was there, how long a request took on average (seconds), and the ids."""
    requests = [(each.came_s, ours.request(each.prompt, num_new, f"video {each.video_index}")) for each in asked]
    answers = answer_arriving(ours, requests)
    took_s = mean([each.last_s - each.came_s for each in answers])
    return max(each.last_s for each in answers), took_s, [list(each.ids) for each in answers]


def _answer_peer(
    sides: Sides, asked: Sequence[_Asked], size: int, num_new: int
) -> tuple[float, float, list[list[int]]]:
    """The same of the peer behind a queue that gives it up to ``size`` waiting requests at a time."""
    waits, ids, end_s = behind_queue(
        [each.came_s for each in asked],
        size,
        lambda places: sides.peer.generate([asked[place].prompt for place in places], num_new)[0],
    )
    return end_s, mean(waits), ids


def _best_batch(plan: GpuPlan, sides: Sides, prompts: Sequence[ModelInputs]) -> tuple[int, str]:
    """The size that takes the peer the least time a request, and what each took."""
    taken = dict[int, float]()
    for size in plan.peer_batches:
        for _ in range(2):  # The first call of a size may take longer.
            start = time.perf_counter()
            sides.peer.generate(prompts[:size], plan.user_new)
            taken[size] = (time.perf_counter() - start) * 1000 / size
    return min(taken, key=lambda size: taken[size]), ", ".join(
        f"{size}: {each:.0f} ms a request" for size, each in taken.items()
    )
