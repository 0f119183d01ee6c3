"""A model and a number of tokens in, the same model with a table and a head of that many rows out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from videolm.errors import ArgumentError

if TYPE_CHECKING:
    from videolm.families.base import FamilyModel

__all__ = ["resize_vocabulary"]


@torch.no_grad()
def resize_vocabulary(model: FamilyModel, num_tokens: int, *, pad_to_multiple_of: int | None, uses_mean: bool) -> None:
    """Cut rows off, or add some.

    Args:
        pad_to_multiple_of: Round the number of rows up to a multiple of this.
        uses_mean: New rows are the mean of the old ones, so that their logits are unremarkable; else they are drawn.
    """
    multiple = 1 if pad_to_multiple_of is None else pad_to_multiple_of
    if num_tokens < 1 or multiple < 1:
        raise ArgumentError(
            f"new_num_tokens is {num_tokens} and pad_to_multiple_of {multiple}: both must be at least 1. "
            "Pass the number of tokens that the tokenizer has."
        )
    if not isinstance(model.lm_head, nn.Linear):
        raise ArgumentError(
            f"The vocabulary was to get {num_tokens} tokens, but the head is quantised: expected weights in floating "
            "point, to which rows can be added. Load with quantize='none'."
        )
    num_rows = math.ceil(num_tokens / multiple) * multiple
    backbone = model.model
    decoder = backbone.language_model
    if num_rows == decoder.config.vocab_size:
        return
    std = decoder.config.initializer_range
    table = decoder.embed_tokens
    table.weight = _resized(table.weight, num_rows, std, uses_mean)
    table.num_embeddings = num_rows
    if not backbone.config.tie_word_embeddings:
        model.lm_head.weight = _resized(model.lm_head.weight, num_rows, std, uses_mean)
    model.lm_head.out_features = num_rows
    model.tie_weights()
    decoder.config = replace(decoder.config, vocab_size=num_rows)
    backbone.config = replace(backbone.config, decoder=decoder.config)
    model.config.text_config.vocab_size = num_rows
    if hasattr(model.config, "vocab_size"):
        model.config.vocab_size = num_rows


def _resized(weight: Tensor, num_rows: int, std: float, uses_mean: bool) -> nn.Parameter:
    new = weight.new_empty(num_rows, weight.shape[1])
    kept = min(num_rows, len(weight))
    new[:kept] = weight[:kept]
    if uses_mean:
        new[kept:] = weight.float().mean(0).to(weight.dtype)
    else:
        new[kept:].normal_(std=std)
    return nn.Parameter(new, requires_grad=weight.requires_grad)
