"""Messages or prompts, and media that are prepared, to token ids with a placeholder for every visual token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from videolm.contracts import MediaKind, Message, ModelInputs, VisualInput
from videolm.errors import ArgumentError, CheckpointError, ProcessingError
from videolm.processing.chat import ChatTemplate, MediaPart, normalise_messages
from videolm.processing.prompt import IGNORED, encode_for_learning, encode_prompt
from videolm.processing.time_instruction import with_notes, with_notes_after
from videolm.processing.tokenizer import Tokenizer

_KINDS: tuple[MediaKind, ...] = ("image", "video")

__all__ = ["TextProcessor"]


@dataclass(frozen=True, kw_only=True)
class TextProcessor:
    """The part of a processor that knows nothing of pixels."""

    tokenizer: Tokenizer
    chat_template: ChatTemplate
    image_token: str = "<image>"
    video_token: str = "<video>"
    image_token_id: int
    """What the model expects in place of a picture; the tokenizer's own id for ``image_token`` may differ."""
    video_token_id: int

    def __post_init__(self) -> None:
        self.tokenizer.add_special((self.image_token, self.video_token))

    def prepare_text(
        self,
        messages: Sequence[Message],
        media: Sequence[VisualInput],
        *,
        add_generation_prompt: bool = True,
        learn: bool = False,
    ) -> ModelInputs:
        """One prompt with media that are prepared already.

        Args:
            media: In the order in which the messages mention them.
            add_generation_prompt: End with what makes the model answer; the last message must be the user's.
            learn: Add labels: the assistant's texts and their end tokens. Such a prompt ends with an answer, so
                there is no generation prompt.
        """
        normal, parts = normalise_messages(messages)
        self.check_media(parts, [medium.kind for medium in media])
        normal = with_notes(normal, [medium.note for medium in media])
        add_generation_prompt = add_generation_prompt and not learn
        if add_generation_prompt and normal[-1]["role"] != "user":
            raise ProcessingError(
                f"The last message is of the role {normal[-1]['role']}: a message of the user is expected, since it is "
                "to be answered. Add one, or pass add_generation_prompt=False."
            )
        chat = self.chat_template.render(normal, add_generation_prompt, find_answers=learn)
        if learn:
            placeholders = (self.image_token, self.video_token)
            ids, labels = encode_for_learning(self.tokenizer, chat, placeholders)
            return self.expand(ids, media, labels)
        return self.expand(encode_prompt(self.tokenizer, chat), media)

    @property
    def answer_end_id(self) -> int | None:
        """The token that the chat template ends an answer with, or the tokenizer's end token; None without either."""
        conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}]
        try:
            ids = self.prepare_text(conversation, [], learn=True).labels
        except (CheckpointError, ProcessingError):
            return None
        return next((token_id for token_id in reversed(ids or ()) if token_id != IGNORED), None)

    def special_strings_in(self, messages: Sequence[Message]) -> tuple[str, ...]:
        """Special tokens that the messages' texts spell: they are read as text, which a caller may want to say."""
        normal, _ = normalise_messages(messages)
        texts = (part.get("text", "") for message in normal for part in message["content"])
        return tuple(dict.fromkeys(token for text in texts for _, _, token in self.tokenizer.special_strings(text)))

    def rows(
        self,
        texts: Sequence[str],
        media: Sequence[VisualInput],
        *,
        add_special_tokens: bool = True,
        per_prompt: Mapping[MediaKind, Sequence[int]] | None = None,
    ) -> list[ModelInputs]:
        """Prompts that hold their own placeholders, each with its media; media of one kind keep their order.

        Args:
            per_prompt: How many media of a kind belong to each prompt, where that is known.
        """
        if not texts:
            raise ArgumentError("The list of prompts is empty: at least one is expected. Pass text='...'.")
        kinds = self._placeholder_kinds()
        encoded = [self.tokenizer.encode_text(text, add_bos=add_special_tokens) for text in texts]
        wanted = [[kinds[i] for i in ids if i in kinds] for ids in encoded]
        prompts = "The prompt holds" if len(texts) == 1 else f"The {len(texts)} prompts hold"
        self._check_counts([kind for row in wanted for kind in row], [medium.kind for medium in media], prompts)
        for kind, counts in (per_prompt or {}).items():
            self._check_prompts(kind, [row.count(kind) for row in wanted], counts)
        waiting = {kind: iter([medium for medium in media if medium.kind == kind]) for kind in kinds.values()}
        rows = []
        for text, ids, row in zip(texts, encoded, wanted, strict=True):
            taken = [next(waiting[kind]) for kind in row]
            if any(medium.note for medium in taken):
                told = with_notes_after(text, [medium.note for medium in taken], (self.image_token, self.video_token))
                ids = self.tokenizer.encode_text(told, add_bos=add_special_tokens)
            rows.append(self.expand(ids, taken))
        return rows

    def check_media(self, parts: Sequence[MediaPart], kinds: Sequence[MediaKind]) -> None:
        """The media that came must be those that the messages mention."""
        wanted = [part.kind for part in parts]
        if wanted != list(kinds):
            raise ProcessingError(
                f"The messages mention {_count(wanted)} but {_count(kinds)} came with them: expected the same media in "
                "the same order. Give each medium one part of its type in a message of the user."
            )

    def _check_counts(
        self, written: Sequence[MediaKind], given: Sequence[MediaKind], prompts: str = "The prompt holds"
    ) -> None:
        if sorted(written) != sorted(given):
            raise ProcessingError(
                f"{prompts} placeholders for {_count(written)} but {_count(given)} came: expected one placeholder each "
                f"({self.image_token} or {self.video_token}). Give as many media as are mentioned, or use a chat "
                "template that writes a placeholder for each."
            )

    def _check_prompts(self, kind: MediaKind, written: Sequence[int], given: Sequence[int]) -> None:
        for index, (wanted, found) in enumerate(zip(written, given, strict=True)):
            if wanted != found:
                raise ProcessingError(
                    f"Prompt {index + 1} of {len(written)} holds placeholders for {_count([kind] * wanted)} but "
                    f"{_count([kind] * found)} came for it: expected as many. Give each prompt its own list of media, "
                    "or all media in one flat list in the order of the placeholders."
                )

    def _placeholder_kinds(self) -> dict[int, MediaKind]:
        """By the tokenizer's id."""
        kinds: dict[int, MediaKind] = {}
        for token, kind in zip((self.image_token, self.video_token), _KINDS, strict=True):
            token_id = self.tokenizer.token_to_id(token)
            assert token_id is not None  # added on construction
            kinds[token_id] = kind
        return kinds

    def expand(
        self, ids: Sequence[int], media: Sequence[VisualInput], labels: Sequence[int] | None = None
    ) -> ModelInputs:
        """One row: each medium's number of placeholders where one stands; media of one kind keep their order."""
        kinds = self._placeholder_kinds()
        self._check_counts([kinds[i] for i in ids if i in kinds], [medium.kind for medium in media])
        waiting = {kind: iter([medium for medium in media if medium.kind == kind]) for kind in _KINDS}
        expanded: list[int] = []
        expanded_labels: list[int] = []
        ordered: list[VisualInput] = []
        starts: list[int] = []
        for token_id, label in zip(ids, labels if labels is not None else ids, strict=True):
            if token_id not in kinds:
                expanded.append(token_id)
                expanded_labels.append(label)
                continue
            medium = next(waiting[kinds[token_id]])
            starts.append(len(expanded))
            ordered.append(medium)
            model_id = self.image_token_id if medium.kind == "image" else self.video_token_id
            expanded += [model_id] * medium.num_tokens
            expanded_labels += [IGNORED] * medium.num_tokens
        return ModelInputs(
            input_ids=tuple(expanded),
            media=tuple(ordered),
            media_starts=tuple(starts),
            labels=None if labels is None else tuple(expanded_labels),
        )


def _count(kinds: Sequence[str]) -> str:
    """For people: ``1 image and 2 videos``; ``no media``."""
    counts = [(kinds.count(kind), kind) for kind in _KINDS if kind in kinds]
    return " and ".join(f"{number} {kind}{'s' * (number > 1)}" for number, kind in counts) or "no media"
