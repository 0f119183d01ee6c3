"""Other ways to attend: with the weights kept, by torch's flex attention, by the flash-attn package."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["EagerPlan", "FlashPlan", "FlexPlan", "visible_keys"]


def visible_keys(attention_mask: Tensor | None, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """Which keys each of the last ``num_queries`` tokens may see.

    Args:
        attention_mask: ``[B, num_keys]``, non-zero at real tokens; None: all are.

    Returns:
        ``[B or 1, 1, num_queries, num_keys]`` bool; every row has at least one key.
    """
    square = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
    causal = square.tril(num_keys - num_queries)
    if attention_mask is None:
        return causal[None, None]
    own = causal & ~square.tril(num_keys - num_queries - 1)
    return (causal & attention_mask.to(device).bool()[:, None, None, :]) | own


@dataclass(frozen=True, kw_only=True)
class EagerPlan:
    """Attention written out, which shows its weights."""

    mask: Tensor
    """As ``visible_keys`` gives it."""
    weights: list[Tensor] | None = field(default=None)
    """Collects ``[B, A, S, L]`` of each layer."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend to the visible keys; the softmax is taken in float32."""
        groups = queries.shape[2] // keys.shape[2]
        rows = queries.transpose(1, 2)  # [B, A, S, head]
        columns = keys.to(rows.dtype).repeat_interleave(groups, dim=2).transpose(1, 2)  # [B, A, L, head]
        contents = values.to(rows.dtype).repeat_interleave(groups, dim=2).transpose(1, 2)
        scores = rows @ columns.transpose(2, 3) * rows.shape[-1] ** -0.5
        weights = scores.masked_fill(~self.mask, -torch.inf).float().softmax(-1).to(rows.dtype)
        if self.weights is not None:
            self.weights.append(weights)
        mixed: Tensor = (weights @ contents).transpose(1, 2)  # [B, S, A, head]
        return mixed


@dataclass(frozen=True, kw_only=True)
class FlexPlan:
    """Attention by ``torch.nn.attention.flex_attention``."""

    mask: Tensor

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend to the visible keys."""
        # Here and not above: the import brings torch's compiler with it.
        from torch.nn.attention.flex_attention import flex_attention

        mask = self.mask

        def hide(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            row = batch if len(mask) > 1 else torch.zeros_like(batch)
            return torch.where(mask[row, 0, query, key], score, -torch.inf)

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*flex_attention called without torch.compile.*")
            out = flex_attention(
                queries.to(keys.dtype).transpose(1, 2),
                keys.transpose(1, 2),
                values.transpose(1, 2),
                score_mod=hide,
                enable_gqa=queries.shape[2] != keys.shape[2],
            )
        assert isinstance(out, Tensor)
        return out.transpose(1, 2).to(queries.dtype)


@dataclass(frozen=True, kw_only=True)
class FlashPlan:
    """Attention by the flash-attn package, which takes no masks: rows with padding go through it one by one."""

    function: Callable[..., Tensor]
    """``flash_attn.flash_attn_func``."""
    attention_mask: Tensor | None = None
    """``[B, L]``, non-zero at real tokens; None: all are."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend to the real tokens up to each query; what stands at padding is zero."""
        keys, values = keys.to(queries.dtype), values.to(queries.dtype)
        if self.attention_mask is None:
            return self.function(queries, keys, values, causal=True)
        out = torch.zeros_like(queries)
        for row, kept in enumerate(self.attention_mask.bool()):
            new = kept[-queries.shape[1] :]
            mixed = self.function(
                queries[row : row + 1, new], keys[row : row + 1, kept], values[row : row + 1, kept], causal=True
            )
            out[row, new] = mixed[0]
        return out
