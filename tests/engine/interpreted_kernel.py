"""The Triton kernel against gathering; ``test_paged_kernel.py`` runs this in Triton's interpreter, on a CPU."""

from __future__ import annotations

import pytest
import torch

from videolm.engine import paged_kernel
from videolm.engine.decode_pass import DecodePass, DecodeSize
from videolm.engine.paged_plan import PagedPlan
from videolm.errors import EngineError
from videolm.models.config import DecoderConfig

from ..models.tiny import DECODER, tiny_model
from .test_decode_pass import BLOCK, NUM_SLOTS, row, storage

CPU = torch.device("cpu")


# The interpreter multiplies bfloat16 wrongly.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("num_heads", "num_key_heads", "width", "block_size"), [(4, 2, 8, 4), (7, 1, 64, 16), (3, 3, 80, 1)]
)
def test_values_are_those_of_gathering_whatever_lies_elsewhere(
    num_heads: int, num_key_heads: int, width: int, block_size: int, dtype: torch.dtype
) -> None:
    generator, lengths = torch.Generator().manual_seed(0), torch.tensor([1, 600, 0, 256, 257, 31])
    num_blocks = -(-640 // block_size)
    blocks = torch.randperm(6 * num_blocks, generator=generator).view(6, num_blocks)
    slots = (blocks[:, :, None] * block_size + torch.arange(block_size)).flatten(1)
    is_own = torch.arange(slots.shape[1]) < lengths[:, None]
    rows = torch.full((2, num_key_heads, slots.numel(), width), torch.nan)
    rows[:, :, slots[is_own]] = torch.randn(2, num_key_heads, int(lengths.sum()), width, generator=generator)
    keys, values = (each.to(dtype).transpose(0, 1)[None] for each in rows)
    queries = torch.randn(1, 6, num_heads, width, generator=generator).to(dtype)
    plan = paged_kernel.KernelPlan(blocks=blocks, lengths=lengths, block_size=block_size)
    found = plan.attend(queries, keys, values)
    assert found.dtype == dtype
    assert bool((found[0, 2] == 0).all())
    real = lengths > 0
    padded = slots.masked_fill(~is_own, int(slots[0, 0]))
    expected = PagedPlan.gathered(padded[real], is_own[real]).attend(queries[:, real], keys, values)
    # Weights are rounded to the dtype of the values that they multiply, the greatest of a piece being 1.
    atol = 1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps / 2
    torch.testing.assert_close(found[:, real], expected, rtol=1e-3 if atol > 1e-5 else 1.3e-6, atol=atol)


@torch.inference_mode()
def test_a_pass_with_the_kernel_gives_the_logits_of_one_without() -> None:
    model, ids = tiny_model(), (3, 1, 4, 1, 5, 9, 2)
    rows = [[row(ids, end - 1, end, blocks, num_logits=1) for blocks in ([7, 2], [3, 9])] for end in range(1, 8)]
    size, logits = DecodeSize(num_rows=4, num_blocks=8), []
    for uses_kernel in (False, True):
        decode = DecodePass(model, storage(), size, block_size=BLOCK, num_slots=NUM_SLOTS, uses_kernel=uses_kernel)
        for each in rows:
            decode.fill(each)
            logits.append(decode())
    # What padding gives differs, and means nothing.
    for plain, found in zip(logits[:7], logits[7:], strict=True):
        assert bool(found.isfinite().all())
        torch.testing.assert_close(found[:2], plain[:2])


def test_a_kernel_is_taken_only_where_it_gives_what_gathering_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(decoder: DecoderConfig = DECODER) -> None:
        paged_kernel.check_kernel(decoder, 16, dtype=torch.float32, device=CPU)

    check()
    monkeypatch.setattr(paged_kernel, "_together", lambda mixed, tops, sums: mixed.sum(2))
    with pytest.raises(EngineError, match=r"The attention kernel is off by \d"):
        check()
