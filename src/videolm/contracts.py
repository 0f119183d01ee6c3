"""The values that cross layers, as small frozen dataclasses, and the protocol of whatever answers a question.

Shape letters as in ``docs/architecture.md``: ``F`` frames or tiles, ``C H W`` picture, ``T`` packed tokens, ``N``
sequences, ``D`` decoder width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from videolm.visual_tokens import ALL_TOKENS, TokenBudget

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

MediaKind = Literal["image", "video"]
FinishReason = Literal["stop", "length"]
Message = Mapping[str, Any]
"""``{"role": ..., "content": str | [{"type": "text", "text": ...} | {"type": "image"|"video", ...}]}``."""

__all__ = [
    "Answer",
    "AnswerStream",
    "Answerer",
    "Features",
    "FinishReason",
    "Frames",
    "MediaKind",
    "MediaReport",
    "Message",
    "ModelInputs",
    "PackedBatch",
    "Usage",
    "VisualInput",
]


@dataclass(frozen=True, kw_only=True)
class Frames:
    """A picture, or the frames sampled from a video."""

    kind: MediaKind
    pixels: tuple[np.ndarray, ...]
    """One ``[H, W, 3]`` uint8 RGB array a frame; a picture has one. Frames may already be at the model's size."""
    source: str
    """What to call it: a path, a URL without its query, or a word such as ``bytes``."""
    size: tuple[int, int]
    """Height and width of the source in pixels, after rotation and before any resizing."""
    frame_indices: tuple[int, ...] = ()
    """Positions in display order, as decoding everything would count them; empty for a picture."""
    frame_times_s: tuple[float, ...] = ()
    num_source_frames: int = 1
    fps: float | None = None
    """Average frames a second of the source; None for a picture or where it is unknown."""
    duration_s: float | None = None
    method: str = "array"
    """How the frames were read: packet-index, sequential, picture, folder, array."""
    num_bad_frames: int = 0
    warnings: tuple[str, ...] = ()
    """One line each, for people: fewer frames than asked for, damage that was skipped."""
    chosen: Mapping[str, float] | None = None
    """What was chosen for a video where that was asked for: frames, pool_stride, tokens_per_frame, rope_factor."""


@dataclass(frozen=True, kw_only=True)
class VisualInput:
    """One medium, ready for the vision tower."""

    kind: MediaKind
    pixel_values: Tensor
    """``[F, 3, H, W]``, normalised: the frames of a video, or a picture's base tile followed by its grid tiles."""
    size: tuple[int, int]
    """Height and width of the source in pixels (a picture's layout depends on it)."""
    num_tokens: int
    note: str = ""
    """What the prompt says about it before the message's own text, such as when a video's frames were taken."""
    budget: TokenBudget = ALL_TOKENS
    """What a video was counted with, and is laid out with; a picture has all of its tokens."""
    rope_factor: float | None = None
    """What positions of a prompt with it are divided by on top of what the model always does; None: by its own rule."""
    content: str = ""
    """A hash of its source, the choice of frames, the preprocessing and the rules of its tokens; empty: not known."""
    features: Features | None = None
    """What it was encoded to before; ``pixel_values`` may then be empty."""


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """One prompt with its media: what a processor makes and a model takes."""

    input_ids: tuple[int, ...]
    """Placeholders already expanded: medium ``i`` holds ``media[i].num_tokens`` ids from ``media_starts[i]`` on."""
    media: tuple[VisualInput, ...] = ()
    """In order of appearance."""
    media_starts: tuple[int, ...] = ()
    labels: tuple[int, ...] | None = None
    """For training: the ids to learn, -100 where nothing is learned; as long as ``input_ids``, not shifted."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """One medium after tower, fusion and projector: the rows that replace its placeholders."""

    tokens: Tensor
    """``[num_tokens, D]``, in the order of ``visual_tokens``."""


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Several sequences side by side in one row, without padding."""

    input_ids: Tensor
    """``[T]`` int64."""
    position_ids: Tensor
    """``[T]`` int64; starts at 0 in each sequence."""
    sequence_lengths: tuple[int, ...]
    """``N`` lengths that add up to ``T``; attention never crosses a sequence's end."""
    visual_positions: Tensor
    """``[num visual tokens]`` int64, ascending: where the features of ``media`` go, in order."""
    media: tuple[VisualInput, ...] = ()
    labels: Tensor | None = None
    """``[T]`` int64, -100 where nothing is learned; not shifted."""


@dataclass(frozen=True, kw_only=True)
class MediaReport:
    """What became of one medium; the keys of ``videolm ask --json``."""

    source: str
    kind: MediaKind
    frame_indices: tuple[int, ...]
    frame_times_s: tuple[float, ...]
    visual_tokens: int
    visual_token_budget: float = 1.0
    """The share of a video's tokens that was kept."""
    chosen: Mapping[str, float] | None = None
    """As in ``Frames``."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Token counts of one answer; ``prompt_tokens`` includes ``visual_tokens`` and ``cached_tokens``."""

    prompt_tokens: int
    visual_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Tokens of the prompt that were computed for an earlier prompt and not again."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A finished answer and what it cost."""

    text: str
    finish_reason: FinishReason
    model: str
    usage: Usage
    media: tuple[MediaReport, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds: load, decode, preprocess, vision, first_token (from the call to the first token), total."""
    tokens_per_s: float = 0.0
    """Completion tokens after the first, divided by the seconds they took; 0 for a single token."""
    output_ids: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()


class AnswerStream(Protocol):
    """Text as it is generated; ``answer`` is there once the iteration has ended."""

    def __iter__(self) -> Iterator[str]: ...

    @property
    def answer(self) -> Answer: ...


class Answerer(Protocol):
    """Whatever answers questions about media: a session today, an engine or a remote server tomorrow."""

    @property
    def name(self) -> str: ...

    def ask(self, media: Any, question: str, **options: Any) -> Answer: ...

    def stream(self, media: Any, question: str, **options: Any) -> AnswerStream: ...

    def chat(self, messages: Sequence[Message], **options: Any) -> Answer: ...
