"""What is asked of the engine and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from videolm.contracts import FinishReason, Frames, Message, ModelInputs, Usage, VisualInput
from videolm.errors import ArgumentError, VideoLMError
from videolm.generation.logprobs import TokenLogprobs
from videolm.generation.params import SamplingParams

if TYPE_CHECKING:
    from videolm.generation.sampling import LogitsProcessor

EndReason = FinishReason | Literal["abort", "error"]

__all__ = ["EndReason", "Request", "RequestOutput", "pixel_bytes"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One prompt to be answered: prepared inputs, or messages that the engine prepares."""

    id: str
    """What the caller calls it; no two unfinished requests of an engine have the same."""
    params: SamplingParams = field(default_factory=SamplingParams)
    inputs: ModelInputs | None = None
    """The whole prompt."""
    messages: Sequence[Message] | None = None
    """In the place of ``inputs``. Media are named by their parts (``{"type": "video", "video": source}``), or come as
    ``media`` in the order of bare parts."""
    media: tuple[Frames | VisualInput, ...] | None = None
    media_keys: tuple[str, ...] | None = None
    """What tells each medium of the prompt from all others: source, sampling, preprocessing. The same key is the same
    medium, which is encoded once. None: a hash of the pixels."""
    logits_processors: tuple[LogitsProcessor, ...] = ()
    """Each called as ``(logits [V], ids generated so far) -> logits [V]`` before anything is drawn: what it sets to
    ``-inf`` is never taken. The prompt's ids are not among those it sees."""

    def __post_init__(self) -> None:
        if (self.inputs is None) == (self.messages is None):
            found = "neither inputs nor messages" if self.inputs is None else "both inputs and messages"
            raise ArgumentError(f"Request {self.id} has {found}: expected one of them. Give the prompt once.")
        if self.media is not None and self.messages is None:
            raise ArgumentError(
                f"Request {self.id} has media beside its inputs: prepared inputs hold their media. "
                "Leave media out, or give messages."
            )
        media = self.inputs.media if self.inputs is not None else self.media
        if self.media_keys is not None and media is not None and len(self.media_keys) != len(media):
            raise ArgumentError(
                f"Request {self.id} has {len(self.media_keys)} media_keys for {len(media)} media: expected one each. "
                "Leave media_keys out to have them made of the pixels."
            )


@dataclass(frozen=True, kw_only=True)
class RequestOutput:
    """A request's answer so far; it is whole once ``finish_reason`` is there."""

    id: str
    piece: str = ""
    """What this step adds to ``text``."""
    text: str = ""
    output_ids: tuple[int, ...] = ()
    """All generated ids, a stop token included."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    """Where ``SamplingParams.logprobs`` asks for them: one for each of ``output_ids``, of the model's own distribution,
    before logits processors, penalties and temperature."""
    finish_reason: EndReason | None = None
    error: VideoLMError | None = None
    """Why there is no answer, or no whole one: set together with the finish reason ``error``."""
    usage: Usage
    timings_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds: vision, and since the request was added first_token (once there is one) and total."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing follows."""
        return self.finish_reason is not None


def pixel_bytes(request: Request) -> int:
    """Memory of a prepared request's media."""
    return sum(medium.pixel_values.nbytes for medium in request.inputs.media) if request.inputs is not None else 0
