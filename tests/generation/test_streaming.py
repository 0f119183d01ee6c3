"""Ids to text: whole characters, no stop token, nothing of a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.decoders import DecodeStream

from videolm.generation.params import SamplingParams
from videolm.generation.streaming import TextWriter

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


class Pieces:
    """A decoder whose id ``i`` is the i-th of these."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces

    def step(self, token_id: int) -> str | None:
        return self.pieces[token_id]


def write(ids: Sequence[int], **settings: Any) -> tuple[list[str], bool]:
    """The pieces of an answer of these ids, and whether a stop string ended it."""
    writer = TextWriter(Decoder(), SamplingParams(**settings))
    pieces = [writer.push(token_id) for token_id in ids]
    return [piece for piece in [*pieces, writer.finish()] if piece], writer.is_stopped


def encode(text: str) -> list[int]:
    return TOKENIZER.encode(text).ids


def test_a_character_comes_when_its_last_byte_is_there() -> None:
    ids = encode("aé👩‍🚀.")
    assert len(ids) == 15
    assert write(ids) == (["a", "é", "👩", "\u200d", "🚀", "."], False)


def test_a_character_unfinished_at_the_end_is_dropped() -> None:
    assert write(encode("ok👍")[:-1]) == (["o", "k"], False)


def test_a_stop_token_is_not_text() -> None:
    ids = [*encode("hi"), encode("!")[0]]
    assert write(ids, stop_token_ids=(ids[-1],)) == (["h", "i"], False)


def test_a_special_token_is_not_text() -> None:
    assert write([*encode("hi"), END]) == (["h", "i"], False)


def test_a_stop_string_ends_the_text() -> None:
    assert write(encode("one\n\ntwo"), stop=("\n\n",)) == (["o", "n", "e"], True)


def test_text_held_back_for_a_stop_string_comes_at_the_end() -> None:
    assert write(encode("a</"), stop=("</s>",)) == (["a", "</"], False)


def test_white_space_waits_until_text_follows_and_is_left_out_around_the_answer() -> None:
    writer = TextWriter(Pieces("  ", "\n one", "  ", "\n", "two ", " "), SamplingParams())
    assert [writer.push(index) for index in range(6)] == ["", "one", "", "", "  \ntwo", ""]
    assert writer.finish() == ""


def test_nothing_follows_a_stop_string() -> None:
    writer = TextWriter(Pieces("a", "EN", "D b", " c"), SamplingParams(stop=("END",)))
    assert [writer.push(index) for index in range(3)] == ["a", "", ""]
    assert writer.is_stopped
    assert (writer.push(3), writer.finish()) == ("", "")


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda t: "�" not in t))
def test_pieces_add_up_to_the_text(text: str) -> None:
    pieces, _ = write(encode(text))
    assert "".join(pieces) == text.strip()
    assert not any("�" in piece for piece in pieces)


@pytest.mark.parametrize("stop", ["b", "é", "👍"])
@pytest.mark.parametrize("text", ["aéb👍c", "👍éb", "xyz"])
def test_stop_strings_cut_like_the_whole_text(text: str, stop: str) -> None:
    pieces, is_stopped = write(encode(text), stop=(stop,))
    assert "".join(pieces) == text.partition(stop)[0]
    assert is_stopped == (stop in text)
