"""How much is encoded in one step: a step that encodes for long keeps every running answer waiting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from videolm.contracts import VisualInput
from videolm.engine.answering import Answering
from videolm.engine.features import FeatureSource
from videolm.engine.work import Work
from videolm.models.video_lm import VideoLM

__all__ = ["EncodingBudget", "works_within"]

_CPU_PATCHES = 2048
_GPU_PATCHES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class EncodingBudget:
    """Most patches of one step."""

    max_patches: int
    patch_size: int

    @classmethod
    def of(cls, model: VideoLM, max_patches: int | None) -> EncodingBudget:
        """Of this model's towers; with None as many as suit its device."""
        if max_patches is None:
            max_patches = _CPU_PATCHES if model.device.type == "cpu" else _GPU_PATCHES
        return cls(max_patches=max_patches, patch_size=model.model.config.vision.patch_size)

    def cost(self, medium: VisualInput) -> int:
        """Patches of all frames or tiles."""
        count, _, height, width = medium.pixel_values.shape
        return int(count * (height // self.patch_size) * (width // self.patch_size))


def works_within(
    works: Iterable[Work], answering: Mapping[str, Answering], features: FeatureSource, budget: EncodingBudget
) -> list[Work]:
    """The works of a step but for those whose media are encoded in a later one.

    Those that encode nothing stay, and of the others, in their order, as many as the budget allows: at least one.
    """
    kept = list[Work]()
    paid, left = set[str](), budget.max_patches
    for work in works:
        each = answering[work.job.id]
        media = [(each.media_keys[index], each.inputs.media[index]) for index in each.missing(work)]
        costs = {
            key: budget.cost(medium)
            for key, medium in media
            if medium.features is None and key not in paid and not features.holds(key)
        }
        total = sum(costs.values())
        if total and paid and total > left:
            left = 0  # Those behind it must not overtake it for good.
            continue
        if total:
            paid.update(costs)
            left -= total
        kept.append(work)
    return kept
