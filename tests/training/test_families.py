"""Training the families beside the first: runs that learn, gradients as plain autograd has them, what is learned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor

from videolm.contracts import ModelInputs
from videolm.families import auto
from videolm.families.prompts import (
    CHATML_TEMPLATE,
    LLAMA_3_TEMPLATE,
    MISTRAL_TEMPLATE,
    QWEN_TEMPLATE,
    VICUNA_HUMAN_TEMPLATE,
    VICUNA_TEMPLATE,
)
from videolm.processing.batch import collate
from videolm.processing.chat import ChatTemplate
from videolm.processing.prompt import encode_for_learning
from videolm.processing.tokenizer import Tokenizer as OurTokenizer
from videolm.training.config import load_train_config
from videolm.training.data import PreparedSample, SampleMaker
from videolm.training.loader import load_samples
from videolm.training.losses import count_learned, next_token_loss
from videolm.training.packing import pack
from videolm.training.sft import train
from videolm.training.start import load_start

MakeConfig = Callable[..., Path]
TIMED = {"vision_config": {"add_time_attn": True, "num_frames": 2, "hidden_act": "gelu"}}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llava_next": ("llava_next", {}),
    "llava_next_video2": ("llava_next_video2", {}),
    "slow and fast frames": ("llava_next_video2", {"add_faster_video": True, "faster_token_stride": 2}),
    "video_llava": ("video_llava", {}),
    "video_llava, attention over time": ("video_llava", TIMED),
}


@pytest.fixture(scope="module")
def folder_of(
    tmp_path_factory: pytest.TempPathFactory, write_small_model: Callable[..., Path]
) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(case: str) -> Path:
        family, changes = CASES[case]
        if case not in made:
            made[case] = write_small_model(family, tmp_path_factory.mktemp("small") / "one", **changes)
        return made[case]

    return get


def run_of(make_config: MakeConfig, folder: Path, **changes: Any) -> Path:
    frames = {"num_frames": 2, "rule": "linspace"}
    return make_config(model={"path": str(folder)}, frames=frames, **changes)


@pytest.mark.parametrize("case", CASES)
def test_a_run_learns_and_its_model_answers(
    make_config: MakeConfig, folder_of: Callable[[str], Path], case: str
) -> None:
    config = run_of(make_config, folder_of(case), steps=20, checkpoint={"every_steps": 100}, log_every=1)
    result = train(config)
    losses = [json.loads(line)["loss"] for line in (result.output_dir / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.5 * losses[0]
    assert result.export is not None
    before, after = auto.load_config(folder_of(case)), auto.load_config(result.export)
    assert after.settings() == before.settings()
    trained, start = auto.load_model(result.export, dtype="float32"), auto.load_model(folder_of(case))
    changed = {
        name for name, weight in trained.state_dict().items() if not torch.equal(weight, start.state_dict()[name])
    }
    for part in ("language_model", "multi_modal_projector", "tower"):
        assert [name for name in changed if part in name], part


def samples_of(config_path: Path, number: int) -> tuple[Any, list[ModelInputs]]:
    config = load_train_config(config_path)
    start = load_start(config.model, torch.device("cpu"))
    assert config.frames is not None
    maker = SampleMaker(config.data, start.make_processor, sampling=config.frames.sampling())
    items = load_samples(maker, weights=(1, 1), start=0, workers=0)
    rows = []
    while len(rows) < number:
        item = next(items)
        assert isinstance(item, PreparedSample), item
        rows.append(item.inputs)
    return start.model, rows


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_a_packed_row_are_those_of_its_sequences(
    make_config: MakeConfig, folder_of: Callable[[str], Path], case: str
) -> None:
    """The reference: each conversation by itself through ``forward`` with labels, as any script would do it."""
    model, rows = samples_of(run_of(make_config, folder_of(case)), 4)
    assert {medium.kind for row in rows for medium in row.media} == {"image", "video"}
    packed = pack(rows)
    learned = count_learned(packed)
    (next_token_loss(model, packed) / learned).backward()  # type: ignore[no-untyped-call]
    found = gradients(model)
    for row in rows:
        inputs = dict(collate([row], pad_token_id=0, padding_side="left"))
        if case.startswith("video_llava") and "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"][:, 0]
            del inputs["image_sizes"]
        labels = torch.tensor([row.labels])
        share = int((labels[:, 1:] != -100).sum()) / learned
        (model(**inputs, labels=labels).loss * share).backward()
    expected = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
    never = {"post_layernorm", "vision_tower.encoder.layers.2", "image_tower.encoder.layers.2"}
    unused = {name for name, _ in model.named_parameters() if name not in found}
    assert all(any(part in name for part in (*never, "video_tower.encoder.layers.2")) for name in unused), unused


# --- what is learned of each form of prompt ---

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>", "<video>")
CONVERSATION: list[Any] = [
    {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "what colour is this?"}]},
    {"role": "assistant", "content": "a red circle"},
    {"role": "user", "content": "is </s> or <|im_end|> in it?"},
    {"role": "assistant", "content": "no: this is a red circle"},
]
FORMS = {
    "vicuna": (VICUNA_TEMPLATE, " a red circle</s>", " no: this is a red circle</s>"),
    "vicuna, human": (VICUNA_HUMAN_TEMPLATE, " a red circle</s>", " no: this is a red circle</s>"),
    "mistral": (MISTRAL_TEMPLATE, " a red circle</s>", " no: this is a red circle</s>"),
    "chatml": (CHATML_TEMPLATE, "a red circle<|im_end|>", "no: this is a red circle<|im_end|>"),
    "qwen": (QWEN_TEMPLATE, "a red circle<|im_end|>", "no: this is a red circle<|im_end|>"),
    "llama 3": (LLAMA_3_TEMPLATE, "a red circle<|eot_id|>", "no: this is a red circle<|eot_id|>"),
}


@pytest.mark.parametrize("form", FORMS)
def test_answers_and_their_ends_are_learned_and_nothing_else(
    form: str, tmp_path: Path, write_tokenizer: Callable[[Path], None]
) -> None:
    write_tokenizer(tmp_path)
    backend = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = OurTokenizer.from_folder(tmp_path)
    source, *answers = FORMS[form]
    chat = ChatTemplate(source, special_tokens=tokenizer.special_tokens).render(CONVERSATION, False, find_answers=True)
    ids, labels = encode_for_learning(tokenizer, chat, ("<image>", "<video>"))
    runs: list[list[int]] = [[]]
    for token_id, label in zip(ids, labels, strict=True):
        if label == -100:
            runs += [[]] if runs[-1] else []
        else:
            assert label == token_id
            runs[-1].append(label)
    learned = [tokenizer.decode(run, skip_special_tokens=False) for run in runs if run]
    assert learned == answers
    assert tokenizer.decode(ids, skip_special_tokens=False).removeprefix("<s>") == chat.text
