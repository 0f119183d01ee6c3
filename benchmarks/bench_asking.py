"""Asking about a video: once from the file, and again, against transformers with the same weights and threads."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from clips import make_clip
from engine_model import model_folder
from engine_ours import (
    Ours,
    check_small,
    equal_share,
    logit_errors,
    mean,
    prompt_text,
    question_ids,
    random_video,
    setting_text,
)
from engine_plan import EnginePlan
from engine_rows import EngineRow, Sampler, SubRow
from peers import Peer

from videolm.contracts import ModelInputs
from videolm.engine.config import EngineConfig
from videolm.engine.features import medium_key
from videolm.weights.quantize import WeightQuantization

INT8 = WeightQuantization(
    scheme="int8", activations="int8", parts=("decoder", "head", "projector", "vision")
)  # fmt: skip
QUESTION = "What happens in this video, and in which order?"


@dataclass(frozen=True, kw_only=True)
class Way:
    """How ours keeps the weights of a checkpoint."""

    name: str
    aim: float
    quantize: WeightQuantization | None = None


WAYS = {
    "bfloat16": (Way(name="bf16", aim=1.4), Way(name="int8", aim=2, quantize=INT8)),
    "float16": (Way(name="stored in fp16", aim=6),),
}
"""By the dtype in which the checkpoint is stored, which is the peer's dtype too: the one its documentation asks for."""


def ask_once(plan: EnginePlan, cache: Path) -> EngineRow:
    """From a file to the last new token."""
    clip = make_clip(plan.clip, cache)
    checked, rows, busy = check_small(cache, clip), list[SubRow](), list[float]()
    for dtype, frames in (("bfloat16", plan.once_frames), ("float16", plan.half_frames)):
        folder = model_folder(plan.kind, dtype, cache)
        models = [Ours(folder, quantize=way.quantize) for way in WAYS[dtype]]
        with Peer(folder, dtype) as peer:
            errors = logit_errors(folder, [ours.model for ours in models], peer, models[0].prompt(clip, 1, QUESTION))
            for num_frames in frames:
                repeats = plan.repeats if num_frames <= 8 else plan.once_slow_repeats
                sampler = Sampler(repeats=1 if dtype == "float16" else repeats, peer_cpu_s=peer.cpu_s)
                found = _ask_in_turn(models, peer, sampler, _Asked(clip, folder, num_frames, plan.once_new))
                rows += [
                    replace(
                        row, name=f"{way.name}, {num_frames} frames", aim=way.aim, outputs=f"{row.outputs}; {error}"
                    )
                    for row, way, error in zip(found, WAYS[dtype], errors, strict=True)
                ]
                busy += sampler.busy
        del models
        gc.collect()
    return EngineRow(
        name="ask_once",
        question=f"How long does it take from an mp4 file to token {plan.once_new} of the answer?",
        setting=f"{setting_text(plan)} {plan.clip.description}. {plan.repeats} rounds for 8 frames, "
        f"{plan.once_slow_repeats} for 32, since a round takes minutes. int8 rounds the weights of all parts, and "
        "activations too where there are many rows. The checkpoint in fp16 is run as each side's documentation says: "
        "the peer in fp16, ours in bf16; once, since the peer takes more than a minute. "
        f"{checked} from the same pixels.",
        rows=tuple(rows),
        others_share=max(busy, default=None),
    )


@dataclass(frozen=True)
class _Asked:
    clip: Path
    folder: Path
    num_frames: int
    num_new: int


def _ask_in_turn(models: Sequence[Ours], peer: Peer, sampler: Sampler, asked: _Asked) -> list[SubRow]:
    """A row for each of ours; the peer is asked once a round."""
    answers: list[list[list[int]]] = [[] for _ in range(len(models) + 1)]
    text = prompt_text(asked.folder, QUESTION)
    prompt = list(models[0].prompt(asked.clip, asked.num_frames, QUESTION).input_ids)

    def ask_ours(_: int, ours: Ours, kept: list[list[int]]) -> float:
        ids, times = ours.ask(asked.clip, asked.num_frames, asked.num_new, QUESTION)
        kept.append(ids)
        return times[-1]

    def ask_peer(_: int) -> float:
        found = peer.call(
            "ask", path=str(asked.clip), text=text, num_frames=asked.num_frames, max_new_tokens=asked.num_new
        )
        if found["prompt"] != prompt:
            raise SystemExit(
                f"The prompts have {len(found['prompt'])} and {len(prompt)} tokens: expected the same ids."
            )
        answers[-1].append(found["ids"][0])
        return float(found["total_s"])

    ours = [partial(ask_ours, ours=each, kept=kept) for each, kept in zip(models, answers, strict=False)]
    *mine, theirs = sampler.rounds([*ours, ask_peer])
    return [
        SubRow(
            name="", aim=1, ours=values, peer=theirs, unit="s",
            outputs=f"{equal_share(kept[0], answers[-1][0]):.0%} of ids equal",
        )
        for values, kept in zip(mine, answers, strict=False)
    ]  # fmt: skip


