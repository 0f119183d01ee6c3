"""What the server answers, as structs that OpenAI's clients read: completions whole and in chunks, models, health."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

FinishReason = Literal["stop", "length"]

__all__ = [
    "Choice",
    "ChoiceLogprobs",
    "Chunk",
    "ChunkChoice",
    "Completion",
    "CompletionUsage",
    "Delta",
    "FinishReason",
    "Health",
    "ModelCard",
    "ModelList",
    "PromptTokensDetails",
    "ReplyMessage",
    "TokenLogprob",
    "TopLogprob",
]


class PromptTokensDetails(Struct, kw_only=True):
    """Of the prompt's tokens, those that are special in some way."""

    cached_tokens: int
    """Computed for an earlier prompt and not again."""
    visual_tokens: int
    """Of pictures and frames."""


class CompletionUsage(Struct, kw_only=True):
    """Tokens of a request; the prompt is counted once, whatever ``n``."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class TopLogprob(Struct, kw_only=True):
    """A token that could have stood here."""

    token: str
    logprob: float
    bytes: list[int] | None
    """Of the token's text in UTF-8; null where it is part of a character."""


class TokenLogprob(Struct, kw_only=True):
    """A token of the answer and how likely it was, before temperature and penalties."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Struct, kw_only=True):
    """The tokens of an answer, or of one piece of it."""

    content: list[TokenLogprob]
    refusal: None = None


class ReplyMessage(Struct, kw_only=True):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(Struct, kw_only=True):
    """One of ``n`` answers."""

    index: int
    message: ReplyMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason


class Completion(Struct, kw_only=True):
    """A finished request."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage
    timings_s: dict[str, float]
    """Seconds: decode, preprocess, vision, first_token (from the request on) and total."""
    warnings: list[str] | UnsetType = UNSET
    """One line each, such as that a video has fewer frames than were asked for."""


class Delta(Struct, kw_only=True):
    """What a chunk adds."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(Struct, kw_only=True):
    """A piece of one of ``n`` answers."""

    index: int
    delta: Delta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason | None = None


class Chunk(Struct, kw_only=True):
    """One event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    """Empty in the last one, where ``include_usage`` asked for it."""
    usage: CompletionUsage | UnsetType | None = UNSET
    """In the last chunk where it was asked for, and null before."""
    timings_s: dict[str, float] | UnsetType = UNSET
    """In the last chunk, as in a whole answer."""
    warnings: list[str] | UnsetType = UNSET
    """In the last chunk, as in a whole answer."""


class ModelCard(Struct, kw_only=True):
    """A model that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "videolm"
    max_model_len: int
    """Most tokens of a prompt and its answer."""


class ModelList(Struct, kw_only=True):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(Struct, kw_only=True):
    """Whether requests are taken."""

    status: Literal["ok", "draining"]
