"""What the documented processors share: their parts, prompts with placeholders, and conversations with media inside."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from videolm.contracts import Message
from videolm.errors import ArgumentError, ConfigError
from videolm.families.auto import load_config
from videolm.families.json_config import write_json
from videolm.families.processor_files import constructor_values, family_in, folder_of
from videolm.families.processor_media import MediaReading
from videolm.families.processor_output import OutputForm, text_options
from videolm.families.processor_parts import layout_in
from videolm.families.processor_spec import ProcessorSpec
from videolm.families.processors import check_keys, model_keys
from videolm.processing.batch import BatchInputs
from videolm.processing.callable_tokenizer import TOKENIZER_SETTINGS, listed_texts
from videolm.processing.chat import ChatTemplate, normalise_messages
from videolm.processing.picture_arrays import channel_format, counts_by_prompt
from videolm.processing.prompt import encode_prompt
from videolm.processing.tensor_types import tensor_type
from videolm.processing.text_processor import TextProcessor
from videolm.processing.time_instruction import with_notes
from videolm.visual_tokens import VisualTokens

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
        if settings:
            names = [*parts, *self.spec.defaults]
            near = difflib.get_close_matches(next(iter(settings)), names, n=1) or names
            raise ArgumentError(
                f"{type(self).__name__} was given {next(iter(settings))}: expected one of its arguments. "
                f"Did you mean {' or '.join(near)}?"
            )
        if self.image_processor is not None and self.video_processor is None and "video_processor" not in self.order:
            self.video_processor = self.spec.video_part.from_dict(self.image_processor.to_dict())
        self.sampling = self.spec.sampling
        self._model_tokens: VisualTokens | None = None
        self._model_keys: dict[str, Any] = {}
        self._model_ids: tuple[int, int] | None = None

    # --- files ---

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **settings: Any) -> Self:
        """From the folder or hub name of a model, or from what ``save_pretrained`` wrote.

        Args:
            settings: Constructor arguments, attributes of the tokenizer such as ``padding_side``, or settings of the
                parts, in the place of what the files say; ``revision``, ``cache_dir``, ``token``, ``subfolder`` and
                ``local_files_only`` say where to look; ``use_fast`` chooses torch or Pillow.
        """
        folder = folder_of(name_or_path, settings)
        family = family_in(folder, cls.__name__)
        config = None if family is None else load_config(folder)
        values = constructor_values(folder, cls.spec, config)
        own = {name: settings.pop(name) for name in list(settings) if name in (*values, *cls.spec.defaults)}
        processor = cls(**{**values, **own})
        if config is not None:
            processor.image_processor.adopt(config.visual_tokens().image)
        processor._change(settings)
        if family is not None and config is not None:
            processor.sampling = family.sampling
            processor._model_tokens, processor._model_keys = config.visual_tokens(), model_keys(config)
            processor._model_ids = (config.image_token_index, config.video_token_index)
            processor.visual_tokens()  # refuses files of different models now, and not in the first call
        return processor

    def _change(self, settings: Mapping[str, Any]) -> None:
        """Give the tokenizer and the parts what ``from_pretrained`` was given for them."""
        for_parts = {name: value for name, value in settings.items() if name not in (*TOKENIZER_SETTINGS, "use_fast")}
        MediaReading(processor=self, options=for_parts).check()
        for name, value in settings.items():
            if name in TOKENIZER_SETTINGS:
                setattr(self.tokenizer, name, value)
            for part in (self.image_processor, self.video_processor):
                if name == "use_fast" or part.knows(name):
                    part.configure({name: value})

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
        written = text_options(options, text_kwargs or {})
        reading = MediaReading(
            processor=self, options=options, for_images=images_kwargs or {}, for_videos=videos_kwargs or {}
        )
        form = OutputForm(processor=self, kind=tensor_type(return_tensors), order=order, padded=reading.padded)
        texts = None if text is None else listed_texts(text)
        media = reading.read(images, videos)
        if texts is None:
            return form.finish(BatchInputs(), media)
        add_bos = bool(written.pop("add_special_tokens", True))
        per_prompt = counts_by_prompt(images, videos, len(texts))
        return form.batch(self._text().rows(texts, media, add_special_tokens=add_bos, per_prompt=per_prompt), written)

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
        options |= dict(options.pop("processor_kwargs", {})) | ({} if video_fps is None else {"fps": video_fps})
        written = text_options(options, {})
        reading = MediaReading(processor=self, options=options)
        reading.check()
        if not tokenize:
            texts = [template.render(messages, add_generation_prompt).text for messages in each]
            return texts if several else texts[0]
        text, rows = self._text(), []
        for messages, found in zip(each, reading.read_conversations(each), strict=True):
            told = with_notes(normalise_messages(messages)[0], [medium.note for medium in found])
            prompt = template.render(told, add_generation_prompt)
            rows.append(text.expand(encode_prompt(self.tokenizer, prompt), found))
        kind, order = tensor_type(return_tensors), channel_format(data_format)
        inputs = OutputForm(processor=self, kind=kind, order=order, padded=reading.padded).batch(rows, written)
        return inputs if return_dict else inputs["input_ids"]

    def decode(self, token_ids: Any, *options: Any, **named: Any) -> Any:
        """Text of ids, as the tokenizer's ``decode``."""
        return self.tokenizer.decode(token_ids, *options, **named)

    def batch_decode(self, sequences: Any, *options: Any, **named: Any) -> list[str]:
        """Texts of several rows of ids, as the tokenizer's ``batch_decode``."""
        return list(self.tokenizer.batch_decode(sequences, *options, **named))

    @property
    def image_token_id(self) -> int | None:
        """What stands for pictures in the ids."""
        return self._text().image_token_id

    @property
    def video_token_id(self) -> int | None:
        """What stands for videos in the ids."""
        return self._text().video_token_id

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
