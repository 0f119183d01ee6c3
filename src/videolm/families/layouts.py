"""How checkpoints of the LLaVA line name their tensors: the original layout and those of four transformers periods."""

from __future__ import annotations

from dataclasses import replace

from videolm.weights.keymap import KeyLayout, KeyRule

__all__ = ["LLAVA_SAVE_LAYOUTS", "LLAVA_TOWER_LAYOUTS", "TWO_TOWER_LAYOUTS", "TWO_TOWER_SAVE_LAYOUTS"]

# Tables that every reader computes, SigLIP's pooling head, and its last layer, which these models never run.
_IGNORED = (
    r".*\.position_ids",
    r".*\.rotary_emb\.inv_freq",
    r".*\.vision_model\.head\..*",
    r"(model\.)?vision_tower\.head\..*",
    r".*vision_tower\..*encoder\.layers\.26\..*",
)

_ORIGINAL = KeyLayout(
    name="original",
    marks=("model.mm_projector.", "model.layers."),
    rules=(
        KeyRule(file="model.", module="model.language_model."),
        KeyRule(file="lm_head.", module="lm_head."),
        KeyRule(file="model.vision_tower.vision_tower.vision_model.", module="model.vision_tower."),
        KeyRule(file="model.mm_projector.0.", module="model.multi_modal_projector.linear_1."),
        KeyRule(file="model.mm_projector.2.", module="model.multi_modal_projector.linear_2."),
        KeyRule(file="model.image_newline", module="model.image_newline"),
        KeyRule(file="model.faster_token", module="model.faster_token"),
        KeyRule(file="model.vision_resampler.", module="model.vision_resampler."),
    ),
    ignored=_IGNORED,
)


def _flat(name: str, tower: str, resampler: str) -> KeyLayout:
    """Parts side by side, without a common prefix."""
    return KeyLayout(
        name=name,
        marks=(f"{tower}embeddings.", f"{tower}encoder."),
        rules=(
            KeyRule(file=tower, module="model.vision_tower."),
            KeyRule(file="multi_modal_projector.", module="model.multi_modal_projector."),
            KeyRule(file=resampler, module="model.vision_resampler."),
            KeyRule(file="image_newline", module="model.image_newline"),
            KeyRule(file="faster_token", module="model.faster_token"),
            KeyRule(file="language_model.model.", module="model.language_model."),
            KeyRule(file="language_model.lm_head.", module="lm_head."),
        ),
        ignored=_IGNORED,
    )


def _nested(name: str, tower: str) -> KeyLayout:
    """Parts under ``model.``, the head beside them: the names in memory but for the tower."""
    return KeyLayout(
        name=name,
        marks=(f"{tower}embeddings.", f"{tower}encoder."),
        rules=(
            KeyRule(file=tower, module="model.vision_tower."),
            KeyRule(file="model.multi_modal_projector.", module="model.multi_modal_projector."),
            KeyRule(file="model.vision_resampler.", module="model.vision_resampler."),
            KeyRule(file="model.image_newline", module="model.image_newline"),
            KeyRule(file="model.faster_token", module="model.faster_token"),
            KeyRule(file="model.language_model.", module="model.language_model."),
            KeyRule(file="lm_head.", module="lm_head."),
        ),
        ignored=_IGNORED,
    )


_BEFORE_4_52 = _flat("transformers before 4.52", "vision_tower.vision_model.", "vision_resampler.")
# Here transformers leaves the learned pooling where it is in memory.
_FRESH_5 = _flat("transformers 5, saved afresh", "vision_tower.", "model.vision_resampler.")
_FROM_4_52 = _nested("transformers from 4.52", "model.vision_tower.vision_model.")
_MEMORY_5 = _nested("transformers 5, in memory", "model.vision_tower.")


_OVER_TIME = r".*video_tower\..*\.temporal_(embedding|attn\..*|layer_norm1\..*)"


def _two_towers(layout: KeyLayout) -> KeyLayout:
    """The same names with a tower for pictures and one for videos in the place of the one."""
    kept = [rule for rule in layout.rules if not rule.module.endswith(("vision_resampler.", "newline", "_token"))]
    rules, marks = [], []
    for name in ("image_tower", "video_tower"):
        for rule in kept:
            # The original code has no part called vision_model inside these towers.
            file = rule.file.replace("vision_tower.vision_tower.vision_model.", "vision_tower.vision_tower.")
            rules.append(
                KeyRule(file=file.replace("vision_tower", name), module=rule.module.replace("vision_tower", name))
            )
        marks += [mark.replace("vision_tower", name) for mark in layout.marks]
    return replace(
        layout,
        marks=tuple(dict.fromkeys(marks)),
        rules=tuple(dict.fromkeys(rules)),
        # Models without attention over time, as the configuration may ask for, leave out what it needs.
        ignored=(*layout.ignored, _OVER_TIME),
        cannot_hold=(_OVER_TIME,) if layout in (_BEFORE_4_52, _FRESH_5) else (),
    )


LLAVA_TOWER_LAYOUTS = (_BEFORE_4_52, _FROM_4_52, _MEMORY_5, _FRESH_5, _ORIGINAL)
"""All that models with one tower are found in. The original layout comes last: its marks are the least telling."""

LLAVA_SAVE_LAYOUTS = {"hf": _BEFORE_4_52, "hf5": _FRESH_5, "original": _ORIGINAL, "memory": _MEMORY_5}
"""Names for writing: ``hf`` is read by every transformers release."""

TWO_TOWER_LAYOUTS = tuple(map(_two_towers, LLAVA_TOWER_LAYOUTS))
TWO_TOWER_SAVE_LAYOUTS = dict(zip(LLAVA_SAVE_LAYOUTS, map(_two_towers, LLAVA_SAVE_LAYOUTS.values()), strict=True))
"""The same for models with a tower for pictures and one for videos."""
