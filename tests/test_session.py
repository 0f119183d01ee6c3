"""A session on a tiny random model: ids, streams, turns, options, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from videolm.contracts import Answer, Answerer, AnswerStream, Frames, MediaReport, ModelInputs, PackedBatch, Usage
from videolm.conversation import Conversation
from videolm.errors import (
    ArgumentError,
    DeviceError,
    GenerationError,
    MediaNotFoundError,
    ModelNotFoundError,
    ProcessingError,
    VideoLMError,
)
from videolm.families import auto
from videolm.media.sampling import FrameSampling
from videolm.session import BUNDLED_NAME, Session, load, load_reader

VOCABULARY = 300
CONTEXT = 400
CONFIG = {
    "model_type": "llava_next_video",
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 28,
        "patch_size": 7,
    },
    "text_config": {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.3,
    },
    "image_token_index": VOCABULARY + 1,
    "video_token_index": VOCABULARY,
    "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]],
}
PIXELS = {"do_center_crop": False, "size": {"height": 28, "width": 28}}
TOKENS_PER_FRAME = 4
SETTINGS = {"max_new_tokens": 24}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_tokenizer: Callable[[Path], None]) -> Path:
    parts = tmp_path_factory.mktemp("parts")
    (parts / "config.json").write_text(json.dumps(CONFIG))
    (parts / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    (parts / "video_preprocessor_config.json").write_text(json.dumps({**PIXELS, "num_frames": 4}))
    write_tokenizer(parts)
    whole = tmp_path_factory.mktemp("models") / "tiny"
    auto.save_model(auto.new_model(CONFIG, seed=1), auto.load_processor(parts), whole)
    return whole


@pytest.fixture(scope="module")
def session(folder: Path) -> Session:
    return load(folder, device="cpu")


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 30, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 70, 3), dtype=np.uint8))


@pytest.fixture
def fresh(folder: Path) -> Session:
    """A session whose engine knows nothing yet."""
    return load(folder, device="cpu")


@pytest.fixture
def vision_calls(fresh: Session, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tiles or frames each call of the fresh session's vision tower got."""
    calls: list[int] = []
    forward = fresh.model.model.vision_tower.forward

    def counted(pixels: torch.Tensor, *args: Any) -> Any:
        calls.append(len(pixels))
        return forward(pixels, *args)

    monkeypatch.setattr(fresh.model.model.vision_tower, "forward", counted)
    return calls


@torch.inference_mode()
def argmax_loop(session: Session, inputs: ModelInputs, num_tokens: int) -> tuple[int, ...]:
    """Greedy ids without any cache: the whole sequence again for every token."""
    ids = list(inputs.input_ids)
    positions = [
        start + offset
        for start, medium in zip(inputs.media_starts, inputs.media, strict=True)
        for offset in range(medium.num_tokens)
    ]
    for _ in range(num_tokens):
        batch = PackedBatch(
            input_ids=torch.tensor(ids),
            position_ids=torch.arange(len(ids)),
            sequence_lengths=(len(ids),),
            visual_positions=torch.tensor(positions, dtype=torch.int64),
            media=inputs.media,
        )
        ids.append(int(session.model.forward_packed(batch)[-1].argmax()))
    return tuple(ids[len(inputs.input_ids) :])


def collect(stream: AnswerStream) -> tuple[list[str], Answer]:
    return list(stream), stream.answer


# --- answers ---


def test_a_session_is_an_answerer(session: Session) -> None:
    answerer: Answerer = session
    assert answerer.name == session.name


def test_greedy_ids_are_those_of_a_loop_without_cache(session: Session, clip: np.ndarray, picture: Image.Image) -> None:
    answer = session.ask([picture, clip], "What is this?", **SETTINGS)
    medias = [frames for frames, _ in session.inspect([picture, clip])]
    content = [{"type": "image"}, {"type": "video"}, {"type": "text", "text": "What is this?"}]
    inputs = session.processor.prepare([{"role": "user", "content": content}], medias)
    assert len(answer.output_ids) == SETTINGS["max_new_tokens"]
    assert answer.output_ids == argmax_loop(session, inputs, SETTINGS["max_new_tokens"])
    assert answer.usage.prompt_tokens == len(inputs.input_ids)


