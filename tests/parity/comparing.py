"""How a model of ours is made from a reference's, and compared with it."""

from __future__ import annotations

from typing import Any

import torch

from videolm.families.llava_next_video import LlavaNextVideoForConditionalGeneration


def ours_from(theirs: Any) -> LlavaNextVideoForConditionalGeneration:
    return LlavaNextVideoForConditionalGeneration.from_state_dict(theirs.config.to_dict(), theirs.state_dict())


def assert_same_logits(ours: Any, theirs: Any, batch: Any) -> None:
    inputs = batch.inputs
    with torch.inference_mode():
        found, expected = ours(**inputs).logits, theirs(**inputs).logits
    # What stands at padding means nothing, and differs: their positions count padding, ours do not.
    kept = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[kept], expected[kept])
