"""The body of a chat request as typed structs: a field that is not listed here is refused by its name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

MAX_CHOICES = 16
MAX_STOPS = 16
MAX_TOP_LOGPROBS = 20
_MAX_SEED = 2**63 - 1

Count = Annotated[int, Meta(ge=1)]
Text = Annotated[str, Meta(min_length=1)]

__all__ = [
    "AssistantMessage",
    "ChatRequest",
    "FilePart",
    "FileReference",
    "ImagePart",
    "ImageUrl",
    "InspectRequest",
    "JsonObjectFormat",
    "JsonSchema",
    "JsonSchemaFormat",
    "MediaIoKwargs",
    "MediaPart",
    "Message",
    "StreamOptions",
    "SystemMessage",
    "TextFormat",
    "TextPart",
    "UserMessage",
    "VideoIoKwargs",
    "VideoPart",
    "VideoUrl",
]


class _Strict(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """No field beyond those that are declared."""


class ImageUrl(_Strict):
    """Where a picture is."""

    url: str
    detail: Literal["auto"] | None = None
    """Pictures are always seen as the model's own rules say."""


class VideoUrl(_Strict):
    """Where a video is."""

    url: str


class FileReference(_Strict):
    """An uploaded file."""

    file_id: str


class TextPart(_Strict, tag_field="type", tag="text"):
    """Some text."""

    text: str


class ImagePart(_Strict, tag_field="type", tag="image_url"):
    """A picture: an http(s) or ``data:`` URL, or ``file://`` and an upload's id or a path below the allowed root."""

    image_url: ImageUrl | str


class VideoPart(_Strict, tag_field="type", tag="video_url"):
    """A video: the same kinds of URL as for a picture."""

    video_url: VideoUrl | str


class FilePart(_Strict, tag_field="type", tag="file"):
    """A video or a picture that was uploaded before."""

    file: FileReference


MediaPart = ImagePart | VideoPart | FilePart


class SystemMessage(_Strict, tag_field="role", tag="system"):
    """What the model is told to be, in the place of its own system prompt."""

    content: str | list[TextPart]


class UserMessage(_Strict, tag_field="role", tag="user"):
    """A question, with the media that it is about."""

    content: str | list[TextPart | ImagePart | VideoPart | FilePart]


class AssistantMessage(_Strict, tag_field="role", tag="assistant"):
    """An earlier answer. Fields that clients send back with null may stand here, with null."""

    content: str | list[TextPart]
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None


Message = SystemMessage | UserMessage | AssistantMessage


class StreamOptions(_Strict):
    """What a stream tells besides the answer."""

    include_usage: bool | None = None
    """End with a chunk that counts tokens."""


class VideoIoKwargs(_Strict):
    """How frames of videos are taken."""

    num_frames: Count | Literal["auto"] | None = None
    fps: Annotated[float, Meta(gt=0)] | None = None


class MediaIoKwargs(_Strict):
    """How media are read, as vLLM spells it."""

    video: VideoIoKwargs | None = None


class TextFormat(_Strict, tag_field="type", tag="text"):
    """Any text."""


class JsonObjectFormat(_Strict, tag_field="type", tag="json_object"):
    """Any JSON object."""


class JsonSchema(_Strict):
    """A JSON schema with its name."""

    name: Text
    schema: dict[str, Any]
    description: str | None = None
    strict: Literal[True] | None = None
    """Answers always keep to the schema."""


class JsonSchemaFormat(_Strict, tag_field="type", tag="json_schema"):
    """JSON that keeps to a schema."""

    json_schema: JsonSchema


class ChatRequest(_Strict):
    """A conversation whose last message is to be answered."""

    model: str
    messages: Annotated[list[SystemMessage | UserMessage | AssistantMessage], Meta(min_length=1)]

    max_tokens: Count | None = None
    """Generate at most this many tokens; 256 where neither this nor max_completion_tokens is given."""
    max_completion_tokens: Count | None = None
    """The same under its newer name."""
    temperature: Annotated[float, Meta(ge=0)] | None = None
    """0, the default, takes the likeliest token each time."""
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: Text | Annotated[list[Text], Meta(max_length=MAX_STOPS)] | None = None
    seed: Annotated[int, Meta(ge=0, le=_MAX_SEED)] | None = None
    """Choice i of n is drawn with seed + i."""
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    """How many answers to give."""
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None

    num_frames: Count | Literal["auto"] | None = None
    """Take this many frames of each video; with fps, at most this many; auto: as many as its length is worth."""
    fps: Annotated[float, Meta(gt=0)] | None = None
    """Take this many frames of each second of a video."""
    media_io_kwargs: MediaIoKwargs | None = None
    """The same two as vLLM spells them."""


class InspectRequest(_Strict):
    """Media that are to be looked at as the model does."""

    content: Annotated[list[ImagePart | VideoPart | FilePart], Meta(min_length=1)]

    model: str | None = None
    num_frames: Count | Literal["auto"] | None = None
    """As in a chat request, as are the next two."""
    fps: Annotated[float, Meta(gt=0)] | None = None
    media_io_kwargs: MediaIoKwargs | None = None