def test_a_session_shows_how_it_samples(session: Session) -> None:
    assert session.sampling == FrameSampling(rule="linspace", num_frames=4)


def test_a_reader_sees_the_same_without_any_weights(
    folder: Path, session: Session, clip: np.ndarray, picture: Image.Image, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "tiny", ignore=shutil.ignore_patterns("*.safetensors")))
    found = load_reader(copy).inspect([clip, picture], {"frames": 3})
    for (frames, visual), (expected_frames, expected) in zip(
        found, session.inspect([clip, picture], frames=3), strict=True
    ):
        assert frames.frame_indices == expected_frames.frame_indices
        assert visual.num_tokens == expected.num_tokens
        torch.testing.assert_close(visual.pixel_values, expected.pixel_values, rtol=0, atol=0)


def test_an_answer_reports_what_it_saw_and_took(folder: Path, session: Session, clip: np.ndarray) -> None:
    answer = session.ask(clip, "What is this?", frames=3, **SETTINGS)
    assert answer.finish_reason == "length"
    assert answer.model == str(folder)
    assert answer.media == (
        MediaReport(
            source="array",
            kind="video",
            frame_indices=(0, 2, 5),
            frame_times_s=answer.media[0].frame_times_s,
            visual_tokens=3 * TOKENS_PER_FRAME,
        ),
    )
    assert replace(answer.usage, cached_tokens=0) == Usage(
        prompt_tokens=answer.usage.prompt_tokens, visual_tokens=3 * TOKENS_PER_FRAME, completion_tokens=24
    )
    assert answer.warnings == ()
    assert list(answer.timings_s) == ["load", "decode", "preprocess", "vision", "first_token", "total"]
    stages = sum(answer.timings_s[stage] for stage in ("decode", "preprocess", "vision"))
    assert 0 < stages < answer.timings_s["first_token"] < answer.timings_s["total"]
    assert answer.timings_s["load"] == session.load_s > 0
    assert answer.tokens_per_s > 0


def test_the_stream_is_the_answers_text(session: Session, clip: np.ndarray) -> None:
    pieces, answer = collect(session.stream(clip, "What is this?", **SETTINGS))
    asked = session.ask(clip, "What is this?", **SETTINGS)
    assert len(pieces) > 1
    assert "".join(pieces) == answer.text == asked.text
    assert answer.output_ids == asked.output_ids
    whole = session.processor.tokenizer.decode(answer.output_ids).strip()
    assert whole.startswith(answer.text)  # but for a character that the limit cut in half
    assert len(whole) - len(answer.text) <= 3


def test_an_unfinished_stream_has_no_answer(session: Session, clip: np.ndarray) -> None:
    stream = session.stream(clip, "What is this?", **SETTINGS)
    next(iter(stream))
    with pytest.raises(GenerationError, match="The answer is not finished"):
        _ = stream.answer
    assert "".join(stream) in session.ask(clip, "What is this?", **SETTINGS).text
    assert stream.answer.output_ids == session.ask(clip, "What is this?", **SETTINGS).output_ids


def test_seeds_repeat_a_draw_whatever_was_drawn_before(session: Session, clip: np.ndarray) -> None:
    def draw(seed: int | None) -> tuple[int, ...]:
        options = {"temperature": 1.5, "top_p": 0.95, "seed": seed}
        return session.ask(clip, "What is this?", **SETTINGS, **options).output_ids

    first = draw(7)
    assert draw(8) != first
    assert draw(None) != draw(None)
    assert draw(7) == first


