"""Generation for a padded batch: greedy or drawn, ended by end tokens, padded afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from videolm.contracts import ModelInputs
from videolm.errors import ArgumentError
from videolm.families.auto import new_model
from videolm.generation.loop import generate_ids
from videolm.generation.params import SamplingParams

PROMPTS = torch.tensor([[0, 0, 1, 5, 6], [1, 9, 8, 7, 4]])
MASK = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])


@pytest.fixture
def model(tiny_config: dict[str, Any]) -> Any:
    model = new_model(tiny_config, seed=3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def test_greedy_is_what_the_loop_for_one_prompt_gives(model: Any) -> None:
    found = model.generate(PROMPTS, attention_mask=MASK, max_new_tokens=6)
    for row, prompt in enumerate(((1, 5, 6), (1, 9, 8, 7, 4))):
        expected = list(generate_ids(model, ModelInputs(input_ids=prompt), SamplingParams(max_new_tokens=6)))
        assert found[row, 5:].tolist() == expected
    assert torch.equal(found[:, :5], PROMPTS)


def test_draws_repeat_with_their_seed(model: Any) -> None:
    def draw(seed: int) -> list[list[int]]:
        options = {"do_sample": True, "temperature": 2.0, "seed": seed}
        ids: list[list[int]] = model.generate(PROMPTS, attention_mask=MASK, max_new_tokens=6, **options).tolist()
        return ids

    assert draw(1) == draw(1) != draw(2)


def test_sampling_settings_without_do_sample_change_nothing(model: Any) -> None:
    greedy = model.generate(PROMPTS, max_new_tokens=4)
    assert torch.equal(model.generate(PROMPTS, max_new_tokens=4, temperature=2.0, top_p=0.5), greedy)


def test_rows_that_ended_are_padded(model: Any) -> None:
    free = model.generate(PROMPTS, attention_mask=MASK, max_new_tokens=6)
    end = int(free[0, 6])
    assert end not in free[1, 5:].tolist()
    ended = model.generate(PROMPTS, attention_mask=MASK, max_new_tokens=6, eos_token_id=end, pad_token_id=3)
    assert ended[0, 7:].tolist() == [3] * 4
    assert torch.equal(ended[1], free[1])


def test_generation_stops_when_all_rows_ended(model: Any) -> None:
    free = model.generate(PROMPTS, attention_mask=MASK, max_new_tokens=6)
    ends = [int(free[0, 5]), int(free[1, 5])]
    assert model.generate(PROMPTS, attention_mask=MASK, max_new_tokens=6, eos_token_id=ends).shape == (2, 6)
    longer = model.generate(PROMPTS, attention_mask=MASK, max_new_tokens=6, eos_token_id=ends, min_new_tokens=3)
    assert longer.shape[1] > 8 - 1


def test_the_models_own_end_token(model: Any) -> None:
    first = int(model.generate(PROMPTS[1:], max_new_tokens=1)[0, -1])
    model.generation_config = {"eos_token_id": first}
    assert model.generate(PROMPTS[1:], max_new_tokens=6).shape == (1, 6)


def test_padding_on_the_right_is_refused(model: Any) -> None:
    with pytest.raises(ArgumentError, match=r"Set processor\.tokenizer\.padding_side = 'left'"):
        model.generate(PROMPTS.flip(1), attention_mask=MASK.flip(1))


def test_wrong_numbers_are_refused(model: Any) -> None:
    with pytest.raises(ArgumentError, match="max_new_tokens is 0"):
        model.generate(PROMPTS, max_new_tokens=0)


def test_unknown_options_are_refused(model: Any) -> None:
    with pytest.raises(ArgumentError, match=r"generate got num_beam, which .* Did you mean num_beams"):
        model.generate(PROMPTS, num_beam=4)


def test_a_placeholder_that_the_model_writes_is_a_word(model: Any) -> None:
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[296] = 1e-3
        model.lm_head.weight[0] = -1e-3
    written = model.generate(PROMPTS, attention_mask=MASK, max_new_tokens=4)[:, 5:]
    assert set(written.flatten().tolist()) <= {0, 1, 296}
    assert 296 in written
