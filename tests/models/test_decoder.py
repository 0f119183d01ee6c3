"""The decoder against transformers' Llama, Mistral and Qwen2, and the properties of its rotary positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from videolm.models.attention import CausalPlan, PackedPlan, PaddedPlan
from videolm.models.config import DecoderConfig
from videolm.models.decoder import Decoder, rotary_angles, rotate, rotation

from .tiny import DECODER

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
}
NO_SPECIAL_IDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
CASES: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"rms_norm_eps": 1e-5}, {}),
    "llama-linear-rope": (
        LlamaConfig,
        LlamaForCausalLM,
        {"rms_norm_eps": 1e-5, "rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 1e4}},
        {"rope_factor": 2.5},
    ),
    "llama-biases": (
        LlamaConfig,
        LlamaForCausalLM,
        {"rms_norm_eps": 1e-5, "attention_bias": True, "mlp_bias": True},
        {"qkv_bias": True, "output_bias": True, "mlp_bias": True},
    ),
    "mistral": (
        MistralConfig,
        MistralForCausalLM,
        {"rms_norm_eps": 1e-5, "sliding_window": None, "head_dim": 8, "rope_parameters": {"rope_theta": 1e6}},
        {"rope_theta": 1e6, "head_dim": 8},
    ),
    "qwen2": (
        Qwen2Config,
        Qwen2ForCausalLM,
        {"rms_norm_eps": 1e-6, "rope_parameters": {"rope_theta": 1e6}},
        {"rms_norm_eps": 1e-6, "rope_theta": 1e6, "qkv_bias": True},
    ),
}


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(std=0.3, generator=generator))
    return module.eval()


def pair(case: str) -> tuple[nn.Module, Decoder]:
    config_class, model_class, their_settings, our_settings = CASES[case]
    theirs = randomised(model_class(config_class(**SIZES, **NO_SPECIAL_IDS, **their_settings)))
    ours = Decoder(DecoderConfig(**(SIZES | our_settings)))
    ours.load_state_dict(theirs.model.state_dict())
    return theirs, ours


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_hidden_states_and_logits_match_transformers(case: str) -> None:
    theirs, ours = pair(case)
    ids = torch.randint(60, (2, 17), generator=torch.Generator().manual_seed(0))
    hidden = ours(ours.embed_tokens(ids), position_ids=torch.arange(17)[None], plan=CausalPlan.of(17))

    torch.testing.assert_close(hidden, theirs.model(ids).last_hidden_state)
    torch.testing.assert_close(hidden @ theirs.lm_head.weight.T, theirs(ids).logits)


@torch.inference_mode()
def test_a_left_padded_batch_matches_transformers_and_its_rows_alone() -> None:
    theirs, ours = pair("llama")
    ids = torch.randint(60, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * 9, [0] * 4 + [1] * 5, [0] * 9])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    hidden = ours(ours.embed_tokens(ids), position_ids=positions, plan=PaddedPlan.of(mask, 9))
    alone = ours(ours.embed_tokens(ids[1:2, 4:]), position_ids=torch.arange(5)[None], plan=CausalPlan.of(5))
    expected = theirs.model(ids[:2], attention_mask=mask[:2], position_ids=positions[:2]).last_hidden_state

    assert hidden.isfinite().all()
    torch.testing.assert_close(hidden[0], expected[0])
    torch.testing.assert_close(hidden[1, 4:], expected[1, 4:])
    torch.testing.assert_close(hidden[1, 4:], alone[0])


@torch.inference_mode()
def test_positions_may_be_anything() -> None:
    theirs, ours = pair("llama-linear-rope")
    ids = torch.randint(60, (1, 6), generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([[0, 1, 2, 700, 5000, 5001]])
    hidden = ours(ours.embed_tokens(ids), position_ids=positions, plan=CausalPlan.of(6))

    torch.testing.assert_close(hidden, theirs.model(ids, position_ids=positions).last_hidden_state)


@given(factor=st.sampled_from([2.0, 2.5, 4.0]), position=st.integers(0, 8000))
def test_a_linear_factor_divides_positions(factor: float, position: int) -> None:
    stretched = DecoderConfig(**SIZES, rope_factor=factor)
    plain = DecoderConfig(**SIZES)
    far = rotary_angles(torch.tensor([[float(position)]]), stretched)

    torch.testing.assert_close(far, rotary_angles(torch.tensor([[position / factor]]), plain))


@settings(deadline=None)
@given(shift=st.integers(0, 200))
def test_scores_depend_on_distances_alone(shift: int) -> None:
    heads = torch.randn(1, 2, 1, DECODER.head_width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def score(first: int, second: int) -> torch.Tensor:
        turned = rotate(heads, rotation(rotary_angles(torch.tensor([[first, second]]), DECODER), torch.float64))
        return turned[0, 0, 0] @ turned[0, 1, 0]

    torch.testing.assert_close(score(shift, shift + 3), score(0, 3), rtol=1e-4, atol=1e-4)


def test_packed_sequences_match_each_alone() -> None:
    ours = randomised(Decoder(DECODER))
    lengths = (7, 1, 12)
    embeds = torch.randn(1, 20, 24, generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    packed = ours(embeds, position_ids=positions, plan=PackedPlan.of(lengths))
    alone = [
        ours(part, position_ids=torch.arange(part.shape[1])[None], plan=CausalPlan.of(part.shape[1]))
        for part in embeds.split(lengths, dim=1)
    ]

    torch.testing.assert_close(packed, torch.cat(alone, dim=1))


def test_checkpointing_gives_the_same_gradients() -> None:
    ours = randomised(Decoder(DECODER))
    embeds = torch.randn(1, 9, 24, generator=torch.Generator().manual_seed(0))

    def gradients() -> list[torch.Tensor]:
        ours.zero_grad()
        hidden = ours(embeds, position_ids=torch.arange(9)[None], plan=PackedPlan.of((4, 5)))
        hidden.square().sum().backward()
        return [parameter.grad.clone() for parameter in ours.parameters() if parameter.grad is not None]

    kept = gradients()
    ours.gradient_checkpointing = True
    recomputed = gradients()

    assert len(kept) == len(list(ours.parameters())) - 1  # the embedding table is not used here
    assert all(torch.equal(first, second) for first, second in zip(kept, recomputed, strict=True))
