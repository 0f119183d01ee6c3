"""How checkpoints of the LLaVA line name their tensors: the original layout and those of four transformers periods."""

from __future__ import annotations

from videolm.weights.keymap import KeyLayout, KeyRule

__all__ = ["LLAVA_SAVE_LAYOUTS", "LLAVA_TOWER_LAYOUTS"]

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

LLAVA_TOWER_LAYOUTS = (_BEFORE_4_52, _FROM_4_52, _MEMORY_5, _FRESH_5, _ORIGINAL)
"""All that models with one tower are found in. The original layout comes last: its marks are the least telling."""

LLAVA_SAVE_LAYOUTS = {"hf": _BEFORE_4_52, "hf5": _FRESH_5, "original": _ORIGINAL, "memory": _MEMORY_5}
"""Names for writing: ``hf`` is read by every transformers release."""