def test_the_end_token_ends_an_answer(session: Session, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    end = session.processor.tokenizer.eos_token_id
    assert end is not None
    before = session.ask(clip, "What is this?", **SETTINGS)
    prompt_len, logits = before.usage.prompt_tokens, session.model.logits
    seen = [0]

    def ending(hidden: torch.Tensor) -> torch.Tensor:
        seen[0] += 1
        scores = logits(hidden)
        return scores.index_fill(-1, torch.tensor([end]), 1e9) if seen[0] == 3 else scores

    monkeypatch.setattr(session.model, "logits", ending)
    answer = session.ask(clip, "What is this?", **SETTINGS)
    assert answer.finish_reason == "stop"
    assert answer.output_ids == (*before.output_ids[:2], end)
    assert before.text.startswith(answer.text)
    assert answer.usage == Usage(
        prompt_tokens=prompt_len,
        visual_tokens=4 * TOKENS_PER_FRAME,
        completion_tokens=3,
        cached_tokens=prompt_len - 1,  # The same was asked before; the last token's logits are needed in any case.
    )


def test_a_stop_string_ends_an_answer_before_it(session: Session, clip: np.ndarray) -> None:
    text = session.ask(clip, "What is this?", **SETTINGS).text
    stop = text[len(text) // 2 :][:2]
    answer = session.ask(clip, "What is this?", stop=stop, **SETTINGS)
    assert answer.text == text.partition(stop)[0].strip()
    assert answer.finish_reason == "stop"
    assert answer.usage.completion_tokens < SETTINGS["max_new_tokens"]


def test_a_system_prompt_stands_first(session: Session, clip: np.ndarray) -> None:
    plain = session.ask(clip, "What is this?", **SETTINGS)
    told = session.ask(clip, "What is this?", system="Be brief.", **SETTINGS)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "video", "video": clip}, {"type": "text", "text": "What is this?"}]},
    ]
    assert told.output_ids == session.chat(messages, **SETTINGS).output_ids
    assert told.output_ids != plain.output_ids


def test_the_answer_does_not_depend_on_the_company_of_other_answers(session: Session, clip: np.ndarray) -> None:
    alone = session.ask(clip, "What is this?", **SETTINGS)
    others = [session.stream(clip[::-1].copy(), question, **SETTINGS) for question in ("Why?", "Who is there?")]
    running: list[Iterator[str]] = [iter(stream) for stream in others]
    pieces: list[str] = []
    for piece in session.stream(clip, "What is this?", **SETTINGS):
        pieces.append(piece)
        for other in running:
            next(other, None)
    assert "".join(pieces) == alone.text


# --- media ---


def test_files_pictures_and_lists_are_told_apart(
    session: Session, clip: np.ndarray, picture: Image.Image, tmp_path: Path
) -> None:
    file = tmp_path / "picture.png"
    picture.save(file)
    frames = [Image.fromarray(frame) for frame in clip]
    assert [seen.kind for seen, _ in session.inspect(str(file))] == ["image"]
    assert [seen.kind for seen, _ in session.inspect([file, clip])] == ["image", "video"]
    assert [seen.kind for seen, _ in session.inspect([picture])] == ["image"]
    (as_list,) = session.inspect(frames)
    (as_array,) = session.inspect(clip)
    assert as_list[0].kind == "video"
    torch.testing.assert_close(as_list[1].pixel_values, as_array[1].pixel_values, rtol=0, atol=0)


def test_inspect_gives_what_the_model_sees(session: Session, clip: np.ndarray, picture: Image.Image) -> None:
    (video, image) = session.inspect([clip, picture], frames=3)
    assert video[0].frame_indices == (0, 2, 5)
    assert all(frame.shape == (28, 28, 3) for frame in video[0].pixels)
    assert video[1].pixel_values.shape == (3, 3, 28, 28)
    assert image[0].size == (40, 70)
    assert image[1].num_tokens == session.processor.tokens.image.count(40, 70)


def test_frames_that_are_read_already_are_taken_as_they_are(session: Session, clip: np.ndarray) -> None:
    frames = Frames(kind="video", pixels=tuple(clip[:2]), source="two", size=(30, 40), num_source_frames=2)
    assert session.ask(frames, "What?", **SETTINGS).usage.visual_tokens == 2 * TOKENS_PER_FRAME


