"""What the documented processors share: their parts, prompts with placeholders, and conversations with media inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from videolm.contracts import Message, ModelInputs, VisualInput
from videolm.errors import ArgumentError, ConfigError
from videolm.families.auto import load_config
from videolm.families.json_config import write_json
from videolm.families.processor_files import (
    chat_template_in,
    family_in,
    folder_of,
    image_settings,
    video_settings,
    written_keys,
)
from videolm.families.processor_media import MediaReading
from videolm.families.processor_parts import as_asked, layout_in
from videolm.families.processor_spec import ProcessorSpec
from videolm.families.processors import check_keys, model_keys
from videolm.processing.batch import BatchInputs, pad_rows
from videolm.processing.callable_tokenizer import CallableTokenizer
from videolm.processing.chat import ChatTemplate, normalise_messages
from videolm.processing.picture_arrays import ChannelFormat, channel_format, counts_by_prompt
from videolm.processing.prompt import encode_prompt
from videolm.processing.tensor_types import tensor_type
from videolm.processing.text_processor import TextProcessor
from videolm.processing.time_instruction import with_notes
from videolm.visual_tokens import VisualTokens

_TEXT_OPTIONS = ("padding", "truncation", "max_length", "padding_side", "add_special_tokens")

__all__ = ["DocumentedProcessor"]


class DocumentedProcessor:
    """Texts and media in, the arguments of a model's ``forward`` and ``generate`` out."""

    spec: ClassVar[ProcessorSpec]
    order: ClassVar[tuple[str, ...]]
    """Of arguments without a name, as the documentation gives it."""
    image_processor: Any
    video_processor: Any
    tokenizer: Any
    chat_template: str | None
    patch_size: int
    num_additional_image_tokens: int
    vision_feature_select_strategy: str | None
    image_token: str
    video_token: str
    add_time_instruction: bool = False
    """Whether prompts tell how long each video lasts and when its frames were taken; the checkpoint says so."""

    def __init__(self, *values: Any, **settings: Any) -> None:
        if len(values) > len(self.order):
            raise TypeError(f"{type(self).__name__} takes {len(self.order)} arguments without a name")
        settings = {**dict(zip(self.order, values, strict=False)), **settings}
        parts = {"image_processor": None, "video_processor": None, "tokenizer": None, "chat_template": None}
        for name, default in {**parts, **self.spec.defaults}.items():
            given = settings.pop(name, None)
            setattr(self, name, default if given is None else given)
        for name, value in settings.items():
            setattr(self, name, value)
        if self.image_processor is not None and self.video_processor is None and "video_processor" not in self.order:
            self.video_processor = self.spec.video_part(**self.image_processor.to_dict())
        self.sampling = self.spec.sampling
        self._model_tokens: VisualTokens | None = None
        self._model_keys: dict[str, Any] = {}
        self._model_ids: tuple[int, int] | None = None

    # --- files ---

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **settings: Any) -> Self:
        """From the folder or hub name of a model, or from what ``save_pretrained`` wrote.

        Args:
            settings: Constructor arguments in the place of what the files say; ``revision``, ``cache_dir``, ``token``,
                ``subfolder`` and ``local_files_only`` say where to look; ``use_fast`` chooses torch or Pillow.
        """
        folder = folder_of(name_or_path, settings)
        family = family_in(folder, cls.__name__)
        tokenizer = CallableTokenizer.from_folder(folder)
        fast = {"use_fast": settings.pop("use_fast", None)}
        values = {
            "image_processor": cls.spec.image_part(**image_settings(folder), **fast),
            "video_processor": cls.spec.video_part(**video_settings(folder), **fast),
            "tokenizer": tokenizer,
            "chat_template": chat_template_in(folder, tokenizer),
            **(known := {} if family is None else model_keys(load_config(folder))),
            **written_keys(folder),
        }
        processor = cls(**{**values, **settings})
        if family is not None:
            config = load_config(folder)
            processor.sampling = family.sampling
            processor._model_tokens, processor._model_keys = config.visual_tokens(), known
            processor._model_ids = (config.image_token_index, config.video_token_index)
            processor.visual_tokens()  # refuses files of different models now, and not in the first call
        return processor

    def save_pretrained(self, folder: str | Path) -> None:
        """Write everything that ``from_pretrained`` reads, as Hugging Face libraries read it too."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for part in (self.image_processor, self.video_processor, self.tokenizer):
            if part is not None:
                part.save_pretrained(folder)
        if self.chat_template is not None:
            (folder / "chat_template.jinja").write_text(self.chat_template, encoding="utf-8")
        write_json(folder / "processor_config.json", self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """What ``processor_config.json`` holds."""
        values = {name: getattr(self, name) for name in self.spec.defaults}
        return {"processor_class": type(self).__name__, **values}

    # --- calls ---

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        images: Any = None,
        videos: Any = None,
        *,
        return_tensors: Any = "pt",
        data_format: Any = "channels_first",
        text_kwargs: Mapping[str, Any] | None = None,
        images_kwargs: Mapping[str, Any] | None = None,
        videos_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> BatchInputs:
        """Inputs for prompts that hold their own placeholders, in the order of the media.

        Args:
            text: One prompt or several.
            images: PIL, numpy or torch pictures, paths or URLs; one, a list, or a list for each prompt.
            videos: Videos as arrays, lists of frames, paths or URLs; likewise.
            return_tensors: ``pt``, ``np``, ``jax`` or ``tf``; None for lists.
            data_format: Where the channels stand in the pixel values; models take them first.
            text_kwargs: ``padding``, ``truncation``, ``max_length``, ``padding_side`` and ``add_special_tokens``; all
                of these can be given directly, too. ``images_kwargs`` and ``videos_kwargs`` are for the parts alone.
            options: Those of the text, and any setting of the parts for this call. ``video_metadata`` tells of each
                video in memory its ``fps``, ``total_num_frames`` and ``frames_indices``.
        """
        if text is None and images is None and videos is None:
            raise ArgumentError("There is no text, image or video: at least one is expected. Pass text='...'.")
        order = channel_format(data_format) or layout_in(videos if images is None else images)
        written = {name: options.pop(name) for name in _TEXT_OPTIONS if name in options} | dict(text_kwargs or {})
        kind = tensor_type(return_tensors)
        reading = MediaReading(
            processor=self, options=options, for_images=images_kwargs or {}, for_videos=videos_kwargs or {}
        )
        texts = [text] if isinstance(text, str) else list(text or ())
        media = reading.read(images, videos)
        if text is None:
            return self._finish(BatchInputs(), media, kind, order)
        add_bos = bool(written.pop("add_special_tokens", True))
        per_prompt = counts_by_prompt(images, videos, len(texts))
        rows = self._text().rows(texts, media, add_special_tokens=add_bos, per_prompt=per_prompt)
        return self._batch(rows, kind, order, written)

    def apply_chat_template(
        self,
        conversation: Any,
        chat_template: str | None = None,
        *,
        add_generation_prompt: bool = False,
        tokenize: bool = False,
        return_dict: bool = False,
        return_tensors: Any = "pt",
        data_format: Any = "channels_first",
        video_fps: float | None = None,
        **options: Any,
    ) -> Any:
        """The prompt of a conversation; or of each of several, as a list.

        Args:
            conversation: A list of messages, or a list of such lists.
            tokenize: Give token ids, those of media inside the conversation (``path``, ``url`` …) too.
            return_dict: Give everything that the model takes, pixel values included, and not the ids alone.
            video_fps: Take so many frames a second of each video; ``num_frames`` takes so many in all.
            options: As in a call.
        """
        template = self._template(chat_template)
        several = bool(conversation) and not isinstance(conversation[0], Mapping)
        each: list[list[Message]] = [list(one) for one in (conversation if several else [conversation])]
        if not tokenize:
            texts = [template.render(messages, add_generation_prompt).text for messages in each]
            return texts if several else texts[0]
        options |= dict(options.pop("processor_kwargs", {})) | ({} if video_fps is None else {"fps": video_fps})
        written = {name: options.pop(name) for name in _TEXT_OPTIONS if name in options}
        text, rows = self._text(), []
        media = MediaReading(processor=self, options=options).read_conversations(each)
        for messages, found in zip(each, media, strict=True):
            told = with_notes(normalise_messages(messages)[0], [medium.note for medium in found])
            prompt = template.render(told, add_generation_prompt)
            rows.append(text.expand(encode_prompt(self.tokenizer, prompt), found))
        inputs = self._batch(rows, tensor_type(return_tensors), channel_format(data_format), written)
        return inputs if return_dict else inputs["input_ids"]

    def decode(self, token_ids: Any, *options: Any, **named: Any) -> Any:
        """Text of ids, as the tokenizer's ``decode``."""
        return self.tokenizer.decode(token_ids, *options, **named)

    def batch_decode(self, sequences: Any, *options: Any, **named: Any) -> list[str]:
        """Texts of several rows of ids, as the tokenizer's ``batch_decode``."""
        return list(self.tokenizer.batch_decode(sequences, *options, **named))

    @property
    def model_input_names(self) -> list[str]:
        """The names under which a call gives its tensors."""
        return ["input_ids", "attention_mask", self.spec.image_part.image_key, "image_sizes", "pixel_values_videos"]

    # --- inside ---

    def visual_tokens(self) -> VisualTokens:
        """The model's rules where they are known, else those that the attributes of this processor make."""
        if self._model_tokens is not None:
            check_keys(
                {name: getattr(self, name, None) for name in self._model_keys}, self._model_keys, "The processor"
            )
            return self._model_tokens
        return self.spec.visual_tokens(
            self.image_processor,
            self.video_processor,
            patch_size=self.patch_size,
            has_class_token=self.num_additional_image_tokens > 0,
            is_full=self.vision_feature_select_strategy == "full",
        )

    def _text(self) -> TextProcessor:
        if self.tokenizer is None:
            raise ConfigError(
                "This processor has no tokenizer: one is expected for text. Pass tokenizer=AutoTokenizer."
                "from_pretrained(...), or load the whole with from_pretrained."
            )
        self.tokenizer.add_special((self.image_token, self.video_token))
        own = tuple(self.tokenizer.token_to_id(token) for token in (self.image_token, self.video_token))
        image_id, video_id = self._model_ids or own
        return TextProcessor(
            tokenizer=self.tokenizer,
            chat_template=self._template(None) if self.chat_template else ChatTemplate(""),
            image_token=self.image_token,
            video_token=self.video_token,
            image_token_id=image_id,
            video_token_id=video_id,
        )

    def _template(self, source: str | None) -> ChatTemplate:
        source = source or self.chat_template
        if source is None:
            raise ConfigError(
                "This processor has no chat template: one is expected to write a conversation as a prompt. "
                "Pass chat_template, or set processor.chat_template."
            )
        return ChatTemplate(source, special_tokens=self.tokenizer.special_tokens if self.tokenizer else None)

    def _batch(
        self, rows: Sequence[ModelInputs], kind: str | None, order: ChannelFormat | None, written: dict[str, Any]
    ) -> BatchInputs:
        side = written.pop("padding_side", None) or self.tokenizer.padding_side
        written.setdefault("padding", False)
        # Without pixels, which go in under the family's own names.
        named: dict[str, Any] = {"pad_token_id": self.tokenizer.padding_id, "padding_side": side, "with_media": False}
        cut = pad_rows(rows, ragged=kind is None, **named, **written)
        return self._finish(cut, [medium for row in rows for medium in row.media], kind, order)

    def _finish(
        self, inputs: BatchInputs, media: Sequence[VisualInput], kind: str | None, order: ChannelFormat | None
    ) -> BatchInputs:
        images = [medium for medium in media if medium.kind == "image"]
        videos = [medium for medium in media if medium.kind == "video"]
        padded = bool(getattr(self.image_processor, "do_pad", True))
        if images:
            inputs.update(self.image_processor.stack(images, padded=padded))
        if videos:
            inputs.update(self.video_processor.stack(videos))
        return as_asked(inputs, kind, order)
