"""The classes with Hugging Face's names and signatures, made from what a family declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from videolm.errors import ArgumentError
from videolm.families.backbone import FamilyBackbone
from videolm.families.calling import causal_loss, read_prompt
from videolm.families.declaration import Family, FamilyConfig, read_dtype
from videolm.families.generating import generate_batch
from videolm.families.media_arguments import MediaArguments
from videolm.families.not_offered import NOT_OFFERED, not_offered
from videolm.families.outputs import BackboneOutput, CausalLMOutput, GenerateOutput
from videolm.families.placement import check_attention, flash_attention
from videolm.families.pretrained import PretrainedModel
from videolm.families.quantized_layers import num_weights
from videolm.families.vocabulary import resize_vocabulary

__all__ = ["Family", "FamilyConfig", "FamilyModel", "read_dtype"]


class FamilyModel(PretrainedModel):
    """A model of one family, with the methods that its documentation describes."""

    output_class: ClassVar[type[CausalLMOutput]] = CausalLMOutput

    def __init_subclass__(cls, **options: Any) -> None:
        """Give the part without the head and both outputs of a family their documented names."""
        super().__init_subclass__(**options)
        if "family" not in vars(cls):
            return
        prefix = cls.family.architecture.removesuffix("ForConditionalGeneration")
        place = {"__module__": cls.__module__}
        cls.output_class = type(f"{prefix}CausalLMOutputWithPast", (CausalLMOutput,), dict(place))
        states = type(f"{prefix}ModelOutputWithPast", (BackboneOutput,), dict(place))
        cls.backbone_class = type(f"{prefix}Model", (FamilyBackbone,), place | {"output_class": states, "whole": cls})

    def __getattr__(self, name: str) -> Any:
        if name in NOT_OFFERED:
            raise not_offered(type(self).__name__, name, NOT_OFFERED[name])
        return super().__getattr__(name)

    @property
    def attn_implementation(self) -> str:
        """How the decoder attends: sdpa, eager, flash_attention_2 or flex_attention."""
        return self.model.attn_implementation

    def set_attn_implementation(self, implementation: str) -> None:
        """Attend in another way from now on."""
        implementation = check_attention(implementation)
        if implementation == "flash_attention_2":
            flash_attention(self.device, self.dtype)
        self.model.attn_implementation = implementation

    def num_parameters(self, only_trainable: bool = False) -> int:
        """How many numbers the model has, tied ones once and quantised ones as many as they stand for."""
        return num_weights(self, only_trainable)

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of token embeddings."""
        return self.model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Linear:
        """The head."""
        return self.lm_head

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """Give table and head another number of rows; new rows are the mean of the old, or drawn."""
        num_tokens = new_num_tokens if new_num_tokens is not None else self.get_input_embeddings().num_embeddings
        resize_vocabulary(self, num_tokens, pad_to_multiple_of=pad_to_multiple_of, uses_mean=mean_resizing)
        return self.get_input_embeddings()

    def gradient_checkpointing_enable(
        self, enabled: bool | Mapping[str, Any] | None = True, *, gradient_checkpointing_kwargs: Any = None
    ) -> None:
        """Recompute each block's activations in the backward pass instead of keeping them."""
        options = enabled if isinstance(enabled, Mapping) else gradient_checkpointing_kwargs
        if options and (set(options) != {"use_reentrant"} or options["use_reentrant"]):
            raise ArgumentError(
                f"gradient_checkpointing_kwargs is {dict(options)!r}: only use_reentrant=False is offered, which is "
                "how it is done anyway. Leave it out."
            )
        super().gradient_checkpointing_enable(enabled is not False)

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations for the backward pass again."""
        super().gradient_checkpointing_enable(False)

    def get_image_features(self, *arguments: Any, **options: Any) -> tuple[Tensor, ...] | Tensor:
        """The rows that replace the placeholders of each picture; see ``FamilyBackbone.get_image_features``."""
        return self.model.get_image_features(*arguments, **options)

    def get_video_features(self, *arguments: Any, **options: Any) -> tuple[Any, ...]:
        """The rows that replace the placeholders of each video; see ``FamilyBackbone.get_video_features``."""
        return self.model.get_video_features(*arguments, **options)

    def get_placeholder_mask(self, *arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Where placeholders stand; see ``FamilyBackbone.get_placeholder_mask``."""
        return self.model.get_placeholder_mask(*arguments, **options)

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
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache_position: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        *,
        pixel_values_images: Any = None,
    ) -> CausalLMOutput | tuple[Any, ...]:
        """Scores of the next token at every position.

        Args:
            input_ids: ``[B, S]``, with a placeholder for each visual token, or one for each medium, which is then
                written out here together with mask and labels.
            pixel_values: Pictures: ``[N, tiles, 3, H, W]`` padded to the most tiles, or a list of their tiles; for
                families without tiles ``[N, 3, H, W]``. ``pixel_values_images`` is another name.
            pixel_values_videos: ``[N, F, 3, H, W]``, or a list of ``[F, 3, H, W]``.
            image_sizes: ``[N, 2]``, height and width of each picture before tiling.
            attention_mask: ``[B, S]``, tokens in ``past_key_values`` included; zero at padding.
            position_ids: ``[B, S]``; counted from the mask if not given.
            past_key_values: What an earlier call returned; these tokens come after it, and are added to it.
            inputs_embeds: ``[B, S, D]`` in the place of ``input_ids``.
            vision_feature_layer: Another choice of hidden states of the tower for this call, as many as usual.
            labels: ``[B, S]``, -100 where nothing is learned; not shifted.
            use_cache: Whether to return a cache; if not given, yes outside of training.
            output_attentions: Return the weights of every layer, which attends eagerly then.
            return_dict: False for a plain tuple of what is there.
            cache_position: Where new tokens begin; it can only be right after those in the cache.
            logits_to_keep: Only the last so many positions, or these; 0 for all.
        """
        media = MediaArguments.of(
            pixel_values=pixel_values,
            pixel_values_images=pixel_values_images,
            image_sizes=image_sizes,
            videos=pixel_values_videos,
        )
        cache = self.model.cache_for(past_key_values, use_cache, cache_position)
        prompt = read_prompt(
            self.model.under(vision_feature_layer, vision_feature_select_strategy),
            input_ids=input_ids,
            media=media,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            labels=labels,
            num_past=cache.length if cache is not None else 0,
        )
        states = self.model.run(prompt, cache, position_ids, output_attentions, output_hidden_states)
        if isinstance(logits_to_keep, int) and logits_to_keep < 0:
            raise ArgumentError(
                f"logits_to_keep is {logits_to_keep}: expected the number of last positions. Leave it out for all."
            )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.logits(states.last_hidden_state[:, keep])
        ignored = getattr(self.config, "ignore_index", -100)
        output = self.output_class(
            loss=None if prompt.labels is None else causal_loss(logits, prompt.labels, ignored),
            logits=logits,
            past_key_values=states.past_key_values,
            hidden_states=states.hidden_states,
            attentions=states.attentions,
            image_hidden_states=states.image_hidden_states,
            video_hidden_states=states.video_hidden_states,
        )
        return output if self.model.returns_dict(return_dict) else output.to_tuple()

    @torch.no_grad()
    def generate(self, input_ids: Tensor | None = None, **options: Any) -> Tensor | GenerateOutput:
        """The prompts with what the model writes after them; see ``generating.generate_batch`` for the options."""
        return generate_batch(self, input_ids, **options)
