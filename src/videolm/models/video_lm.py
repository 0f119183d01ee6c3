"""A whole video language model: model inputs or packed batches in, logits out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from videolm.contracts import Features, MediaKind, ModelInputs, PackedBatch, VisualInput
from videolm.errors import ProcessingError
from videolm.models.attention import AttentionPlan, CausalPlan, PackedPlan
from videolm.models.backbone import Backbone
from videolm.models.cache import Cache, KVCache
from videolm.models.config import VideoLMConfig
from videolm.visual_tokens import VisualTokens

__all__ = ["VideoLM"]


class VideoLM(nn.Module):
    """Vision tower, projector, decoder and head.

    It has no ``forward``: training calls ``forward_packed``, generation ``prefill`` and ``step``. A wrapper that hooks
    ``forward`` (FSDP2) is told so with ``register_fsdp_forward_method(model, "forward_packed")``.
    """

    backbone_class: ClassVar[type[Backbone]] = Backbone

    def __init__(self, config: VideoLMConfig) -> None:
        super().__init__()
        self.config = config
        self.model = self.backbone_class(config)
        self.lm_head = nn.Linear(config.decoder.hidden_size, config.decoder.vocab_size, bias=False)
        self.always_encode_media = False
        """Whether packed batches use every trained parameter whatever media they hold (without effect on the result):
        all processes of a distributed run must make the same calls and exchange the same gradients."""
        self.tie_weights()

    @property
    def tokens(self) -> VisualTokens:
        """The token rules."""
        return self.model.config.tokens

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.model.language_model.norm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the decoder computes in; its norms keep it when linear layers are stored in fewer bits."""
        return self.model.language_model.norm.weight.dtype

    def tie_weights(self) -> None:
        """Make the head the embedding table again, where the configuration says so (after moving off ``meta``)."""
        if self.model.config.tie_word_embeddings:
            self.lm_head.weight = self.model.language_model.embed_tokens.weight

    def gradient_checkpointing_enable(self, enabled: bool = True) -> None:
        """Recompute each block's activations in the backward pass instead of keeping them."""
        for tower in self.model.towers:
            tower.gradient_checkpointing = enabled
        self.model.language_model.gradient_checkpointing = enabled

    def new_cache(self) -> KVCache:
        """An empty cache that suits the model; on a CPU, half-precision models attend to float32 keys much faster."""
        on_cpu = self.device.type == "cpu"
        return KVCache(self.model.config.decoder.num_hidden_layers, dtype=torch.float32 if on_cpu else None)

    def encode_media(
        self, media: Sequence[VisualInput], *, max_tiles_per_batch: int | None = None
    ) -> tuple[Features, ...]:
        """Encode pictures and videos; see ``Backbone.encode_media``."""
        return self.model.encode_media(media, max_tiles_per_batch=max_tiles_per_batch)

    def embed(self, input_ids: Tensor, visual_positions: Tensor, features: Sequence[Features]) -> Tensor:
        """Embed ``[..., T]`` ids with features in the place of placeholders; see ``Backbone.embed``."""
        return self.model.embed(input_ids, visual_positions, features)

    def decode(
        self, inputs_embeds: Tensor, *, position_ids: Tensor, plan: AttentionPlan, cache: Cache | None = None
    ) -> Tensor:
        """Run the decoder on ``[B, S, D]``; see ``Decoder.forward``."""
        hidden: Tensor = self.model.language_model(inputs_embeds, position_ids=position_ids, plan=plan, cache=cache)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores ``[..., V]`` of the next id after hidden states ``[..., D]``."""
        scores: Tensor = self.lm_head(hidden)
        return scores

    def forward_packed(self, batch: PackedBatch, *, logits_positions: Tensor | None = None) -> Tensor:
        """Logits of several sequences at once, with gradients.

        Args:
            batch: Sequences side by side.
            logits_positions: ``[num positions]`` int64, the tokens whose logits are wanted; None: all.

        Returns:
            ``[T or num positions, V]``.
        """
        device = self.device
        embeds = self.embed(
            batch.input_ids.to(device), batch.visual_positions.to(device), self.encode_media(batch.media)
        )
        if self.always_encode_media:
            embeds = embeds + self._touch_all({medium.kind for medium in batch.media})
        plan = PackedPlan.of(batch.sequence_lengths, device=device)
        hidden = self.decode(embeds[None], position_ids=self._packed_positions(batch)[None], plan=plan)[0]  # [T, D]
        if logits_positions is not None:
            hidden = hidden.index_select(0, logits_positions.to(device))
        return self.logits(hidden)

    @torch.inference_mode()
    def prefill(self, inputs: ModelInputs, cache: KVCache, *, features: Sequence[Features] | None = None) -> Tensor:
        """Bring the cache to the end of a prompt.

        Args:
            inputs: The whole prompt.
            cache: Empty, or holding the first ``cache.length`` tokens of this very prompt, which are not run again.
            features: One for each medium, where they are known already.

        Returns:
            Logits ``[V]`` of the last position.
        """
        num_tokens = len(inputs.input_ids)
        if not num_tokens:
            raise ProcessingError("The prompt has no tokens: a model needs at least one. Write a question.")
        factors = self._rope_factors(inputs)
        if not _are_equal(cache.rope_factors, factors):
            cache.truncate(0)  # Its keys were turned by other positions.
        cache.rope_factors = factors
        cache.truncate(min(cache.length, num_tokens - 1))
        start = cache.length
        ids = torch.tensor(inputs.input_ids[start:], device=self.device)
        embeds = self.embed(ids, *self._remaining_features(inputs, start, features))[None]  # [1, S, D]
        position_ids = cache.stretched(torch.arange(start, num_tokens, device=self.device)[None])
        plan = CausalPlan.of(len(ids), start, device=self.device)
        return self.logits(self.decode(embeds, position_ids=position_ids, plan=plan, cache=cache)[0, -1])

    @torch.inference_mode()
    def step(self, token_id: int, cache: KVCache) -> Tensor:
        """Logits ``[V]`` after one more token."""
        ids = torch.tensor([[token_id]], device=self.device)
        position = cache.stretched(torch.tensor([[cache.length]], device=self.device))
        embeds = self.model.language_model.embed_tokens(ids)
        return self.logits(self.decode(embeds, position_ids=position, plan=CausalPlan(), cache=cache)[0, -1])

    def _packed_positions(self, batch: PackedBatch) -> Tensor:
        """``[T]`` positions, stretched as far as each sequence's videos need it."""
        positions, decoder = batch.position_ids.to(self.device), self.model.config.decoder
        if decoder.rope_policy != "auto" and all(medium.rope_factor is None for medium in batch.media):
            return positions
        ends = torch.tensor(batch.sequence_lengths).cumsum(0)
        media: list[list[VisualInput]] = [[] for _ in ends]
        first = 0
        for medium in batch.media:
            media[int(torch.searchsorted(ends, int(batch.visual_positions[first]), right=True))].append(medium)
            first += medium.num_tokens
        factors = torch.tensor([decoder.rope_factor_of(each) for each in media])
        return positions / factors.repeat_interleave(torch.tensor(batch.sequence_lengths)).to(self.device)

    def _rope_factors(self, inputs: ModelInputs) -> Tensor | None:
        """What this prompt's positions are divided by, ``[1]``, where that is anything but 1."""
        factor = self.model.config.decoder.rope_factor_of(inputs.media)
        return None if factor == 1 else torch.tensor([factor], device=self.device)

    def _remaining_features(
        self, inputs: ModelInputs, start: int, features: Sequence[Features] | None
    ) -> tuple[Tensor, list[Features]]:
        """Positions, counted from ``start``, and rows of the media that do not end before it."""
        ends = [first + medium.num_tokens for first, medium in zip(inputs.media_starts, inputs.media, strict=True)]
        needed = [index for index, end in enumerate(ends) if end > start]
        if features is None:
            encoded = self.encode_media([inputs.media[index] for index in needed])
        else:
            encoded = tuple(features[index] for index in needed)
        positions, rows = [torch.empty(0, dtype=torch.long)], []
        for index, feature in zip(needed, encoded, strict=True):
            first = max(inputs.media_starts[index], start)
            positions.append(torch.arange(first - start, ends[index] - start))
            rows.append(Features(tokens=feature.tokens[first - inputs.media_starts[index] :]))
        return torch.cat(positions).to(self.device), rows

    def _touch_all(self, present: Collection[MediaKind]) -> Tensor:
        """Zero, computed from the parameters that some batches would not use."""
        touched = self.model.language_model.norm.weight.new_zeros(())
        for vector in (self.model.image_newline, self.model.faster_token):
            if vector is not None:
                touched = touched + vector.sum()
        if self.model.vision_resampler is not None:
            touched = touched + sum(parameter.sum() for parameter in self.model.vision_resampler.parameters())
        for features in self.encode_media(self.model.blank_media(present)):
            touched = touched + features.tokens.sum()
        return touched * 0


def _are_equal(factors: Tensor | None, others: Tensor | None) -> bool:
    if factors is None or others is None:
        return factors is others
    return torch.equal(factors, others)
