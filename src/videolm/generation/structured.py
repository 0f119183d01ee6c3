"""A JSON schema or a regular expression in, a logits processor that lets nothing else be answered out.

The grammars are llguidance's. JSON is written as ``json.dumps`` does, with one space after commas and colons; white
space before the answer is free, since tokenizers put a space before a text's first word and answers are told without.
"""

from __future__ import annotations

import json
import math
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from videolm.errors import ArgumentError, GenerationError, MissingExtraError
from videolm.generation.schema_bounds import check_schema

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from torch import Tensor

MAX_PATTERN_LEN = 4096
# Characters are written as they are: escaped ones would let two keys be the same without looking so.
_JSON_STYLE = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "lenient": False,
    "coerce_one_of": False,
    "json_allowed_escapes": '"\\bfnrt',
}
_MAX_MESSAGE_LEN = 200

__all__ = ["MAX_PATTERN_LEN", "GrammarProcessor", "GrammarTokenizer", "json_schema_processor", "regex_processor"]


class GrammarTokenizer(Protocol):
    """What a grammar needs to know of a tokenizer."""

    @property
    def eos_token_id(self) -> int | None: ...

    def to_json(self) -> str:
        """The content of ``tokenizer.json``."""
        ...


class GrammarProcessor:
    """Rules out every token that no answer of the grammar goes on with; once the answer is whole, all but its end.

    One for each request: it follows the ids that it is called with, and begins anew where they are other ones.
    """

    def __init__(self, matcher: LLMatcher, subject: str) -> None:
        self._fresh = matcher
        self._matcher = matcher.deep_copy()
        self._subject = subject
        self._ids: tuple[int, ...] = ()

    def __call__(self, logits: Tensor, ids: Sequence[int]) -> Tensor:
        """Logits ``[V]`` with ``-inf`` where ``ids`` cannot go on.

        Raises:
            GenerationError: Nothing can follow, or the grammar has become too complex to follow.
        """
        self._follow(tuple(ids))
        allowed = self._allowed(logits)
        if not allowed.any():
            raise self._error("no token can follow what was generated so far")
        return logits.masked_fill(~allowed, -math.inf)

    def _follow(self, ids: tuple[int, ...]) -> None:
        known = self._ids
        if ids[: len(known)] != known:
            self._matcher, known = self._fresh.deep_copy(), ()
        self._ids = ids
        if not self._matcher.consume_tokens(list(ids[len(known) :])):
            reason = _first_line(self._matcher.get_error())
            self._matcher, self._ids = self._fresh.deep_copy(), ()  # One that has failed goes on failing.
            raise self._error(reason)

    def _allowed(self, logits: Tensor) -> Tensor:
        import numpy as np
        import torch

        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise self._error(_first_line(self._matcher.get_error()))
        bits = np.zeros(len(logits), dtype=bool)  # A model may have more rows than its tokenizer has tokens, or fewer.
        known = np.unpackbits(packed, count=min(len(logits), 8 * len(packed)), bitorder="little")
        bits[: len(known)] = known
        return torch.from_numpy(bits).to(logits.device)

    def _error(self, reason: str) -> GenerationError:
        return GenerationError(
            f"The answer cannot be held to its {self._subject} any further ({reason}): expected a grammar that can be "
            f"followed to its end. Make the {self._subject} simpler."
        )


def json_schema_processor(
    schema: Mapping[str, Any] | bool, tokenizer: GrammarTokenizer, eos_ids: Sequence[int] = ()
) -> GrammarProcessor:
    """A processor that lets only JSON be answered that validates against ``schema``, and then the end.

    It takes some milliseconds, seconds for a tokenizer that comes the first time: call it in a thread.

    Args:
        eos_ids: The tokens that may end the answer; none: the tokenizer's own.

    Raises:
        ArgumentError: The schema is wrong, too large, or uses what cannot be held to.
        MissingExtraError: llguidance is not installed.
    """
    check_schema(schema)
    own = {**schema, "x-guidance": _JSON_STYLE} if isinstance(schema, Mapping) else {"x-guidance": _JSON_STYLE}
    value = f"%json {json.dumps(own, ensure_ascii=False)}"
    _compiled(f"start: {value}", tokenizer, eos_ids, subject="JSON schema")  # Where nothing matches, not even a space.
    return _compiled(f"start: / ?/ value\nvalue: {value}", tokenizer, eos_ids, subject="JSON schema")


