"""A model's folder in, the model out, and back: the loading and saving that all families share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from videolm.families.backbone import FamilyBackbone
from videolm.families.declaration import Family, FamilyConfig, check_keys, read_config, read_dtype
from videolm.families.fine_tunes import find_parts, open_parts
from videolm.families.generation_config import GenerationConfig
from videolm.families.hub import HubOptions, resolve
from videolm.families.initialise import initialise, without_values
from videolm.families.json_config import read_json, write_json
from videolm.families.placement import check_attention, check_move, dtype_for, flash_attention, read_device
from videolm.families.quantization import Request, check_saving, default_dtype, read_request, settle_request
from videolm.families.quantized_layers import layer_maker, quantization_entry
from videolm.families.written_forms import written_form
from videolm.models.video_lm import VideoLM
from videolm.weights.files import WeightFiles
from videolm.weights.loading import load_weights
from videolm.weights.packed_files import dequantized_files, find_packed
from videolm.weights.quantize import WeightQuantization
from videolm.weights.saving import DEFAULT_MAX_SHARD_SIZE, save_weights, staged_folder, without_ties

_LOG = logging.getLogger(__name__)

__all__ = ["PretrainedModel"]

Progress = Callable[[int, int | None], None]


class PretrainedModel(VideoLM):
    """A model of one family with its files; its ``config`` is the one that they hold."""

    family: ClassVar[Family]
    backbone_class: ClassVar[type[FamilyBackbone]] = FamilyBackbone
    config: Any
    model: FamilyBackbone

    def __init__(self, config: FamilyConfig | Mapping[str, Any]) -> None:
        config = read_config(self.family, config, type(self).__name__)
        super().__init__(config.model_settings())
        self.config = config
        self.model.family_config = config
        self._generation_config = GenerationConfig()
        initialise(self)

    @property
    def generation_config(self) -> GenerationConfig:
        """How answers are generated where a call does not say."""
        return self._generation_config

    @generation_config.setter
    def generation_config(self, value: GenerationConfig | Mapping[str, Any]) -> None:
        self._generation_config = value if isinstance(value, GenerationConfig) else GenerationConfig.from_dict(value)

    def to(self, *where: Any, **options: Any) -> Self:
        """Move to a device, a dtype or both, as any module of torch; a GPU that is not there is refused by name."""
        check_move(options.get("device", where[0] if where else None))
        return super().to(*where, **options)

    def cuda(self, device: Any = None) -> Self:
        """Move to a GPU."""
        return self.to("cuda" if device is None else device)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        base: str | Path | None = None,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        device_map: Any = None,
        low_cpu_mem_usage: bool = True,
        attn_implementation: str | None = None,
        use_flash_attention_2: bool = False,
        keep_dtype: bool = False,
        quantize: str | Mapping[str, Any] | WeightQuantization | None = None,
        quantization_config: Any = None,
        load_in_4bit: bool = False,
        load_in_8bit: bool = False,
        key_mapping: Mapping[str, str] | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        subfolder: str = "",
        progress: Progress | None = None,
        **config_values: Any,
    ) -> Self:
        """Load a model.

        Args:
            name_or_path: A local folder, or a hub name.
            base: The model that a LoRA adapter or a projector there belongs to, if the folder does not name it.
            dtype: Of the parameters; None or ``auto`` keeps what the files hold. ``torch_dtype`` is its old name.
                On a CPU float16 becomes bfloat16 where the CPU has it, else float32, unless ``keep_dtype``.
            device: Where to; ``device_map`` is another name for it, which also takes ``auto`` and a dict.
            quantize: ``int8`` or ``int4`` keeps the decoder's weights so (``WeightQuantization`` says more); a CPU then
                computes in bfloat16 unless told otherwise. ``none`` reads quantised files as floating point.
            quantization_config: A ``BitsAndBytesConfig`` or its keys; ``load_in_4bit`` and ``load_in_8bit`` are short
                for one with that alone.
            low_cpu_mem_usage: Whether bfloat16 weights that stay on a CPU are left in their safetensors files, which
                must not be changed meanwhile, until they are first used. False copies them at once.
            key_mapping: Regular expressions and what replaces them in the names of tensors in the files.
            progress: Called with the tensors loaded so far and their number.
            config_values: Keys of the configuration that replace what the file says.
        """
        place = read_device(device_map, device)
        attention = check_attention(attn_implementation, use_flash_attention_2)
        asked = read_request(quantize, quantization_config, load_in_4bit=load_in_4bit, load_in_8bit=load_in_8bit)
        wanted = read_dtype(dtype if dtype is not None else torch_dtype)
        options = HubOptions(
            revision=revision, cache_dir=cache_dir, token=token, subfolder=subfolder, download=not local_files_only
        )
        parts = find_parts(resolve(name_or_path, options=options), base, hub=options)
        folder = parts.config
        check_keys(cls.family, config_values, signature(cls.from_pretrained).parameters)
        config = cls.family.config_class.from_pretrained(folder, **config_values)
        # Where no device is named, scripts move the model to the GPU afterwards, if there is one.
        aim = read_device("auto", None) if device is None and device_map is None else place
        wanted = dtype_for(wanted or default_dtype(config, asked, aim), aim, keep=keep_dtype)
        if attention == "flash_attention_2":
            flash_attention(aim, wanted or config.dtype or torch.float32)
        files = open_parts(parts, cls.family.layouts)
        files = files.renamed(key_mapping) if key_mapping else files
        model = cls._load(
            config, files, dtype=wanted, device=place, progress=progress, asked=asked, maps=low_cpu_mem_usage
        )
        model.model.attn_implementation = attention
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_dict(read_json(folder / "generation_config.json"))
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
        config = read_config(cls.family, config, cls.__name__)
        return cls._load(config, WeightFiles.from_state_dict(state), dtype=dtype, device=device)

    @classmethod
    def _load(
        cls,
        config: FamilyConfig,
        files: WeightFiles,
        *,
        dtype: torch.dtype | None,
        device: torch.device | str,
        progress: Progress | None = None,
        asked: Request = None,
        maps: bool = False,
    ) -> Self:
        packed = find_packed(files)
        dtype = dtype or (config.dtype if packed else None)
        asked = settle_request(config, packed, asked)
        stored = getattr(config, "quantization_config", None)
        files = dequantized_files(files, packed)
        with without_values():
            model = cls(config.fitted_to(files))
        make_layer = layer_maker(model, files, packed, asked, dtype=dtype, device=device)
        load_weights(
            model, files, cls.family.layouts, dtype=dtype, device=device, progress=progress, make_layer=make_layer,
            maps=maps,
        )  # fmt: skip
        model.config.dtype = model.dtype
        model.config.record_quantization(quantization_entry(model, asked, stored))
        return model.eval()

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        layout: str | None = None,
        drop: bool = False,
        dtype: torch.dtype | None = None,
        max_shard_size: int | str = DEFAULT_MAX_SHARD_SIZE,
    ) -> None:
        """Write configuration and weights, all of them or nothing.

        Args:
            layout: ``hf`` is read by every transformers release, ``hf5`` by its fifth, ``original`` by the original
                code. None: as ``hf`` if that holds all tensors, which it does for nearly all, and with every setting,
                though some of them only this library reads.
            drop: Leave out what the layout cannot hold, in place of an error that names it.
            dtype: Of the weights in the files; None: as they are, which quantised models must stay.
        """
        with staged_folder(folder) as stage:
            self.write_files(stage, layout=layout, drop=drop, dtype=dtype, max_shard_size=max_shard_size)

    def write_files(
        self,
        folder: Path,
        *,
        layout: str | None = None,
        drop: bool = False,
        dtype: torch.dtype | None = None,
        max_shard_size: int | str = DEFAULT_MAX_SHARD_SIZE,
    ) -> None:
        """``save_pretrained`` into a folder that is still being put together."""
        check_saving(self.config, layout, dtype)
        state = self.state_dict()
        config = self.family.config_class.from_dict(self.config.to_dict())
        config.dtype = dtype or self.dtype
        config.architectures = [self.family.architecture]
        form = written_form(self.family, config, layout, state, drop=drop)
        for convention in form.changed:
            _LOG.warning("readers of the layout %s change %s", layout, convention)
        write_json(folder / "config.json", form.config)
        if self.generation_config:
            self.generation_config.save_pretrained(folder)
        tensors = form.tensors(WeightFiles.from_state_dict(without_ties(state)))
        save_weights(folder, tensors, form.key_layout, dtype=dtype, max_shard_size=max_shard_size)
