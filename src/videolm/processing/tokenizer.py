"""Text to token ids and back: one ``tokenizer.json``, in which text from people can never become a special token."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import tokenizers
from tokenizers.decoders import DecodeStream

from videolm.errors import CheckpointError, ConfigError
from videolm.processing.sentencepiece_file import add_listed, convert_sentencepiece

Span = tuple[int, int]
_Place = Literal["start", "after_special", "inside"]
_NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")

__all__ = ["Span", "TokenStream", "Tokenizer"]


class Tokenizer:
    """A fast tokenizer with its named special tokens."""

    def __init__(self, backend: tokenizers.Tokenizer, config: Mapping[str, Any] | None = None) -> None:
        """``config`` is the content of ``tokenizer_config.json``; what it holds beyond names is kept for saving."""
        backend.no_padding()
        backend.no_truncation()
        self._config = dict(config or {})
        names = {name: _content(self._config.get(name)) for name in _NAMED}
        self.bos_token, self.eos_token, self.pad_token, self.unk_token = (names[name] for name in _NAMED)
        self.padding_side: str = self._config.get("padding_side") or "left"
        self._adopt(backend)

    def _adopt(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend
        self._plain: dict[_Place, tokenizers.Tokenizer] = {}
        self._special = {token.content: token for token in backend.get_added_tokens_decoder().values() if token.special}
        longest_first = sorted(self._special, key=len, reverse=True)
        self._special_pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        # The unknown token stands for characters, so its id says nothing about where the text holds special strings.
        self._special_ids = {self._id(text) for text in self._special if text != self.unk_token}
        self._prefix = self._find_prefix()

    def _find_prefix(self) -> list[int]:
        """What stands before every text that is encoded with ``special``: the BOS id, or nothing."""
        wanted = self._config.get("add_bos_token")
        if wanted is not None:
            return [self._id(self.bos_token)] if wanted and self.bos_token else []
        bare, full = (self._backend.encode("a", add_special_tokens=special).ids for special in (False, True))
        return full[: next((at for at in range(len(full)) if full[at : at + len(bare)] == bare), 0)]

    @classmethod
    def from_folder(cls, folder: str | Path) -> Self:
        """Read ``tokenizer.json`` or ``tokenizer.model``, and what the files beside it say of special tokens."""
        folder = Path(folder)
        path = folder / "tokenizer.json"
        config = {**_read_json(folder / "special_tokens_map.json"), **_read_json(folder / "tokenizer_config.json")}
        if path.is_file():
            backend = _read_backend(path)
        elif (folder / "tokenizer.model").is_file():
            backend, named = convert_sentencepiece(folder / "tokenizer.model", config)
            config = {**named, **config}
        else:
            raise CheckpointError(
                f"{folder} has no tokenizer.json and no tokenizer.model: a tokenizer in the format of the tokenizers "
                "library, or of sentencepiece, is expected. Copy it from where the model came from."
            )
        add_listed(backend, _read_json(folder / "added_tokens.json"), config)
        return cls(backend, config)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._backend, {**self._config, "padding_side": self.padding_side})

    def __len__(self) -> int:
        return self.size

    @property
    def size(self) -> int:
        """Number of tokens, added ones included."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    @property
    def add_bos(self) -> bool:
        return bool(self._prefix)

    @property
    def bos_token_id(self) -> int | None:
        return self.token_to_id(self.bos_token)

    @property
    def eos_token_id(self) -> int | None:
        return self.token_to_id(self.eos_token)

    @property
    def pad_token_id(self) -> int | None:
        return self.token_to_id(self.pad_token)

    @property
    def padding_id(self) -> int:
        """What fills masked places, where any token does: the padding token, or what else there is."""
        own = (self.pad_token_id, self.eos_token_id)
        return next((token_id for token_id in own if token_id is not None), 0)

    @property
    def special_tokens(self) -> dict[str, str]:
        """The named special tokens (``bos_token`` …) that this tokenizer has."""
        return {name: token for name in _NAMED if (token := getattr(self, name)) is not None}

    def token_to_id(self, token: str | None) -> int | None:
        return None if token is None else self._backend.token_to_id(token)

    def _id(self, token: str) -> int:
        token_id = self._backend.token_to_id(token)
        if token_id is None:
            raise ConfigError(
                f"The tokenizer has no token {token!r}, which its configuration names: every named special token must "
                "be in tokenizer.json. Correct tokenizer_config.json."
            )
        return int(token_id)

    def add_special(self, tokens: Sequence[str]) -> None:
        """Make sure that these are special tokens; those the tokenizer lacks are appended to its vocabulary."""
        known = {token.content for token in self._backend.get_added_tokens_decoder().values()}
        ordinary = {token for token in tokens if token in known and token not in self._special}
        new = [token for token in dict.fromkeys(tokens) if token not in known]
        if not ordinary and not new:
            return
        data = json.loads(self.to_json())
        for entry in data["added_tokens"]:
            entry["special"] = entry["special"] or entry["content"] in ordinary
        backend = tokenizers.Tokenizer.from_str(json.dumps(data))
        backend.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in new])
        self._adopt(backend)

    def special_strings(self, text: str) -> list[tuple[int, int, str]]:
        """Where ``text`` spells a special token: start, end and the token."""
        return [(match.start(), match.end(), match.group()) for match in self._special_pattern.finditer(text)]

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids.

        Args:
            special: Add BOS where the tokenizer does, and read special strings in the text as special tokens.
                Otherwise the text is text throughout.
        """
        return self.encode_text(text) if special else self._encode_plain(text, "start")

    def encode_text(self, text: str, *, add_bos: bool = True) -> list[int]:
        """Token ids of a text in which special strings are special tokens."""
        before = self._before(self.special_strings(text)) if add_bos else []
        return before + list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_rendered(self, text: str, foreign: Sequence[Span], *, split_at: Sequence[int] = ()) -> list[int]:
        """Token ids of a rendered prompt whose ``foreign`` parts were written by people.

        Special strings are special tokens where the template wrote them and text where a person did. Without such
        strings in the foreign parts the ids are those of ``encode(text)``.

        Args:
            foreign: Start and end of each foreign part, ascending.
            split_at: Positions that no token may cross.
        """
        own = self._own_special_strings(text, foreign)
        if not split_at and own == self.special_strings(text):
            ids = list(self._backend.encode(text, add_special_tokens=False).ids)
            if [i for i in ids if i in self._special_ids] == [self._id(t) for _, _, t in own if t != self.unk_token]:
                return self._before(own) + ids
        return self._before(own) + self._encode_pieces(text, own, split_at)

    def _before(self, special: Sequence[tuple[int, int, str]]) -> list[int]:
        """BOS, unless it is the text's first special token and stands at its start."""
        starts_with_bos = bool(special) and special[0][0] == 0 and special[0][2] == self.bos_token
        return [] if starts_with_bos else list(self._prefix)

    def _own_special_strings(self, text: str, foreign: Sequence[Span]) -> list[tuple[int, int, str]]:
        own = []
        edges = [0, *(edge for span in foreign for edge in span), len(text)]
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            own += [
                (start + first, start + last, token) for first, last, token in self.special_strings(text[start:end])
            ]
        return own

    def _encode_pieces(self, text: str, own: list[tuple[int, int, str]], split_at: Sequence[int]) -> list[int]:
        ids: list[int] = []
        position, strip_left = 0, False
        for start, end, token in [*own, (len(text), len(text), "")]:
            added = self._special.get(token)
            edges = [position, *(cut for cut in split_at if position < cut < start), start]
            for left, right in pairwise(edges):
                piece = text[left:right]
                piece = piece.lstrip() if strip_left and left == position else piece
                piece = piece.rstrip() if added is not None and added.lstrip and right == start else piece
                ids += self._encode_plain(
                    piece, "start" if left == 0 else "inside" if left > position else "after_special"
                )
            if added is not None:
                ids.append(self._id(token))
                position, strip_left = end, added.rstrip
        return ids

    def _encode_plain(self, text: str, place: _Place) -> list[int]:
        if not text:
            return []
        ids = list(self._plain_backend(place).encode(text, add_special_tokens=False).ids)
        for start, _, token in self.special_strings(text):
            if len(token) > 1 and self._id(token) in ids and token != self.unk_token:
                # The vocabulary's own merges spell this special token: break it after its first character.
                cut = start + 1
                return self._encode_plain(text[:cut], place) + self._encode_plain(text[cut:], "inside")
        return ids

    def _plain_backend(self, place: _Place) -> tokenizers.Tokenizer:
        """This tokenizer without special tokens, treating a text's start as at that place of a longer text."""
        if place not in self._plain:
            data = json.loads(self.to_json())
            for step in ("normalizer", "pre_tokenizer"):
                data[step] = _at_place(data[step], place)
            backend = tokenizers.Tokenizer.from_str(json.dumps(data))
            backend.encode_special_tokens = True
            self._plain[place] = backend
        return self._plain[place]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return str(self._backend.decode([int(i) for i in ids], skip_special_tokens=skip_special_tokens))

    def stream(self, *, skip_special_tokens: bool = True) -> TokenStream:
        """A decoder for ids that come one at a time."""
        return TokenStream(self._backend, skip_special_tokens)

    def to_json(self) -> str:
        """The content of ``tokenizer.json``."""
        return str(self._backend.to_str())

    def save(self, folder: str | Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._backend.save(str(folder / "tokenizer.json"))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **self._config, **self.special_tokens}
        config["padding_side"] = self.padding_side
        config.pop("chat_template", None)
        text = json.dumps(config, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


class TokenStream:
    """Ids in, text out as soon as it is certain: never half a character."""

    def __init__(self, backend: tokenizers.Tokenizer, skip_special_tokens: bool) -> None:
        self._backend = backend
        self._stream = DecodeStream(skip_special_tokens=skip_special_tokens)

    def step(self, token_id: int) -> str | None:
        """The text that this id completes, None while a character is unfinished."""
        text: str | None = self._stream.step(self._backend, token_id)
        return text


def _read_backend(path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every fault in the file
        raise CheckpointError(
            f"{path} cannot be read ({str(error).splitlines()[0]}): a tokenizer in the format of the tokenizers "
            "library is expected. Fetch the file again."
        ) from error


def _content(token: Any) -> str | None:
    """A named token as files write it: a string, or a mapping with ``content``."""
    content = token.get("content") if isinstance(token, Mapping) else token
    return content if isinstance(content, str) else None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error}): expected an object. Fetch the file again.") from error
    return data if isinstance(data, dict) else {}


def _at_place(step: dict[str, Any] | None, place: _Place) -> dict[str, Any] | None:
    """A normaliser or pre-tokenizer that adds no word boundary where the place has none."""
    if step is None or place == "start":
        return step
    kind = step["type"]
    if kind == "Sequence":
        key = "normalizers" if "normalizers" in step else "pretokenizers"
        return {**step, key: [kept for inner in step[key] if (kept := _at_place(inner, place)) is not None]}
    if kind == "Metaspace" and (place == "inside" or step.get("prepend_scheme") == "first"):
        return {**step, "prepend_scheme": "never"}
    if place == "inside" and kind == "Prepend":
        return None
    if place == "inside" and kind == "ByteLevel":
        return {**step, "add_prefix_space": False}
    return step
