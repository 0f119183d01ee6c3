"""What guessing tokens ahead gains where answers repeat themselves, and costs where every guess is wrong."""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from clips import CACHE
from engine_model import model_folder
from engine_ours import equal_share, mean
from measuring import spread_text
from reports import ROOT, Section, report_name, report_text
from torch import Tensor

from videolm.contracts import ModelInputs
from videolm.engine.config import EngineConfig
from videolm.engine.engine import Engine
from videolm.engine.request import Request
from videolm.families import auto
from videolm.generation.params import SamplingParams
from videolm.models.video_lm import VideoLM
from videolm.processing.processor import Processor
from videolm.session import load
from videolm.world.drawing import encode_clip
from videolm.world.test_set import load_items

RESULTS = ROOT / "benchmarks" / "results"
LENGTHS = (0, 2, 4, 8)
COLUMNS = ("answers", "guessed at most", "tokens a step", "ms a token", "times faster", "ids")
CAPTION = "Describe the video."
FIRST_ID, NUM_IDS = 5, 1000
"""Of the answers that no guess fits."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Prompts, answered one after the other."""

    name: str
    model: VideoLM
    processor: Processor
    requests: Callable[[str], list[Request]]
    """Made anew for each engine, with ids that begin with this."""
    ngram: int = 3


@dataclass(frozen=True, kw_only=True)
class Answered:
    """All answers of one workload, once."""

    ids: tuple[tuple[int, ...], ...]
    num_steps: int
    """In which tokens after the first of each answer came."""
    decode_s: float
    """From the first token of each answer to its last."""

    @property
    def num_tokens(self) -> int:
        return sum(len(each) - 1 for each in self.ids)


def captions(count: int) -> tuple[Workload, Workload]:
    """The bundled model describes clips, and is asked to do so again in the same conversation."""
    session = load()
    scenes = [item.scene for item in load_items() if item.question.task == "description" and item.scene.is_clip]
    clips = [encode_clip(scene) for scene in scenes[:count]]
    params = SamplingParams(max_new_tokens=96)

    def ask(prefix: str, *, again: bool) -> list[Request]:
        found = []
        for index, clip in enumerate(clips):
            messages = [{"role": "user", "content": [{"type": "video", "video": clip}, text(CAPTION)]}]
            if again:
                answer = session.ask(clip, CAPTION, max_new_tokens=96).text
                messages += [
                    {"role": "assistant", "content": [text(answer)]}, {"role": "user", "content": [text(CAPTION)]},
                ]  # fmt: skip
            found.append(Request(id=f"{prefix} {index}", messages=messages, params=params))
        return found

    shared = {"model": session.model, "processor": session.processor}
    return (
        Workload(name="captions", requests=lambda prefix: ask(prefix, again=False), **shared),
        Workload(name="captions, asked for twice", requests=lambda prefix: ask(prefix, again=True), **shared),
    )


def wrong_guesses(kind: str, cache: Path, num_new: int) -> Workload:
    """A model with random weights, held to an answer whose every token stood in the prompt before something else."""
    folder = model_folder(kind, "bfloat16", cache)
    model = auto.load_model(folder, device=torch.device("cpu"), dtype=torch.bfloat16)
    num_ids = min(NUM_IDS, model.model.config.decoder.vocab_size - FIRST_ID)
    ids = list(range(FIRST_ID, FIRST_ID + num_ids))
    answer = Random(1).sample(ids, num_ids)
    Random(0).shuffle(ids)

    def next_alone(logits: Tensor, so_far: Sequence[int]) -> Tensor:
        masked = torch.full_like(logits, -torch.inf)
        masked[answer[len(so_far)]] = logits[answer[len(so_far)]]
        return masked

    params = SamplingParams(max_new_tokens=num_new, min_new_tokens=num_new)
    inputs = ModelInputs(input_ids=tuple(ids))
    return Workload(
        name=f"random weights ({kind}), bf16",
        model=model,
        processor=auto.load_processor(folder),
        requests=lambda prefix: [Request(id=prefix, inputs=inputs, params=params, logits_processors=(next_alone,))],
        ngram=1,
    )


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def answer_all(engine: Engine, requests: Sequence[Request]) -> Answered:
    """Answer one request after the other."""
    found, num_steps, decode_s = list[tuple[int, ...]](), 0, 0.0
    for request in requests:
        engine.add(request)
        ids, first_s, last_s = tuple[int, ...](), 0.0, 0.0
        while engine.has_requests:
            for output in engine.step():
                if output.error is not None:
                    raise output.error
                num_steps += bool(ids)
                last_s = time.perf_counter()
                first_s, ids = first_s or last_s, output.output_ids
        found.append(ids)
        decode_s += last_s - first_s
    return Answered(ids=tuple(found), num_steps=num_steps, decode_s=decode_s)


