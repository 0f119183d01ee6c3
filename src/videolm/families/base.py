"""What a family declares, and the classes with Hugging Face's names and signatures that are made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from videolm.errors import ArgumentError, ConfigError
from videolm.families.calling import CausalLMOutput, MediaArguments, run_forward
from videolm.families.generating import generate_batch
from videolm.families.hub import resolve
from videolm.families.initialise import initialise, without_values
from videolm.families.json_config import JsonConfig, read_json, write_json
from videolm.media.sampling import FrameSampling
from videolm.models.cache import KVCache
from videolm.models.config import VideoLMConfig
from videolm.models.video_lm import VideoLM
from videolm.visual_tokens import VisualTokens
from videolm.weights.files import WeightFiles, open_weights
from videolm.weights.keymap import KeyLayout
from videolm.weights.loading import load_weights
from videolm.weights.saving import DEFAULT_MAX_SHARD_SIZE, save_weights, staged_folder

__all__ = ["Family", "FamilyConfig", "FamilyModel"]

Progress = Callable[[int, int | None], None]


class FamilyConfig(JsonConfig):
    """The ``config.json`` of a whole model."""

    def settings(self) -> VideoLMConfig:
        """What the model is built from."""
        raise NotImplementedError

    def visual_tokens(self) -> VisualTokens:
        """How many tokens a picture and a video become."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Family:
    """Everything that is particular to one family of models, as data."""

    model_type: str
    """What ``config.json`` calls it."""
    config_class: type[FamilyConfig]
    architecture: str
    """The class name that saved files carry."""
    processor_class: str
    layouts: tuple[KeyLayout, ...]
    """How its checkpoints may name their tensors, in the order to try."""
    save_layouts: Mapping[str, KeyLayout]
    """Names for writing; the first is the default."""
    sampling: FrameSampling
    """How frames are chosen where the checkpoint's files do not say."""
    image_token: str
    video_token: str
    chat_templates: Mapping[str, str]
    """For folders without one: ``chatml`` where the tokenizer knows its markers, else by the decoder's model_type."""

    def save_layout(self, name: str) -> KeyLayout:
        """The layout to write that has this name."""
        if name not in self.save_layouts:
            raise ArgumentError(
                f"layout is {name!r}: {self.model_type} can be written as {', '.join(self.save_layouts)}. "
                "Choose one of these."
            )
        return self.save_layouts[name]


