"""Packed passes over a paged cache give the logits of each sequence alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from videolm.contracts import ModelInputs
from videolm.engine.batch import Row, StepBatch, media_between
from videolm.engine.config import EngineConfig
from videolm.engine.runner import ModelRunner
from videolm.engine.work import Copy
from videolm.errors import CapacityError
from videolm.models.prepacked import PrepackedLinear
from videolm.models.video_lm import VideoLM
from videolm.native.attention import FewQueries, has_attention

from ..models.tiny import CONFIG, DECODER, clip, picture, prompt, tiny_model

CPU = torch.device("cpu")
FEW_ATTEND = FewQueries.attend


def runner_of(model: VideoLM, **settings: Any) -> ModelRunner:
    return ModelRunner(model, EngineConfig(**{"num_blocks": 64, "block_size": 4, **settings}))


def row(model: VideoLM, inputs: ModelInputs, start: int, end: int, blocks: list[int], **values: Any) -> Row:
    with torch.inference_mode():
        features = dict(enumerate(model.encode_media(inputs.media)))
    return Row(inputs=inputs, ids=inputs.input_ids[start:end], start=start, blocks=blocks, features=features, **values)


def run(runner: ModelRunner, *rows: Row) -> Tensor:
    return runner.run(StepBatch.of(rows, block_size=4, device=CPU))


def last_logits(model: VideoLM, inputs: ModelInputs) -> Tensor:
    return model.prefill(inputs, model.new_cache())


def test_prompts_side_by_side_in_pieces_and_in_scattered_blocks() -> None:
    model = tiny_model()
    one, two = prompt([1, 2], clip(), [3, 4, 5], picture(), [6]), prompt([7, 8, 9])
    length = len(one.input_ids)
    blocks = list(range(63, 63 - -(-length // 4), -1))
    runner = runner_of(model)
    assert run(runner, row(model, one, 0, 7, blocks), row(model, two, 0, 2, [1])).shape == (0, DECODER.vocab_size)
    logits = run(runner, row(model, one, 7, length, blocks, num_logits=1), row(model, two, 2, 3, [1], num_logits=1))
    torch.testing.assert_close(logits, torch.stack([last_logits(model, one), last_logits(model, two)]))


def test_several_last_logits_of_a_sequence() -> None:
    model, inputs = tiny_model(), prompt([1, 2, 3, 4, 5])
    logits = run(runner_of(model), row(model, inputs, 0, 5, [5, 9], num_logits=3))
    prompts = [ModelInputs(input_ids=inputs.input_ids[:length]) for length in (3, 4, 5)]
    torch.testing.assert_close(logits, torch.stack([last_logits(model, each) for each in prompts]))


def test_a_copied_beginning_is_as_good_as_a_computed_one() -> None:
    model, inputs = tiny_model(), prompt([1, 2, 3, 4, 5])
    runner = runner_of(model)
    run(runner, row(model, inputs, 0, 5, [0, 1]))
    runner.copy([Copy(source=0, target=7, num_tokens=3)])
    other = prompt([1, 2, 3, 9])
    logits = run(runner, row(model, other, 3, 4, [7], num_logits=1))
    torch.testing.assert_close(logits[0], last_logits(model, other))


def test_sequences_that_stretch_their_positions_differently() -> None:
    model = tiny_model(replace(CONFIG, decoder=replace(DECODER, rope_policy="auto", max_position_embeddings=1001)))
    plain, stretched = prompt([1, 2, 3]), prompt([1], clip(8), [2, 3])
    decoder = model.model.config.decoder
    factors = [decoder.prompt_rope_factor(count) for count in (0, stretched.media[0].num_tokens)]
    assert factors == [1.0, 2.0]
    rows = [
        row(model, inputs, 0, len(inputs.input_ids), list(range(first, first + 20)), num_logits=1, rope_factor=factor)
        for inputs, first, factor in ((plain, 0, factors[0]), (stretched, 20, factors[1]))
    ]
    expected = torch.stack([last_logits(model, plain), last_logits(model, stretched)])
    torch.testing.assert_close(run(runner_of(model), *rows), expected)


def test_whole_numbers_change_the_logits_little() -> None:
    """The error of the int8 cache, relative to the spread of the logits; docs/engine.md quotes the bound."""
    model = tiny_model()
    inputs = prompt([1, 2], clip(4), [3, 4, 5])
    blocks = list(range(40))
    logits = [
        run(runner_of(model, cache_dtype=dtype), row(model, inputs, 0, len(inputs.input_ids), blocks, num_logits=4))
        for dtype in ("float32", "int8")
    ]
    error = float((logits[1] - logits[0]).std() / logits[0].std())
    assert 1e-5 < error < 0.01, error


def test_media_between_two_tokens() -> None:
    inputs = prompt([1, 2], clip(), [3], picture())
    size = clip().num_tokens
    assert media_between(inputs, 0, 2) == []
    assert media_between(inputs, 1, 5) == [(0, 2, 5)]
    assert media_between(inputs, 4, size + 5) == [(0, 4, size + 2), (1, size + 3, size + 5)]


@pytest.mark.parametrize("compiles", [True, False])
@pytest.mark.parametrize("has_compiler", [True, False])
def test_the_kernel_is_used_where_it_is_there_and_wanted(
    compiles: bool, has_compiler: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = tiny_model(), prompt([1, 2], clip(), [3, 4, 5])
    monkeypatch.setattr("videolm.engine.runner.has_attention", lambda: has_compiler and has_attention())
    calls = list[int]()

    def attend(few: FewQueries, *tensors: Tensor) -> None:
        calls.append(len(few.sequences))
        FEW_ATTEND(few, *tensors)

    monkeypatch.setattr(FewQueries, "attend", attend)
    runner, blocks, length = runner_of(model, compiles_kernels=compiles), list(range(40)), len(inputs.input_ids)
    run(runner, row(model, inputs, 0, length - 1, blocks))
    calls.clear()
    logits = run(runner, row(model, inputs, length - 1, length, blocks, num_logits=1))
    torch.testing.assert_close(logits, last_logits(model, inputs)[None])
    is_used = compiles and has_compiler and has_attention()
    assert calls == ([1] * DECODER.num_hidden_layers if is_used else [])
    # Keys and values are half as large where the kernel reads them as the model has them.
    half = runner_of(tiny_model().to(torch.bfloat16), compiles_kernels=compiles)
    assert half.storage.num_bytes * (2 if is_used else 1) == runner.storage.num_bytes


def test_keys_and_values_in_float16_are_not_the_kernels() -> None:
    model, inputs = tiny_model().to(torch.float16), prompt([1, 2, 3, 4, 5])
    logits = run(runner_of(model, cache_dtype="model"), row(model, inputs, 0, 5, [5, 9], num_logits=1))
    torch.testing.assert_close(logits, last_logits(model, inputs)[None], rtol=2e-2, atol=2e-2)


# --- how large the cache is ---


def test_the_cache_takes_what_it_is_given_and_no_more() -> None:
    model = tiny_model()
    token = 2 * DECODER.num_hidden_layers * DECODER.num_key_value_heads * DECODER.head_width * 4
    runner = runner_of(model, num_blocks=None, cache_bytes=10 * 4 * token + 1)
    assert (runner.num_blocks, runner.storage.num_bytes) == (10, 10 * 4 * token)
    assert runner_of(model, num_blocks=None, cache_bytes=10 * 4 * token, cache_dtype="int8").num_blocks == 26


def test_left_to_itself_it_holds_whole_contexts() -> None:
    model = tiny_model()
    runner = runner_of(model, num_blocks=None, max_running=2)
    assert runner.num_blocks == 2 * (DECODER.longest_context + 4) // 4


def test_a_cache_without_room_for_a_block_is_refused() -> None:
    with pytest.raises(CapacityError, match=r"The cache has 10 bytes, and one block of 4 tokens takes 1024 "):
        runner_of(tiny_model(), num_blocks=None, cache_bytes=10)


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor does not multiply bfloat16"
)
def test_weights_laid_out_for_the_processor_change_nothing_but_the_speed() -> None:
    plain, laid_out = tiny_model().to(torch.bfloat16), tiny_model().to(torch.bfloat16)
    before = {name: weight.clone() for name, weight in laid_out.state_dict().items()}
    runners = runner_of(plain, lays_out_weights=False), runner_of(laid_out)
    inputs = prompt([1, 2], clip(), [3, 4, 5])
    length = len(inputs.input_ids)
    blocks = list(range(-(-length // 4)))
    first, second = (run(runner, row(runner.model, inputs, 0, length, blocks, num_logits=1)) for runner in runners)
    assert torch.equal(first, second)
    unused = [runner_of(tiny_model().to(torch.bfloat16), lays_out_at_once=at_once) for at_once in (False, True)]
    assert [each.model.lm_head.weight.is_mkldnn for each in (*runners, *unused)] == [False, True, False, True]
    kinds = [type(model.model.language_model.layers[0].mlp.down_proj) for model in (plain, laid_out)]
    assert kinds == [torch.nn.Linear, PrepackedLinear]
    after = laid_out.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