def measure(workload: Workload, lengths: Sequence[int], repeats: int) -> list[tuple[str, ...]]:
    """Rows of the table: all lengths in turn, each with its own engine, once untimed and then so many times."""
    engines = {
        length: Engine(
            workload.model,
            workload.processor,
            EngineConfig(draft_len=length, draft_ngram=workload.ngram, cache_bytes=1 << 30),
        )
        for length in lengths
    }
    taken: dict[int, list[Answered]] = {length: [] for length in lengths}
    for round_index in range(1 + repeats):
        for length, engine in engines.items():
            answered = answer_all(engine, workload.requests(f"{round_index} of {length}"))
            if round_index:
                taken[length].append(answered)
    return [row_of(workload.name, length, taken[length], taken[lengths[0]]) for length in lengths]


def row_of(name: str, length: int, taken: Sequence[Answered], without: Sequence[Answered]) -> tuple[str, ...]:
    expected = without[0].ids
    faster = [plain.decode_s / each.decode_s for plain, each in zip(without, taken, strict=True)]
    steps = statistics.median(each.num_tokens / each.num_steps for each in taken)
    return (
        name,
        str(length) if length else "nothing",
        f"{steps:.2f}",
        spread_text([1000 * each.decode_s / each.num_tokens for each in taken]),
        f"{statistics.median(faster):.2f} ({min(faster):.2f} to {max(faster):.2f})" if length else "1",
        f"{mean([equal_share(*pair) for each in taken for pair in zip(each.ids, expected, strict=True)]):.0%} equal",
    )


def section_of(rows: Sequence[tuple[str, ...]], *, repeats: int, count: int) -> Section:
    """The table and how it came about."""
    return Section(
        title="Drafts",
        question="What do tokens that are guessed from the text so far gain, and what do wrong guesses cost?",
        setting=(
            f"Greedy answers one after the other; the time from the first token of an answer to its last. Captions: "
            f"the bundled model in float32 on {count} clips of the test set, guesses after three tokens that stood in "
            "the text before. Random weights: a prompt of 1000 different tokens, an answer that is held to the same in "
            "another order, and guesses after a single token, so that there is always a guess and hardly any is "
            f"right: what guessing costs. {repeats} rounds, all settings in turn, after one that is not timed."
        ),
        columns=COLUMNS,
        rows=tuple(rows),
        reading=(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few clips and a tiny model; print instead of writing")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder for the model (default: a temporary one)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the table")
    arguments = parser.parse_args()
    count, repeats, kind, num_new = (2, 2, "small", 8) if arguments.quick else (40, 5, "mid", 64)
    workloads = (*captions(count), wrong_guesses(kind, arguments.cache, num_new))
    rows = [row for workload in workloads for row in measure(workload, LENGTHS, repeats)]
    section, today = section_of(rows, repeats=repeats, count=count), datetime.date.today()
    report = report_text([section], arguments=sys.argv[1:], today=today)
    if arguments.quick:  # A trial is no measurement.
        print(report)
        return
    path = arguments.out / report_name("drafts", today)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(report, encoding="utf-8")
    os.replace(partial, path)
    print(path)


if __name__ == "__main__":
    main()
