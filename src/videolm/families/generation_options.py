"""The options of ``generate`` in, checked settings out: a call's own before those of configurations."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from videolm.errors import ArgumentError
from videolm.families.generation_config import GenerationConfig
from videolm.families.placeholders import PlacedBatch
from videolm.generation import sampling
from videolm.generation.params import SamplingParams, check_whole
from videolm.generation.sampling import LogitsProcessor

if TYPE_CHECKING:
    from videolm.families.base import FamilyModel

__all__ = ["GenerationSettings", "new_token_limit", "read_settings"]

_DEFAULT_NEW_TOKENS = 256
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How a batch is continued."""

    config: GenerationConfig
    """All options together."""
    params: SamplingParams
    do_sample: bool
    num_beams: int
    num_return_sequences: int
    no_repeat_ngram_size: int
    pad_token_id: int
    stop_strings: tuple[str, ...]
    use_cache: bool

    @property
    def stops(self) -> tuple[int, ...]:
        """The ids that end a row."""
        return self.params.stop_token_ids

    def flag(self, name: str) -> bool:
        """One of the options that are on or off."""
        return bool(self.config.get(name))

    def shaping(self) -> tuple[LogitsProcessor, ...]:
        """What changes scores before a caller's own processors."""
        chain: list[LogitsProcessor] = []
        if self.params.repetition_penalty != 1:
            chain.append(sampling.repetition_penalty(self.params.repetition_penalty))
        if self.no_repeat_ngram_size:
            chain.append(sampling.no_repeat_ngram(self.no_repeat_ngram_size))
        return tuple(chain)

    def drawing(self) -> tuple[LogitsProcessor, ...]:
        """What changes scores after them, where tokens are drawn."""
        if not self.do_sample:
            return ()
        neutral = SamplingParams(
            temperature=self.params.temperature,
            top_k=self.params.top_k,
            top_p=self.params.top_p,
            min_p=self.params.min_p,
        )
        return sampling.make_processors(neutral)


def read_settings(model: FamilyModel, given: Any, options: Mapping[str, Any]) -> GenerationSettings:
    """Settings from a call's options, the configuration passed with them, and the model's own, in this order.

    Args:
        given: A ``generation_config`` argument: any object with such attributes, or a mapping.
    """
    explicit = {**_set_values(given), **options}
    config = model.generation_config.changed(explicit)
    if "max_length" in explicit and "max_new_tokens" not in explicit:
        config.update(max_new_tokens=None)
    # Scripts ask for both: at temperature 0 drawing means taking the most likely token.
    do_sample = bool(config.do_sample) and config.temperature != 0
    num_beams = _number(config.num_beams, 1)
    num_returned = _number(config.num_return_sequences, 1)
    ngram = _number(config.no_repeat_ngram_size, 0)
    check_whole("num_beams", num_beams, 1)
    check_whole("num_return_sequences", num_returned, 1)
    check_whole("no_repeat_ngram_size", ngram, 0)
    if num_returned > (num_beams if num_beams > 1 else num_returned if do_sample else 1):
        raise ArgumentError(
            f"num_return_sequences is {num_returned} with num_beams={num_beams} and do_sample={do_sample}: there are "
            "not so many different answers. Raise num_beams, or set do_sample=True."
        )
    stops = _stop_ids(model, config, options)
    pad = config.pad_token_id if config.pad_token_id is not None else _text_value(model, "pad_token_id")
    return GenerationSettings(
        config=config,
        params=_sampling_params(config, stops, do_sample),
        do_sample=do_sample,
        num_beams=num_beams,
        num_return_sequences=num_returned,
        no_repeat_ngram_size=ngram,
        pad_token_id=pad if pad is not None else (stops[0] if stops else 0),
        stop_strings=_strings(config.stop_strings),
        use_cache=config.use_cache is not False,
    )


def new_token_limit(settings: GenerationSettings, prompt_len: int, placed: PlacedBatch, num_real: Sequence[int]) -> int:
    """How many tokens may be added.

    Args:
        prompt_len: Columns of the prompts, as they were passed.
        num_real: Tokens of each row without padding, placeholders written out.
    """
    config = settings.config
    if config.max_new_tokens is not None:
        return int(config.max_new_tokens)
    if config.max_length is None:
        return _DEFAULT_NEW_TOKENS
    check_whole("max_length", config.max_length, 1)
    if config.max_length > max(prompt_len, max(num_real)):
        return int(config.max_length) - prompt_len
    counts = zip(num_real, placed.visual_tokens(), placed.media_counts(), strict=True)
    shortest = max(total - visual + media for total, visual, media in counts)
    if placed.media and config.max_length > shortest:
        _LOG.warning(
            "max_length=%d is less than the prompt's %d tokens: each picture and video counts as one of %d "
            "(use max_new_tokens to say how long the answer may be)",
            *(config.max_length, max(num_real), shortest),
        )
        return int(config.max_length) - shortest
    raise ArgumentError(
        f"max_length is {config.max_length} but the prompt alone has {shortest} tokens, each medium counted as one: it "
        "must be more. Raise it, or use max_new_tokens."
    )


def _set_values(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, GenerationConfig):
        values: Mapping[str, Any] = given.to_dict()
    elif isinstance(given, Mapping):
        values = given
    elif hasattr(given, "to_dict"):
        values = given.to_dict()
    else:
        raise ArgumentError(
            f"generation_config is a {type(given).__name__}: expected a GenerationConfig or a mapping. "
            "Build one with videolm.GenerationConfig."
        )
    return {name: value for name, value in values.items() if name in GenerationConfig.KNOWN and value is not None}


def _sampling_params(config: GenerationConfig, stops: tuple[int, ...], do_sample: bool) -> SamplingParams:
    drawing: dict[str, Any] = {
        "temperature": 1.0 if config.temperature is None else config.temperature,
        "top_k": 50 if config.top_k is None else config.top_k,
        "top_p": 1.0 if config.top_p is None else config.top_p,
        "min_p": 0.0 if config.min_p is None else config.min_p,
    }
    least = config.min_new_tokens or 0
    return SamplingParams(
        max_new_tokens=max(least, 1) if config.max_new_tokens is None else config.max_new_tokens,
        min_new_tokens=least,
        stop_token_ids=stops,
        repetition_penalty=1.0 if config.repetition_penalty is None else config.repetition_penalty,
        seed=config.seed,
        **(drawing if do_sample else {}),
    )


def _stop_ids(model: FamilyModel, config: GenerationConfig, options: Mapping[str, Any]) -> tuple[int, ...]:
    value = config.eos_token_id
    if value is None and "eos_token_id" not in options:
        value = _text_value(model, "eos_token_id")
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(int(token_id) for token_id in value)


def _strings(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    found = (value,) if isinstance(value, str) else tuple(value)
    if not all(isinstance(text, str) and text for text in found):
        raise ArgumentError(f"stop_strings is {value!r}: expected a string or several, none empty. Correct it.")
    return found


def _text_value(model: FamilyModel, name: str) -> Any:
    return getattr(model.config.text_config, name, None)


def _number(value: Any, default: int) -> Any:
    return default if value is None else value
