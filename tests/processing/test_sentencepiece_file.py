"""tokenizer.model files: taken over exactly, or refused; with a stand-in for the library where it is not installed."""

from __future__ import annotations

import io
import json
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from videolm.errors import CheckpointError, MissingExtraError
from videolm.processing.tokenizer import Tokenizer

SPACE = "\u2581"
WORDS = [SPACE + "t", "he", SPACE + "the", "ll", "o" + SPACE, "he" + "ll"]
TEXTS = ["the hello", "  the", "hello\n\u4e16 the", "h e l", ""]


class StandIn:
    """What is asked of ``SentencePieceProcessor``, with the algorithm of byte-pair models written out."""

    def __init__(self) -> None:
        control = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
        table = [(f"<0x{value:02X}>", 0.0) for value in range(256)]
        letters = [(letter, -100.0 - index) for index, letter in enumerate(SPACE + "thelo")]
        words = [(word, -float(index)) for index, word in enumerate(WORDS)]
        self.pieces = control + table + words + letters
        self.ids = {piece: index for index, (piece, _) in enumerate(self.pieces)}

    def Load(self, path: str) -> None:
        if Path(path).read_bytes() != b"model":
            raise RuntimeError("not a model\nat all")

    def GetPieceSize(self) -> int:
        return len(self.pieces)

    def IdToPiece(self, index: int) -> str:
        return self.pieces[index][0]

    def GetScore(self, index: int) -> float:
        return self.pieces[index][1]

    def IsUnknown(self, index: int) -> bool:
        return index == 0

    def IsControl(self, index: int) -> bool:
        return index in (1, 2)

    def IsByte(self, index: int) -> bool:
        return 3 <= index < 259

    def unk_id(self) -> int:
        return 0

    def bos_id(self) -> int:
        return 1

    def eos_id(self) -> int:
        return 2

    def EncodeAsIds(self, text: str) -> list[int]:
        symbols = list((SPACE + text).replace(" ", SPACE)) if text else []
        while True:
            pairs = [(self.ids.get(a + b), at) for at, (a, b) in enumerate(pairwise(symbols))]
            known = [(self.pieces[index][1], -at) for index, at in pairs if index is not None]
            if not known:
                break
            at = -max(known)[1]
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        return [
            index
            for symbol in symbols
            for index in ([self.ids[symbol]] if symbol in self.ids else [3 + byte for byte in symbol.encode()])
        ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "sentencepiece", SimpleNamespace(SentencePieceProcessor=StandIn))
    (tmp_path / "tokenizer.model").write_bytes(b"model")
    return tmp_path


@pytest.mark.parametrize("text", TEXTS)
def test_the_same_ids_and_the_text_back(folder: Path, text: str) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    ids = tokenizer.encode(text)
    assert ids == [1, *StandIn().EncodeAsIds(text)]
    assert tokenizer.decode(ids) == text
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token) == ("<s>", "</s>", "<unk>")


def test_added_tokens_keep_their_ids(folder: Path) -> None:
    size = StandIn().GetPieceSize()
    (folder / "added_tokens.json").write_text(json.dumps({"<image>": size + 1, "<video>": size}))
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.encode("<video>the")[1] == size
    assert (tokenizer.token_to_id("<video>"), tokenizer.token_to_id("<image>")) == (size, size + 1)
    (folder / "added_tokens.json").write_text(json.dumps({"<image>": size + 5}))
    with pytest.raises(CheckpointError, match=rf"'<image>' has the id {size + 5} in the files but would become {size}"):
        Tokenizer.from_folder(folder)


def test_configured_tokens_and_the_modern_way_of_spaces(folder: Path) -> None:
    size = StandIn().GetPieceSize()
    listed = {str(size): {"content": "<video>", "special": True, "normalized": False}}
    config = {"legacy": False, "add_bos_token": False, "added_tokens_decoder": listed}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.from_folder(folder)
    expected = [*StandIn().EncodeAsIds("the"), size]
    assert tokenizer.encode("the<video>the")[: len(expected)] == expected
    assert tokenizer.decode(tokenizer.encode("the<video>the")) == "thethe"


def test_a_model_that_cannot_be_taken_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "EncodeAsIds", lambda self, text: [0])
    with pytest.raises(CheckpointError, match="gets other tokens than sentencepiece gives it"):
        Tokenizer.from_folder(folder)


def test_a_damaged_file(folder: Path) -> None:
    (folder / "tokenizer.model").write_bytes(b"mod")
    with pytest.raises(CheckpointError, match=r"cannot be read \(not a model\): a sentencepiece model is expected"):
        Tokenizer.from_folder(folder)


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    (tmp_path / "tokenizer.model").write_bytes(b"model")
    with pytest.raises(MissingExtraError, match=r"pip install 'videolm\[sentencepiece\]'"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_model_of_the_library_itself(tmp_path: Path, legacy: bool) -> None:
    library: Any = pytest.importorskip("sentencepiece")
    written = io.BytesIO()
    sentences = ["the quick brown fox says hello to the lazy dog", "hello world, why is this video funny?"] * 20
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=written,
        model_type="bpe",
        vocab_size=340,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
    )
    (tmp_path / "tokenizer.model").write_bytes(written.getvalue())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"legacy": legacy}))
    model = library.SentencePieceProcessor(model_proto=written.getvalue())
    tokenizer = Tokenizer.from_folder(tmp_path)
    for text in ["hello the fox", "two  spaces ", "\u4e16\u754c \U0001f642\nwhy?", "dog dogs doggedly"]:
        assert tokenizer.encode(text) == [model.bos_id(), *model.EncodeAsIds(text)]
        assert tokenizer.decode(tokenizer.encode(text)) == text
