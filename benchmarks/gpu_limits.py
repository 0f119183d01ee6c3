"""What a device can do at most, measured, and what a step of a model asks of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from gpu_plan import GpuPlan, Limits
from gpu_sides import synchronize

from videolm.engine.runner import cached_token_bytes
from videolm.families.base import FamilyModel


def measure_limits(plan: GpuPlan) -> Limits:
    """A large copy, bytes read and written, and a large product in bfloat16 of random numbers; the best of eight."""
    device = torch.device(plan.device)
    return Limits(bytes_a_s=_copy_rate(plan.copied_bytes, device), flop_a_s=_product_rate(plan.product_side, device))


def _copy_rate(num_bytes: int, device: torch.device) -> float:
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * num_bytes / _best_s(lambda: target.copy_(source), device)


def _product_rate(side: int, device: torch.device) -> float:
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / _best_s(lambda: torch.mm(one, other), device)


def _best_s(function: Callable[[], object], device: torch.device, num_calls: int = 10) -> float:
    """Seconds a call, of several calls without a pause between them."""
    taken = list[float]()
    for _ in range(8):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(num_calls):
            function()
        synchronize(device)
        taken.append((time.perf_counter() - start) / num_calls)
    return min(taken)


def decode_bytes(model: FamilyModel, batch: int, context_len: int) -> int:
    """What one step of a batch needs of memory: decoder and head once, and the keys and values of every request."""
    weights = sum(parameter.nbytes for name, parameter in model.named_parameters() if _is_multiplied(name))
    return weights + batch * context_len * cached_token_bytes(model)


def prefill_flop(model: FamilyModel, prompt_len: int) -> int:
    """Operations of reading a prompt of text: products with weights, causal attention, logits of the last position."""
    decoder = model.model.config.decoder
    matrices = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if _is_multiplied(name) and "lm_head" not in name and parameter.ndim == 2
    )
    pairs = prompt_len * (prompt_len + 1) // 2
    attention = 4 * pairs * decoder.num_attention_heads * decoder.head_width * decoder.num_hidden_layers
    return 2 * (matrices * prompt_len + model.lm_head.weight.numel()) + attention


def _is_multiplied(name: str) -> bool:
    return not any(part in name for part in ("vision", "projector", "embed_tokens", "image_newline"))
