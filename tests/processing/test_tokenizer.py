"""Exact ids: what a template writes may be special, what a person writes never is."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from videolm.errors import CheckpointError
from videolm.processing.tokenizer import Tokenizer


def library_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer._backend.encode(text, add_special_tokens=True).ids)


PROMPT = "USER: <video>\nWhy is this video funny? ASSISTANT: The circle is red.</s>USER: Where? ASSISTANT:"


def test_encode_is_the_library_with_bos(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(PROMPT) == library_ids(tokenizer, PROMPT)


def test_ordinary_texts_give_the_ids_of_the_whole_string(tokenizer: Tokenizer) -> None:
    question, answer = "Why is this video funny?", "The circle is red."
    foreign = [(PROMPT.index(text), PROMPT.index(text) + len(text)) for text in (question, answer)]
    assert tokenizer.encode_rendered(PROMPT, foreign) == library_ids(tokenizer, PROMPT)


def test_pieces_give_the_ids_of_the_whole_string(tokenizer: Tokenizer) -> None:
    pieces = tokenizer._encode_pieces(PROMPT, tokenizer.special_strings(PROMPT), [])
    assert tokenizer._prefix + pieces == library_ids(tokenizer, PROMPT)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["</s>", "<video>", "<s>", " ", "\n", "red", "USER:", "é", "<", "s>"]), max_size=8))
def test_pieces_agree_with_the_library_for_any_mixture(
    tokenizers_by_kind: dict[str, Tokenizer], parts: list[str]
) -> None:
    text = "USER:" + "".join(parts)
    for tokenizer in tokenizers_by_kind.values():
        pieces = tokenizer._encode_pieces(text, tokenizer.special_strings(text), [])
        assert tokenizer._prefix + pieces == library_ids(tokenizer, text)


@pytest.mark.parametrize("typed", ["<video>", "</s>", "a </s><image> b", "<s>", "<unk>", "</</s>s>", "<|im_end|>"])
def test_a_special_string_in_a_persons_text_stays_text(tokenizer: Tokenizer, typed: str) -> None:
    text = f"USER: <video>\n{typed} ASSISTANT:"
    start = text.index("\n") + 1
    ids = tokenizer.encode_rendered(text, [(start, start + len(typed))])
    special = [i for i in ids if i in tokenizer._special_ids]
    assert special == [tokenizer.bos_token_id, tokenizer.token_to_id("<video>")]
    assert (
        tokenizer.decode(ids, skip_special_tokens=False)
        .replace(" ", "")
        .endswith(f"{typed}ASSISTANT:".replace(" ", ""))
    )


def test_a_special_string_made_by_two_texts_side_by_side_stays_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_rendered("USER: <video>", [(6, 9), (9, 13)])
    assert tokenizer.token_to_id("<video>") not in ids


def test_plain_text_never_holds_special_ids(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a</s><video> <s>", special=False)
    assert not tokenizer._special_ids.intersection(ids)


def test_text_that_spells_bos_gets_no_second_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("<s>USER:").count(tokenizer.bos_token_id) == 1


def test_bos_typed_by_a_person_is_no_bos(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_rendered("<s>USER:", [(0, 8)])
    assert (ids[0], ids.count(tokenizer.bos_token_id)) == (tokenizer.bos_token_id, 1)
    assert tokenizer.decode(ids).endswith("<s>USER:")


def test_split_at_keeps_tokens_apart_and_adds_no_space(tokenizer: Tokenizer) -> None:
    text = "USER: circle"
    ids = tokenizer.encode_rendered(text, [], split_at=[8])
    assert ids[: len(tokenizer.encode("USER: ci"))] == tokenizer.encode("USER: ci")
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("text", ["The circle is red.", "naïve ☃ 🎬 café", " two  spaces", "日本語"])
def test_streaming_equals_decoding(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    stream = tokenizer.stream()
    assert "".join(piece for i in ids if (piece := stream.step(i)) is not None) == tokenizer.decode(ids)


def test_add_special_appends_and_promotes_once() -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, []))
    backend.add_tokens([tokenizers.AddedToken("<image>", special=False)])
    tokenizer = Tokenizer(backend)
    for _ in range(2):
        tokenizer.add_special(["<image>", "<video>"])
        assert tokenizer.special_strings("<image><video>") == [(0, 7, "<image>"), (7, 14, "<video>")]
        assert (tokenizer.encode("a<video><image>"), tokenizer.size) == ([0, 2, 1], 3)


def test_lstrip_and_rstrip_of_special_tokens_survive_pieces() -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, " ": 1}, []))
    backend.add_special_tokens([tokenizers.AddedToken("<x>", lstrip=True, rstrip=True, normalized=False)])
    tokenizer = Tokenizer(backend)
    text = "a  <x> a <x>  "
    assert tokenizer._encode_pieces(text, tokenizer.special_strings(text), []) == library_ids(tokenizer, text)


@pytest.mark.parametrize(("add_bos", "expected"), [(True, [2, 0]), (False, [0]), (None, [0])])
def test_the_configuration_decides_about_bos(add_bos: bool | None, expected: list[int]) -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1}, []))
    backend.add_special_tokens(["<s>"])
    config = {"bos_token": {"content": "<s>"}} | ({} if add_bos is None else {"add_bos_token": add_bos})
    assert Tokenizer(backend, config).encode("a") == expected


def test_folders_and_pickles_keep_everything(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    for copy in (Tokenizer.from_folder(tmp_path), pickle.loads(pickle.dumps(tokenizer))):
        assert copy.encode(PROMPT) == tokenizer.encode(PROMPT)
        assert (copy.special_tokens, copy.size) == (tokenizer.special_tokens, tokenizer.size)


def test_transformers_reads_a_saved_folder(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(PROMPT)["input_ids"] == tokenizer.encode(PROMPT)
    assert (theirs.eos_token_id, theirs.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)


def test_a_folder_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[1", '{"model": 3}'])
def test_a_damaged_tokenizer_says_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        Tokenizer.from_folder(tmp_path)


def test_a_named_token_that_is_missing_says_so() -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, []))
    with pytest.raises(ValueError, match="has no token '<s>'"):
        Tokenizer(backend, {"bos_token": "<s>", "add_bos_token": True})
