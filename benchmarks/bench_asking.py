"""Asking about a video: once from the file, and again, against transformers with the same weights and threads."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from engine_model import model_folder
from engine_ours import Ours, equal_share, question_ids, random_video, setting_text
from engine_plan import EnginePlan
from engine_rows import EngineRow, Sampler, SubRow
from peers import Peer

from videolm.contracts import ModelInputs
from videolm.engine.config import EngineConfig
from videolm.engine.features import medium_key


def ask_again(plan: EnginePlan, cache: Path) -> EngineRow:
    """Several questions about one video."""
    repeats = 1
    folder, medium = model_folder(plan.kind, "bfloat16", cache), random_video(plan, plan.again_frames)
    first_mine, first_theirs, all_mine, all_theirs, shares = [], [], [], [], []
    num_new = 8
    busy: list[float] = []
    with Peer(folder) as peer, tempfile.TemporaryDirectory() as work:
        pixels = Path(work) / "pixels.pt"
        torch.save(medium.pixel_values[None].bfloat16(), pixels)
        for _ in range(repeats):
            ours = Ours(folder, config=EngineConfig(max_batch_tokens=8192, cache_bytes=3 << 30))
            mine: list[tuple[list[int], list[float]]] = []
            theirs: list[tuple[list[int], list[float]]] = []

            keys: list[str] = []

            def ask_mine(index: int, ours: Ours = ours, mine: list = mine, keys: list[str] = keys) -> float:
                ids = question_ids(medium, index)
                inputs = ModelInputs(input_ids=tuple(ids), media=(medium,), media_starts=(1,))
                start = time.perf_counter()
                if not keys:  # A session does it once, when it reads the medium.
                    keys.append(medium_key(medium))
                late = time.perf_counter() - start
                found, times = ours.generate(inputs, num_new, tuple(keys))
                mine.append((found, [late + each for each in times]))
                return mine[-1][1][0]

            def ask_theirs(index: int, theirs: list = theirs) -> float:
                ids = question_ids(medium, index)
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
            shares += [equal_share(a[0], b[0]) for a, b in zip(mine, theirs, strict=False)]
    outputs = f"bf16: {sum(shares) / len(shares):.0%} of ids equal"
    return EngineRow(
        name="ask_again",
        question=f"How long do {plan.questions} questions about one video of {plan.again_frames} frames take?",
        setting=f"{setting_text(plan)} {num_new} new tokens each; the peer encodes and reads the video for each "
        f"question, ours once, and hashes its pixels once. {repeats} round(s): one of the peer takes minutes.",
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
