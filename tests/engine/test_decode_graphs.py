"""Steps replayed from what was captured: on a CPU by a stand-in that records operators, the same ids all the same."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from videolm.engine import decode_graphs
from videolm.engine.config import EngineConfig
from videolm.engine.decode_graphs import Capture, CudaCapture, capture_for
from videolm.engine.engine import Engine
from videolm.engine.paged_cache import PagedCache
from videolm.engine.request import Request
from videolm.engine.runner import ModelRunner
from videolm.errors import ArgumentError
from videolm.generation.params import SamplingParams
from videolm.models.video_lm import VideoLM
from videolm.processing.processor import Processor

from ..models.tiny import prompt
from .recording import RecordingCapture
from .test_equality import Draw, alone, model_of, run
from .tiny_families import CONFIGS, tiny_model_of

CONFIG = EngineConfig(num_blocks=64, block_size=4)


def engine_of(model: VideoLM, processor: Processor, config: EngineConfig, capture: Capture) -> Engine:
    engine = Engine(model, processor, config)
    engine._runner = ModelRunner(model, config, capture=capture)
    return engine


def requests(*lengths: int) -> list[Request]:
    """Prompts of different length, answered with so many tokens each."""
    return [
        Request(id=str(index), inputs=prompt([1 + index] * (1 + index)), params=SamplingParams(max_new_tokens=length))
        for index, length in enumerate(lengths)
    ]


def check(engine: Engine, asked: list[Request]) -> None:
    for request, output in zip(asked, engine.generate(asked), strict=True):
        assert request.inputs is not None
        assert output.error is None
        assert list(output.output_ids) == alone(engine.model, request.inputs, request.params)[0]


@pytest.mark.parametrize("seed", range(4, 7))
@pytest.mark.parametrize("name", CONFIGS)
def test_ids_are_those_of_the_simple_loop(name: str, seed: int, processor: Processor) -> None:
    model, source, capture = model_of(name), random.Random(f"{name} {seed}"), RecordingCapture()
    draw = Draw(source, model)
    asked = [draw.request(str(index)) for index in range(8)]
    engine = engine_of(model, processor, draw.config(asked), capture)
    done = run(engine, source, asked)
    for request in asked:
        assert request.inputs is not None
        output = done[request.id]
        assert output.error is None
        ids, reason = alone(model, request.inputs, request.params)
        if output.finish_reason == "abort":
            assert list(output.output_ids) == ids[: len(output.output_ids)]
        else:
            assert (list(output.output_ids), output.finish_reason) == (ids, reason)
    assert 0 < capture.num_captures <= capture.num_replays


def test_each_size_is_captured_once(processor: Processor) -> None:
    capture = RecordingCapture()
    # The first step reads all prompts; then five run, two and one.
    engine = engine_of(model_of("llava_next_video"), processor, CONFIG, capture)
    check(engine, requests(3, 3, 3, 6, 24))
    assert (capture.num_captures, capture.num_replays) == (3, 23)
    check(engine, requests(3, 3, 3, 6, 24))
    # Prompts that were read before take one token each in the first step too.
    assert capture.num_captures == 3


def test_sequences_that_grow_go_on_in_a_larger_size(processor: Processor) -> None:
    capture = RecordingCapture()
    engine = engine_of(model_of("llava_next_video"), processor, CONFIG, capture)
    check(engine, requests(60))
    assert (capture.num_captures, capture.num_replays) == (2, 60)


def test_the_least_recently_used_graph_is_forgotten(processor: Processor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_graphs, "_MOST_GRAPHS", 2)
    capture = RecordingCapture()
    engine = engine_of(model_of("llava_next_video"), processor, replace(CONFIG, reuses_prefixes=False), capture)
    check(engine, requests(3, 3, 3, 6, 9))  # four, two and one at a time
    check(engine, requests(3, 6))  # two and one
    assert capture.num_captures == 3
    check(engine, requests(3, 3, 3))
    assert capture.num_captures == 4


def test_what_cannot_be_captured_is_told_once_and_computed_without(
    processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, capture = tiny_model_of("llava_next_video"), RecordingCapture()
    logits = model.logits

    def waits(hidden: Tensor) -> Tensor:
        assert float(hidden.sum()) < 1e9
        return logits(hidden)

    monkeypatch.setattr(model, "logits", waits)
    engine = engine_of(model, processor, CONFIG, capture)
    with pytest.warns(RuntimeWarning) as told:
        check(engine, requests(4, 5, 6))
    assert [str(warning.message) for warning in told] == [
        "Decoding cannot be captured as CUDA graphs (RuntimeError: aten.item.default cannot be "
        "captured): it goes on without. Set cuda_graphs=False to try it no more."
    ]
    with warnings.catch_warnings(action="error"):
        check(engine, requests(7))
    assert (capture.num_captures, capture.num_replays) == (1, 0)


def test_an_attention_kernel_that_fails_is_told_of_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu: Any = SimpleNamespace(device=torch.device("cuda"), model=model_of("llava_next_video").model)
    storage = PagedCache(1, 4, 2, 8, dtype=torch.float32, device=torch.device("cpu"))
    graphs = decode_graphs.DecodeGraphs(on_gpu, storage, RecordingCapture(), block_size=1, num_slots=2)
    monkeypatch.setattr(decode_graphs, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "videolm.engine.paged_kernel", None)
    with pytest.warns(RuntimeWarning) as told:
        assert not graphs._uses_kernel
    assert [str(warning.message) for warning in told] == [
        "Triton's attention cannot be used (ModuleNotFoundError: import of videolm.engine.paged_kernel halted; None in "
        "sys.modules): it goes on without. Uninstall triton to try it no more."
    ]
    assert not graphs._uses_kernel


def test_a_cache_in_whole_numbers_is_computed_without(processor: Processor) -> None:
    capture = RecordingCapture()
    config = replace(CONFIG, cache_dtype="int8")
    engine = engine_of(model_of("llava_next_video"), processor, config, capture)
    plain = Engine(engine.model, processor, config)
    found = [[output.output_ids for output in each.generate(requests(4, 5))] for each in (engine, plain)]
    assert found[0] == found[1]
    assert capture.num_captures == 0


def test_nothing_is_captured_on_a_cpu() -> None:
    cpu = torch.device("cpu")
    assert capture_for(EngineConfig(), cpu) is None
    assert capture_for(EngineConfig(cuda_graphs=False), cpu) is None
    with pytest.raises(ArgumentError) as caught:
        capture_for(EngineConfig(cuda_graphs=True), cpu)
    assert str(caught.value) == (
        "cuda_graphs is True but the model is on cpu: expected a CUDA device. Move the model to one, or leave "
        "cuda_graphs out."
    )


def test_settings_decide_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(decode_graphs, "CudaCapture", lambda device: made.append(device) or "capture")
    gpu = torch.device("cuda:0")
    found: list[Callable[..., Any] | None] = [
        capture_for(EngineConfig(cuda_graphs=wanted, cache_dtype=dtype), gpu)
        for wanted, dtype in ((None, "auto"), (True, "float32"), (False, "auto"), (None, "int8"))
    ]
    assert found == ["capture", "capture", None, None]
    assert made == [gpu, gpu]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("name", CONFIGS)
def test_ids_on_a_gpu_are_those_of_the_simple_loop_there(name: str, processor: Processor) -> None:
    model, source = tiny_model_of(name).to("cuda"), random.Random(name)
    draw = Draw(source, model)
    asked = [draw.request(str(index)) for index in range(8)]
    config = draw.config(asked)
    engine = Engine(model, processor, config)
    captures: list[int] = []

    class Counted(CudaCapture):
        def __call__(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
            captures.append(1)
            return super().__call__(compute)

    engine._runner = ModelRunner(model, config, capture=Counted(model.device))
    done = run(engine, source, asked)
    assert captures
    for request in asked:
        assert request.inputs is not None
        ids = alone(model, request.inputs, request.params)[0]
        assert list(done[request.id].output_ids) == ids[: len(done[request.id].output_ids)]
