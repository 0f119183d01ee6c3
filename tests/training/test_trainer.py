"""One optimiser step: what it minimises, what it moves, and what it does not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from videolm.contracts import ModelInputs
from videolm.errors import ConfigError, TrainingError
from videolm.training.config import TrainConfig, load_train_config
from videolm.training.data import PreparedSample, SampleMaker
from videolm.training.loader import load_samples
from videolm.training.losses import next_token_targets
from videolm.training.packing import StepData, pack
from videolm.training.start import load_start
from videolm.training.trainer import Trainer

MakeConfig = Callable[..., Path]


def prepare(config: TrainConfig, number: int) -> list[ModelInputs]:
    start = load_start(config.model, torch.device("cpu"))
    maker = SampleMaker(config.data, start.make_processor, sampling=start.sampling)
    items = list(islice(load_samples(maker, weights=(1, 1), start=0, workers=0), number))
    return [item.inputs for item in items if isinstance(item, PreparedSample)]


def step_of(*rows: list[ModelInputs]) -> StepData:
    return StepData(rows=tuple(map(pack, rows)), num_samples=sum(map(len, rows)), num_tokens=0, next_index=0)


def trainer_of(config: TrainConfig) -> Trainer:
    return Trainer(load_start(config.model, torch.device("cpu")).model, config)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}


def test_only_next_tokens_of_the_same_sequence_are_learned() -> None:
    first = ModelInputs(input_ids=(5, 6, 7), labels=(5, -100, 7))
    second = ModelInputs(input_ids=(8, 9), labels=(8, 9))
    positions, targets = next_token_targets(pack([first, second]))
    assert positions.tolist() == [1, 3]
    assert targets.tolist() == [7, 9]


def test_the_loss_is_the_mean_over_learned_tokens_of_each_sequence_alone(make_config: MakeConfig) -> None:
    config = load_train_config(make_config())
    samples = prepare(config, 4)
    trainer = trainer_of(config)
    expected, learned = 0.0, 0
    for sample in samples:
        row = pack([sample])
        with torch.no_grad():
            logits = trainer.model.forward_packed(row)  # type: ignore[operator]
        for position, label in enumerate((sample.labels or ())[1:]):
            if label != -100:
                expected -= float(logits[position].log_softmax(0)[label])
                learned += 1

    result = trainer.train_step(step_of(samples))
    assert (result.num_learned, result.num_samples) == (learned, 4)
    assert math.isclose(result.loss, expected / learned, rel_tol=1e-5)


def test_accumulated_rows_move_weights_as_one_row_does(make_config: MakeConfig) -> None:
    config = load_train_config(make_config())
    samples = prepare(config, 5)
    one, several = trainer_of(config), trainer_of(config)
    first, second = (
        one.train_step(step_of(samples)),
        several.train_step(step_of(samples[:1], samples[1:3], samples[3:])),
    )

    torch.testing.assert_close(first.loss, second.loss)
    torch.testing.assert_close(first.grad_norm, second.grad_norm, rtol=1e-5, atol=0)
    torch.testing.assert_close(weights(one), weights(several), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trained", ["vision", "projector", "decoder"])
def test_frozen_parts_have_no_gradients_and_stay(make_config: MakeConfig, trained: str) -> None:
    parts = {trained: {"train": True, "lr": 0.1}}
    config = load_train_config(make_config(parts=parts, optimizer={"weight_decay": 0.1}))
    trainer = trainer_of(config)
    before = weights(trainer)
    samples = prepare(config, 2)
    loss = trainer._loss(trainer.model, pack(samples))
    loss.backward()  # type: ignore[no-untyped-call]
    prefixes = {
        "vision": ("model.vision_tower.",),
        "projector": ("model.multi_modal_projector.", "model.image_newline"),
        "decoder": ("model.language_model.", "lm_head."),
    }[trained]
    with_gradient = {name for name, weight in trainer.model.named_parameters() if weight.grad is not None}
    assert with_gradient
    assert all(name.startswith(prefixes) for name in with_gradient)

    trainer.train_step(step_of(samples))
    moved = {name for name, weight in weights(trainer).items() if not torch.equal(weight, before[name])}
    assert moved == with_gradient


def test_clipping_bounds_what_the_optimiser_sees(make_config: MakeConfig) -> None:
    config = load_train_config(make_config(optimizer={"grad_clip": 0.01}))
    trainer = trainer_of(config)
    seen: list[float] = []

    def record(*_: Any) -> None:
        grads = [weight.grad for weight in trainer.model.parameters() if weight.grad is not None]
        seen.append(float(torch.nn.utils.get_total_norm(grads)))

    trainer.optimizers.members[0].register_step_pre_hook(record)
    result = trainer.train_step(step_of(prepare(config, 3)))
    assert result.grad_norm > 0.1
    torch.testing.assert_close(seen, [0.01], rtol=1e-3, atol=0)


def test_checkpointing_of_activations_changes_nothing(make_config: MakeConfig) -> None:
    config = load_train_config(make_config())
    plain, recomputing = trainer_of(config), trainer_of(config)
    recomputing.model.gradient_checkpointing_enable()  # type: ignore[operator]
    samples = prepare(config, 3)
    results = [trainer.train_step(step_of(samples)) for trainer in (plain, recomputing)]
    assert results[0] == results[1]
    torch.testing.assert_close(weights(plain), weights(recomputing), rtol=0, atol=0)


def test_bfloat16_keeps_weights_and_moments_in_float32(make_config: MakeConfig) -> None:
    config = load_train_config(make_config(precision="bf16"))
    trainer, exact = trainer_of(config), trainer_of(replace(config, precision="fp32"))
    samples = prepare(config, 3)
    half, full = trainer.train_step(step_of(samples)), exact.train_step(step_of(samples))
    assert half.loss != full.loss
    assert math.isclose(half.loss, full.loss, rel_tol=0.02)
    moments = trainer.optimizers.state_dict()[0][0]
    assert {weight.dtype for weight in trainer.model.parameters()} == {torch.float32}
    assert moments["exp_avg"].dtype is torch.float32


def test_a_loss_that_is_no_number_ends_the_run(make_config: MakeConfig) -> None:
    config = load_train_config(make_config())
    trainer = trainer_of(config)
    with torch.no_grad():
        trainer.model.get_parameter("model.language_model.norm.weight").fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"Step 1 has loss nan .* expected finite numbers"):
        trainer.train_step(step_of(prepare(config, 2)))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"seed": 1}, "seed"),
        ({"batch": {"samples_per_step": 5}}, "batch"),
        ({"parts": {"decoder": {"train": True, "lr": 0.01}}}, "parts.vision.train, parts.projector.train"),
        ({"optimizer": {"name": "muon"}}, "optimizer.name"),
        ({"model_ema": 0.5}, "model_ema"),
    ],
)
def test_another_run_cannot_be_resumed(make_config: MakeConfig, changes: dict[str, Any], name: str) -> None:
    state = trainer_of(load_train_config(make_config())).state_dict()
    other = trainer_of(load_train_config(make_config(**changes)))
    with pytest.raises(ConfigError, match=f"The run to resume has other settings in {name} "):
        other.load_state_dict(state)


def test_learning_rates_and_length_may_change_on_resume(make_config: MakeConfig) -> None:
    config = load_train_config(make_config())
    trainer = trainer_of(config)
    trainer.train_step(step_of(prepare(config, 2)))
    parts = {part: {"train": True, "lr": 0.5} for part in ("vision", "projector", "decoder")}
    other = trainer_of(load_train_config(make_config(parts=parts, steps=50)))
    other.load_state_dict(trainer.state_dict())
    other.optimizers.set_factor(1.0)
    assert other.optimizers.learning_rates() == {"vision": 0.5, "projector": 0.5, "decoder": 0.5}
    torch.testing.assert_close(weights(other), weights(trainer), rtol=0, atol=0)


def test_the_random_state_is_part_of_the_state(make_config: MakeConfig) -> None:
    trainer = trainer_of(load_train_config(make_config()))
    torch.manual_seed(5)
    state = trainer.state_dict()
    expected = torch.rand(3)
    trainer.load_state_dict(state)
    assert torch.equal(torch.rand(3), expected)
