"""A sentencepiece ``tokenizer.model`` in, the same tokenizer for the tokenizers library out."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from videolm.errors import CheckpointError, MissingExtraError

_SPACE = "\u2581"
_PROBES = (
    "Hello world",
    "two  spaces and\na line",
    "na\u00efve \u4e16\u754c \U0001f642",
    "a1b2 3.14 (x)",
    "USER: why? ",
)

__all__ = ["add_listed", "convert_sentencepiece"]


def convert_sentencepiece(path: Path, config: Mapping[str, Any]) -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
    """The tokenizer, and what ``tokenizer_config.json`` would say of it if it says nothing.

    Only byte-pair models, such as those of Llama and Mistral, can be taken over, which a few texts must show.

    Args:
        config: ``legacy`` (a space before every piece of text, not only the first) and ``add_prefix_space``.
    """
    model = _load(path)
    backend = _build(model, config)
    if config.get("add_prefix_space") is not False:
        for text in _PROBES:
            if backend.encode(text, add_special_tokens=False).ids != list(model.EncodeAsIds(text)):
                raise CheckpointError(
                    f"{path} cannot be taken over: the text {text!r} gets other tokens than sentencepiece gives it. A "
                    "byte-pair model without text normalization is expected. Use the tokenizer.json of the same model."
                )
    names = {"bos_token": model.bos_id(), "eos_token": model.eos_id(), "unk_token": model.unk_id()}
    named = {name: model.IdToPiece(token_id) for name, token_id in names.items() if token_id >= 0}
    return backend, {"add_bos_token": model.bos_id() >= 0, **named}


def add_listed(backend: tokenizers.Tokenizer, listed: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Add the tokens that ``added_tokens.json`` or ``tokenizer_config.json`` list and the vocabulary lacks."""
    described = config.get("added_tokens_decoder")
    entries = {int(number): entry for number, entry in described.items()} if isinstance(described, dict) else {}
    wanted = {entry["content"]: number for number, entry in entries.items()}
    wanted |= {text: int(number) for text, number in listed.items()}
    for text, number in sorted(wanted.items(), key=lambda pair: pair[1]):
        if backend.token_to_id(text) is not None:
            continue
        entry = entries.get(number, {})
        options = {name: bool(entry.get(name, False)) for name in ("lstrip", "rstrip", "normalized", "single_word")}
        backend.add_tokens([AddedToken(text, special=bool(entry.get("special", True)), **options)])
        if backend.token_to_id(text) != number:
            raise CheckpointError(
                f"The added token {text!r} has the id {number} in the files but would become "
                f"{backend.token_to_id(text)}: expected ids that follow the vocabulary. Copy added_tokens.json and the "
                "tokenizer from one model."
            )


def _load(path: Path) -> Any:
    try:
        library = importlib.import_module("sentencepiece")
    except ImportError as error:
        raise MissingExtraError(
            f"{path.parent} has no tokenizer.json, and sentencepiece, which reads tokenizer.model, is not installed: "
            "expected one of the two. Install it with pip install 'videolm[sentencepiece]', or copy tokenizer.json."
        ) from error
    model = library.SentencePieceProcessor()
    try:
        model.Load(str(path))
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({str(error).splitlines()[0]}): a sentencepiece model is expected. "
            "Fetch the file again."
        ) from error
    return model


def _build(model: Any, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    ids = range(model.GetPieceSize())
    vocabulary = {model.IdToPiece(index): index for index in ids}
    has_bytes = any(model.IsByte(index) for index in ids)
    special = [index for index in ids if model.IsControl(index) or model.IsUnknown(index)]
    normal = [index for index in ids if index not in set(special) and not model.IsByte(index)]
    unknown = model.IdToPiece(model.unk_id())
    backend = tokenizers.Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=_merges(model, normal, vocabulary),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=has_bytes,
        )
    )
    prefix = config.get("add_prefix_space") is not False
    if config.get("legacy", True) is False:
        scheme = "first" if prefix else "never"
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme, split=False)
    else:
        start = [normalizers.Prepend(_SPACE)] if prefix else []
        backend.normalizer = normalizers.Sequence([*start, normalizers.Replace(" ", _SPACE)])
    end = [decoders.Strip(content=" ", left=1, right=0)] if prefix else []
    spaces = decoders.Replace(_SPACE, " ")
    backend.decoder = decoders.Sequence([spaces, decoders.ByteFallback(), decoders.Fuse(), *end])
    backend.add_special_tokens([AddedToken(model.IdToPiece(each), special=True, normalized=False) for each in special])
    return backend


def _merges(model: Any, normal: list[int], vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    """Each way to put a piece together from two others; pieces with higher scores are made first."""
    merges = []
    for index in sorted(normal, key=lambda index: (-model.GetScore(index), index)):
        piece = model.IdToPiece(index)
        halves = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        merges += [(left, right) for left, right in halves if left in vocabulary and right in vocabulary]
    return merges
