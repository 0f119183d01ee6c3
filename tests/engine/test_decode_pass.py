"""A pass of fixed shape gives the logits of packed ones, and its padding touches nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from videolm.engine.batch import Row, StepBatch
from videolm.engine.config import EngineConfig
from videolm.engine.decode_pass import NUM_SPARE_SLOTS, DecodePass, DecodeSize, decodes
from videolm.engine.paged_cache import PagedCache
from videolm.engine.runner import ModelRunner
from videolm.models.video_lm import VideoLM

from ..models.tiny import DECODER, clip, prompt, tiny_model

CPU = torch.device("cpu")
BLOCK, NUM_BLOCKS = 4, 40
NUM_SLOTS = BLOCK * NUM_BLOCKS


def row(ids: tuple[int, ...], start: int, end: int, blocks: list[int], **values: Any) -> Row:
    inputs = prompt(list(ids))
    return Row(inputs=inputs, ids=ids[start:end], start=start, blocks=blocks, features={}, **values)


def storage() -> PagedCache:
    """Full of what is not a number, wherever nothing was written."""
    made = PagedCache(
        DECODER.num_hidden_layers,
        NUM_SLOTS + NUM_SPARE_SLOTS,
        DECODER.num_key_value_heads,
        DECODER.head_width,
        dtype=torch.float32,
        device=CPU,
    )
    made._keys.fill_(torch.nan)
    made._values.fill_(torch.nan)
    return made


def runner_with(model: VideoLM, kept: PagedCache) -> ModelRunner:
    runner = ModelRunner(model, EngineConfig(num_blocks=NUM_BLOCKS, block_size=BLOCK))
    runner.storage = kept
    return runner


def sequences(count: int) -> list[tuple[tuple[int, ...], list[int], float]]:
    """Ids, scattered blocks and what positions are divided by."""
    order = torch.randperm(NUM_BLOCKS, generator=torch.Generator().manual_seed(count)).tolist()
    made = []
    for index in range(count):
        ids = tuple((3 * place + 7 * index) % 50 for place in range((1, 9, 16, 5, 12)[index]))
        blocks, order = order[: -(-len(ids) // BLOCK)], order[-(-len(ids) // BLOCK) :]
        made.append((ids, blocks, (1.0, 3.0, 1.0, 1.7, 1.0)[index]))
    return made


def written(kept: PagedCache) -> Tensor:
    return torch.stack([kept._keys[..., :NUM_SLOTS, :], kept._values[..., :NUM_SLOTS, :]])


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@torch.inference_mode()
def test_logits_and_what_is_stored_are_those_of_a_packed_pass(count: int) -> None:
    model = tiny_model()
    packed, fixed = storage(), storage()
    for kept in (packed, fixed):
        for ids, blocks, factor in sequences(count):
            if len(ids) > 1:
                beginning = row(ids, 0, len(ids) - 1, blocks, rope_factor=factor)
                runner_with(model, kept).run(StepBatch.of([beginning], block_size=BLOCK, device=CPU))
    rows = [
        row(ids, len(ids) - 1, len(ids), blocks, num_logits=1, rope_factor=factor)
        for ids, blocks, factor in sequences(count)
    ]
    expected = runner_with(model, packed).run(StepBatch.of(rows, block_size=BLOCK, device=CPU))
    size = DecodeSize.of(rows, BLOCK)
    decode = DecodePass(model, fixed, size, block_size=BLOCK, num_slots=NUM_SLOTS)
    decode.fill(rows)
    logits = decode()
    assert logits.shape == (size.num_rows, DECODER.vocab_size)
    assert bool(logits.isfinite().all())
    torch.testing.assert_close(logits[:count], expected)
    torch.testing.assert_close(written(fixed), written(packed), equal_nan=True)


@torch.inference_mode()
def test_a_pass_of_padding_alone_stores_nothing_and_is_numbers() -> None:
    kept = storage()
    decode = DecodePass(tiny_model(), kept, DecodeSize(num_rows=4, num_blocks=8), block_size=BLOCK, num_slots=NUM_SLOTS)
    assert bool(decode().isfinite().all())
    assert bool(written(kept).isnan().all())


@torch.inference_mode()
def test_a_smaller_step_leaves_nothing_of_a_larger_one() -> None:
    kept = storage()
    decode = DecodePass(tiny_model(), kept, DecodeSize(num_rows=2, num_blocks=8), block_size=BLOCK, num_slots=NUM_SLOTS)
    decode.fill([row((5,), 0, 1, [3], num_logits=1, rope_factor=2.0), row((6,), 0, 1, [4], num_logits=1)])
    decode.fill([row((7, 8, 9), 2, 3, [6], num_logits=1)])
    assert decode.ids.tolist() == [9, 0]
    assert decode.position_ids.tolist() == [2.0, 0.0]
    assert decode.lengths.tolist() == [3, 0]
    assert decode.blocks.tolist() == [[6, 0, 0, 0, 0, 0, 0, 0], [0] * 8]


def test_sizes_are_few_and_close() -> None:
    def size(count: int, num_tokens: int) -> tuple[int, int]:
        whole = prompt([1] * num_tokens)
        rows = [Row(inputs=whole, ids=(1,), start=num_tokens - 1, blocks=(), num_logits=1, features={})]
        found = DecodeSize.of(rows * count, 16)
        return found.num_rows, found.num_blocks

    assert [size(count, 1)[0] for count in (1, 2, 3, 5, 8, 9, 16, 17, 25, 64)] == [1, 2, 4, 8, 8, 16, 16, 24, 32, 64]
    assert [size(1, 16 * blocks)[1] for blocks in (1, 8, 9, 16, 17, 64)] == [8, 8, 16, 16, 24, 64]
    assert [size(1, 16 * blocks)[1] for blocks in (65, 80, 81, 129, 2047)] == [80, 80, 96, 160, 2048]
    assert [size(1, tokens)[1] for tokens in (128, 129)] == [8, 16]


def test_what_is_no_decoding_is_told() -> None:
    one = row((1, 2, 3), 2, 3, [0], num_logits=1)
    assert decodes([one, one])
    assert not decodes([one, row((1, 2, 3), 1, 3, [0], num_logits=1)])
    assert not decodes([one, row((1, 2, 3), 1, 3, [0], num_logits=2)])
    assert not decodes([one, row((1, 2, 3), 1, 2, [0])])
    inputs = prompt([1, 2], clip(), [3])
    last = len(inputs.input_ids) - 2
    visual = Row(inputs=inputs, ids=inputs.input_ids[last:-1], start=last, blocks=[0], num_logits=1, features={})
    assert not decodes([visual])
