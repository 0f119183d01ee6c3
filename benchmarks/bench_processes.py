"""What only a fresh process shows: loading, the time to a first token, memory; both sides in processes of their own."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench_startup import COMMAND, demo_question, time_process, time_to_first_output
from clips import make_clip
from engine_model import model_folder
from engine_ours import equal_share, prompt_text, setting_text, text_ids
from engine_plan import EnginePlan
from engine_rows import EngineRow, Sampler, SubRow
from peers import THREADS, Apart, Peer, environment, peer_python
from reports import ROOT

from videolm.session import bundled_folder

QUESTION = "What happens in this video?"
OUR_IMPORT = "from videolm import load, Engine, SamplingParams, LlavaNextVideoForConditionalGeneration"
PEER_IMPORT = (
    "import peer; peer.declare_operators()\n"
    "from transformers import LlavaNextVideoForConditionalGeneration, LlavaNextVideoProcessor"
)


def children_cpu_s() -> float:
    """CPU seconds of the processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def load(plan: EnginePlan, cache: Path) -> EngineRow:
    """Weights from a warm disk to a model that is ready to answer."""
    folder = model_folder(plan.kind, "bfloat16", cache)
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    peaks: dict[type[Apart], list[float]] = {Apart: [], Peer: []}
    firsts: dict[type[Apart], list[float]] = {Apart: [], Peer: []}
    ids: dict[type[Apart], list[int]] = {}

    def sample(side: type[Apart]) -> float:
        with side(folder) as process:
            peaks[side].append((process.most_anonymous - process.loaded["imported_bytes"]) / 1e6)
            found = process.call("generate", ids=[text_ids(40, 0)], max_new_tokens=8)
            ids[side] = found["ids"][0]
            firsts[side].append(float(process.loaded["load_s"]) + found["times_s"][0])
            return float(process.loaded["load_s"])

    sample(Apart), sample(Peer)  # The disk is warm from here on.
    sampler = Sampler(repeats=plan.process_repeats, peer_cpu_s=children_cpu_s)
    values = sampler.pairs(lambda _: sample(Apart), lambda _: sample(Peer))
    outputs = f"bf16: {equal_share(ids[Apart], ids[Peer]):.0%} of ids equal"
    mine, first, peer_first = tuple(peaks[Apart][1:]), tuple(firsts[Apart][1:]), tuple(firsts[Peer][1:])
    return EngineRow(
        name="load",
        question="How long does it take to load a model, and how much memory?",
        setting=f"{setting_text(plan)} {weights / 1e6:.0f} MB of weights. A fresh process each; imports do not count; "
        "both map the file, and read weights as they are first used, those of the tower not for this prompt of text; "
        "ours then lays each out for the processor. Memory is the most that was anonymous (RssAnon) until the model is "
        "ready, less what was so before, after the imports; of transformers it is "
        f"{statistics.median(peaks[Peer]):.0f} MB.",
        rows=(
            SubRow(name="time", aim=1, ours=values[0], peer=values[1], unit="s", outputs=outputs),
            SubRow(
                name="memory, beside 1.1 x weights", aim=1, ours=mine, peer=(1.1 * weights / 1e6,), unit="MB",
                outputs=outputs,
            ),
            SubRow(name="time with a first token", aim=1, ours=first, peer=peer_first, unit="s", outputs=outputs),
        ),
        others_share=sampler.others_share,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A model and a question that both sides are asked from a cold start."""

    name: str
    folder: Path
    dtype: str
    video: Path
    question: str
    num_frames: int
    num_new: int

    def ours(self) -> list[str]:
        options = ["--frames", str(self.num_frames), "--max-new-tokens", str(self.num_new)]
        return [COMMAND, "ask", "--model", str(self.folder), *options, str(self.video), self.question]

    def peer(self) -> list[str]:
        prompt = prompt_text(self.folder, self.question)
        parts = [self.folder, self.dtype, self.video, prompt, self.num_frames, self.num_new]
        return [peer_python(), str(ROOT / "benchmarks" / "peer_start.py"), *map(str, parts)]


def start(plan: EnginePlan, cache: Path) -> EngineRow:
    """Imports, and a process's start to its first token."""
    folder, clip = model_folder(plan.kind, "bfloat16", cache), make_clip(plan.clip, cache)
    demo, question = demo_question()
    cases = (
        _Case(
            name="first token, 1 frame", folder=folder, dtype="bfloat16", video=clip, question=QUESTION, num_frames=1,
            num_new=4,
        ),
        _Case(
            name="first token, bundled model and clip, 1 frame", folder=bundled_folder(), dtype="float32", video=demo,
            question=question, num_frames=1, num_new=16,
        ),
    )  # fmt: skip
    sampler = Sampler(repeats=plan.process_repeats, peer_cpu_s=children_cpu_s)
    imports = [
        ([sys.executable, "-c", OUR_IMPORT], None),
        ([peer_python(), "-c", PEER_IMPORT], environment() | {"PYTHONPATH": str(ROOT / "benchmarks")}),
    ]
    functions: list[Callable[[int], float]] = [
        lambda _, command=command, env=env: time_process(command, env=env) / 1000 for command, env in imports
    ]
    outputs = ["nothing to compare"]
    for case in cases:
        commands = [(case.ours(), None), (case.peer(), environment())]
        texts = [_output(command, env) for command, env in commands]
        outputs.append("equal text" if texts[0] == texts[1] else f"texts {texts[0]!r} and {texts[1]!r}")
        functions += [
            lambda _, command=command, env=env: time_to_first_output(command, env=env) / 1000
            for command, env in commands
        ]
    for function in functions[:2]:
        function(0)
    values = sampler.rounds(functions)
    names = ("import", *(case.name for case in cases))
    return EngineRow(
        name="start",
        question="How long does it take from the start of a process to its first token, and to import the library?",
        setting=f"{setting_text(plan)} {plan.clip.description}. A fresh process each on a warm disk: `videolm ask` "
        "beside the least program around `generate` that streams; the first byte on standard output counts. The "
        f"bundled model runs in float32 on both sides. The imports: `{OUR_IMPORT}`; the same classes from "
        f"transformers. {plan.process_repeats} rounds, {THREADS} threads.",
        rows=tuple(
            SubRow(name=name, aim=2, ours=values[2 * i], peer=values[2 * i + 1], unit="s", outputs=outputs[i])
            for i, name in enumerate(names)
        ),
        others_share=sampler.others_share,
    )


def _output(command: list[str], env: dict[str, str] | None) -> str:
    return subprocess.run(command, check=True, env=env, capture_output=True, text=True).stdout.strip()


def memory(plan: EnginePlan, cache: Path) -> EngineRow:
    """The most that is resident while a video is asked about."""
    folder, clip = model_folder(plan.kind, "bfloat16", cache), make_clip(plan.clip, cache)
    ids: dict[type[Apart], list[int]] = {}

    def sample(side: type[Apart]) -> float:
        text = QUESTION if side is Apart else prompt_text(folder, QUESTION)
        with side(folder) as process:
            found = process.call("ask", path=str(clip), text=text, num_frames=plan.memory_frames, max_new_tokens=8)
            ids[side] = found["ids"][0]
            return float(process.call("memory")["peak"]) / 1e6

    sampler = Sampler(repeats=1, peer_cpu_s=children_cpu_s)
    values = sampler.pairs(lambda _: sample(Apart), lambda _: sample(Peer))
    share = equal_share(ids[Apart], ids[Peer])
    return EngineRow(
        name="memory",
        question=f"How much memory does it take to ask about {plan.memory_frames} frames of a video?",
        setting=f"{setting_text(plan)} {plan.clip.description}; 8 new tokens. The most that was resident, of a fresh "
        "process each, imports and all. One sample a side: it differs little, and takes minutes.",
        rows=(
            SubRow(
                name=f"{plan.memory_frames} frames", aim=1.67, ours=values[0], peer=values[1], unit="MB",
                outputs=f"bf16: {share:.0%} of ids equal",
            ),
        ),
        others_share=sampler.others_share,
    )  # fmt: skip