def test_fewer_frames_than_asked_for_are_a_warning(session: Session, clip: np.ndarray) -> None:
    answer = session.ask(clip, "What is this?", frames=9, **SETTINGS)
    assert answer.media[0].frame_indices == (0, 1, 2, 3, 4, 5)
    assert answer.warnings == ("array has 6 frames, fewer than the 9 asked for; all of them are used.",)


def test_special_tokens_in_a_question_stay_text(session: Session, clip: np.ndarray) -> None:
    answer = session.ask(clip, "Is <video> or </s> a tag?", **SETTINGS)
    assert answer.usage.visual_tokens == 4 * TOKENS_PER_FRAME
    assert answer.warnings == ("The text spells <video>, </s>: read as text, not as a special token.",)


def test_drawing_options_without_drawing_are_a_warning(session: Session, clip: np.ndarray) -> None:
    answer = session.ask(clip, "What is this?", top_p=0.9, **SETTINGS)
    assert answer.warnings == (
        "top_p 0.9: without effect at temperature 0, where the likeliest token is always taken.",
    )


def test_frames_a_second_beyond_the_context_are_spread_evenly(session: Session) -> None:
    long_clip = np.zeros((200, 28, 28, 3), dtype=np.uint8)
    frames = Frames(kind="video", pixels=tuple(long_clip), source="long", size=(28, 28), num_source_frames=200, fps=10)
    assert session.inspect(frames, fps=10)[0][0].warnings == ()  # as they are: nothing was left out
    most = CONTEXT * 3 // 4 // TOKENS_PER_FRAME
    (inspected,) = session.inspect(long_clip, fps=25)
    assert len(inspected[0].frame_indices) == most
    assert inspected[0].warnings == (f"array has 200 frames at 25 a second; {most} spread evenly are used.",)
    assert session.inspect(long_clip, fps=25, frames=5)[0][0].frame_indices == (0, 49, 99, 149, 199)


# --- chat and conversation ---


