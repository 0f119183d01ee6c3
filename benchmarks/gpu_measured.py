"""What the row ``gpu`` has found so far, and the checks that both sides compute the same."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from engine_ours import errors_text, expect_equal
from engine_rows import Sampler, SubRow
from gpu_limits import measure_limits
from gpu_plan import GpuPlan, Limits, known_limits, planned_rows
from gpu_sides import Sides, ask, make_sides

Sample = Callable[[int], float]


@dataclass(kw_only=True)
class Measured:
    """What has been found so far."""

    plan: GpuPlan
    device_name: str
    rows: dict[str, SubRow] = field(default_factory=dict)
    reading: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = planned_rows(self.plan)
        found = measure_limits(self.plan)
        known = known_limits(self.device_name)
        self.limits: Limits = known or found
        before = f"; {known.text} were measured on such a device before, and are the limits here" if known else ""
        self.reading.append(f"This run copied and multiplied at {found.text}{before}.")

    def fill(self, name: str, ours: tuple[float, ...], peer: tuple[float, ...], outputs: str) -> None:
        """Values of a planned sub-row; it is told at once, since a run may be cut off."""
        self.rows[name] = replace(self.rows[name], ours=ours, peer=peer, outputs=outputs)
        print(" | ".join(self.rows[name].as_cells()), file=sys.stderr, flush=True)

    def sample(self, ours: Sample, peer: Sample) -> tuple[tuple[float, ...], tuple[float, ...], str]:
        """Both in turn after a first call of each; a side that finds too little memory has no values."""
        functions, lacking = dict[str, Sample](), list[str]()
        for side, function in (("ours", ours), ("transformers", peer)):
            try:
                function(-1)
                functions[side] = function
            except torch.OutOfMemoryError:
                lacking.append(f"{side}: too little memory")
        taken = Sampler(repeats=self.plan.repeats, attempts=1, peer_cpu_s=lambda: 0.0).rounds(list(functions.values()))
        values = dict(zip(functions, taken, strict=True))
        return values.get("ours", ()), values.get("transformers", ()), ", ".join(lacking)


def check_ids(plan: GpuPlan) -> str:
    """In float32 small models of both families give equal ids on both sides; anything else ends the benchmark."""
    allowed, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        for family in ("next", "video"):
            sides = make_sides(family, "small", plan.device, torch.float32)
            prompts = [ask(sides.video(num_frames, num_frames), num_frames) for num_frames in (1, 2, 4)]
            longest = max(len(prompt.input_ids) for prompt in prompts)
            together, _ = sides.ours(room=3 * (longest + 16), batch=3).together(prompts, 16)
            for prompt, ids in zip(prompts, together, strict=True):
                alone, _ = sides.ours(room=longest + 16).together([prompt], 16)
                expect_equal(alone[0], ids)
                expect_equal(alone[0], sides.peer.generate([prompt], 16)[0][0])
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
    return "float32, small models of both families: equal ids"


@torch.inference_mode()
def logit_errors(sides: Sides, num_frames: int) -> str:
    """How far both sides are from float32 with the same weights after a question about a video."""
    prompt = ask(sides.video(num_frames, 0), 0)
    mine, theirs = sides.model.prefill(prompt, sides.model.new_cache()).float(), sides.peer.logits(prompt)
    exact = copy.deepcopy(sides.model).float()
    return errors_text(mine, theirs, exact.prefill(prompt, exact.new_cache()))
