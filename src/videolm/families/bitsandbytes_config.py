"""``BitsAndBytesConfig``: the documented arguments about bitsandbytes, each honoured or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import torch

from videolm.errors import ArgumentError

__all__ = ["BitsAndBytesConfig"]

_NOT_HONOURED = {
    "llm_int8_enable_fp32_cpu_offload": "a model is on one device here. Leave it out",
    "llm_int8_has_fp16_weight": "weights in half precision are those of a model that is not quantised. Leave it out",
}


@dataclass(frozen=True)
class BitsAndBytesConfig:
    """How bitsandbytes keeps the weights of linear layers: by default of the decoder's, and of no other part."""

    load_in_8bit: bool = False
    """Eight bits a weight; products with activations in eight bits too, by LLM.int8()."""
    load_in_4bit: bool = False
    """Four bits a weight."""
    llm_int8_threshold: float = 6.0
    """Columns with an activation beyond it are multiplied in half precision."""
    llm_int8_skip_modules: tuple[str, ...] | list[str] | None = None
    """Parts or layers to leave as they are, in four bits too; all others are quantised then. None: only the decoder."""
    llm_int8_enable_fp32_cpu_offload: bool = False
    """Only False."""
    llm_int8_has_fp16_weight: bool = False
    """Only False."""
    bnb_4bit_compute_dtype: torch.dtype | str | None = None
    """What products are computed in; None is float32."""
    bnb_4bit_quant_type: str = "fp4"
    """``fp4`` or ``nf4``."""
    bnb_4bit_use_double_quant: bool = False
    """Quantise the scales too."""
    bnb_4bit_quant_storage: torch.dtype | str | None = None
    """Only uint8: the bytes are the same in any dtype, and a change of the model's dtype would convert another."""

    def __post_init__(self) -> None:
        for name, default in (("bnb_4bit_compute_dtype", torch.float32), ("bnb_4bit_quant_storage", torch.uint8)):
            value = getattr(self, name)
            found = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
            object.__setattr__(self, name, default if value is None else found)
        if self.llm_int8_skip_modules is not None and not isinstance(self.llm_int8_skip_modules, str):
            object.__setattr__(self, "llm_int8_skip_modules", tuple(self.llm_int8_skip_modules))
        for name, accepted, expected in self._rules():
            if not accepted:
                raise ArgumentError(
                    f"{name} is {getattr(self, name)!r} in a BitsAndBytesConfig: expected {expected}. Correct it."
                )
        for name, reason in _NOT_HONOURED.items():
            if getattr(self, name) is not False:
                raise ArgumentError(f"{name} is {getattr(self, name)!r}: expected False, since {reason}.")
        if self.load_in_4bit and self.load_in_8bit:
            raise ArgumentError("load_in_4bit and load_in_8bit are both true: expected one of them. Leave one out.")

    def _rules(self) -> list[tuple[str, bool, str]]:
        threshold, compute = self.llm_int8_threshold, self.bnb_4bit_compute_dtype
        skipped = self.llm_int8_skip_modules
        is_number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
        names = skipped is None or (isinstance(skipped, tuple) and all(isinstance(name, str) for name in skipped))
        return [
            ("load_in_8bit", isinstance(self.load_in_8bit, bool), "true or false"),
            ("load_in_4bit", isinstance(self.load_in_4bit, bool), "true or false"),
            ("llm_int8_threshold", is_number and threshold >= 0, "a number, at least 0"),
            ("llm_int8_skip_modules", names, "a list of names, or nothing"),
            ("bnb_4bit_quant_type", self.bnb_4bit_quant_type in ("fp4", "nf4"), "fp4 or nf4"),
            ("bnb_4bit_use_double_quant", isinstance(self.bnb_4bit_use_double_quant, bool), "true or false"),
            (
                "bnb_4bit_compute_dtype",
                compute in (torch.float32, torch.bfloat16, torch.float16),
                "float32, bfloat16 or float16",
            ),
            ("bnb_4bit_quant_storage", self.bnb_4bit_quant_storage == torch.uint8, "uint8, whatever trains in it"),
        ]

    @property
    def method(self) -> str | None:
        """``int8``, ``nf4``, ``fp4``; None where nothing is to be quantised."""
        if self.load_in_8bit:
            return "int8"
        return self.bnb_4bit_quant_type if self.load_in_4bit else None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what a ``config.json`` holds; ``_load_in_4bit`` and its like are other releases' spellings."""
        values = {name: value for name, value in values.items() if name != "quant_method"}
        for name in ("load_in_4bit", "load_in_8bit"):
            other = values.pop(f"_{name}", None)
            values[name] = values.get(name, other if other is not None else False)
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ArgumentError(
                f"The quantisation by bitsandbytes holds {', '.join(unknown)}: expected {', '.join(known)}. "
                "Leave these keys out."
            )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in ``config.json``."""
        values: dict[str, Any] = {"quant_method": "bitsandbytes"}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, torch.dtype):
                value = str(value).removeprefix("torch.")
            values[field.name] = list(value) if isinstance(value, tuple) else value
        return values | {"_load_in_4bit": self.load_in_4bit, "_load_in_8bit": self.load_in_8bit}
