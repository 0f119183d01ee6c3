"""What the model classes return: values by attribute, by name or by position among what is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from videolm.models.cache import KVCache

__all__ = ["BackboneOutput", "CausalLMOutput", "GenerateBeamOutput", "GenerateOutput", "ModelOutput"]


@dataclass(kw_only=True)
class ModelOutput:
    """Named values, of which those that are None are not there."""

    def keys(self) -> tuple[str, ...]:
        """Names of what is there."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)

    def values(self) -> tuple[Any, ...]:
        """What is there, in order."""
        return self.to_tuple()

    def items(self) -> tuple[tuple[str, Any], ...]:
        """Names with what they stand for."""
        return tuple(zip(self.keys(), self.to_tuple(), strict=True))

    def get(self, key: str, default: Any = None) -> Any:
        """By name, ``default`` where it is not there."""
        return self[key] if key in self.keys() else default

    def to_tuple(self) -> tuple[Any, ...]:
        """What is there, in order."""
        return tuple(getattr(self, name) for name in self.keys())

    def __getitem__(self, key: str | int | slice) -> Any:
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self.keys():
            raise KeyError(key)
        return getattr(self, key)

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())


@dataclass(kw_only=True)
class BackboneOutput(ModelOutput):
    """What the part without the head returns."""

    last_hidden_state: Tensor
    """``[B, S, D]``."""
    past_key_values: KVCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    """``[B, S, D]``: what enters each layer, then the last hidden state."""
    attentions: tuple[Tensor, ...] | None = None
    """``[B, A, S, L]`` a layer."""
    image_hidden_states: Tensor | None = None
    """``[visual tokens of all pictures, D]``."""
    video_hidden_states: Tensor | None = None


@dataclass(kw_only=True)
class CausalLMOutput(ModelOutput):
    """What ``forward`` returns."""

    loss: Tensor | None = None
    logits: Tensor
    """``[B, S, V]``."""
    past_key_values: KVCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    image_hidden_states: Tensor | None = None
    """``[visual tokens of all pictures, D]``."""
    video_hidden_states: Tensor | None = None


@dataclass(kw_only=True)
class GenerateOutput(ModelOutput):
    """What ``generate`` returns when asked for more than ids."""

    sequences: Tensor
    """``[B, S]``: prompts and continuations."""
    scores: tuple[Tensor, ...] | None = None
    """``[B, V]`` a step, after all processors."""
    logits: tuple[Tensor, ...] | None = None
    """``[B, V]`` a step, as the model gave them."""
    past_key_values: KVCache | None = None


@dataclass(kw_only=True)
class GenerateBeamOutput(GenerateOutput):
    """The same after a beam search."""

    sequences_scores: Tensor | None = None
    """``[B]``: log probability over length to the power of the length penalty."""
    beam_indices: Tensor | None = None
    """``[B, new tokens]``: which row of ``scores`` each token was chosen in; -1 after the end."""
