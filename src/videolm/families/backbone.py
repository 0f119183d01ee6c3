"""The part of a family's model without the head: callable by itself, with Hugging Face's names and signatures."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from videolm.contracts import MediaKind
from videolm.errors import ArgumentError, PlaceholderMismatchError
from videolm.families.calling import Prompt, read_cache, read_prompt, run_prompt
from videolm.families.declaration import FamilyConfig, read_config
from videolm.families.initialise import initialise
from videolm.families.media_arguments import MediaArguments
from videolm.families.not_offered import NOT_OFFERED_BY_PARTS, not_offered
from videolm.families.outputs import BackboneOutput
from videolm.models.backbone import Backbone
from videolm.models.cache import KVCache
from videolm.models.config import VideoLMConfig

if TYPE_CHECKING:
    from videolm.families.base import FamilyModel

__all__ = ["FamilyBackbone"]


class FamilyBackbone(Backbone):
    """Tower, projector and decoder of one family."""

    output_class: ClassVar[type[BackboneOutput]] = BackboneOutput
    whole: ClassVar[type[FamilyModel]]
    """The model that it is a part of."""
    family_config: Any

    def __init__(self, config: VideoLMConfig | FamilyConfig | Mapping[str, Any]) -> None:
        if isinstance(config, VideoLMConfig):
            super().__init__(config)
        else:
            config = read_config(self.whole.family, config, type(self).__name__)
            super().__init__(config.model_settings())
            initialise(self)
        self.family_config = config
        self.attn_implementation = "sdpa"

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **options: Any) -> Self:
        """The part without the head of a model on disk; options as for the whole model."""
        part = cls.whole.from_pretrained(name_or_path, **options).model
        assert isinstance(part, cls)
        return part

    def __getattr__(self, name: str) -> Any:
        # Only asked for what is no attribute: the parts of a model are attributes of this one.
        advice = NOT_OFFERED_BY_PARTS.get(name)
        if advice is not None and name not in self._modules and name not in self._parameters:
            raise not_offered(type(self).__name__, name, advice)
        return super().__getattr__(name)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.language_model.norm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the decoder computes in."""
        return self.language_model.norm.weight.dtype

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of token embeddings."""
        return self.language_model.embed_tokens

    def new_cache(self) -> KVCache:
        """An empty cache that suits the model; on a CPU, half-precision models attend to float32 keys much faster."""
        return KVCache(self.config.decoder.num_hidden_layers, dtype=self._cache_dtype())

    def under(self, layer: int | list[int] | None, strategy: str | None) -> Self:
        """The same parameters under another choice of tower features; None: what the configuration says."""
        changes: dict[str, Any] = {}
        if layer is not None:
            changes["vision_feature_layer"] = list(layer) if isinstance(layer, tuple) else layer
        if strategy is not None:
            changes["vision_feature_select_strategy"] = strategy
        if all(getattr(self.family_config, name, None) == value for name, value in changes.items()):
            return self
        config = type(self.family_config).from_dict({**self.family_config.to_dict(), **changes})
        view = copy.copy(self)
        view.config = config.model_settings()
        if view.config.feature_width != self.config.feature_width:
            raise ArgumentError(
                f"vision_feature_layer is {layer!r}: the projector takes {len(self.config.feature_indices)} hidden "
                f"states joined, these are {len(view.config.feature_indices)}. Name as many layers as the "
                "configuration does."
            )
        return view

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Any = None,
        pixel_values_videos: Any = None,
        image_sizes: Any = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        vision_feature_layer: int | list[int] | None = None,
        vision_feature_select_strategy: str | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache_position: Tensor | None = None,
        *,
        pixel_values_images: Any = None,
    ) -> BackboneOutput | tuple[Any, ...]:
        """Hidden states of every position; the arguments are those of the whole model."""
        media = MediaArguments.of(
            pixel_values=pixel_values,
            pixel_values_images=pixel_values_images,
            image_sizes=image_sizes,
            videos=pixel_values_videos,
        )
        cache = self.cache_for(past_key_values, use_cache, cache_position)
        prompt = read_prompt(
            self.under(vision_feature_layer, vision_feature_select_strategy),
            input_ids=input_ids,
            media=media,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            num_past=cache.length if cache is not None else 0,
        )
        output = self.run(prompt, cache, position_ids, output_attentions, output_hidden_states)
        return output if self.returns_dict(return_dict) else output.to_tuple()

    def run(
        self,
        prompt: Prompt,
        cache: KVCache | None,
        position_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BackboneOutput:
        """One pass over a prompt that has been read; None means what the configuration says."""
        return run_prompt(
            self,
            prompt,
            cache=cache,
            position_ids=position_ids,
            output_attentions=self._setting("output_attentions", output_attentions, False),
            output_hidden_states=self._setting("output_hidden_states", output_hidden_states, False),
        )

    def cache_for(self, given: Any, use_cache: bool | None, cache_position: Tensor | None = None) -> KVCache | None:
        """The cache that a call reads and writes; without a word about it, none while gradients are recorded."""
        if given is not None:
            cache: KVCache | None = read_cache(given, dtype=self._cache_dtype())
        else:
            is_learning = self.training or torch.is_grad_enabled()
            wanted = use_cache if use_cache is not None else not is_learning
            cache = self.new_cache() if wanted else None
        num_past = cache.length if cache is not None else 0
        if cache_position is not None and int(cache_position[0]) != num_past:
            raise ArgumentError(
                f"cache_position starts at {int(cache_position[0])}, but {num_past} tokens are cached: new tokens come "
                "right after those. Leave cache_position out."
            )
        return cache

    def returns_dict(self, given: bool | None) -> bool:
        """Whether a call returns an object rather than a tuple."""
        return self._setting("return_dict", given, True)

    def get_image_features(
        self,
        pixel_values: Any = None,
        image_sizes: Any = None,
        vision_feature_layer: int | list[int] | None = None,
        vision_feature_select_strategy: str | None = None,
        *,
        pixel_values_images: Any = None,
    ) -> tuple[Tensor, ...] | Tensor:
        """The rows ``[visual tokens, D]`` that replace the placeholders of each picture.

        Returns:
            One tensor a picture, or ``[N, visual tokens, D]`` where the family has its features apart.
        """
        media = MediaArguments.of(
            pixel_values=pixel_values, pixel_values_images=pixel_values_images, image_sizes=image_sizes, videos=None
        )
        view = self.under(vision_feature_layer, vision_feature_select_strategy)
        rows = tuple(features.tokens for features in view.encode_media(media.images(view.config.tokens)))
        return torch.stack(rows) if rows and self.whole.family.features_apart else rows

    def get_video_features(
        self,
        pixel_values_videos: Any,
        vision_feature_layer: int | list[int] | None = None,
        vision_feature_select_strategy: str | None = None,
    ) -> tuple[Any, ...]:
        """The rows ``[visual tokens, D]`` that replace the placeholders of each video.

        Returns:
            One tensor a video; or, where the family has its features apart, those of all frames ``[frames, tokens, D]``
            and the number of frames of a video.
        """
        view = self.under(vision_feature_layer, vision_feature_select_strategy)
        clips = MediaArguments(videos=pixel_values_videos).clips(view.config.tokens)
        rows = [features.tokens for features in view.encode_media(clips)]
        if not self.whole.family.features_apart:
            return tuple(rows)
        counts = [len(clip.pixel_values) for clip in clips]
        return view.joined("video", rows), counts[0] if len(set(counts)) == 1 else counts

    def joined(self, kind: MediaKind, rows: Sequence[Tensor]) -> Tensor | None:
        """The rows of several media one after another; ``[N, tokens, D]`` where the family has its features apart."""
        if not rows:
            return None
        together, video = torch.cat(list(rows)), self.config.tokens.video
        if not self.whole.family.features_apart or (kind == "video" and video.budget.fraction < 1):
            return together
        return together.view(-1, len(rows[0]) if kind == "image" else video.per_frame, together.shape[-1])

    def get_placeholder_mask(
        self,
        input_ids: Tensor,
        inputs_embeds: Tensor | None = None,
        image_features: Tensor | None = None,
        video_features: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Where placeholders of pictures and of videos stand, ``[B, S, 1]`` each, checked against rows of features."""
        masks = []
        for kind, features in (("image", image_features), ("video", video_features)):
            mask = input_ids == getattr(self.family_config, f"{kind}_token_index")
            count = None if features is None else features.numel() // features.shape[-1]
            if count is not None and count != int(mask.sum()):
                raise PlaceholderMismatchError(
                    f"The prompts hold {int(mask.sum())} {kind} placeholders for {count} rows of {kind} features: "
                    "there must be one for each. Prepare prompt and pixels with this model's processor."
                )
            masks.append(mask[..., None])
        return masks[0], masks[1]

    def _cache_dtype(self) -> torch.dtype | None:
        return torch.float32 if self.device.type == "cpu" else None

    def _setting(self, name: str, given: bool | None, default: bool) -> bool:
        return given if given is not None else bool(getattr(self.family_config, name, default))
