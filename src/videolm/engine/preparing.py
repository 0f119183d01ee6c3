"""A request of messages and media in, the same request with inputs and media keys out: all that needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from videolm.contracts import Frames, VisualInput
from videolm.engine.config import EngineConfig
from videolm.engine.features import medium_key
from videolm.engine.request import Request
from videolm.errors import ProcessingError
from videolm.media.load import load_media
from videolm.processing.messages import MediaPart, normalise_messages
from videolm.processing.processor import Processor

__all__ = ["prepare"]


def prepare(request: Request, processor: Processor, config: EngineConfig) -> Request:
    """Read media, make the prompt's ids and the keys of its media, whatever of them is not there yet.

    Safe to call from several threads at once. Messages bring the tokenizer's end token as the stop token where the
    request names none; prepared inputs are taken as they are.
    """
    params = request.params
    inputs = request.inputs
    if inputs is None:
        assert request.messages is not None
        messages, parts = normalise_messages(request.messages)
        given = request.media if request.media is not None else _read(parts, processor, config)
        media = [_prepared(medium, processor) for medium in given]
        inputs = processor.prepare_text(messages, media)
        end = processor.tokenizer.eos_token_id
        if not params.stop_token_ids and end is not None:
            params = replace(params, stop_token_ids=(end,))
        keys = request.media_keys
        if keys is not None:  # Media of both kinds may stand in another order in the prompt.
            by_medium = {id(medium): key for medium, key in zip(media, keys, strict=True)}
            request = replace(request, media_keys=tuple(by_medium[id(medium)] for medium in inputs.media))
    keys = request.media_keys
    if keys is None:
        keys = tuple(medium_key(medium) for medium in inputs.media)
    return replace(request, inputs=inputs, messages=None, media=None, media_keys=keys, params=params)


def _read(parts: Sequence[MediaPart], processor: Processor, config: EngineConfig) -> list[Frames]:
    for index, part in enumerate(parts):
        if part.source is None:
            raise ProcessingError(
                f"Medium {index + 1} of the messages is a {part.kind} without a source: expected one to read. "
                f'Write {{"type": "{part.kind}", "{part.kind}": source}}, or give the request its media.'
            )
    return [
        load_media(
            part.source,
            sampling=config.sampling,
            on_frame=processor.prepare_frame,
            kind=part.kind,
            limits=config.limits,
        )
        for part in parts
    ]


def _prepared(medium: Frames | VisualInput, processor: Processor) -> VisualInput:
    return processor.prepare_medium(medium) if isinstance(medium, Frames) else medium
