"""Ids to text: whole characters, no stop token, nothing of a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.decoders import DecodeStream

from videolm.contracts import FinishReason
from videolm.generation.params import SamplingParams
from videolm.generation.streaming import IdGenerator, TextGenerator, TextWriter, observe, write_text

END = 256


def byte_tokenizer() -> Tokenizer:
    """One token a byte, so that every character beyond ASCII is split, and an end token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: i for i, character in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


TOKENIZER = byte_tokenizer()


class Decoder:
    def __init__(self) -> None:
        self.stream = DecodeStream(skip_special_tokens=True)

    def step(self, token_id: int) -> str | None:
        return self.stream.step(TOKENIZER, token_id)


def generated(ids: Sequence[int], reason: FinishReason = "length", closed: list[bool] | None = None) -> IdGenerator:
    try:
        yield from ids
    finally:
        if closed is not None:
            closed.append(True)
    return reason


class Pieces:
    """A decoder whose id ``i`` is the i-th of these."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces

    def step(self, token_id: int) -> str | None:
        return self.pieces[token_id]


def collect(text: TextGenerator | IdGenerator) -> tuple[list[Any], FinishReason]:
    pieces: list[Any] = []
    while True:
        try:
            pieces.append(next(text))
        except StopIteration as end:
            return pieces, end.value


def encode(text: str) -> list[int]:
    return TOKENIZER.encode(text).ids


def test_a_character_comes_when_its_last_byte_is_there() -> None:
    ids = encode("aé👩‍🚀.")
    assert len(ids) == 15
    assert collect(write_text(generated(ids), Decoder(), SamplingParams())) == (
        ["a", "é", "👩", "\u200d", "🚀", "."],
        "length",
    )


def test_a_character_unfinished_at_the_end_is_dropped() -> None:
    assert collect(write_text(generated(encode("ok👍")[:-1]), Decoder(), SamplingParams())) == (["o", "k"], "length")


def test_a_stop_token_is_not_text() -> None:
    ids = [*encode("hi"), encode("!")[0]]
    params = SamplingParams(stop_token_ids=(ids[-1],))
    assert collect(write_text(generated(ids, "stop"), Decoder(), params)) == (["h", "i"], "stop")


def test_a_special_token_is_not_text() -> None:
    text = write_text(generated([*encode("hi"), END], "stop"), Decoder(), SamplingParams())
    assert collect(text) == (["h", "i"], "stop")


def test_a_stop_string_ends_the_answer_and_closes_the_generation() -> None:
    closed: list[bool] = []
    text = write_text(generated(encode("one\n\ntwo"), closed=closed), Decoder(), SamplingParams(stop=("\n\n",)))
    assert collect(text) == (["o", "n", "e"], "stop")
    assert closed == [True]


def test_text_held_back_for_a_stop_string_comes_at_the_end() -> None:
    text = write_text(generated(encode("a</")), Decoder(), SamplingParams(stop=("</s>",)))
    assert collect(text) == (["a", "</"], "length")


def test_white_space_waits_until_text_follows_and_is_left_out_around_the_answer() -> None:
    writer = TextWriter(Pieces("  ", "\n one", "  ", "\n", "two ", " "), SamplingParams())
    assert [writer.push(index) for index in range(6)] == ["", "one", "", "", "  \ntwo", ""]
    assert writer.finish() == ""


def test_nothing_follows_a_stop_string() -> None:
    writer = TextWriter(Pieces("a", "EN", "D b", " c"), SamplingParams(stop=("END",)))
    assert [writer.push(index) for index in range(3)] == ["a", "", ""]
    assert writer.is_stopped
    assert (writer.push(3), writer.finish()) == ("", "")


def test_what_is_observed_is_the_same() -> None:
    seen: list[int] = []
    assert collect(observe(generated([32, 33], "stop"), seen.append)) == ([32, 33], "stop")
    assert seen == [32, 33]


def test_closing_the_text_closes_the_generation() -> None:
    closed: list[bool] = []
    text = write_text(generated(encode("abc"), closed=closed), Decoder(), SamplingParams())
    assert next(text) == "a"
    text.close()
    assert closed == [True]


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda t: "�" not in t))
def test_pieces_add_up_to_the_text(text: str) -> None:
    pieces, _ = collect(write_text(generated(encode(text)), Decoder(), SamplingParams()))
    assert "".join(pieces) == text.strip()
    assert not any("�" in piece for piece in pieces)


@pytest.mark.parametrize("stop", ["b", "é", "👍"])
@pytest.mark.parametrize("text", ["aéb👍c", "👍éb", "xyz"])
def test_stop_strings_cut_like_the_whole_text(text: str, stop: str) -> None:
    pieces, reason = collect(write_text(generated(encode(text)), Decoder(), SamplingParams(stop=(stop,))))
    assert "".join(pieces) == text.partition(stop)[0]
    assert reason == ("stop" if stop in text else "length")
