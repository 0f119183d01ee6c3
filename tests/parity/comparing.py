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


def assert_same_in_everything(ours: Any, theirs: Any, inputs: dict[str, torch.Tensor], *, num_new: int = 5) -> None:
    """Logits, hidden states, attention weights, loss, gradients, greedy ids and those of a beam search."""
    # The reference's beam search fills up with the end token where the padding's id is 0.
    options = {"max_new_tokens": num_new, "pad_token_id": 77}
    for more in ({}, {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.5}):
        expected = theirs.generate(**inputs, do_sample=False, **options, **more)
        assert ours.generate(**inputs, **options, **more).tolist() == expected.tolist()

    theirs.set_attn_implementation("eager")
    labels = labels_for(theirs, inputs)
    asked = {"output_hidden_states": True, "output_attentions": True, "labels": labels}
    found, wanted = ours(**inputs, **asked), theirs(**inputs, **asked)
    kept = inputs["attention_mask"].bool()
    torch.testing.assert_close(found.logits[kept], wanted.logits[kept])
    for name in ("hidden_states", "attentions"):
        pairs = zip(getattr(found, name), getattr(wanted, name), strict=True)
        for ours_one, theirs_one in pairs:
            # Queries at padding mean nothing; heads come before queries.
            rows = [value if name == "hidden_states" else value.transpose(1, 2) for value in (ours_one, theirs_one)]
            torch.testing.assert_close(rows[0][kept], rows[1][kept])
    torch.testing.assert_close(found.loss, wanted.loss)
    found.loss.backward()
    wanted.loss.backward()
    gradients = [
        {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
        for model in (ours, theirs)
    ]
    assert gradients[0].keys() == gradients[1].keys()
    torch.testing.assert_close(*gradients)


def labels_for(theirs: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The prompts themselves, but for placeholders, padding and first tokens, which would follow from padding."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    placeholders = torch.tensor([theirs.config.image_token_id, getattr(theirs.config, "video_token_id", -1)])
    hidden = torch.isin(ids, placeholders) | (mask == 0)
    return ids.masked_fill(hidden, -100).scatter(1, mask.argmax(1, keepdim=True), -100)
