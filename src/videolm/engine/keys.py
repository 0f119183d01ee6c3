"""A prompt and the keys of its media in, one whole number a token out: equal where nothing tells two tokens apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from videolm.contracts import ModelInputs

CONTENT_BYTES = 20
"""Enough for a hash of 128 bits and a position within a medium."""
_POSITION_BITS = 32

__all__ = ["CONTENT_BYTES", "block_key", "content_of", "root_key"]


def content_of(inputs: ModelInputs, media_keys: Sequence[str]) -> list[int]:
    """The content of each token: its id, or which token of which medium it is."""
    content = list(inputs.input_ids)
    for start, medium, key in zip(inputs.media_starts, inputs.media, media_keys, strict=True):
        digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
        # Ids are below the position bits, so no id is ever mistaken for a token of a medium.
        first = int.from_bytes(digest) << _POSITION_BITS | 1 << (_POSITION_BITS - 1)
        content[start : start + medium.num_tokens] = range(first, first + medium.num_tokens)
    return content


def root_key(rope_factor: float) -> bytes:
    """Where chains of blocks begin: positions that are divided by another factor give other keys and values."""
    return hashlib.blake2b(repr(float(rope_factor)).encode(), digest_size=16).digest()


def block_key(parent: bytes, content: Iterable[int]) -> bytes:
    """The key of a whole block: a hash of its tokens and, through its parent's, of everything before them."""
    packed = b"".join(token.to_bytes(CONTENT_BYTES) for token in content)
    return hashlib.blake2b(parent + packed, digest_size=16).digest()
