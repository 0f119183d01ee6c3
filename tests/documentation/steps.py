"""What several scripts do alike, and what is expected of what they get."""

from __future__ import annotations

from typing import Any

import bitsandbytes
import numpy as np
import pytest
import torch

from videolm import CLIPVisionConfig, LlamaConfig
from videolm.families.placement import dtype_for

from ..flash_stand_in import flash

DEVICE: int | str = 0 if torch.cuda.is_available() else "cpu"
"""The scripts say 0, which is no device on a machine without a GPU."""
HALF = dtype_for(torch.float16, torch.device("cuda:0" if torch.cuda.is_available() else "cpu"))
"""What half precision is here."""

QUESTION = "What is going on in this clip?"
SYSTEM = "A watchful guide talks with a visitor and keeps to what can be seen."
ANSWERS_BEFORE = "Two birds sit there."

CONVERSATION = [
    {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
    {"role": "user", "content": [{"type": "text", "text": "What does the sign say?"}, {"type": "image"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "The sign says stop."}]},
    {"role": "user", "content": [{"type": "text", "text": QUESTION}, {"type": "video"}]},
]
"""Turns of every kind."""
ABOUT_A_VIDEO = CONVERSATION[3:]
MIXED = [
    {"role": "user", "content": [{"type": "text", "text": "How many birds sit on the wire?"}, {"type": "image"}]},
    {"role": "assistant", "content": [{"type": "text", "text": ANSWERS_BEFORE}]},
    *ABOUT_A_VIDEO,
]


def read_video_pyav(container: Any, indices: np.ndarray) -> np.ndarray:
    """The frames at these places, decoded one after another with PyAV: ``[F, H, W, 3]``."""
    container.seek(0)
    wanted = set(indices.tolist())
    kept = []
    for place, frame in enumerate(container.decode(video=0)):
        if place > indices[-1]:
            break
        if place in wanted:
            kept.append(frame)
    return np.stack([frame.to_ndarray(format="rgb24") for frame in kept])


def eight_frames(container: Any) -> np.ndarray:
    """Spread over the video as the scripts spread them."""
    total_frames = container.streams.video[0].frames
    return read_video_pyav(container, np.arange(0, total_frames, total_frames / 8).astype(int))


def let_flash_attention_run(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Pretend that the package and a GPU are there; the list returned gets the dtype of what it attends to."""
    seen: list[torch.dtype] = []

    def function(queries: torch.Tensor, *parts: torch.Tensor, **options: Any) -> torch.Tensor:
        seen.append(queries.dtype)
        return flash(queries, *parts, **options)

    for module in ("pretrained", "calling", "base"):
        monkeypatch.setattr(f"videolm.families.{module}.flash_attention", lambda device, dtype: function)
    return seen


@torch.inference_mode()
def assert_most_likely(model: Any, inputs: Any, ids: torch.Tensor, *, num_new_tokens: int) -> None:
    """That every row of ``ids`` goes on after its prompt with the most likely tokens, in one pass over all of them."""
    prompt_len = inputs["input_ids"].shape[1]
    assert ids.shape[1] == prompt_len + num_new_tokens
    assert torch.equal(ids[:, :prompt_len].cpu(), inputs["input_ids"].cpu())
    # After a cache: the model may write a placeholder's id, which then is a word like any other.
    output = model(**inputs, use_cache=True)
    mask = torch.nn.functional.pad(inputs["attention_mask"], (0, num_new_tokens), value=1)
    rest = model(ids[:, prompt_len:], attention_mask=mask, past_key_values=output.past_key_values)
    logits = torch.cat([output.logits[:, -1:], rest.logits[:, :-1]], dim=1).float()
    chosen = logits.gather(-1, ids[:, prompt_len:, None])[..., 0]
    # Half precision adds up in another order than one token at a time does.
    margin = 0.02 * (logits.amax(-1) - logits.amin(-1))
    assert bool((logits.amax(-1) - chosen <= margin).all())


def assert_same_with_sdpa(model: Any, inputs: Any, attended: list[torch.dtype]) -> None:
    """That a model attends with the stand-in, in its own dtype, and answers as torch's kernel does."""
    inputs = inputs.to(model.device)
    ids = model.generate(**inputs, max_new_tokens=3)
    assert set(attended) == {model.dtype}
    model.set_attn_implementation("sdpa")
    assert_most_likely(model, inputs, ids, num_new_tokens=3)


def assert_four_bits(model: Any, quant_type: str, compute_dtype: torch.dtype | None) -> None:
    """That bitsandbytes keeps the decoder's layers, and nothing else, in four bits."""
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            is_decoder = path.startswith("model.language_model.layers.")
            assert isinstance(module, bitsandbytes.nn.Linear4bit) == is_decoder, path
            if is_decoder:
                assert module.weight.quant_state.quant_type == quant_type
                assert module.compute_dtype == compute_dtype


def assert_a_small_model_works(config_class: Any, model_class: Any) -> None:
    """The calls that make a random model of a configuration, in small."""
    size = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 40}
    vision_config, text_config = CLIPVisionConfig(**size), LlamaConfig(**size)
    model = model_class(config_class(vision_config, text_config))
    assert (model.config.vision_config, model.config.text_config) == (vision_config, text_config)
    logits = model(torch.tensor([[1, 5, 6]])).logits.detach()
    assert logits.shape == (1, 3, 32000)
    assert float(logits.std()) > 0


def num_tokens(processor: Any, *prompts: str) -> int:
    """Of the longest prompt, each medium counted as the one token that stands for it."""
    return max(len(processor.tokenizer(prompt)["input_ids"]) for prompt in prompts)
