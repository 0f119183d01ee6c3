"""The model's own work against transformers with the same weights, dtype and threads: decoding, prefill, vision.

Random weights with real shapes (``engine_model``). Ours runs in this process, the peer in its own (``peers``); samples
alternate. The peer decodes in its better way, a growing or a static cache.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from engine_model import model_folder
from engine_ours import Ours, check_small, equal_share, errors_text, mean, random_video, seconds, setting_text, text_ids
from engine_plan import EnginePlan
from engine_rows import EngineRow, Sampler, SubRow
from peers import THREADS, Peer

from videolm.contracts import ModelInputs
from videolm.engine.runner import cached_token_bytes
from videolm.families import auto

NUM_NEW = 33


WIDTHS: tuple[tuple[str | None, float], ...] = ((None, 2.2), ("int8", 3.0), ("int4", 3.2))
"""How the decoder's weights are kept, and the aim."""


def decode_cpu(plan: EnginePlan, cache: Path) -> EngineRow:
    """Each further token after prompts of several lengths, with weights of several widths."""
    folder, checked = model_folder(plan.kind, "bfloat16", cache), check_small(cache)
    rows, busy, shares, ways = list[SubRow](), list[float](), list[str](), dict[int, str]()
    bandwidth = memory_bandwidth()
    models = [Ours(folder, quantize=quantize) for quantize, _ in WIDTHS]
    with Peer(folder) as peer:
        for length in plan.contexts:
            ways[length] = min(("", "static"), key=lambda kind, n=length: _peer_best(peer, n, kind))
            sampler = Sampler(repeats=plan.repeats, peer_cpu_s=peer.cpu_s)
            found = _decode_in_turn(models, peer, sampler, (length, ways[length]))
            for row, ours, (quantize, aim) in zip(found, models, WIDTHS, strict=True):
                name = f"{quantize or 'bf16'}, context {length}"
                rows.append(replace(row, name=name, aim=aim, outputs=f"{checked}; {row.outputs}"))
                rate = _bytes_read(ours, length) / statistics.median(row.ours)
                shares.append(_bandwidth_text(name, rate, bandwidth))
            busy += sampler.busy
    return EngineRow(
        name="decode_cpu",
        question="How long does each further token take after a prompt of so many tokens?",
        setting=f"{setting_text(plan)} {NUM_NEW} tokens, the first not counted; {plan.repeats} rounds, in each of "
        "which the peer and all widths of ours get the same prompt. "
        f"The peer's faster cache by context: {_ways_text(ways)}. Its weights are bfloat16 in every row.",
        rows=tuple(rows),
        reading=tuple(shares),
        others_share=max(busy, default=None),
    )


def _ways_text(ways: dict[int, str]) -> str:
    return ", ".join(f"{length}: {way or 'dynamic'}" for length, way in ways.items())


def _decode_in_turn(models: Sequence[Ours], peer: Peer, sampler: Sampler, where: tuple[int, str]) -> list[SubRow]:
    """A row for each of ours; the peer is asked once a round."""
    length, way = where
    answers: list[dict[int, list[int]]] = [{} for _ in range(len(models) + 1)]
    for ours in models:
        _our_decode(ours, length, 998)

    def sample_mine(seed: int, ours: Ours, kept: dict[int, list[int]]) -> float:
        per_token, kept[seed] = _our_decode(ours, length, seed)
        return per_token

    def sample_theirs(seed: int) -> float:
        per_token, answers[-1][seed] = _peer_decode(peer, length, seed, way)
        return per_token

    in_turn = [partial(sample_mine, ours=ours, kept=kept) for ours, kept in zip(models, answers, strict=False)]
    *mine, theirs = sampler.rounds([*in_turn, sample_theirs])
    rows = list[SubRow]()
    for values, kept in zip(mine, answers, strict=False):
        share = mean([equal_share(kept[seed], answers[-1][seed]) for seed in kept.keys() & answers[-1].keys()])
        rows.append(
            SubRow(name="", aim=1, ours=values, peer=theirs, unit="ms/token", outputs=f"{share:.0%} of ids equal")
        )
    return rows


def memory_bandwidth() -> float:
    """Bytes a millisecond that all threads read together, the best of a few tries."""
    one, other = torch.ones(1 << 27), torch.ones(1 << 27)
    return max((one.nbytes + other.nbytes) / (1000 * seconds(lambda: torch.dot(one, other))) for _ in range(8))


