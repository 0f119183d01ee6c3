"""A Llama-type decoder: embeddings in, normed hidden states out; who sees whom is the plan's business."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from videolm.models.attention import AttentionPlan
from videolm.models.cache import Cache
from videolm.models.config import DecoderConfig
from videolm.models.layers import RMSNorm, activation, compute_dtype, gated

__all__ = ["Decoder", "DecoderBlock", "Rotation", "rotary_angles", "rotate"]

Rotation = tuple[Tensor, Tensor]
"""Cosine and signed sine ``[B, S, 1, head]`` of every position, ready for ``rotate``."""


def rotary_angles(position_ids: Tensor, config: DecoderConfig) -> Tensor:
    """Angles of ``[B, S]`` positions as ``[B, S, head / 2]`` float32."""
    width = config.head_width
    exponents = torch.arange(0, width, 2, dtype=torch.float32, device=position_ids.device) / width
    frequencies = 1.0 / (config.rope_theta**exponents) / config.fixed_rope_factor
    return position_ids[..., None].float() * frequencies


def rotation(angles: Tensor, dtype: torch.dtype) -> Rotation:
    """Cosine and signed sine of ``[B, S, head / 2]`` angles, taken in float32 and then cast."""
    cosine, sine = angles.cos(), angles.sin()
    cosines = torch.cat([cosine, cosine], dim=-1)[:, :, None].to(dtype)  # [B, S, 1, head]
    sines = torch.cat([-sine, sine], dim=-1)[:, :, None].to(dtype)
    return cosines, sines


def rotate(heads: Tensor, rotation: Rotation) -> Tensor:
    """Turn ``[B, S, A, head]`` by its positions: element ``i`` pairs with element ``i + head / 2``."""
    cosines, sines = rotation
    swapped = heads.roll(heads.shape[-1] // 2, dims=-1)
    return heads * cosines + swapped * sines


class DecoderAttention(nn.Module):
    """Attention with rotary positions; several query heads may share a key head."""

    def __init__(self, config: DecoderConfig, layer_index: int) -> None:
        super().__init__()
        self.layer_index = layer_index
        self.head_width = config.head_width
        query_width = config.num_attention_heads * self.head_width
        key_width = config.num_key_value_heads * self.head_width
        self.q_proj = nn.Linear(config.hidden_size, query_width, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, key_width, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, key_width, bias=config.qkv_bias)
        self.o_proj = nn.Linear(query_width, config.hidden_size, bias=config.output_bias)

    def forward(self, hidden: Tensor, rotation: Rotation, plan: AttentionPlan, cache: Cache | None) -> Tensor:
        """Mix ``[B, S, D]`` along ``S`` and the cached tokens."""
        heads = (-1, self.head_width)
        queries = rotate(self.q_proj(hidden).unflatten(-1, heads), rotation)  # [B, S, A, head]
        keys = rotate(self.k_proj(hidden).unflatten(-1, heads), rotation)  # [B, S, K, head]
        values = self.v_proj(hidden).unflatten(-1, heads)
        if cache is not None:
            keys, values = cache.extend(self.layer_index, keys, values)
        mixed: Tensor = self.o_proj(plan.attend(queries, keys, values).flatten(2))
        return mixed


class DecoderMLP(nn.Module):
    """A gated MLP."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.activation = activation(config.hidden_act)
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Treat each token by itself."""
        out: Tensor = self.down_proj(gated(self.activation, self.gate_proj(hidden), self.up_proj(hidden)))
        return out


class DecoderBlock(nn.Module):
    """Attention and MLP, each after a norm and added to what came in."""

    def __init__(self, config: DecoderConfig, layer_index: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = DecoderAttention(config, layer_index)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = DecoderMLP(config)

    def forward(self, hidden: Tensor, rotation: Rotation, plan: AttentionPlan, cache: Cache | None) -> Tensor:
        """One layer on ``[B, S, D]``."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), rotation, plan, cache)
        out: Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return out


class Decoder(nn.Module):
    """Embedding table, layers and last norm."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderBlock(config, index) for index in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        inputs_embeds: Tensor,
        *,
        position_ids: Tensor,
        plan: AttentionPlan,
        cache: Cache | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """Run all layers.

        Args:
            inputs_embeds: ``[B, S, D]``.
            position_ids: ``[B, S]``, or ``[1, S]`` where all rows have the same; they need not be whole numbers.
            plan: Who sees whom.
            cache: Tokens before these; they are added to it.
            states: Collects what enters each layer and, last, what is returned.

        Returns:
            ``[B, S, D]`` after the last norm.
        """
        turn = rotation(rotary_angles(position_ids, self.config), compute_dtype(inputs_embeds))
        hidden = inputs_embeds
        for layer in self.layers:
            if states is not None:
                states.append(hidden)
            hidden = self._run(layer, hidden, turn, plan, cache)
        if cache is not None:
            cache.advance(inputs_embeds.shape[1])
        normed: Tensor = self.norm(hidden)
        if states is not None:
            states.append(normed)
        return normed

    def _run(
        self, block: nn.Module, hidden: Tensor, turn: Rotation, plan: AttentionPlan, cache: Cache | None
    ) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled() and cache is None:
            recomputed: Tensor = checkpoint(block, hidden, turn, plan, None, use_reentrant=False)
            return recomputed
        out: Tensor = block(hidden, turn, plan, cache)
        return out
