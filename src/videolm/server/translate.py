"""A chat request in, what the reader and the engine take out: messages with bare media, sources, options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from videolm.contracts import MediaKind
from videolm.errors import ArgumentError
from videolm.generation.params import SamplingParams
from videolm.options import MediaOptions
from videolm.reader import Source
from videolm.server.errors import ApiError, as_api_error
from videolm.server.limits import media_limits
from videolm.server.schema import (
    ChatRequest,
    InspectRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    MediaPart,
    TextPart,
    UserMessage,
)
from videolm.server.settings import ServerSettings

_SAME = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
)
"""Fields that the engine knows by the same name."""

__all__ = ["Asked", "Medium", "Resolver", "media_of", "media_options", "params_of", "translate"]


class Resolver(Protocol):
    """Says what a content part's medium is read from; raises ``ApiError`` where it may not be read."""

    def resolve(self, part: dict[str, Any], *, param: str) -> Source: ...


@dataclass(frozen=True, kw_only=True)
class Medium:
    """A medium of a request that is to be read."""

    source: Source
    param: str
    """The part that names it, such as ``messages[0].content[1]``."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A checked request."""

    turns: tuple[tuple[str, tuple[str | None, ...]], ...]
    """Role and content of each message: texts, and None where the next medium stands."""
    media: tuple[Medium, ...]
    options: MediaOptions
    params: SamplingParams
    num_choices: int
    json_schema: Mapping[str, Any] | None = None
    """What each answer is held to; None for any text."""

    def messages(self, kinds: Sequence[MediaKind]) -> list[dict[str, Any]]:
        """The conversation as processors take it, now that the kinds of its media are known."""
        left = iter(kinds)
        return [
            {
                "role": role,
                "content": [{"type": next(left)} if text is None else {"type": "text", "text": text} for text in parts],
            }
            for role, parts in self.turns
        ]

    def choice_params(self, index: int) -> SamplingParams:
        """The parameters of one of the answers."""
        seed = self.params.seed
        return self.params if seed is None else replace(self.params, seed=seed + index)


def translate(
    request: ChatRequest, resolver: Resolver, settings: ServerSettings, stop_token_ids: tuple[int, ...]
) -> Asked:
    """Check what only several fields together, or the settings, decide."""
    turns: list[tuple[str, tuple[str | None, ...]]] = []
    media: list[Medium] = []
    for number, message in enumerate(request.messages):
        role = str(message.__struct_config__.tag)
        if isinstance(message.content, str):
            turns.append((role, (message.content,)))
            continue
        texts: list[str | None] = []
        for at, part in enumerate(message.content):
            if isinstance(part, TextPart):
                texts.append(part.text)
                continue
            assert isinstance(message, UserMessage)
            texts.append(None)
            param = f"messages[{number}].content[{at}]"
            media.append(_medium(part, param, len(media), resolver, settings))
        turns.append((role, tuple(texts)))
    return Asked(
        turns=tuple(turns),
        media=tuple(media),
        options=media_options(request, settings),
        params=params_of(request, stop_token_ids),
        num_choices=request.n or 1,
        json_schema=_json_schema(request),
    )


def media_of(parts: Sequence[MediaPart], param: str, resolver: Resolver, settings: ServerSettings) -> list[Medium]:
    """The media of parts without words between them."""
    return [_medium(part, f"{param}[{at}]", at, resolver, settings) for at, part in enumerate(parts)]


def _medium(part: MediaPart, param: str, num_before: int, resolver: Resolver, settings: ServerSettings) -> Medium:
    if num_before == settings.max_media:
        raise _too_many_media(param, settings.max_media)
    return Medium(source=resolver.resolve(msgspec.to_builtins(part), param=param), param=param)


def _json_schema(request: ChatRequest) -> Mapping[str, Any] | None:
    if isinstance(request.response_format, JsonSchemaFormat):
        return request.response_format.json_schema.schema
    return {"type": "object"} if isinstance(request.response_format, JsonObjectFormat) else None


def _too_many_media(param: str, most: int) -> ApiError:
    return ApiError(
        400,
        f"{param} is one medium more than the {most} that a request may have (--max-media): expected no more. "
        "Ask about fewer at once.",
        param=param,
        code="too_many_media",
    )


def media_options(request: ChatRequest | InspectRequest, settings: ServerSettings) -> MediaOptions:
    """How the media of a request are read, and within which limits."""
    kwargs = request.media_io_kwargs and request.media_io_kwargs.video
    frames = _one_of(request.num_frames, kwargs and kwargs.num_frames, "num_frames", "media_io_kwargs.video.num_frames")
    fps = _one_of(request.fps, kwargs and kwargs.fps, "fps", "media_io_kwargs.video.fps")
    most = settings.media.max_frames
    if isinstance(frames, int) and frames > most:
        raise ApiError(
            400,
            f"num_frames is {frames}: expected at most {most} (--max-frames). Ask for fewer.",
            param="num_frames" if request.num_frames is not None else "media_io_kwargs.video.num_frames",
            code="invalid_value",
        )
    return MediaOptions(frames=frames, fps=fps, limits=media_limits(settings))


def _one_of(first: Any, second: Any, name: str, other: str) -> Any:
    """What two spellings of one field say, which must not be two things."""
    if first is not None and second is not None and first != second:
        raise ApiError(
            400,
            f"{name} is {first} and {other} is {second}: expected one of them. Leave {other} out.",
            param=other,
            code="invalid_value",
        )
    return second if first is None else first


def params_of(request: ChatRequest, stop_token_ids: tuple[int, ...]) -> SamplingParams:
    """The parameters of the first answer."""
    if request.top_logprobs is not None and not request.logprobs:
        raise _needs("top_logprobs", request.top_logprobs, "logprobs")
    if request.stream_options is not None and not request.stream:
        raise _needs("stream_options", "given", "stream")
    named = {
        "max_new_tokens": _one_of(
            request.max_completion_tokens, request.max_tokens, "max_completion_tokens", "max_tokens"
        ),
        "stop": (request.stop,) if isinstance(request.stop, str) else request.stop and tuple(request.stop),
        "logprobs": (request.top_logprobs or 0) if request.logprobs else None,
    }
    values = named | {name: getattr(request, name) for name in _SAME}
    try:
        return SamplingParams(
            **{name: value for name, value in values.items() if value is not None}, stop_token_ids=stop_token_ids
        )
    except ArgumentError as error:
        raise as_api_error(error) from None


def _needs(name: str, value: object, other: str) -> ApiError:
    return ApiError(
        400,
        f"{name} is {value}, but {other} is not true: expected both. Set {other}, or leave {name} out.",
        param=name,
        code="invalid_value",
    )