def _bytes_read(ours: Ours, length: int) -> int:
    """What one token needs of memory: the decoder's weights once, and keys and values as they are kept."""
    kept = (
        parameter.numel() * parameter.element_size()
        for name, parameter in ours.model.named_parameters()
        if not any(part in name for part in ("vision", "projector", "embed_tokens"))
    )
    return sum(kept) + cached_token_bytes(ours.model) * (length + NUM_NEW // 2)


def _bandwidth_text(name: str, rate: float, best: float) -> str:
    return (
        f"{name}: {rate / 1e6:.1f} GB/s of weights, keys and values, {rate / best:.0%} of the {best / 1e6:.1f} GB/s "
        f"that {THREADS} threads read."
    )


def _our_decode(ours: Ours, length: int, seed: int) -> tuple[float, list[int]]:
    ids, times = ours.generate(ModelInputs(input_ids=tuple(text_ids(length, seed))), NUM_NEW)
    return (times[-1] - times[0]) / (NUM_NEW - 1) * 1000, ids


def _peer_decode(peer: Peer, length: int, seed: int, kind: str) -> tuple[float, list[int]]:
    found = peer.call("generate", ids=[text_ids(length, seed)], max_new_tokens=NUM_NEW, cache=kind or None)
    times = found["times_s"]
    return (times[-1] - times[0]) / (NUM_NEW - 1) * 1000, found["ids"][0]


def _peer_best(peer: Peer, length: int, kind: str) -> float:
    return min(_peer_decode(peer, length, 997 + attempt, kind)[0] for attempt in range(2))


def prefill(plan: EnginePlan, cache: Path) -> EngineRow:
    """A prompt of text to its first token."""
    folder, length = model_folder(plan.kind, "bfloat16", cache), plan.prefill_len
    ours = Ours(folder)
    with Peer(folder) as peer, tempfile.TemporaryDirectory() as work:
        logits = Path(work) / "logits.pt"
        peer.call("prefill", ids=text_ids(length, 999), logits=str(logits))
        ours.generate(ModelInputs(input_ids=tuple(text_ids(length, 999))), 1)
        error = _prefill_errors(folder, ours, text_ids(length, 999), torch.load(logits)[0])
        sampler = Sampler(repeats=plan.repeats, peer_cpu_s=peer.cpu_s)
        values = sampler.pairs(
            lambda seed: ours.generate(ModelInputs(input_ids=tuple(text_ids(length, seed))), 1)[1][0],
            lambda seed: peer.call("prefill", ids=text_ids(length, seed))["total_s"],
        )
    row = SubRow(name=f"{length} tokens", aim=1.3, ours=values[0], peer=values[1], unit="s", outputs=error)
    return EngineRow(
        name="prefill",
        question="How long does it take to read a prompt?",
        setting=f"{setting_text(plan)} Text of one request to its first token; the peer's is one forward pass with the "
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
    return errors_text(mine, theirs, exact)


def vision(plan: EnginePlan, cache: Path) -> EngineRow:
    """Pixel values in, features out."""
    folder, rows, busy = model_folder(plan.kind, "bfloat16", cache), [], list[float]()
    ours = Ours(folder)
    exact = auto.load_model(folder, device=torch.device("cpu"), dtype=torch.float32)
    with Peer(folder) as peer, tempfile.TemporaryDirectory() as work:
        for num_frames in plan.vision_frames:
            pixels, features = Path(work) / "pixels.pt", Path(work) / "features.pt"
            medium = random_video(plan, num_frames)
            torch.save(medium.pixel_values[None].bfloat16(), pixels)
            peer.call("encode", pixels=str(pixels), save=str(features))
            with torch.inference_mode():
                mine, whole = (model.encode_media([medium])[0].tokens.float() for model in (ours.model, exact))
            outputs = errors_text(mine, torch.load(features), whole)
            sampler = Sampler(repeats=plan.repeats if num_frames <= 8 else plan.slow_repeats, peer_cpu_s=peer.cpu_s)
            values = sampler.pairs(
                lambda _, medium=medium: seconds(lambda: ours.model.encode_media([medium])),
                lambda _, pixels=pixels: peer.call("encode", pixels=str(pixels))["total_s"],
            )
            busy += sampler.busy
            rows.append(
                SubRow(name=f"{num_frames} frames", aim=1.3, ours=values[0], peer=values[1], unit="s", outputs=outputs)
            )
    return EngineRow(
        name="vision",
        question="How long does it take to encode frames, tower and projector?",
        setting=f"{setting_text(plan)} Pixel values in, features out; samples of both sides in turn.",
        rows=tuple(rows),
        others_share=max(busy, default=None),
    )
