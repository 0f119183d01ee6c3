"""A left-padded batch of prompts in, the prompts with their continuations out, on top of ``generation``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from videolm.errors import ArgumentError
from videolm.families.calling import CausalLMOutput
from videolm.generation.params import SamplingParams
from videolm.generation.sampling import Sampler, make_sampler

if TYPE_CHECKING:
    from videolm.families.base import FamilyModel

__all__ = ["generate_batch"]

_DEFAULT_NEW_TOKENS = 256


def generate_batch(
    model: FamilyModel,
    input_ids: Tensor,
    *,
    attention_mask: Tensor | None = None,
    max_new_tokens: int = _DEFAULT_NEW_TOKENS,
    do_sample: bool = False,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int | None = None,
    seed: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    min_new_tokens: int = 0,
    **media: Any,
) -> Tensor:
    """Continue each row until its end token, or ``max_new_tokens``.

    Args:
        input_ids: ``[B, S]``, padded on the left.
        do_sample: Draw, at ``temperature`` and the other settings, in place of taking the most likely token.
        eos_token_id: Ends a row; if not given, what the model's configuration says.
        pad_token_id: Fills rows that ended; if not given, the configuration's, else the end token.
        seed: Makes drawing repeatable; row ``i`` draws with ``seed + i``.
        media: ``pixel_values``, ``image_sizes``, ``pixel_values_videos`` as ``forward`` takes them.

    Returns:
        ``[B, S + new tokens]``.
    """
    drawing = {
        "temperature": 1.0 if temperature is None else temperature,
        "top_k": 50 if top_k is None else top_k,
        "top_p": 1.0 if top_p is None else top_p,
        "min_p": 0.0 if min_p is None else min_p,
    }
    stops = _stop_ids(model, eos_token_id)
    params = [
        SamplingParams(
            max_new_tokens=max_new_tokens,
            min_new_tokens=min_new_tokens,
            stop_token_ids=stops,
            repetition_penalty=1.0 if repetition_penalty is None else repetition_penalty,
            seed=None if seed is None else seed + row,
            **(drawing if do_sample else {}),  # type: ignore[arg-type]
        )
        for row in range(len(input_ids))
    ]
    input_ids = input_ids.to(model.device)
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.to(model.device)
    if not bool(mask[:, -1].all()):
        raise ArgumentError(
            "A row of attention_mask ends with padding: generation continues each row at its end, so padding belongs "
            "on the left. Set processor.tokenizer.padding_side = 'left' and prepare the batch again."
        )
    pad = pad_token_id if pad_token_id is not None else _config_value(model, "pad_token_id")
    fill = pad if pad is not None else (stops[0] if stops else 0)
    return _run(model, input_ids, mask, params, fill=fill, media=media)


def _run(
    model: FamilyModel,
    input_ids: Tensor,
    mask: Tensor,
    params: Sequence[SamplingParams],
    *,
    fill: int,
    media: dict[str, Any],
) -> Tensor:
    samplers: list[Sampler] = [make_sampler(each) for each in params]
    rows = [ids[kept.bool()].tolist() for ids, kept in zip(input_ids, mask, strict=True)]
    is_finished = [False] * len(rows)
    stops = params[0].stop_token_ids
    ids, cache = input_ids, model.new_cache()
    for step in range(params[0].max_new_tokens):
        output = model(
            ids, attention_mask=mask, past_key_values=cache, logits_to_keep=1, **(media if step == 0 else {})
        )
        assert isinstance(output, CausalLMOutput)
        logits = output.logits[:, -1]  # [B, V]
        if step < params[0].min_new_tokens and stops:
            logits = logits.index_fill(1, torch.tensor(stops, device=logits.device), -torch.inf)
        chosen = []
        for row, sample in enumerate(samplers):
            token_id = fill if is_finished[row] else sample(logits[row], rows[row])
            rows[row].append(token_id)
            chosen.append(token_id)
            is_finished[row] = is_finished[row] or token_id in stops
        ids = torch.tensor(chosen, device=input_ids.device)[:, None]  # [B, 1]
        input_ids = torch.cat([input_ids, ids], dim=1)
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        if all(is_finished):
            break
    return input_ids


def _stop_ids(model: FamilyModel, given: int | Sequence[int] | None) -> tuple[int, ...]:
    value = given if given is not None else _config_value(model, "eos_token_id")
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)


def _config_value(model: FamilyModel, name: str) -> Any:
    """From the generation configuration, or from the decoder's."""
    value = model.generation_config.get(name)
    return value if value is not None else getattr(model.config.text_config, name, None)
