"""A model by name in, a session out that answers questions about media: what a person uses from Python."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from videolm.contracts import Answer, Message
from videolm.conversation import Conversation, LoadedModel, TextStream, check_question
from videolm.devices import choose_device, choose_dtype
from videolm.engine.config import EngineConfig
from videolm.engine.shared import SharedEngine
from videolm.engine.vision_cache import VisionCache, VisionCacheConfig
from videolm.errors import ArgumentError, ModelNotFoundError, ProcessingError
from videolm.families import auto
from videolm.families.base import FamilyModel
from videolm.families.fine_tunes import find_parts
from videolm.families.quantization import read_request, stored_quantization
from videolm.indexing import IndexedMedium, encode_media, index_media
from videolm.media.sampling import FrameSampling
from videolm.models.video_lm import VideoLM
from videolm.options import MEDIA_NAMES, Options
from videolm.processing.messages import normalise_messages
from videolm.processing.processor import Processor
from videolm.reader import Medium, OnDownload, Reader, Source, sources_of
from videolm.stopwatch import Stopwatch
from videolm.weights.quantize import WeightQuantization

BUNDLED_NAME = "videolm-mini"
_SMALL_MODEL_BYTES = 200_000_000

__all__ = [
    "BUNDLED_NAME",
    "Conversation",
    "Session",
    "TextStream",
    "bundled_folder",
    "load",
    "load_reader",
    "stop_token_ids",
]


def load(
    name_or_path: str | Path | None = None,
    *,
    base: str | Path | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    quantize: str | WeightQuantization | None = None,
    rope_policy: str | None = None,
    cache: VisionCacheConfig | str | Path | None = None,
    engine: EngineConfig | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Session:
    """Load a model.

    Args:
        name_or_path: A folder or a Hugging Face name; None for the bundled model.
        base: The model that a LoRA adapter or a projector belongs to, if its folder does not name it.
        device: ``auto`` is the first CUDA device, without one the CPU.
        dtype: ``auto`` is the checkpoint's own on a GPU; on a CPU bfloat16 where the processor has it, and float32
            for small models such as the bundled one.
        quantize: ``int8`` or ``int4`` keeps the decoder's weights in so many bits; a ``WeightQuantization`` says more.
        rope_policy: How far positions are stretched for long prompts: ``fixed``, as the checkpoint says; ``auto``, as
            the original code did; ``none``. None: what the checkpoint's configuration says.
        cache: Where encoded media are kept for further questions: a folder, or how much of them to keep. None: media
            are read for each question or conversation, and encoded where the engine does not know them any more.
        engine: How the engine divides memory and work; None: as suits one person asking, with room for any prompt.
        progress: Called with the tensors loaded so far and their number.
    """
    start = time.perf_counter()
    target = choose_device(device)
    choose_dtype(dtype, device=target)  # Wrong names are refused before anything is read.
    read_request(quantize)
    name, folder = _locate(name_or_path)
    policy = {} if rope_policy is None else {"rope_policy": rope_policy}
    reader = _reader(folder, base, **policy)  # Before the weights, which take longer.
    is_quantized = quantize is not None or stored_quantization(auto.load_config(folder, base=base)) is not None
    is_small = find_parts(folder, base).num_bytes <= _SMALL_MODEL_BYTES
    wanted = choose_dtype(dtype, device=target, prefer_exact=is_small and not is_quantized)
    model = auto.load_model(
        folder, base=base, device=target, dtype=wanted, quantize=quantize, progress=progress, **policy
    )
    encoded = _vision_cache(model, cache)
    loaded = LoadedModel(
        name=name,
        model=model,
        reader=reader,
        engine=SharedEngine(model, reader.processor, engine, features=encoded),
        stop_token_ids=stop_token_ids(model, reader.processor),
        load_s=time.perf_counter() - start,
    )
    return Session(loaded, cache=encoded)


def _vision_cache(model: VideoLM, cache: VisionCacheConfig | str | Path | None) -> VisionCache | None:
    if cache is None:
        return None
    return VisionCache(model, cache if isinstance(cache, VisionCacheConfig) else VisionCacheConfig(folder=Path(cache)))


def load_reader(name_or_path: str | Path | None = None, *, base: str | Path | None = None) -> Reader:
    """The part of a model that reads media, without its weights."""
    return _reader(_locate(name_or_path, weights=False)[1], base)


def _locate(name_or_path: str | Path | None, *, weights: bool = True) -> tuple[str, Path]:
    """What a model is called in answers, and its folder."""
    if name_or_path is None or (name_or_path == BUNDLED_NAME and not Path(BUNDLED_NAME).exists()):
        return BUNDLED_NAME, bundled_folder()
    return str(name_or_path), auto.resolve(name_or_path, weights=weights)


def _reader(folder: Path, base: str | Path | None, **config_values: str) -> Reader:
    config = auto.load_config(folder, base=base)
    decoder = type(config).from_dict(config.to_dict() | config_values).model_settings().decoder
    return Reader(
        processor=auto.load_processor(folder, base=base),
        sampling=auto.family_of(folder, base=base).sampling,
        context_len=decoder.longest_context,
        window=int(decoder.max_position_embeddings * decoder.fixed_rope_factor),
        may_stretch=decoder.may_stretch,
    )


def bundled_folder() -> Path:
    """Where the bundled model lies."""
    folder = Path(str(files("videolm"))) / "mini" / "weights"
    if not (folder / "config.json").is_file():
        raise ModelNotFoundError(
            f"The bundled model is missing: expected its files in {folder}. "
            "Install videolm again, or name another model."
        )
    return folder


def stop_token_ids(model: FamilyModel, processor: Processor) -> tuple[int, ...]:
    """The tokens that end an answer: those of the generation configuration, of the tokenizer and of the template."""
    own = processor.tokenizer.eos_token_id
    named = model.generation_config.get("eos_token_id")
    if named is None and own is None:
        named = model.config.text_config.eos_token_id
    listed = named if isinstance(named, list | tuple) else [named]
    ends = [*listed, own, processor.answer_end_id]
    return tuple(dict.fromkeys(token_id for token_id in ends if token_id is not None))


class Session:
    """A loaded model that answers questions; an ``Answerer``."""

    def __init__(self, loaded: LoadedModel, *, cache: VisionCache | None = None) -> None:
        self._loaded = loaded
        self._cache = cache
        self.on_download: OnDownload | None = None
        """Called while a medium is downloaded, with its bytes so far and in all; None where that is unknown."""

    @property
    def loaded(self) -> LoadedModel:
        """The model with what is needed to talk to it."""
        return self._loaded

    @property
    def cache(self) -> VisionCache | None:
        """Where encoded media are kept; None where they are not."""
        return self._cache

    @property
    def name(self) -> str:
        """What the model is called in answers."""
        return self._loaded.name

    @property
    def model(self) -> VideoLM:
        """The model itself."""
        return self._loaded.model

    @property
    def processor(self) -> Processor:
        """What prepares the model's inputs."""
        return self._loaded.processor

    @property
    def sampling(self) -> FrameSampling:
        """How frames of videos are chosen where nothing else is asked for."""
        return self._loaded.reader.sampling

    @property
    def load_s(self) -> float:
        """Seconds that loading took."""
        return self._loaded.load_s

    def ask(self, media: Any, question: str, **options: Any) -> Answer:
        """Answer one question.

        Args:
            media: One source or a list of them: a path, a URL, bytes, a file object, an array, a picture. A list of PIL
                images is one video.
            question: What to ask.
            options: frames, fps, allow_private_hosts, limits; max_new_tokens, temperature, top_p, top_k, min_p,
                repetition_penalty, presence_penalty, frequency_penalty, stop, seed, min_new_tokens; system.
        """
        stream = self.stream(media, question, **options)
        for _ in stream:
            pass
        return stream.answer

    def stream(self, media: Any, question: str, **options: Any) -> TextStream:
        """The same, as text while it is generated; the media are read before this returns."""
        check_question(question)
        parsed = self._loaded.parse(options)
        conversation = self._open(sources_of(media), parsed)
        parts = [{"type": frames.kind} for frames, _ in conversation.media]
        message = {"role": "user", "content": [*parts, {"type": "text", "text": question}]}
        return conversation.reply(_with_system([message], parsed), parsed, warnings=conversation.warnings)

    def chat(self, messages: Sequence[Message], **options: Any) -> Answer:
        """Answer the last of several messages.

        Args:
            messages: ``{"role", "content"}``, the content a text or a list of parts: ``{"type": "text", "text": ...}``,
                ``{"type": "video", "video": source}``, ``{"type": "image", "image": source}``; ``path`` and ``url``
                may name the source too.
            options: As for ``ask``.
        """
        parsed = self._loaded.parse(options)
        normal, parts = normalise_messages(messages)
        if normal[-1]["role"] != "user":
            raise ProcessingError(
                f"The last message is of the role {normal[-1]['role']}: expected one of the user, which is answered. "
                "Add a question."
            )
        for index, part in enumerate(parts):
            if part.source is None:
                raise ProcessingError(
                    f"Medium {index + 1} of the messages is a {part.kind} without a source: expected one to read. "
                    f'Write {{"type": "{part.kind}", "{part.kind}": source}}.'
                )
        conversation = self._open([(part.source, part.kind) for part in parts], parsed)
        stream = conversation.reply(_with_system(normal, parsed), parsed, warnings=conversation.warnings)
        for _ in stream:
            pass
        return stream.answer

    def conversation(self, media: Any, **options: Any) -> Conversation:
        """Several questions about the same media, which are read and encoded once."""
        return self._open(sources_of(media), self._loaded.parse(options))

    def inspect(self, media: Any, **options: Any) -> list[Medium]:
        """What the model would see: the frames taken from each medium, and the pixels made of them."""
        return self._loaded.reader.inspect(media, options, on_download=self.on_download)

    def index(self, media: Any, **options: Any) -> Iterator[IndexedMedium]:
        """Read and encode media ahead of questions about them; the session must have a cache.

        A few media are read ahead in threads; what is ready is encoded together and told as it is done. An error
        belongs to its own medium.

        Args:
            options: Of ``ask``, those about media: questions with the same ones find what is encoded here.
        """
        if self._cache is None:
            raise ArgumentError(
                "This session has no cache to keep encoded media in: one is expected. "
                "Write videolm.load(..., cache='a folder')."
            )
        parsed, reader = Options.parse(options, allowed=MEDIA_NAMES), self._loaded.reader
        return index_media(sources_of(media), parsed.media, reader, self._cache, on_download=self.on_download)

    def _open(self, sources: list[Source], options: Options) -> Conversation:
        watch, reader, cache = Stopwatch(self.model.device), self._loaded.reader, self._cache
        media = reader.read(sources, options.media, watch, on_download=self.on_download, known=cache)
        if cache is not None:
            with watch.measure("vision"):
                media = encode_media(media, cache)
        return Conversation(self._loaded, media, options, watch=watch)


def _with_system(messages: Sequence[Message], options: Options) -> Sequence[Message]:
    if options.system is None:
        return messages
    if messages[0]["role"] == "system":
        raise ArgumentError(
            "There are two system prompts, one in the messages and one as an option: expected at most one. Remove one."
        )
    return [{"role": "system", "content": options.system}, *messages]
