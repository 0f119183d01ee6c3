"""A base model's tensors and a LoRA adapter in, the merged tensors out, each computed when it is read."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from videolm.errors import CheckpointError
from videolm.weights.files import TensorSource, WeightFiles

__all__ = ["LoraSettings", "merged", "overlaid", "without_wrapper"]

_FACTOR = re.compile(r"(.+)\.lora_(A|B)(?:\.\w+)?\.weight")
_WRAPPERS = ("module.", "base_model.model.", "base_model.")


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """What ``adapter_config.json`` says of the sum ``W + scale * B A``."""

    rank: int
    alpha: float
    is_transposed: bool = False
    """Whether weights are stored as ``[in, out]`` (``fan_in_fan_out``)."""
    is_stabilised: bool = False
    """Whether the scale is ``alpha / sqrt(rank)`` (``use_rslora``)."""

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.is_stabilised else self.rank)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> LoraSettings:
        """From the file; every other way to adapt a model is refused by name."""
        known: dict[str, tuple[Any, ...]] = {
            "peft_type": ("LORA",),
            "bias": ("none", None),
            "use_dora": (False, None),
            "lora_bias": (False, None),
            "rank_pattern": ({}, None),
            "alpha_pattern": ({}, None),
            # The others also change the base weights that the adapter is to be added to.
            "init_lora_weights": (True, False, None, "gaussian", "eva"),
        }
        for key, allowed in known.items():
            if values.get(key) not in allowed:
                raise CheckpointError(
                    f"{where} has {key} {values.get(key)!r}: only {' or '.join(map(repr, allowed))} can be merged. "
                    "Merge the adapter where it was trained, and load the whole model."
                )
        rank, alpha = values.get("r"), values.get("lora_alpha")
        for key, number in (("r", rank), ("lora_alpha", alpha)):
            if not isinstance(number, int | float) or isinstance(number, bool) or number <= 0:
                raise CheckpointError(
                    f"{where} has {key} {number!r}: expected a number above 0, which says how the adapter is scaled. "
                    "Copy the file again from where the adapter came from."
                )
        return cls(
            rank=int(values["r"]),
            alpha=float(values["lora_alpha"]),
            is_transposed=bool(values.get("fan_in_fan_out", False)),
            is_stabilised=bool(values.get("use_rslora", False)),
        )


def without_wrapper(files: WeightFiles) -> WeightFiles:
    """The same tensors without what training puts before their names."""
    names = {key: _unwrapped(key) for key in files}
    if any(name.startswith("model.model.") for name in names.values()):
        names = {key: name.removeprefix("model.") for key, name in names.items()}
    return files.named({name: key for key, name in names.items()})


def _unwrapped(key: str) -> str:
    for prefix in _WRAPPERS:
        key = key.removeprefix(prefix)
    return key


def overlaid(base: WeightFiles, own: WeightFiles) -> WeightFiles:
    """The tensors of both; where both have one, that of ``own``."""
    return WeightFiles.over(base.folder, _Overlay(base, own))


def merged(
    base: WeightFiles, adapter: WeightFiles, settings: LoraSettings, rename: Callable[[str], str]
) -> WeightFiles:
    """The base model with the adapter's products added.

    Args:
        adapter: Factors by the name of the module that they adapt, and whole tensors that replace the base's.
        rename: From a name in the adapter to that in the base.
    """
    factors: dict[str, dict[str, str]] = {}
    whole: dict[str, str] = {}
    for key in adapter:
        match = _FACTOR.fullmatch(key)
        if match is not None:
            factors.setdefault(rename(f"{match[1]}.weight"), {})[match[2]] = key
        else:
            whole[rename(key)] = key
    _check(base, adapter, [*factors, *whole])
    for name, pair in factors.items():
        _check_pair(base, adapter, name, pair, settings)
    if not factors:
        raise CheckpointError(
            f"{adapter.folder} holds no factors of LoRA: expected names that end in lora_A.weight and lora_B.weight. "
            "Check that it belongs to adapter_config.json."
        )
    summed = WeightFiles.over(base.folder, _Sum(base, adapter, factors, settings))
    return overlaid(summed, adapter.named(whole)) if whole else summed


def _check(base: WeightFiles, adapter: WeightFiles, names: Iterable[str]) -> None:
    unknown = [name for name in names if name not in base]
    if unknown:
        nearest = difflib.get_close_matches(unknown[0], list(base), n=1)
        hint = f"; nearest there: {nearest[0]}" if nearest else ""
        raise CheckpointError(
            f"{adapter.folder} adapts {len(unknown)} tensors that the base model does not have ({unknown[0]}"
            f"{', …' if unknown[1:] else ''}{hint}): expected the model that it was trained on. Name that one as base."
        )


def _check_pair(
    base: WeightFiles, adapter: WeightFiles, name: str, pair: Mapping[str, str], settings: LoraSettings
) -> None:
    if pair.keys() != {"A", "B"}:
        (there,) = pair.values()
        raise CheckpointError(
            f"{adapter.folder} holds {there} without its other factor: expected a lora_A and a lora_B for each. "
            "Copy the file again from where the adapter came from."
        )
    first, second = adapter.shape(pair["A"]), adapter.shape(pair["B"])
    wanted = base.shape(name)[::-1] if settings.is_transposed else base.shape(name)
    if len(first) != 2 or len(second) != 2 or (second[0], first[1]) != wanted or first[0] != second[1]:
        raise CheckpointError(
            f"{pair['A']} {list(first)} and {pair['B']} {list(second)} in {adapter.folder} do not make {name}, which "
            f"is {list(base.shape(name))}: expected the model that the adapter was trained on. Name that one as base."
        )
    if first[0] != settings.rank:
        raise CheckpointError(
            f"{pair['A']} in {adapter.folder} has the rank {first[0]}, but adapter_config.json says r {settings.rank}: "
            "expected both from one training. Copy them again."
        )


class _Overlay:
    def __init__(self, base: TensorSource, own: TensorSource) -> None:
        self._owner = dict.fromkeys(base.keys(), base) | dict.fromkeys(own.keys(), own)

    def keys(self) -> list[str]:
        return list(self._owner)

    def shape(self, key: str) -> tuple[int, ...]:
        return self._owner[key].shape(key)

    def dtype(self, key: str) -> torch.dtype:
        return self._owner[key].dtype(key)

    def read(self, key: str) -> Tensor:
        return self._owner[key].read(key)


class _Sum:
    def __init__(
        self, base: WeightFiles, adapter: WeightFiles, factors: Mapping[str, Mapping[str, str]], settings: LoraSettings
    ) -> None:
        self._base = base
        self._adapter = adapter
        self._factors = factors
        self._settings = settings

    def keys(self) -> list[str]:
        return self._base.keys()

    def shape(self, key: str) -> tuple[int, ...]:
        return self._base.shape(key)

    def dtype(self, key: str) -> torch.dtype:
        return self._base.dtype(key)

    def read(self, key: str) -> Tensor:
        weight = self._base.read(key)
        pair = self._factors.get(key)
        if pair is None:
            return weight
        first, second = (self._adapter.read(pair[factor]).float() for factor in "AB")
        product = second @ first
        if self._settings.is_transposed:
            product = product.T
        return torch.add(weight.float(), product, alpha=self._settings.scale).to(weight.dtype)