class FamilyModel(VideoLM):
    """A model of one family; its ``config`` is the one that the files hold."""

    family: ClassVar[Family]
    config: Any

    def __init__(self, config: FamilyConfig | Mapping[str, Any]) -> None:
        if not isinstance(config, JsonConfig):
            config = self.family.config_class.from_dict(config)
        if not isinstance(config, self.family.config_class):
            raise ConfigError(
                f"{type(self).__name__} was given the configuration of a {config.model_type}: expected one of "
                f"{self.family.model_type}. Use the model class of the same family."
            )
        super().__init__(config.settings())
        self.config = config
        self.generation_config: dict[str, Any] = {}
        initialise(self)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> Self:
        """Load a model.

        Args:
            name_or_path: A local folder, or a hub name.
            dtype: Of the parameters; None or ``auto`` keeps what the files hold. ``torch_dtype`` is its old name.
            progress: Called with the tensors loaded so far and their number.
        """
        folder = resolve(name_or_path)
        config = cls.family.config_class.from_pretrained(folder)
        wanted = read_dtype(dtype if dtype is not None else torch_dtype)
        model = cls._load(config, open_weights(folder), wanted, device, progress)
        if (folder / "generation_config.json").is_file():
            model.generation_config = read_json(folder / "generation_config.json")
        return model

    @classmethod
    def from_state_dict(
        cls,
        config: FamilyConfig | Mapping[str, Any],
        state: Mapping[str, Tensor],
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Build a model from a configuration and tensors, in any layout that files have; the tensors are copied."""
        if not isinstance(config, JsonConfig):
            config = cls.family.config_class.from_dict(config)
        return cls._load(config, WeightFiles.from_state_dict(state), dtype, device, None)

    @classmethod
    def _load(
        cls,
        config: JsonConfig,
        files: WeightFiles,
        dtype: torch.dtype | None,
        device: torch.device | str,
        progress: Progress | None,
    ) -> Self:
        with without_values():
            model = cls(config)  # type: ignore[arg-type]
        load_weights(model, files, cls.family.layouts, dtype=dtype, device=device, progress=progress)
        model.config.dtype = model.dtype
        return model.eval()

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        layout: str = "hf",
        dtype: torch.dtype | None = None,
        max_shard_size: int | str = DEFAULT_MAX_SHARD_SIZE,
    ) -> None:
        """Write configuration and weights, all of them or nothing.

        Args:
            layout: ``hf`` is read by every transformers release; see ``Family.save_layouts``.
            dtype: Of the weights in the files; None: as they are.
        """
        with staged_folder(folder) as stage:
            self.write_files(stage, layout=layout, dtype=dtype, max_shard_size=max_shard_size)

    def write_files(
        self,
        folder: Path,
        *,
        layout: str = "hf",
        dtype: torch.dtype | None = None,
        max_shard_size: int | str = DEFAULT_MAX_SHARD_SIZE,
    ) -> None:
        """``save_pretrained`` into a folder that is still being put together."""
        key_layout = self.family.save_layout(layout)
        config = self.family.config_class.from_dict(self.config.to_dict())
        config.dtype = dtype or self.dtype
        config.architectures = [self.family.architecture]
        config.save_pretrained(folder)
        if self.generation_config:
            write_json(folder / "generation_config.json", self.generation_config)
        save_weights(folder, self.state_dict(), key_layout, dtype=dtype, max_shard_size=max_shard_size)

    def num_parameters(self, only_trainable: bool = False) -> int:
        """How many numbers the model has, tied ones once."""
        return sum(
            parameter.numel() for parameter in self.parameters() if parameter.requires_grad or not only_trainable
        )

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Any = None,
        pixel_values_videos: Any = None,
        image_sizes: Any = None,
        attention_mask: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        return_dict: bool = True,
        logits_to_keep: int | Tensor = 0,
    ) -> CausalLMOutput | tuple[Any, ...]:
        """Scores of the next token at every position.

        Args:
            input_ids: ``[B, S]``, placeholders already expanded.
            pixel_values: Pictures: ``[N, tiles, 3, H, W]`` padded to the most tiles, or a list of their tiles.
            pixel_values_videos: ``[N, F, 3, H, W]``, or a list of ``[F, 3, H, W]``.
            image_sizes: ``[N, 2]``, height and width of each picture before tiling.
            attention_mask: ``[B, S]``, tokens in ``past_key_values`` included; zero at padding.
            position_ids: ``[B, S]``; counted from the mask if not given.
            past_key_values: What an earlier call returned; these tokens come after it, and are added to it.
            inputs_embeds: ``[B, S, D]`` in the place of ``input_ids``.
            labels: ``[B, S]``, -100 where nothing is learned; not shifted.
            use_cache: Whether to return a cache; if not given, yes outside of training.
            return_dict: False for a plain tuple of what is there.
            logits_to_keep: Only the last so many positions, or these; 0 for all.
        """
        output = run_forward(
            self,
            input_ids=input_ids,
            media=MediaArguments(pixel_values=pixel_values, image_sizes=image_sizes, videos=pixel_values_videos),
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=past_key_values if past_key_values is not None else self._cache_for(use_cache),
            inputs_embeds=inputs_embeds,
            labels=labels,
            logits_to_keep=logits_to_keep,
        )
        return output if return_dict else output.to_tuple()

    def _cache_for(self, use_cache: bool | None) -> KVCache | None:
        wanted = use_cache if use_cache is not None else not (self.training or torch.is_grad_enabled())
        return self.new_cache() if wanted else None

    @torch.inference_mode()
    def generate(self, input_ids: Tensor, **options: Any) -> Tensor:
        """The prompts with what the model writes after them; see ``generating.generate_batch`` for the options."""
        return generate_batch(self, input_ids, **options)


def read_dtype(value: torch.dtype | str | None) -> torch.dtype | None:
    """A dtype from its name; None and ``auto`` mean that of the files."""
    if value is None or value == "auto":
        return None
    found = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ArgumentError(f"dtype is {value!r}: expected float32, bfloat16, float16 or auto. Choose one of these.")
    return found
