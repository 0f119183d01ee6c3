"""A tokenizer with the calls that scripts for Hugging Face tokenizers make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from videolm.contracts import Message, ModelInputs
from videolm.errors import ArgumentError, ConfigError
from videolm.processing.batch import BatchInputs, pad_rows
from videolm.processing.chat import ChatTemplate
from videolm.processing.prompt import encode_prompt
from videolm.processing.tensor_types import as_type, tensor_type
from videolm.processing.tokenizer import Tokenizer

_CLEAN = (
    *((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'")),
    *((" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")),
)

TOKENIZER_SETTINGS = ("padding_side", "bos_token", "eos_token", "pad_token", "unk_token")
"""Attributes that callers may set."""

__all__ = ["TOKENIZER_SETTINGS", "CallableTokenizer", "listed_texts"]


def listed_texts(text: Any) -> list[str]:
    """One text or several, as a list."""
    texts = [text] if isinstance(text, str) else text
    if not isinstance(texts, (list, tuple)) or not all(isinstance(each, str) for each in texts):
        raise ArgumentError(f"text is {str(text)[:60]!r}: a string or a list of strings is expected. Pass text='...'.")
    return list(texts)


class CallableTokenizer(Tokenizer):
    """Special strings in texts are special tokens here; ``encode(text, special=False)`` takes text as text."""

    chat_template: str | None = None
    """Of the folder that this tokenizer was loaded with by a processor; may be set."""

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        return_tensors: Any = None,
        add_special_tokens: bool = True,
        padding_side: str | None = None,
    ) -> BatchInputs:
        """``input_ids`` and ``attention_mask`` of one text or several.

        Args:
            padding: To the longest text, or to ``max_length``, on ``padding_side``.
            return_tensors: ``pt``, ``np``, ``jax`` or ``tf``; None for lists.
            add_special_tokens: Begin with BOS where the tokenizer does.
        """
        kind = tensor_type(return_tensors)
        single, texts = isinstance(text, str), listed_texts(text)
        rows = [ModelInputs(input_ids=tuple(self.encode_text(each, add_bos=add_special_tokens))) for each in texts]
        inputs = pad_rows(
            rows,
            pad_token_id=self.padding_id,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            padding_side=padding_side or self.padding_side,
            ragged=kind is None,
        )
        if kind is None and single:
            return BatchInputs({name: value[0] for name, value in inputs.items()})
        return BatchInputs({name: as_type(value, kind) for name, value in inputs.items()})

    def apply_chat_template(
        self,
        conversation: Sequence[Message],
        chat_template: str | None = None,
        *,
        add_generation_prompt: bool = False,
        tokenize: bool = True,
        return_tensors: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """The prompt of a conversation as ids, or as text; media in it become single placeholders.

        Args:
            tokenize: Give ids, as a list or as ``return_tensors`` says.
            return_dict: Give ids and mask by name.
        """
        source = chat_template or self.chat_template
        if source is None:
            raise ConfigError(
                "This tokenizer has no chat template: one is expected to write a conversation as a prompt. Load it "
                "with AutoProcessor, or pass chat_template."
            )
        chat = ChatTemplate(source, special_tokens=self.special_tokens).render(conversation, add_generation_prompt)
        if not tokenize:
            return chat.text
        kind, row = tensor_type(return_tensors), ModelInputs(input_ids=tuple(encode_prompt(self, chat)))
        padded = pad_rows([row], pad_token_id=self.padding_id, padding_side=self.padding_side)
        inputs = BatchInputs({name: as_type(value if kind else value[0], kind) for name, value in padded.items()})
        return inputs if return_dict else inputs["input_ids"]

    def decode(
        self, ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """Text of ids; a list of texts of a batch of ids."""
        values = ids.tolist() if hasattr(ids, "tolist") else ids
        values = [values] if isinstance(values, int) else list(values)
        if values and isinstance(values[0], (list, tuple, torch.Tensor)):
            return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in values]
        text = super().decode(values, skip_special_tokens)
        if clean_up_tokenization_spaces is None:
            clean_up_tokenization_spaces = bool(self._config.get("clean_up_tokenization_spaces", False))
        for spaced, tight in _CLEAN if clean_up_tokenization_spaces else ():
            text = text.replace(spaced, tight)
        return text

    def batch_decode(self, sequences: Iterable[Any], *options: Any, **named: Any) -> list[str]:
        """The texts of several rows of ids; options as ``decode`` takes them."""
        return [self.decode(ids, *options, **named) for ids in sequences]

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """The id of a token, or those of several; the unknown token's where there is no such token."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        found = self.token_to_id(tokens)
        return found if found is not None else self.token_to_id(self.unk_token)

    def convert_ids_to_tokens(self, ids: int | Sequence[int]) -> Any:
        """The token of an id, or those of several."""
        if isinstance(ids, int):
            return self._backend.id_to_token(ids)
        return [self.convert_ids_to_tokens(int(each)) for each in ids]

    def get_vocab(self) -> dict[str, int]:
        """Every token with its id."""
        return dict(self._backend.get_vocab(with_added_tokens=True))

    @property
    def vocab_size(self) -> int:
        """Number of tokens without added ones."""
        return self._backend.get_vocab_size(with_added_tokens=False)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``."""
        self.save(folder)
