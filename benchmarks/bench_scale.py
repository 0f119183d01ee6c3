"""How time and memory grow with frames, requests and the length of a video: fitted powers and a plot, both sides."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from bench_processes import children_cpu_s
from clips import Clip, make_clip, make_long_clip
from engine_model import model_folder
from engine_ours import prompt_text
from engine_plan import EnginePlan
from engine_rows import EngineRow, Sampler, SubRow
from peers import THREADS, Apart, Peer

QUESTION = "What happens in this video?"
SIDES: tuple[type[Apart], ...] = (Apart, Peer)
LONG_CLIP = Clip(duration_s=10, height=180, width=320, bit_rate=200_000)
FEW_FRAMES = 8
SLOW_FRAMES = 128


@dataclass(frozen=True, kw_only=True)
class Growth:
    """One side's medians over sizes."""

    sizes: tuple[int, ...]
    times_s: tuple[float, ...]
    peaks_mb: tuple[float, ...]

    @property
    def time_power(self) -> float:
        return fitted_power(self.sizes, self.times_s)

    @property
    def memory_power(self) -> float:
        return fitted_power(self.sizes, self.peaks_mb)


def fitted_power(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The p of ``value = c * size ** p`` that fits best, in logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


@dataclass(kw_only=True)
class Measured:
    name: str
    unit: str
    growth: tuple[Growth, Growth]
    outputs: str
    busy: list[float] = field(default_factory=list)

    def rows(self) -> list[SubRow]:
        """The largest size, and what was fitted over all."""
        ours, peer = self.growth
        largest = f"{self.name}, {ours.sizes[-1]} {self.unit}".rstrip()
        return [
            SubRow(
                name=f"{largest}: time", aim=1, ours=ours.times_s[-1:], peer=peer.times_s[-1:], unit="s",
                outputs=f"grows with power {ours.time_power:.2f}, peer {peer.time_power:.2f}; {self.outputs}",
            ),
            SubRow(
                name=f"{largest}: memory", aim=1, ours=ours.peaks_mb[-1:], peer=peer.peaks_mb[-1:], unit="MB",
                outputs=f"grows with power {ours.memory_power:.2f}, peer {peer.memory_power:.2f}",
            ),
        ]  # fmt: skip


Sample = Callable[[Apart, int], tuple[float, object]]
"""A process and a size in; seconds, and what is compared between the sides, out."""


def scale(plan: EnginePlan, cache: Path) -> EngineRow:
    """Frames, requests, lengths."""
    kind = "slim" if plan.kind == "mid" else plan.kind
    folder, clip = model_folder(kind, "bfloat16", cache), make_clip(plan.clip, cache)
    long_clip = replace(LONG_CLIP, duration_s=min(plan.scale_lengths_s))
    paths = {length_s: make_long_clip(long_clip, length_s, cache) for length_s in plan.scale_lengths_s}
    size, tried = _best_batch(folder, clip, plan)
    frames = _grow("frames", "", plan.scale_frames, folder, plan, lambda p, n: _ask(p, folder, clip, n, 1, 1, plan))
    requests = _grow(
        "requests", "", plan.scale_requests, folder, plan,
        lambda p, n: _ask(p, folder, clip, min(FEW_FRAMES, min(plan.scale_frames)), n, size, plan),
    )  # fmt: skip
    lengths = _grow("reading 8 frames", "s", plan.scale_lengths_s, folder, plan, lambda p, n: _read(p, paths[n]))
    measured = (frames, requests, lengths)
    return EngineRow(
        name="scale",
        question="How do time and memory grow with frames, with requests, and with the length of a video?",
        setting="Random weights (tower and decoder of 4 layers 256 wide, 144 tokens a frame, 65536 at most), bfloat16, "
        f"{THREADS} threads, transformers 5.23.0 with SDPA; each size in a fresh process, after one small question; "
        f"medians of up to {plan.scale_repeats}, one from {SLOW_FRAMES} on. {plan.scale_new} new tokens. Requests are "
        f"about 8 frames each, all there at once; the peer takes {size} at a time, its best: {tried}. Videos of "
        f"several lengths: {long_clip.width}x{long_clip.height}, the same 10 s repeated. Memory is the most resident.",
        rows=tuple(row for each in measured for row in each.rows()),
        reading=(*(_power_text(each) for each in measured), _index_text(folder, paths, lengths.growth[0])),
        others_share=max((share for each in measured for share in each.busy), default=None),
        draw=lambda path: draw(measured, path),
    )


def _grow(
    name: str, unit: str, sizes: tuple[int, ...], folder: Path, plan: EnginePlan, sample: Sample
) -> Measured:  # fmt: skip
    found: dict[type[Apart], tuple[list[float], list[float]]] = {side: ([], []) for side in SIDES}
    busy, equal = list[float](), list[bool]()
    for size in sizes:
        outputs = dict[type[Apart], object]()

        def measure(side: type[Apart], size: int = size, outputs: dict[type[Apart], object] = outputs) -> float:
            with side(folder) as process:
                sample(process, min(sizes))
                repeats = 1 if size >= SLOW_FRAMES else plan.scale_repeats
                taken = [sample(process, size) for _ in range(repeats)]
                outputs[side] = taken[-1][1]
                found[side][1].append(float(process.call("memory")["peak"]) / 1e6)
            return statistics.median(seconds for seconds, _ in taken)

        sampler = Sampler(repeats=1, peer_cpu_s=children_cpu_s)
        values = sampler.rounds([lambda _, side=side: measure(side) for side in SIDES])
        for side, value in zip(SIDES, values, strict=True):
            found[side][0].append(value[0])
            del found[side][1][len(found[side][0]) :]
        busy += sampler.busy
        equal.append(outputs[Apart] == outputs[Peer])
    growth = [Growth(sizes=sizes, times_s=tuple(found[s][0]), peaks_mb=tuple(found[s][1])) for s in SIDES]
    outputs_text = f"outputs equal at {sum(equal)} of {len(equal)} sizes"
    return Measured(name=name, unit=unit, growth=(growth[0], growth[1]), outputs=outputs_text, busy=busy)


def _ask(
    process: Apart, folder: Path, clip: Path, num_frames: int, num_requests: int, size: int, plan: EnginePlan
) -> tuple[float, object]:
    is_peer = isinstance(process, Peer)
    text = prompt_text(folder, QUESTION) if is_peer else QUESTION
    size = size if is_peer else num_requests
    total_s, ids = 0.0, list[list[int]]()
    for first in range(0, num_requests, size):
        count = min(size, num_requests - first)
        found = process.call(
            "ask_batch", paths=[str(clip)] * count, texts=[text] * count, num_frames=num_frames,
            max_new_tokens=plan.scale_new,
        )  # fmt: skip
        total_s += float(found["total_s"])
        ids += found["ids"]
    return total_s, ids


def _read(process: Apart, path: Path) -> tuple[float, object]:
    found = process.call("read", path=str(path), num_frames=FEW_FRAMES)
    return float(found["total_s"]), found["sha256"]


def _best_batch(folder: Path, clip: Path, plan: EnginePlan) -> tuple[int, str]:
    times = dict[int, float]()
    num_frames = min(FEW_FRAMES, min(plan.scale_frames))
    with Peer(folder) as peer:
        for size in plan.batch_sizes:
            times[size] = min(_ask(peer, folder, clip, num_frames, size, size, plan)[0] / size for _ in range(2))
    return min(times, key=lambda size: times[size]), ", ".join(f"{size}: {t:.2f} s each" for size, t in times.items())


def _power_text(measured: Measured) -> str:
    ours, peer = measured.growth
    return (
        f"{measured.name}, {ours.sizes[0]} to {ours.sizes[-1]} {measured.unit}".rstrip()
        + f": time grows with the power {ours.time_power:.2f} (transformers {peer.time_power:.2f}), "
        f"memory with {ours.memory_power:.2f} ({peer.memory_power:.2f}). Ours in s: "
        + ", ".join(f"{size}: {value:.3g}" for size, value in zip(ours.sizes, ours.times_s, strict=True))
        + "; transformers: "
        + ", ".join(f"{size}: {value:.3g}" for size, value in zip(peer.sizes, peer.times_s, strict=True))
        + "."
    )


def _index_text(folder: Path, paths: dict[int, Path], ours: Growth) -> str:
    with Apart(folder) as process:
        indexing = {
            length: min(float(process.call("index", path=str(path))["total_s"]) for _ in range(3))
            for length, path in paths.items()
        }
    parts = [
        f"{length} s: {taken:.3f} s, of which reading every packet's header takes {indexing[length]:.3f} s"
        for length, taken in zip(ours.sizes, ours.times_s, strict=True)
    ]
    return f"8 frames of a video of {'; of '.join(parts)}."


def draw(measured: Sequence[Measured], path: Path) -> None:
    """Time and memory of both sides over sizes, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    axes = figure.subplots(2, len(measured), squeeze=False)
    for column, each in enumerate(measured):
        for name, growth in zip(("ours", "transformers"), each.growth, strict=True):
            axes[0, column].plot(growth.sizes, growth.times_s, marker="o", label=f"{name}, {growth.time_power:.2f}")
            axes[1, column].plot(growth.sizes, growth.peaks_mb, marker="o", label=f"{name}, {growth.memory_power:.2f}")
        for row, label in enumerate(("time, s", "most memory, MB")):
            axes[row, column].set(xscale="log", yscale="log", xlabel=f"{each.name} {each.unit}".rstrip(), ylabel=label)
            axes[row, column].grid(alpha=0.3)
            axes[row, column].legend(title="fitted power")
    figure.savefig(path, dpi=100)
