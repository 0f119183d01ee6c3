"""Sources of training samples, mixed by weight: an index in, a prepared sample or the reason it failed out."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from videolm.contracts import Frames, MediaKind, Message, ModelInputs
from videolm.errors import ConfigError, ProcessingError
from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling
from videolm.processing.processor import Processor
from videolm.training.config import DataConfig
from videolm.training.conversations import ConversationFile
from videolm.training.samples import SampleSource, TrainingSample
from videolm.training.visual_words import with_visual_words

__all__ = [
    "FailedSample",
    "Location",
    "PreparedSample",
    "SampleMaker",
    "SampleSource",
    "TrainingSample",
    "mix",
    "open_source",
    "prepare_sample",
]


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where the sample of a global index is found."""

    index: int
    """Position in the run."""
    source: int
    """Position in the list of sources."""
    local_index: int
    """How many samples of this source came before."""


@dataclass(frozen=True, kw_only=True)
class PreparedSample:
    """A sample that a model can learn from."""

    location: Location
    source: str
    id: str
    inputs: ModelInputs


@dataclass(frozen=True, kw_only=True)
class FailedSample:
    """A sample that could not be read, and why."""

    location: Location
    source: str
    id: str
    error: str


def mix(weights: Sequence[float], start: int = 0, step: int = 1) -> Iterator[Location]:
    """Locations ``start``, ``start + step``, ... of an endless sequence in which each source keeps its share.

    Each next sample is of the source that is furthest behind its share, so every batch holds the mixture.
    """
    shares = [weight / sum(weights) for weight in weights]
    counts = [0] * len(shares)
    index = 0
    while True:
        source = max(range(len(shares)), key=lambda k: shares[k] * (index + 1) - counts[k])
        if index >= start and (index - start) % step == 0:
            yield Location(index=index, source=source, local_index=counts[source])
        counts[source] += 1
        index += 1


def open_source(config: DataConfig) -> SampleSource:
    """The source that an entry of ``data`` names."""
    if config.json is not None:
        return ConversationFile(config.json, media_root=config.media_root)
    assert config.source is not None
    module_name, _, attribute = config.source.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"The source '{config.source}' of '{config.name}' cannot be imported ({error}), expected "
            "'package.module:callable'. Correct the name, or put its folder into PYTHONPATH."
        ) from None
    try:
        source = factory(**config.options)
    except TypeError as error:
        raise ConfigError(
            f"The source '{config.source}' of '{config.name}' does not take its options ({error}), expected the "
            "callable's keyword arguments. Correct data.options."
        ) from error
    if not callable(getattr(source, "sample", None)):
        raise ConfigError(
            f"The source '{config.source}' of '{config.name}' gave a {type(source).__name__}, expected an object with "
            "sample(index). Name a callable that returns one."
        )
    return source  # type: ignore[no-any-return]


def shuffled_index(local_index: int, length: int, *seed: int) -> int:
    """The place in a source of ``length`` samples: each round visits all of them, in an order of its own."""
    epoch, position = divmod(local_index, length)
    return int(_order(length, (*seed, epoch))[position])


@lru_cache(maxsize=8)
def _order(length: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(length)


class SampleMaker:
    """Makes the sample of a location; opens sources and processor in the process that first asks (a worker)."""

    def __init__(
        self,
        sources: Sequence[DataConfig],
        make_processor: Callable[[], Processor],
        *,
        sampling: FrameSampling,
        seed: int = 0,
        half: bool = False,
    ) -> None:
        self._configs = tuple(sources)
        self._make_processor = make_processor
        self._prepare = partial(prepare_sample, sampling=sampling, half=half)
        self._seed = seed
        self._sources: dict[int, SampleSource] = {}
        self._processor: Processor | None = None

    def __getstate__(self) -> dict[str, Any]:
        files = {index: source for index, source in self._sources.items() if isinstance(source, ConversationFile)}
        return {**self.__dict__, "_sources": files, "_processor": None}

    def __getitem__(self, location: Location) -> PreparedSample | FailedSample:
        if self._processor is None:
            self._processor = self._make_processor()
        source, name = self._open(location.source), self._configs[location.source].name
        identifier = "unknown"
        try:
            sample = source.sample(self._place(source, location))
            identifier = sample.id
            inputs = self._prepare(sample, self._processor)
        # Whatever is wrong with one sample is recorded and counted; the budget ends a run where all are wrong.
        except Exception as error:
            message = " ".join(f"{type(error).__name__}: {error}".split())
            return FailedSample(location=location, source=name, id=identifier, error=message)
        return PreparedSample(location=location, source=name, id=identifier, inputs=inputs)

    def open_all(self) -> None:
        """Open every source now, so that a mistake in the configuration shows before anything is trained."""
        for index in range(len(self._configs)):
            self._open(index)

    def _open(self, index: int) -> SampleSource:
        if index not in self._sources:
            self._sources[index] = open_source(self._configs[index])
        return self._sources[index]

    def _place(self, source: SampleSource, location: Location) -> int:
        if not isinstance(source, Sized):
            return location.local_index
        length = len(source)
        if self._configs[location.source].shuffle:
            return shuffled_index(location.local_index, length, self._seed, location.source)
        return location.local_index % length


def prepare_sample(
    sample: TrainingSample, processor: Processor, *, sampling: FrameSampling, half: bool = False
) -> ModelInputs:
    """Decode the media of a sample and make its ids, labels and pixels.

    Args:
        half: pixels in bfloat16, which is what the tower reads them in under autocast.
    """
    kinds = media_kinds(sample.messages)
    if len(kinds) != len(sample.media):
        raise ProcessingError(
            f"Sample {sample.id} has {len(sample.media)} media and its messages name {len(kinds)}, expected the same "
            "number. Give each medium one image or video item."
        )
    frames = [
        medium
        if isinstance(medium, Frames)
        else load_media(medium, sampling=sampling, on_frame=processor.prepare_frame, kind=kind)
        for medium, kind in zip(sample.media, kinds, strict=True)
    ]
    inputs = processor.prepare(sample.messages, frames, add_generation_prompt=False, learn=True)
    if inputs.labels is None or all(label == -100 for label in inputs.labels[1:]):
        raise ProcessingError(
            f"Sample {sample.id} holds nothing to learn: no assistant text in {len(sample.messages)} messages, "
            "expected at least one answer. Correct or remove it."
        )
    if sample.visual_words or sample.placed_words:
        inputs = with_visual_words(inputs, sample, processor)
    return _halve(inputs) if half else inputs


def media_kinds(messages: Sequence[Message]) -> list[MediaKind]:
    """The kinds of the media that messages name, in order."""
    kinds: list[MediaKind] = []
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            kinds += [item["type"] for item in content if item["type"] in ("image", "video")]
    return kinds


def _halve(inputs: ModelInputs) -> ModelInputs:
    media = tuple(replace(medium, pixel_values=medium.pixel_values.to(torch.bfloat16)) for medium in inputs.media)
    return replace(inputs, media=media)