def regex_processor(pattern: str, tokenizer: GrammarTokenizer, eos_ids: Sequence[int] = ()) -> GrammarProcessor:
    """The same for whole answers that match a regular expression, in the syntax of Rust's regex crate.

    Raises:
        ArgumentError: The pattern is wrong, too long, or uses what cannot be held to, such as look-around.
        MissingExtraError: llguidance is not installed.
    """
    if not isinstance(pattern, str) or not 0 < len(pattern) <= MAX_PATTERN_LEN:
        what = f"has {len(pattern)} characters" if isinstance(pattern, str) else f"is a {type(pattern).__name__}"
        raise ArgumentError(
            f"The regular expression {what}: expected a text of 1 to {MAX_PATTERN_LEN}. Give a shorter one."
        )
    library = _library()
    for whole in (pattern, f" ?(?:{pattern})"):  # By itself too, so that no parenthesis closes ours.
        grammar = json.loads(library.LLMatcher.grammar_from_regex(whole))["grammars"][0]["lark_grammar"]
        processor = _compiled(grammar, tokenizer, eos_ids, subject="regular expression")
    return processor


def _compiled(grammar: str, tokenizer: GrammarTokenizer, eos_ids: Sequence[int], *, subject: str) -> GrammarProcessor:
    library = _library()
    limits = library.LLParserLimits(
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=200_000,
        step_max_items=50_000,
        max_lexer_states=20_000,  # of 1-2 kB each
        max_grammar_size=200_000,
        verbose_errors=False,
    )
    matcher = library.LLMatcher(_TOKENIZERS.get(tokenizer, eos_ids), grammar, log_level=0, limits=limits)
    if not matcher.is_error():
        matcher.compute_bitmask()  # What can match nothing turns out here.
    if matcher.is_error():
        raise ArgumentError(
            f"The {subject} cannot be held to ({_first_line(matcher.get_error())}): expected one without that. "
            "Leave it out, or ask without a format."
        )
    return GrammarProcessor(matcher, subject)


class _Tokenizers:
    """llguidance's form of tokenizers, which takes long to make: kept as long as the tokenizer is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: weakref.WeakKeyDictionary[GrammarTokenizer, dict[tuple[int, ...], LLTokenizer]]
        self._made = weakref.WeakKeyDictionary()

    def get(self, tokenizer: GrammarTokenizer, eos_ids: Sequence[int]) -> LLTokenizer:
        ends = tuple(eos_ids) or tuple(each for each in (tokenizer.eos_token_id,) if each is not None)
        if not ends:
            raise ArgumentError(
                "The tokenizer has no end token, and no eos_ids were given: expected a token that ends a constrained "
                "answer. Give eos_ids."
            )
        with self._lock:
            known = self._made.setdefault(tokenizer, {})
            if ends not in known:
                library = _library()
                own = library.LLTokenizer(tokenizer.to_json(), eos_token=list(ends))
                known[ends] = library.LLTokenizer(library.TokenizerWrapper(_Exact(own, ends[0])), eos_token=list(ends))
            return known[ends]


class _Exact:
    """A tokenizer whose tokens always spell the very text: where a grammar leaves one text, they are what is taken.

    Tokenizers that normalise, or lack a token, would have it spelled otherwise, and the answer could not go on.
    """

    def __init__(self, own: LLTokenizer, eos_id: int) -> None:
        self._own = own
        self.eos_token_id, self.bos_token_id = eos_id, None
        self.tokens = [own.decode_bytes([index]) for index in range(own.vocab_size)]
        self.special_token_ids = [index for index in range(own.vocab_size) if own.is_special_token(index)]

    def __call__(self, text: str | bytes) -> list[int]:
        words = text.decode() if isinstance(text, bytes) else text
        ids = self._own.tokenize_str(words)
        return ids if self._own.decode_bytes(ids) == words.encode() else self._own.greedy_tokenize(words)


_TOKENIZERS = _Tokenizers()


def _library() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise MissingExtraError(
            "An answer is to be held to a format, and llguidance, which does that, is not installed: expected it to be "
            "there. Install it with pip install 'videolm[serve]', or ask without a format."
        ) from error
    return llguidance


def _first_line(message: str) -> str:
    """What went wrong, without the library's advice on its own options."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["unknown"]
    # A fault in a pattern is drawn over several lines, one of which says what it is.
    line = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])
    return line.rpartition("failed to compile JSON schema: ")[2].partition(". Enable")[0][:_MAX_MESSAGE_LEN]
