"""How an answer is to be generated: every number checked once, when it is set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from videolm.errors import ArgumentError

MAX_SEED = 2**64 - 1
MAX_PENALTY = 2.0
MAX_LOGPROBS = 20

__all__ = ["MAX_LOGPROBS", "MAX_PENALTY", "SamplingParams", "check_number", "check_whole"]


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """Settings of one generation; the defaults are greedy."""

    max_new_tokens: int = 256
    """Generate at most this many tokens."""
    min_new_tokens: int = 0
    """Take no stop token before this many tokens."""
    temperature: float = 0.0
    """0 takes the most likely token each time; larger values draw more freely."""
    top_k: int = 0
    """Draw only from the k most likely tokens; 0 for all."""
    top_p: float = 1.0
    """Draw only from the fewest tokens that together have this probability."""
    min_p: float = 0.0
    """Draw only from tokens at least this fraction as likely as the most likely one."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens that already occurred less likely."""
    presence_penalty: float = 0.0
    """Taken from the logit of each token that was generated already; below 0 it favours them."""
    frequency_penalty: float = 0.0
    """Taken from the logit of each token as often as it was generated already; below 0 it favours them."""
    stop: tuple[str, ...] = ()
    """End the answer before the first of these strings."""
    stop_token_ids: tuple[int, ...] = ()
    """End the answer at any of these tokens; the model's end token belongs here."""
    seed: int | None = None
    """Makes drawing repeatable."""
    logprobs: int | None = None
    """Tell the log probability of each generated token and of so many of the likeliest ones; None tells nothing."""

    def __post_init__(self) -> None:
        check_whole("max_new_tokens", self.max_new_tokens, 1)
        check_whole("min_new_tokens", self.min_new_tokens, 0)
        if self.min_new_tokens > self.max_new_tokens:
            raise ArgumentError(
                f"min_new_tokens is {self.min_new_tokens} but max_new_tokens is {self.max_new_tokens}: the minimum "
                "cannot exceed the maximum. Lower min_new_tokens or raise max_new_tokens."
            )
        check_whole("top_k", self.top_k, 0, hint="Use 0 to keep all tokens.")
        check_number("temperature", self.temperature, 0.0, hint="Use 0 for the most likely token each time.")
        check_number("top_p", self.top_p, 0.0, 1.0, above=True, hint="Use 1 to keep all tokens.")
        check_number("min_p", self.min_p, 0.0, 1.0, hint="Use 0 to keep all tokens.")
        check_number("repetition_penalty", self.repetition_penalty, 0.0, above=True, hint="Use 1 for no penalty.")
        for name in ("presence_penalty", "frequency_penalty"):
            check_number(name, getattr(self, name), -MAX_PENALTY, MAX_PENALTY, hint="Use 0 for no penalty.")
        if self.seed is not None:
            check_whole("seed", self.seed, 0, MAX_SEED, hint="Leave it out for a new draw each time.")
        if self.logprobs is not None:
            check_whole("logprobs", self.logprobs, 0, MAX_LOGPROBS, hint="Leave it out to be told none.")
        self._check_stops()

    def _check_stops(self) -> None:
        if not isinstance(self.stop, tuple) or not all(isinstance(text, str) for text in self.stop):
            raise ArgumentError(f"stop is {self.stop!r}: expected a tuple of strings. Write stop=('END',).")
        if "" in self.stop:
            raise ArgumentError(
                "stop holds an empty string, which would end every answer at once: expected strings of at least one "
                "character. Remove the empty one."
            )
        for token_id in self.stop_token_ids:
            check_whole("stop_token_ids", token_id, 0)

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is taken each time."""
        return self.temperature == 0


def check_whole(name: str, value: Any, lowest: int, highest: int | None = None, *, hint: str = "") -> None:
    """Refuse what is no whole number in this range."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if is_whole and value >= lowest and (highest is None or value <= highest):
        return
    span = f"of at least {lowest}" if highest is None else f"from {lowest} to {highest}"
    _refuse(name, value, f"a whole number {span}", hint or f"Use {lowest} or more.")


def check_number(
    name: str, value: Any, lowest: float, highest: float | None = None, *, above: bool = False, hint: str
) -> None:
    """Refuse what is no finite number in this range, whose lower end is left out with ``above``."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and (value > lowest if above else value >= lowest) and (highest is None or value <= highest):
        return
    span = f"above {lowest:g}" if above else f"of at least {lowest:g}"
    if highest is not None:
        span += f" and at most {highest:g}"
    _refuse(name, value, f"a number {span}", hint)


def _refuse(name: str, value: Any, expected: str, hint: str) -> None:
    raise ArgumentError(f"{name} is {value!r}: expected {expected}. {hint}")
