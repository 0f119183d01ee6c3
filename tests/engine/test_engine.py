"""The engine from outside: what it answers, what it does not compute, and what a fault costs."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from videolm.contracts import Features, Usage, VisualInput
from videolm.engine.batch import StepBatch
from videolm.engine.config import EngineConfig
from videolm.engine.engine import Engine
from videolm.engine.features import FeatureMemory
from videolm.engine.request import Request, RequestOutput
from videolm.errors import (
    ArgumentError,
    CapacityError,
    EngineError,
    GenerationError,
    MediaNotFoundError,
    PlaceholderMismatchError,
    ProcessingError,
)
from videolm.families import auto
from videolm.generation.params import SamplingParams
from videolm.models.video_lm import VideoLM
from videolm.processing.processor import Processor

from ..models.tiny import prompt
from .tiny_families import tiny_model_of, video_for

CONFIG = EngineConfig(num_blocks=24, block_size=4)
EIGHT = SamplingParams(max_new_tokens=8)


@pytest.fixture
def model() -> VideoLM:
    return tiny_model_of("llava_next_video")


@pytest.fixture
def engine(model: VideoLM, processor: Processor) -> Engine:
    return Engine(model, processor, CONFIG)


def request(name: str, *parts: Any, params: SamplingParams = EIGHT, **values: Any) -> Request:
    return Request(id=name, inputs=prompt(*parts), params=params, **values)


def finish(engine: Engine) -> dict[str, RequestOutput]:
    done = {}
    while engine.has_requests:
        done.update({output.id: output for output in engine.step() if output.is_finished})
    return done


# --- answers ---


def about(source: Any, question: str = "What?") -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "video", "video": source}, {"type": "text", "text": question}]}]


def test_media_are_read_while_the_model_works_and_fail_alone(
    tiny_model_folder: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = auto.load_model(tiny_model_folder), auto.load_processor(tiny_model_folder)
    engine = Engine(model, processor, EngineConfig(num_blocks=64))
    requests = [Request(id=str(source), messages=about(source), params=EIGHT) for source in ("slow", clip, "nowhere")]
    expected = engine.generate(requests[1:2])[0].output_ids
    answered, prepare, step = threading.Event(), engine.prepare, engine.step

    def prepare_slowly(request: Request) -> Request:
        if request.id == "slow" and request.messages is not None:
            assert answered.wait(20)
            request = replace(request, messages=about(clip))
        return prepare(request)

    def tell_of_answers() -> list[RequestOutput]:
        outputs = step()
        if any(output.id == str(clip) and output.is_finished for output in outputs):
            answered.set()
        return outputs

    monkeypatch.setattr(engine, "prepare", prepare_slowly)
    monkeypatch.setattr(engine, "step", tell_of_answers)
    slow, fast, missing = engine.generate(requests)
    assert (slow.output_ids, fast.output_ids) == (expected, expected)
    assert isinstance(missing.error, MediaNotFoundError)
    assert engine.num_used_blocks == 0


def test_messages_with_media_are_answered(tiny_model_folder: Path, clip: Path) -> None:
    model, processor = auto.load_model(tiny_model_folder), auto.load_processor(tiny_model_folder)
    engine = Engine(model, processor, EngineConfig(num_blocks=64))
    content = [{"type": "video", "video": clip}, {"type": "text", "text": "What colour is the circle?"}]
    (output,) = engine.generate([Request(id="a", messages=[{"role": "user", "content": content}], params=EIGHT)])
    assert output.error is None
    # But for a character that the limit cut in half.
    assert output.text == processor.tokenizer.decode(output.output_ids).strip().removesuffix("�")
    assert output.usage.visual_tokens == processor.tokens.video.count(8)
    assert output.usage.completion_tokens == len(output.output_ids)


def test_news_come_step_by_step(engine: Engine) -> None:
    engine.add(request("a", [1, 2, 3]))
    news = []
    while engine.has_requests:
        (output,) = engine.step()
        news.append(output)
    last = news[-1]
    assert [len(output.output_ids) for output in news] == list(range(1, 9))
    assert [output.finish_reason for output in news] == [None] * 7 + ["length"]
    assert "".join(output.piece for output in news) == last.text != ""
    assert last.usage == Usage(prompt_tokens=3, visual_tokens=0, completion_tokens=8)
    assert 0 < last.timings_s["first_token"] < last.timings_s["total"]
    assert last.timings_s["vision"] == 0


def test_a_second_question_computes_and_encodes_only_what_is_new(
    model: VideoLM, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    class Counting(FeatureMemory):
        def features_for(self, media: Sequence[VisualInput], keys: Sequence[str]) -> Sequence[Features]:
            asked.append(list(keys))
            return super().features_for(media, keys)

    engine = Engine(model, processor, CONFIG, features=Counting(model, max_bytes=0))
    lengths: list[int] = []
    decode = model.decode

    def counted(embeds: Tensor, **options: Any) -> Tensor:
        lengths.append(embeds.shape[1])
        return decode(embeds, **options)

    monkeypatch.setattr(model, "decode", counted)
    video = video_for(model, 8, 0)
    one = SamplingParams(max_new_tokens=1)
    first = request("first", [1, 2], video, [3, 4, 5], params=one, media_keys=("clip",))
    second = request("second", [1, 2], video, [3, 9, 8, 7], params=one, media_keys=("clip",))
    other = request("other", [1, 2], video, [3, 9, 8, 7], params=one, media_keys=("another clip",))
    outputs = [engine.generate([each])[0] for each in (first, second, other)]
    assert lengths == [2 + video.num_tokens + 3, 3, video.num_tokens + 4]
    assert [output.usage.cached_tokens for output in outputs] == [0, 2 + video.num_tokens + 1, 2]
    assert asked == [["clip"], ["another clip"]]
    assert outputs[0].timings_s["vision"] > 0 == outputs[1].timings_s["vision"]


def test_simultaneous_questions_on_one_video_encode_and_read_it_once(model: VideoLM, processor: Processor) -> None:
    engine = Engine(model, processor, CONFIG)
    video = video_for(model, 8, 0)
    outputs = engine.generate([request(str(i), [1], video, [2 + i]) for i in range(4)])
    assert [output.usage.cached_tokens for output in outputs] == [0] + [1 + video.num_tokens] * 3


def test_drafts_save_steps_and_change_nothing(model: VideoLM, processor: Processor) -> None:
    # A model whose next token depends on the last one alone repeats itself soon.
    long = request("a", [1, 2, 3], params=SamplingParams(max_new_tokens=60))
    for layer in model.model.language_model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
    counts, ids = [], []
    for draft_len in (0, 4):
        engine = Engine(model, processor, replace(CONFIG, draft_len=draft_len, draft_ngram=1))
        engine.add(long)
        steps = 0
        while engine.has_requests:
            outputs = engine.step()
            steps += 1
        counts.append(steps)
        ids.append(outputs[0].output_ids)
    assert ids[0] == ids[1]
    assert counts[0] == 60 > 2 * counts[1]


# --- constrained answers ---


def test_a_regular_expression_can_be_forced(model: VideoLM, processor: Processor) -> None:
    """A processor that allows what begins one of the strings that ``(yes|no), [0-9]{2}`` matches."""
    language = {f"{word}, {a}{b}" for word, a, b in itertools.product(("yes", "no"), "0123456789", "0123456789")}
    beginnings = {text[:length] for text in language for length in range(len(text) + 1)}
    end = processor.tokenizer.eos_token_id
    assert end is not None
    spelled = {token: processor.tokenizer.decode([token]) for token in range(300)}

    def force(logits: Tensor, ids: Sequence[int]) -> Tensor:
        so_far = "".join(spelled[token] for token in ids)
        allowed = [token for token, text in spelled.items() if text and so_far + text in beginnings]
        index = torch.tensor([end] if so_far in language else allowed)
        return torch.full_like(logits, -torch.inf).index_copy(0, index, logits[index])

    params = SamplingParams(max_new_tokens=30, stop_token_ids=(end,), temperature=1.0, seed=4)
    engine = Engine(model, processor, CONFIG)
    forced, free = engine.generate(
        [request("forced", [1, 2, 3], params=params, logits_processors=(force,)), request("free", [1, 2, 3])]
    )
    assert re.fullmatch("(yes|no), [0-9]{2}", forced.text)
    assert forced.finish_reason == "stop"
    assert not re.fullmatch("(yes|no), [0-9]{2}", free.text)


def test_a_fault_in_a_processor_ends_its_request_alone(engine: Engine) -> None:
    def broken(logits: Tensor, ids: Sequence[int]) -> Tensor:
        raise KeyError("grammar")

    outputs = engine.generate([request("bad", [1, 2], logits_processors=(broken,)), request("good", [1, 2])])
    assert [output.finish_reason for output in outputs] == ["error", "length"]
    assert str(outputs[0].error).startswith("Request bad was part of a step that failed (KeyError: 'grammar'):")
    assert isinstance(outputs[0].error, EngineError)
    assert isinstance(outputs[0].error.__cause__, KeyError)


def test_a_panic_in_a_processor_ends_its_request_alone(engine: Engine) -> None:
    class Panic(BaseException):
        """What libraries of another language raise."""

    def broken(logits: Tensor, ids: Sequence[int]) -> Tensor:
        raise Panic

    outputs = engine.generate([request("bad", [1, 2], logits_processors=(broken,)), request("good", [1, 2])])
    assert [output.finish_reason for output in outputs] == ["error", "length"]


# --- what is refused ---


def test_what_the_cache_can_never_hold_is_refused_with_both_numbers(engine: Engine) -> None:
    params = SamplingParams(max_new_tokens=90)
    with pytest.raises(CapacityError) as caught:
        engine.add(request("a", [1] * 20, params=params))
    assert str(caught.value).startswith(
        "Request a may need 109 tokens in the cache, prompt and answer, and it holds 96:"
    )
    assert not engine.has_requests
    (output,) = engine.generate([request("a", [1] * 20, params=params)])
    assert isinstance(output.error, CapacityError)
    (output,) = engine.generate([request("a", [1] * 20, params=replace(params, max_new_tokens=77))])
    assert (output.finish_reason, output.usage.completion_tokens) == ("length", 77)


def test_a_larger_cache_holds_it(model: VideoLM, processor: Processor) -> None:
    engine = Engine(model, processor, replace(CONFIG, num_blocks=28))
    (output,) = engine.generate([request("a", [1] * 20, params=SamplingParams(max_new_tokens=90))])
    assert output.usage.completion_tokens == 90


def test_a_prompt_beyond_the_context_is_refused_and_an_answer_ends_with_it(
    processor: Processor, model: VideoLM
) -> None:
    engine = Engine(model, processor, replace(CONFIG, num_blocks=600))
    with pytest.raises(ProcessingError, match=r"The prompt has 2048 tokens, 0 of them visual, .* context holds 2048"):
        engine.add(request("a", [1] * 2048))
    (output,) = engine.generate([request("a", [1] * 2045)])
    assert (output.finish_reason, output.usage.completion_tokens) == ("length", 3)


def test_two_requests_of_the_same_name_are_refused(engine: Engine) -> None:
    engine.add(request("a", [1]))
    with pytest.raises(ArgumentError, match="A request 'a' is being answered already"):
        engine.add(request("a", [2]))
    with pytest.raises(EngineError, match="1 other requests are being answered"):
        engine.generate([request("b", [1])])
    assert finish(engine)["a"].finish_reason == "length"
    with pytest.raises(ArgumentError, match="Two requests have the same id"):
        engine.generate([request("b", [1]), request("b", [2])])


# --- faults ---


def test_an_aborted_request_frees_its_blocks_at_once(engine: Engine) -> None:
    engine.add(request("a", [1, 2, 3]))
    engine.add(request("waiting", [4, 5, 6]))
    engine.step()
    engine.step()
    assert engine.num_used_blocks > 1
    output = engine.abort("a")
    assert output is not None
    assert (output.finish_reason, len(output.output_ids), output.piece) == ("abort", 2, "")
    assert engine.abort("a") is None
    engine.abort("waiting")
    assert engine.num_used_blocks == 0
    assert not engine.has_requests
    assert engine.step() == []


def test_a_step_that_raises_ends_its_requests_and_the_engine_goes_on(
    engine: Engine, model: VideoLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = engine.generate([request("a", [1, 2, 3])])[0].output_ids
    engine.add(request("one", [1, 2, 3]))
    engine.add(request("two", [4, 5]))
    engine.step()
    with monkeypatch.context() as patch:
        patch.setattr(model, "decode", lambda *_, **__: 1 / 0)
        outputs = engine.step()
    assert sorted(output.id for output in outputs) == ["one", "two"]
    for output in outputs:
        assert output.finish_reason == "error"
        assert len(output.output_ids) == 1
        assert str(output.error) == (
            f"Request {output.id} was part of a step that failed (ZeroDivisionError: division by zero): an answer was "
            "expected. Ask again; if it fails again, report it with this message."
        )
    assert engine.num_used_blocks == 0
    assert engine.generate([request("a", [1, 2, 3])])[0].output_ids == expected


def test_a_pass_that_fails_costs_the_request_that_it_fails_for(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"a": [1, 2, 3], "bad": [1, 2, 9], "b": [4, 5]}
    expected = {name: engine.generate([request(name, ids)])[0].output_ids for name, ids in names.items()}
    run = engine._runner.run

    def spoiled(batch: StepBatch) -> Tensor:
        if 9 in batch.input_ids.tolist():
            raise RuntimeError("such a token")
        return run(batch)

    engine.add(request("a", names["a"]))
    engine.step()
    engine.add(request("bad", names["bad"]))
    engine.add(request("b", names["b"]))
    with monkeypatch.context() as patch:
        patch.setattr(engine._runner, "run", spoiled)
        outputs = {output.id: output for output in engine.step()}
    assert {name: output.finish_reason for name, output in outputs.items()} == {"a": None, "bad": "error", "b": None}
    assert str(outputs["bad"].error).startswith("Request bad was part of a step that failed (RuntimeError: such a")
    done = finish(engine)
    assert {name: done[name].output_ids for name in "ab"} == {name: expected[name] for name in "ab"}
    assert engine.num_used_blocks == 0
    assert engine.generate([request("bad", names["bad"])])[0].output_ids == expected["bad"]


def test_logits_that_are_not_numbers_end_their_request_by_name(
    engine: Engine, model: VideoLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = engine.generate([request("b", [4, 5])])[0].output_ids
    logits = model.logits

    def spoiled(hidden: Tensor) -> Tensor:
        scores = logits(hidden)
        scores[0] = torch.nan
        return scores

    engine.add(request("a", [1, 2, 3]))
    engine.add(request("b", [4, 5]))
    engine.step()
    with monkeypatch.context() as patch:
        patch.setattr(model, "logits", spoiled)
        outputs = {output.id: output for output in engine.step()}
    assert isinstance(outputs["a"].error, GenerationError)
    assert str(outputs["a"].error).startswith("Request a: The model's logits are not usable: the best one is nan")
    assert finish(engine)["b"].output_ids == expected


def test_a_bad_medium_ends_its_request_alone(engine: Engine, model: VideoLM) -> None:
    video = video_for(model, 4, 0)
    bad = replace(video, pixel_values=video.pixel_values[:2])
    outputs = engine.generate([request("bad", [1], bad, [2]), request("good", [1], video, [2])])
    assert isinstance(outputs[0].error, PlaceholderMismatchError)
    assert str(outputs[0].error).startswith("Request bad: Medium 0 ")
    assert outputs[1].finish_reason == "length"
    assert engine.num_used_blocks == 0


@pytest.mark.parametrize("place", ["copy", "run"])
def test_an_interrupted_step_is_computed_again(
    engine: Engine, model: VideoLM, processor: Processor, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    requests = [request("a", [1, 2, 3, 4, 5, 6, 7]), request("b", [1, 2, 3, 4, 5, 6, 8])]  # The second one copies.
    expected = [output.output_ids for output in Engine(model, processor, CONFIG).generate(requests)]
    engine.add(requests[0])
    engine.step()
    engine.add(requests[1])

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine._runner, place, interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.step()
    done = finish(engine)
    assert [done[each.id].output_ids for each in requests] == expected
    assert engine.num_used_blocks == 0
    assert [output.output_ids for output in engine.generate(requests)] == expected


def test_a_fault_that_no_step_dealt_with_ends_all(engine: Engine) -> None:
    requests = [request("a", [1, 2, 3, 4, 5, 6, 7]), request("b", [1, 2, 3, 4, 5, 6, 8])]
    expected = [output.output_ids for output in engine.generate(requests)]
    for each in requests:
        engine.add(each)
    engine._scheduler.schedule()  # Whose copies nobody makes.
    outputs = engine.fail(KeyError("x"))
    assert [(output.id, output.finish_reason) for output in outputs] == [("a", "error"), ("b", "error")]
    assert not engine.has_requests
    assert [output.output_ids for output in engine.generate(requests)] == expected


@pytest.mark.parametrize("most", [1, 5])
def test_short_memory_makes_steps_smaller(
    engine: Engine, model: VideoLM, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    requests = [request(str(i), [1, 2, 3 + i, 4, 5, 6, 7], params=SamplingParams(max_new_tokens=3)) for i in range(3)]
    expected = [output.output_ids for output in engine.generate(requests)]
    decode, sizes = model.decode, list[int]()

    def short(embeds: Tensor, **options: Any) -> Tensor:
        sizes.append(embeds.shape[1])
        if embeds.shape[1] > most:
            raise torch.OutOfMemoryError("out of memory")
        return decode(embeds, **options)

    monkeypatch.setattr(model, "decode", short)
    fresh = Engine(model, engine.processor, CONFIG)
    assert [output.output_ids for output in fresh.generate(requests)] == expected
    assert max(sizes) == 21
    assert fresh.num_used_blocks == 0


def test_memory_too_short_for_a_single_token_is_told(
    engine: Engine, model: VideoLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: Any, **__: Any) -> Tensor:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(model, "decode", short)
        outputs = engine.generate([request(str(i), [1, 2, 3, 4, 5 + i]) for i in range(2)])
    assert [output.finish_reason for output in outputs] == ["error", "error"]
    assert str(outputs[0].error).startswith("Request 0 needs more memory than there is, even by itself")
    assert engine.generate([request("a", [1, 2])])[0].finish_reason == "length"


def test_what_a_long_step_leaves_free_is_given_back(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[int] = []
    monkeypatch.setattr("videolm.engine.engine._MANY_TOKENS", 6)
    monkeypatch.setattr(
        "videolm.engine.engine.give_back_free_memory", lambda: given_back.append(engine.stats().num_steps)
    )
    engine.add(request("short", [1, 2, 3, 4, 5]))
    finish(engine)
    assert given_back == []
    first = engine.stats().num_steps + 1
    engine.add(request("long", [9, 2, 3, 4, 5, 6]))
    finish(engine)
    assert given_back == [first]
