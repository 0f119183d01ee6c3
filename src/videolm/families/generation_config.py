"""``generation_config.json`` as an object: how answers are generated where a call does not say."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from videolm.errors import ArgumentError
from videolm.families.hub import resolve
from videolm.families.json_config import read_json, write_json

__all__ = ["GenerationConfig"]


class GenerationConfig(Mapping[str, Any]):
    """Attributes are the keys of the file; a known key that is not set is None, unknown keys of files are kept.

    As a mapping it holds what is set.
    """

    KNOWN: ClassVar[tuple[str, ...]] = (
        "max_new_tokens",
        "max_length",
        "min_new_tokens",
        "do_sample",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repetition_penalty",
        "no_repeat_ngram_size",
        "num_beams",
        "length_penalty",
        "early_stopping",
        "num_return_sequences",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "stop_strings",
        "return_dict_in_generate",
        "output_scores",
        "output_logits",
        "use_cache",
        "seed",
    )

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        # Only asked for what was not set.
        if name in type(self).KNOWN:
            return None
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return len(vars(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def update(self, **values: Any) -> dict[str, Any]:
        """Set known keys; returns those that are unknown, which are left alone."""
        for name in [name for name in values if name in type(self).KNOWN]:
            setattr(self, name, values.pop(name))
        return values

    def changed(self, values: Mapping[str, Any]) -> GenerationConfig:
        """A copy with these values; a key that means nothing to ``generate`` is an error that names the nearest."""
        for name in values:
            if name not in type(self).KNOWN:
                near = difflib.get_close_matches(name, type(self).KNOWN, n=1)
                hint = f"Did you mean {near[0]}?" if near else "Leave it out."
                raise ArgumentError(
                    f"generate got {name}, which it does not know: expected the options of generation and the model's "
                    f"inputs. {hint}"
                )
        return GenerationConfig(**{**vars(self), **values})

    def to_dict(self) -> dict[str, Any]:
        """What is set."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what a file holds."""
        return cls(**values)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **values: Any) -> Self:
        """From ``generation_config.json`` in a folder or of a hub name; ``values`` replace what the file says."""
        return cls(**{**read_json(resolve(name_or_path, weights=False) / "generation_config.json"), **values})

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``generation_config.json``."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / "generation_config.json", self.to_dict())
