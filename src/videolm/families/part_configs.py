"""The configurations of the parts that families share: vision towers and language models, each a list of keys."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from videolm.errors import ConfigError
from videolm.families.json_config import JsonConfig, Key, flag, number, optional, whole, word

__all__ = [
    "CLIPVisionConfig",
    "LlamaConfig",
    "MistralConfig",
    "Qwen2Config",
    "SiglipVisionConfig",
    "TextConfig",
    "TowerConfig",
    "part_config",
]

VISION_ACTIVATIONS = ("quick_gelu", "gelu", "gelu_pytorch_tanh")

_TOKEN_ID = optional(whole(0, minimum=0))
_TOKEN_IDS = Key(
    default=None,
    accepts=lambda value: all(_TOKEN_ID.accepts(entry) for entry in (value if isinstance(value, list) else [value])),
    expected="a token id, a list of them, or null",
)
_ENDS = {"bos_token_id": replace(_TOKEN_ID, default=1), "eos_token_id": replace(_TOKEN_IDS, default=2)}
"""What files leave out where the tokenizer is that of Llama."""


class TowerConfig(JsonConfig):
    """A vision tower: what CLIP and SigLIP have in common."""

    shared_keys: ClassVar[dict[str, Key]] = {
        "hidden_size": whole(768),
        "intermediate_size": whole(3072),
        "num_hidden_layers": whole(12),
        "num_attention_heads": whole(12),
        "num_channels": whole(3),
        "image_size": whole(224),
        "initializer_range": number(0.02),
    }

    def _check(self) -> None:
        super()._check()
        if self.hidden_size % self.num_attention_heads:
            raise self.wrong("num_attention_heads", self.num_attention_heads, f"a divisor of {self.hidden_size}")
        if self.image_size < self.patch_size:
            raise self.wrong("image_size", self.image_size, f"at least one patch of {self.patch_size} pixels")


class CLIPVisionConfig(TowerConfig):
    """A CLIP vision tower."""

    model_type = "clip_vision_model"
    keys: ClassVar[dict[str, Key]] = TowerConfig.shared_keys | {
        "projection_dim": whole(512),
        "patch_size": whole(32),
        "hidden_act": word("quick_gelu", VISION_ACTIVATIONS),
        "layer_norm_eps": number(1e-5),
    }


class SiglipVisionConfig(TowerConfig):
    """A SigLIP vision tower; two keys say whether files hold the pooling head and the last norm: neither is used."""

    model_type = "siglip_vision_model"
    keys: ClassVar[dict[str, Key]] = TowerConfig.shared_keys | {
        "patch_size": whole(16),
        "hidden_act": word("gelu_pytorch_tanh", VISION_ACTIVATIONS),
        "layer_norm_eps": number(1e-6),
        "vision_use_head": flag(True),
        "vision_use_post_norm": flag(True),
    }


class TextConfig(JsonConfig):
    """A language model: what Llama, Mistral and Qwen2 have in common."""

    num_key_value_heads: Any
    head_dim: Any
    rope_parameters: Any

    shared_keys: ClassVar[dict[str, Key]] = {
        "vocab_size": whole(32000),
        "hidden_size": whole(4096),
        "intermediate_size": whole(11008),
        "num_hidden_layers": whole(32),
        "num_attention_heads": whole(32),
        "num_key_value_heads": optional(whole(32)),
        "head_dim": optional(whole(128)),
        "hidden_act": word("silu", ("silu", "gelu", "gelu_pytorch_tanh")),
        "max_position_embeddings": whole(2048),
        "initializer_range": number(0.02),
        "rms_norm_eps": number(1e-6),
        "use_cache": flag(True),
        "tie_word_embeddings": flag(False),
        "bos_token_id": _TOKEN_ID,
        "eos_token_id": _TOKEN_IDS,
        "pad_token_id": _TOKEN_ID,
    }
    aliases: ClassVar[dict[str, str]] = {"torch_dtype": "dtype", "rope_scaling": "rope_parameters"}

    def __init__(self, **values: Any) -> None:
        theta = values.pop("rope_theta", None)
        scaling = values.pop("rope_scaling", None)
        parameters = values.pop("rope_parameters", None)
        super().__init__(**values)
        self.rope_parameters = self._read_rope(theta, parameters if parameters is not None else scaling)
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.num_attention_heads % self.num_key_value_heads:
            raise self.wrong(
                "num_key_value_heads", self.num_key_value_heads, f"a divisor of {self.num_attention_heads}"
            )

    def _read_rope(self, theta: Any, rope: Any) -> dict[str, Any]:
        """The one form that stands for ``rope_theta`` with ``rope_scaling``, ``type`` or ``rope_type``."""
        if rope is not None and not isinstance(rope, Mapping):
            raise self.wrong("rope_parameters", rope, "an object with rope_type and factor, or null")
        values: dict[str, Any] = dict(rope or {})
        old_type = values.pop("type", None)
        values.setdefault("rope_type", old_type or "default")
        values.setdefault("rope_theta", theta if theta is not None else 10000.0)
        if values["rope_type"] not in ("default", "linear"):
            raise self.wrong("rope_type", values["rope_type"], "default or linear")
        checked = {"rope_theta": number(10000.0)}
        if values["rope_type"] == "linear":
            checked["factor"] = number(1.0)
        for name, key in checked.items():
            if not key.accepts(values.get(name)):
                raise self.wrong(name, values.get(name), key.expected)
        return values

    @property
    def rope_theta(self) -> float:
        """The base of the rotary frequencies."""
        return float(self.rope_parameters["rope_theta"])

    def to_dict(self) -> dict[str, Any]:
        """Both spellings of the rotary settings, so that old and new readers agree."""
        rope: dict[str, Any] = copy.deepcopy(self.rope_parameters)
        values = super().to_dict()
        values["rope_parameters"] = rope
        values["rope_theta"] = rope["rope_theta"]
        if rope["rope_type"] != "default":
            values["rope_scaling"] = {"type": rope["rope_type"]} | {
                name: value for name, value in rope.items() if name != "rope_theta"
            }
        return values


class LlamaConfig(TextConfig):
    """A Llama language model."""

    model_type = "llama"
    keys: ClassVar[dict[str, Key]] = TextConfig.shared_keys | {
        **_ENDS,
        "attention_bias": flag(False),
        "mlp_bias": flag(False),
    }


class MistralConfig(TextConfig):
    """A Mistral language model."""

    model_type = "mistral"
    keys: ClassVar[dict[str, Key]] = TextConfig.shared_keys | {
        **_ENDS,
        "intermediate_size": whole(14336),
        "num_key_value_heads": whole(8),
        "max_position_embeddings": whole(131072),
        "sliding_window": Key(default=4096, accepts=optional(whole(1)).accepts, expected="a whole number or null"),
    }


class Qwen2Config(TextConfig):
    """A Qwen2 language model."""

    model_type = "qwen2"
    keys: ClassVar[dict[str, Key]] = TextConfig.shared_keys | {
        "vocab_size": whole(151936),
        "intermediate_size": whole(22016),
        "num_key_value_heads": whole(32),
        "max_position_embeddings": whole(32768),
        "use_sliding_window": flag(False),
        "sliding_window": optional(whole(1)),
        "max_window_layers": whole(28, minimum=0),
    }


_PARTS: dict[str, type[JsonConfig]] = {
    part.model_type: part for part in (CLIPVisionConfig, SiglipVisionConfig, LlamaConfig, MistralConfig, Qwen2Config)
}


def part_config(name: str, value: Any, default: type[JsonConfig], defaults: Mapping[str, Any]) -> JsonConfig:
    """The configuration of a part from an object, a dict or None.

    Args:
        name: The key it stands under, for messages.
        default: The class when the value names no ``model_type``.
        defaults: What None stands for.
    """
    if isinstance(value, JsonConfig):
        return value
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if value is None:
        return default(**defaults)
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is {value!r}: expected an object with keys, or null. Correct that key.")
    model_type = value.get("model_type") or default.model_type
    if model_type not in _PARTS:
        raise ConfigError(
            f"{name} has the model_type {model_type!r}: expected one of {', '.join(sorted(_PARTS))}. "
            "Other parts cannot be run; check that the file belongs to a supported model."
        )
    return _PARTS[model_type].from_dict(value)