NUM_AGAIN = 8
Answers = dict[int, tuple[list[int], list[float]]]
"""By the number of the question: ids, and the seconds to each."""


def ask_again(plan: EnginePlan, cache: Path) -> EngineRow:
    """Several questions about one video."""
    folder, medium = model_folder(plan.kind, "bfloat16", cache), random_video(plan, plan.again_frames)
    ours = Ours(folder, config=EngineConfig(max_batch_tokens=8192, cache_bytes=3 << 30))
    mine, theirs = Answers(), Answers()
    keys: list[str] = []
    # Each question is the same work for the peer, so it is asked every so many alone.
    step = plan.questions // plan.peer_questions
    with Peer(folder) as peer, tempfile.TemporaryDirectory() as work:
        pixels = Path(work) / "pixels.pt"
        torch.save(medium.pixel_values[None].bfloat16(), pixels)

        def ask_ours(index: int) -> float:
            for question in range(index * step, (index + 1) * step):
                inputs = ModelInputs(
                    input_ids=tuple(question_ids(medium, question)), media=(medium,), media_starts=(1,)
                )
                start = time.perf_counter()
                if not keys:  # A session does it once, when it reads the medium.
                    keys.append(medium_key(medium))
                late = time.perf_counter() - start
                found, times = ours.generate(inputs, NUM_AGAIN, tuple(keys))
                mine[question] = found, [late + each for each in times]
            return mine[index * step][1][0]

        def ask_peer(index: int) -> float:
            ids = question_ids(medium, index * step)
            found = peer.call("generate", ids=[ids], pixels=str(pixels), max_new_tokens=NUM_AGAIN)
            theirs[index * step] = found["ids"][0], found["times_s"]
            return float(found["times_s"][0])

        sampler = Sampler(repeats=plan.peer_questions, attempts=1, peer_cpu_s=peer.cpu_s)
        sampler.pairs(ask_ours, ask_peer)
    return _again_row(plan, mine, theirs, sampler.others_share)


def _again_row(plan: EnginePlan, mine: Answers, theirs: Answers, others_share: float | None) -> EngineRow:
    share = mean([equal_share(mine[index][0], theirs[index][0]) for index in theirs])
    first, whole = (
        [tuple(pick(answers[index][1]) for index in sorted(answers)) for answers in (mine, theirs)]
        for pick in (lambda times: times[0], lambda times: times[-1])
    )
    asked, times = "", len(mine) // len(theirs)
    if times > 1:
        asked = (
            f" The peer is asked {len(theirs)} of them, each the same work; its time for all is theirs times {times}."
        )
    outputs = f"bf16: {share:.0%} of ids equal"
    return EngineRow(
        name="ask_again",
        question=f"How long do {plan.questions} questions about one video of {plan.again_frames} frames take?",
        setting=f"{setting_text(plan)} {NUM_AGAIN} new tokens each; the peer encodes and reads the video for each "
        f"question, ours once, and hashes its pixels once. One round, since one of the peer takes minutes; ours takes "
        f"{first[0][0]:.1f} s to the first token of the first question.{asked}",
        rows=(
            SubRow(
                name="first token, questions from the second on", aim=50, ours=first[0][1:],
                peer=first[1][1:], unit="s", outputs=outputs,
            ),
            SubRow(
                name="all questions", aim=6, ours=(sum(whole[0]),), peer=(sum(whole[1]) * times,), unit="s",
                outputs=outputs,
            ),
        ),
        others_share=others_share,
    )  # fmt: skip
