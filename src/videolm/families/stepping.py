"""A prompt that has been read and, step by step, chosen tokens in, the next logits of every row out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from videolm.families.calling import Prompt
from videolm.models.cache import KVCache

if TYPE_CHECKING:
    from videolm.families.base import FamilyModel

__all__ = ["Stepper"]


class Stepper:
    """One batch in generation, with a cache or without one."""

    def __init__(self, model: FamilyModel, prompt: Prompt, *, use_cache: bool = True) -> None:
        self._model = model
        self._prompt = prompt
        self.cache: KVCache | None = model.new_cache() if use_cache else None

    def first(self, copies: int = 1) -> Tensor:
        """Logits ``[B * copies, V]`` float32 after the prompts, of which every row is continued ``copies`` times."""
        logits = self._run(self._prompt)
        if copies > 1:
            rows = torch.arange(len(logits), device=logits.device).repeat_interleave(copies)
            logits = logits.index_select(0, rows)
            self._follow(rows)
        return logits

    def next(self, token_ids: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits ``[R, V]`` float32 after one more token ``[R]`` in each row; row ``i`` continues ``rows[i]``."""
        if rows is not None:
            self._follow(rows)
        backbone = self._model.model
        prompt = self._prompt
        new = backbone.language_model.embed_tokens(token_ids)[:, None]  # [R, 1, D]
        mask = prompt.mask
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        embeds = new if self.cache is not None else torch.cat([prompt.embeds, new], dim=1)
        self._prompt = replace(prompt, embeds=embeds, mask=mask, placed=None)
        return self._run(self._prompt)

    def _run(self, prompt: Prompt) -> Tensor:
        output = self._model.model.run(prompt, self.cache, output_attentions=False, output_hidden_states=False)
        return self._model.logits(output.last_hidden_state[:, -1]).float()

    def _follow(self, rows: Tensor) -> None:
        prompt = self._prompt
        if self.cache is not None:
            self.cache.reorder(rows)
        self._prompt = replace(
            prompt,
            # With a cache the embeddings have been read and are not needed again.
            embeds=prompt.embeds if self.cache is not None else prompt.embeds.index_select(0, rows),
            mask=None if prompt.mask is None else prompt.mask.index_select(0, rows),
            rope_factors=None if prompt.rope_factors is None else prompt.rope_factors.index_select(0, rows),
        )
