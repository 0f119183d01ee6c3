"""Media and what a call says about them in, prepared and counted media out, for the documented processors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from videolm.contracts import Frames, Message, VisualInput
from videolm.errors import ProcessingError
from videolm.families.processor_parts import LIMITS
from videolm.families.processor_spec import count_tokens, warn_caller
from videolm.processing.chat import normalise_messages
from videolm.processing.picture_arrays import channel_format
from videolm.processing.time_instruction import time_instruction, unknown_times

if TYPE_CHECKING:
    from videolm.families.processor_base import DocumentedProcessor

__all__ = ["MediaReading"]


@dataclass(frozen=True, kw_only=True)
class MediaReading:
    """How the media of one call become pixels and counts."""

    processor: DocumentedProcessor
    options: Mapping[str, Any]
    """Settings of the parts, for this call."""
    for_images: Mapping[str, Any] = field(default_factory=dict)
    for_videos: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what is no setting of either part, whether there are media or not."""
        parts = [part for part in (self.processor.video_processor, self.processor.image_processor) if part is not None]
        others = ("input_data_format", "video_metadata", *LIMITS)
        for name in self.options:
            if parts and name not in others and not any(part.knows(name) for part in parts):
                parts[0].merged({name: None})

    @property
    def padded(self) -> bool:
        """Whether pictures of fewer tiles are filled up."""
        part = self.processor.image_processor
        return part is None or bool(part.pads({**self.options, **self.for_images}))

    def read(self, images: Any, videos: Any) -> list[VisualInput]:
        """The pictures, then the videos."""
        self.check()
        media: list[VisualInput] = []
        given = channel_format(self.options.get("input_data_format"), "input_data_format")
        if images is not None:
            part = self.processor.image_processor
            own = self._settings_of(part) | dict(self.for_images)
            media += self._counted(part.prepare(images, given, own), own)
        if videos is not None:
            part = self.processor.video_processor
            own = {"video_metadata": self.options.get("video_metadata")} | self._settings_of(part)
            own |= dict(self.for_videos)
            media += self._counted(part.prepare(videos, given, own, self.processor.sampling, self._note), own)
        return media

    def _settings_of(self, part: Any) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if part.knows(name) or name in LIMITS}

    def read_conversations(self, conversations: Sequence[Sequence[Message]]) -> Iterator[list[VisualInput]]:
        """The media that the messages of each conversation name, in order."""
        parts = [normalise_messages(messages)[1] for messages in conversations]
        options = dict(self.options)
        given = options.pop("video_metadata", None)
        videos = [part.kind == "video" for each in parts for part in each]
        metadata = iter(given if isinstance(given, (list, tuple)) else [given] * sum(videos))
        if isinstance(given, (list, tuple)) and len(given) != sum(videos):
            raise ProcessingError(
                f"video_metadata says something of {len(given)} videos, but the conversation holds {sum(videos)}: one "
                "value for each is expected. Pass a list, with None for videos that are read from files."
            )
        for each in parts:
            media: list[VisualInput] = []
            for part in each:
                if part.source is None:
                    raise ProcessingError(
                        f"The conversation holds a bare {part.kind}: a path, a URL or an array is expected when it is "
                        f'tokenized. Write {{"type": "{part.kind}", "path": ...}}, or call the processor with the '
                        "prompt."
                    )
                if part.kind == "image":
                    media += MediaReading(processor=self.processor, options=options).read(part.source, None)
                else:
                    own = options | {"video_metadata": next(metadata)}
                    media += MediaReading(processor=self.processor, options=own).read(None, part.source)
            yield media

    def _counted(self, media: Sequence[VisualInput], settings: Mapping[str, Any]) -> list[VisualInput]:
        pinpoints = settings.get("image_grid_pinpoints") or getattr(
            self.processor.image_processor, "image_grid_pinpoints", None
        )
        counted = count_tokens(media, self.processor.visual_tokens(), pinpoints)
        for medium in counted:
            if medium.kind == "video":
                self.processor.spec.check_frames(len(medium.pixel_values))
        return counted

    def _note(self, clip: Frames) -> str:
        if not self.processor.add_time_instruction:
            return ""
        note = time_instruction(clip)
        if not note:
            warn_caller(
                f'{unknown_times(clip)} Pass video_metadata={{"fps": ...}}, or set the processor\'s '
                "add_time_instruction to False."
            )
        return note
