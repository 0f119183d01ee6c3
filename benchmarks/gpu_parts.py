"""The parts of the row ``gpu`` about first and further tokens: of batches, of a long prompt, of a long video."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from engine_ours import equal_share, mean, text_ids
from gpu_limits import decode_bytes, prefill_flop
from gpu_measured import Measured, logit_errors
from gpu_plan import bandwidth_name, compiled_name, decode_name, first_name, prefill_names, video_names
from gpu_sides import Sides, ask, first_and_rate

from videolm.contracts import ModelInputs
from videolm.engine.runner import cached_token_bytes


def batches(measured: Measured, sides: Sides) -> None:
    """First token and further tokens of several requests at once, each about a video of its own."""
    plan = measured.plan
    errors = logit_errors(sides, min(plan.frames))
    measured.reading.append(f"LLaVA-NeXT-Video, {min(plan.frames)} frames, bf16 logits: {errors}.")
    for frames in plan.frames:
        for batch in plan.batch_sizes:
            _batch(measured, sides, batch, frames)


def _batch(measured: Measured, sides: Sides, batch: int, frames: int) -> None:
    plan, names = measured.plan, (first_name(batch, frames), decode_name(batch, frames))
    length = len(ask(sides.video(frames, 0), 0).input_ids)
    needed = batch * (length + plan.num_new) * cached_token_bytes(sides.model)
    if sides.model.device.type == "cuda" and needed > torch.cuda.get_device_properties(0).total_memory:
        for name in names:
            measured.fill(name, (), (), f"keys and values of {needed / 2**30:.0f} GiB do not fit")
        return
    prompts = sides.prompts(frames, batch)
    pair = _Pair(sides=sides, prompts=prompts, num_new=plan.num_new)
    mine, theirs, lacking = measured.sample(pair.ours, pair.peer)
    outputs = lacking or f"{pair.equal_share:.0%} of ids equal"
    measured.fill(names[0], mine, theirs, outputs)
    rates = [tuple(kept[repeat] for repeat in range(plan.repeats) if repeat in kept) for kept in pair.rates]
    measured.fill(names[1], rates[0], rates[1], outputs)
    limit = 1e6 * decode_bytes(sides.model, batch, length + plan.num_new // 2) / batch / measured.limits.bytes_a_s
    measured.reading.append(f"{names[1]}: {_rates_text(rates)}; {1e6 / limit:.0f} at the limit of the bandwidth.")
    if batch == 1:
        measured.fill(bandwidth_name(frames), rates[0], (limit,), "weights, keys and values once a token")
        if frames == plan.frames[0]:
            _compiled(measured, pair, frames)


def _rates_text(rates: Sequence[tuple[float, ...]]) -> str:
    """Tokens a second of both sides."""
    told = (f"{1e6 / statistics.median(values):.0f}" if values else "no" for values in rates)
    return "ours {} tokens/s, transformers {}".format(*told)


def _compiled(measured: Measured, pair: _Pair, frames: int) -> None:
    """Decode beside the peer's static cache; it may fail, since it needs a compiler."""
    name, static = compiled_name(frames), replace(pair, cache="static", rates=({}, {}))
    try:
        static.peer(-1)  # The first call compiles.
        measured.sample(static.ours, static.peer)
    except Exception as error:
        measured.fill(name, (), (), f"transformers: {type(error).__name__}")
        return
    rates = [tuple(kept[repeat] for repeat in range(measured.plan.repeats)) for kept in static.rates]
    measured.fill(name, rates[0], rates[1], f"{static.equal_share:.0%} of ids equal")


@dataclass(kw_only=True)
class _Pair:
    """The same batch on both sides: milliseconds to the first tokens, and aside the rate and ids of each repeat."""

    sides: Sides
    prompts: Sequence[ModelInputs]
    num_new: int
    cache: str | None = None
    rates: tuple[dict[int, float], dict[int, float]] = field(default_factory=lambda: ({}, {}))
    ids: list[list[list[int]]] = field(default_factory=lambda: [[], []])

    def ours(self, repeat: int) -> float:
        batch, length = len(self.prompts), len(self.prompts[0].input_ids)
        ours = self.sides.ours(room=batch * (length + self.num_new), batch=batch)
        self.ids[0], times = ours.together(self.prompts, self.num_new)
        first, self.rates[0][repeat] = first_and_rate(times)
        return first

    def peer(self, repeat: int) -> float:
        self.ids[1], times = self.sides.peer.generate(self.prompts, self.num_new, self.cache)
        first, self.rates[1][repeat] = first_and_rate(times)
        return first

    @property
    def equal_share(self) -> float:
        return mean([equal_share(*both) for both in zip(*self.ids, strict=True)])


def prefill(measured: Measured, sides: Sides) -> None:
    """A prompt of text to its first token."""
    length, names = measured.plan.prefill_len, prefill_names(measured.plan)
    ids = dict[str, int]()

    def prompt(repeat: int) -> ModelInputs:
        return ModelInputs(input_ids=tuple(text_ids(length, repeat + 1)))

    def ours(repeat: int) -> float:
        found, times = sides.ours(room=length + 1).together([prompt(repeat)], 1)
        ids["ours"] = found[0][0]
        return times[0][0] * 1000

    def peer(repeat: int) -> float:
        taken_s, ids["peer"] = sides.peer.prefill(prompt(repeat))
        return taken_s * 1000

    mine, theirs, lacking = measured.sample(ours, peer)
    is_equal = ids.get("ours") == ids.get("peer")
    measured.fill(names[0], mine, theirs, lacking or f"{'the same' if is_equal else 'another'} id")
    limit = prefill_flop(sides.model, length) / measured.limits.flop_a_s * 1000
    measured.fill(names[1], mine, (limit,), "the decoder's products and attention")


def video(measured: Measured, sides: Sides) -> None:
    """First token about a long video, with all of its visual tokens and with a share of them."""
    plan, names = measured.plan, video_names(measured.plan)
    errors = logit_errors(sides, min(plan.video_frames, 8))
    measured.reading.append(f"LLaVA-Video shapes, {min(plan.video_frames, 8)} frames, bf16 logits: {errors}.")
    whole = ask(sides.video(plan.video_frames, 0), 0)
    part = ask(sides.video(plan.video_frames, 0, plan.kept_share), 0)

    def ours(_: int, prompt: ModelInputs) -> float:
        engine = sides.ours(room=len(prompt.input_ids) + 2)
        return engine.together([prompt], 2)[1][0][0] * 1000

    for name, prompt in zip(names, (whole, part), strict=True):
        mine, theirs, lacking = measured.sample(
            functools.partial(ours, prompt=prompt), lambda _: sides.peer.generate([whole], 2)[1][0][0] * 1000
        )
        counts = f"{len(prompt.input_ids)} tokens, the peer {len(whole.input_ids)}"
        measured.fill(name, mine, theirs, lacking or counts)