def test_chat_answers_the_last_of_several_messages(session: Session, clip: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    Image.fromarray(clip[0]).save(file)
    messages = [
        {"role": "user", "content": [{"type": "video", "video": clip}, {"type": "text", "text": "What is this?"}]},
        {"role": "assistant", "content": "a red circle"},
        {"role": "user", "content": [{"type": "image", "path": str(file)}, {"type": "text", "text": "And this?"}]},
    ]
    answer = session.chat(messages, **SETTINGS)
    assert [(medium.kind, medium.source) for medium in answer.media] == [("video", "array"), ("image", str(file))]
    frames = [frames for frames, _ in session.inspect([clip, str(file)])]
    inputs = session.processor.prepare(messages, frames)
    assert answer.output_ids == argmax_loop(session, inputs, SETTINGS["max_new_tokens"])


def test_chat_works_without_media(session: Session) -> None:
    answer = session.chat([{"role": "user", "content": "Hello?"}], **SETTINGS)
    assert (answer.media, answer.usage.visual_tokens) == ((), 0)
    assert answer.timings_s["decode"] == 0


def test_later_turns_equal_a_fresh_prompt_and_encode_nothing_again(
    fresh: Session, session: Session, clip: np.ndarray, picture: Image.Image, vision_calls: list[int]
) -> None:
    conversation = fresh.conversation([clip, picture], **SETTINGS)
    content: list[dict[str, Any]] = [{"type": "video", "video": clip}, {"type": "image", "image": picture}]
    messages: list[dict[str, Any]] = []
    for question in ("What is this?", "Why is it red?", "Are you sure?"):
        computed = sum(vision_calls)
        answer = conversation.ask(question)
        assert (sum(vision_calls) > computed) == (question == "What is this?")
        messages.append({"role": "user", "content": [*content, {"type": "text", "text": question}]})
        whole = session.chat(messages, **SETTINGS)
        assert answer.output_ids == whole.output_ids
        assert answer.text == whole.text
        assert answer.media == whole.media
        messages.append({"role": "assistant", "content": answer.text})
        content = []
    assert conversation.turns[1] == ("Why is it red?", messages[3]["content"])


def test_a_later_turn_computes_only_what_is_new(
    fresh: Session, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    decode = fresh.model.decode

    def counted(inputs_embeds: torch.Tensor, **arguments: Any) -> torch.Tensor:
        lengths.append(inputs_embeds.shape[1])
        return decode(inputs_embeds, **arguments)

    monkeypatch.setattr(fresh.model, "decode", counted)
    conversation = fresh.conversation(clip, max_new_tokens=4)
    first = conversation.ask("What is this?")
    assert lengths == [first.usage.prompt_tokens, 1, 1, 1]
    assert first.usage.cached_tokens == 0
    lengths.clear()
    second = conversation.ask("Why?")
    assert lengths[0] < second.usage.prompt_tokens - first.usage.prompt_tokens + 8
    assert second.usage.cached_tokens == second.usage.prompt_tokens - lengths[0]
    assert second.timings_s["decode"] == second.timings_s["vision"] == 0
    assert second.timings_s["total"] < 60


def test_turns_may_set_generation_options_and_nothing_else(session: Session, clip: np.ndarray) -> None:
    conversation = session.conversation(clip, max_new_tokens=3)
    assert conversation.ask("What is this?").usage.completion_tokens == 3
    assert conversation.ask("What is this?", max_new_tokens=5).usage.completion_tokens == 5
    with pytest.raises(ArgumentError, match="The option frames cannot change here"):
        conversation.ask("What is this?", frames=3)


def test_a_turn_left_unfinished_leaves_no_trace(session: Session, clip: np.ndarray) -> None:
    conversation = session.conversation(clip, **SETTINGS)
    abandoned = conversation.stream("What is this?")
    next(iter(abandoned))
    answer = conversation.ask("Why?")
    assert answer.output_ids == session.ask(clip, "Why?", **SETTINGS).output_ids
    assert list(abandoned) == []
    assert [question for question, _ in conversation.turns] == ["Why?"]


def test_a_conversation_says_its_warnings_once(session: Session, clip: np.ndarray) -> None:
    conversation = session.conversation(clip, frames=9, top_k=3, **SETTINGS)
    assert len(conversation.warnings) == 2
    assert conversation.ask("What is this?").warnings == ()
    assert conversation.ask("Why?", top_p=0.5).warnings[0].startswith("top_k 3, top_p 0.5: without effect")


def test_what_a_question_spells_is_told_with_its_answer_alone(session: Session, clip: np.ndarray) -> None:
    conversation = session.conversation(clip, **SETTINGS)
    first, second = conversation.ask("What is </s> here?"), conversation.ask("And now?")
    assert first.warnings == ("The text spells </s>: read as text, not as a special token.",)
    assert second.warnings == ()


def test_an_answer_without_text_is_no_turn(session: Session, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = session.conversation(clip, **SETTINGS)
    end = session.processor.tokenizer.eos_token_id
    with monkeypatch.context() as patch:
        logits = session.model.logits
        patch.setattr(session.model, "logits", lambda hidden: logits(hidden).index_fill(-1, torch.tensor([end]), 1e9))
        empty = conversation.ask("What is this?")
    assert (empty.text, empty.finish_reason, empty.output_ids, empty.tokens_per_s) == ("", "stop", (end,), 0.0)
    assert conversation.turns == []
    assert conversation.ask("Why?").output_ids == session.ask(clip, "Why?", **SETTINGS).output_ids


# --- what is refused ---


@pytest.mark.parametrize(
    ("media", "question", "options", "message"),
    [
        ("clip", "", {}, "The question is empty: expected some text."),
        ("clip", "  \n", {}, "The question is empty: expected some text."),
        ("clip", None, {}, "The question is of type NoneType: expected some text."),
        ("empty", "What?", {}, "No media were given: expected at least one video or picture."),
        ("none", "What?", {}, "No media were given: expected at least one video or picture."),
        ("clip", "What?", {"frames": 0}, "frames is 0: expected a whole number of at least 1."),
        ("clip", "What?", {"max_new_tokens": -3}, "max_new_tokens is -3: expected a whole number of at least 1."),
        ("clip", "What?", {"temperature": -1}, "temperature is -1: expected a number of at least 0."),
        ("clip", "What?", {"fps": -1}, "fps is -1: expected a number above 0."),
        ("clip", "What?", {"tempreature": 1}, "There is no option 'tempreature': did you mean temperature?"),
    ],
)
def test_wrong_questions_and_options_are_refused(
    session: Session, clip: np.ndarray, media: str, question: Any, options: dict[str, Any], message: str
) -> None:
    for call in (session.ask, session.stream):
        with pytest.raises(ArgumentError) as caught:
            call({"clip": clip, "empty": [], "none": None}[media], question, **options)
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(session: Session, tmp_path: Path) -> None:
    with pytest.raises(MediaNotFoundError, match=r"clip\.mp4"):
        session.ask(tmp_path / "clip.mp4", "What is this?")


def test_a_prompt_beyond_the_context_names_both_numbers_before_anything_is_encoded(
    fresh: Session, clip: np.ndarray, vision_calls: list[int]
) -> None:
    with pytest.raises(ProcessingError, match=rf"The prompt has \d+ tokens, 16 of them visual, .* holds {CONTEXT}:"):
        fresh.ask(clip, "what is this? " * 200)
    assert vision_calls == []


def test_an_answer_ends_with_the_context(session: Session, clip: np.ndarray) -> None:
    words = "x" * 200
    answer = session.ask(clip, words, max_new_tokens=5000, stop=["no such text"])
    assert answer.finish_reason == "length"
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens == CONTEXT


def test_media_without_a_source_are_refused(session: Session) -> None:
    content = [{"type": "video"}, {"type": "text", "text": "What?"}]
    with pytest.raises(ProcessingError, match="Medium 1 of the messages is a video without a source"):
        session.chat([{"role": "user", "content": content}])


def test_a_conversation_without_a_last_question_is_refused(session: Session) -> None:
    messages = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "That."}]
    with pytest.raises(
        ProcessingError, match=r"role assistant: expected one of the user, which is answered\. Add a que"
    ):
        session.chat(messages)


def test_two_system_prompts_are_refused(session: Session) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
    with pytest.raises(ArgumentError, match="There are two system prompts"):
        session.chat(messages, system="Be long.")


def test_inspect_takes_media_options_alone(session: Session, clip: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="The option temperature cannot change here"):
        session.inspect(clip, temperature=1.0)


# --- loading ---


@pytest.mark.parametrize(
    ("options", "error"),
    [({"device": "cuda:99"}, DeviceError), ({"dtype": "float7"}, DeviceError)],
)
def test_wrong_devices_and_dtypes_are_refused_before_the_model_is_read(
    tmp_path: Path, options: dict[str, str], error: type[VideoLMError]
) -> None:
    with pytest.raises(error):
        load(tmp_path / "nothing", **options)


def test_a_model_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="nothing does not exist"):
        load(tmp_path / "nothing")


def test_a_small_model_is_exact_on_a_cpu_and_takes_a_dtype_that_is_named(folder: Path) -> None:
    assert load(folder, device="cpu").model.dtype == torch.float32
    assert load(folder, device="cpu", dtype="bfloat16").model.dtype == torch.bfloat16


def test_loading_reports_its_progress(folder: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    load(folder, device="cpu", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]


def test_a_missing_bundled_model_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("videolm.session.files", lambda package: tmp_path)
    with pytest.raises(ModelNotFoundError, match="The bundled model is missing"):
        load()
    with pytest.raises(ModelNotFoundError, match="The bundled model is missing"):
        load(BUNDLED_NAME)


def test_the_bundled_model_has_its_name(monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "weights").symlink_to(folder, target_is_directory=True)
    monkeypatch.setattr("videolm.session.files", lambda package: tmp_path)
    session = load(device="cpu")
    assert (session.name, session.model.dtype) == (BUNDLED_NAME, torch.float32)
    assert isinstance(session.conversation(np.zeros((2, 8, 8, 3), dtype=np.uint8)), Conversation)
