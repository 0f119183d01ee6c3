"""What the reference's classes have: the same defaults of every configuration, and every name offered or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import videolm
from videolm.errors import ArgumentError, NotOfferedError
from videolm.families.not_offered import NOT_OFFERED, NOT_OFFERED_BY_PARTS, REFUSED_OPTIONS

transformers = pytest.importorskip("transformers")

CONFIGS = [
    "LlavaNextVideoConfig",
    "VideoLlavaConfig",
    "LlavaNextConfig",
    "CLIPVisionConfig",
    "SiglipVisionConfig",
    "LlamaConfig",
    "MistralConfig",
    "Qwen2Config",
]
MODELS = ["LlavaNextVideoForConditionalGeneration", "VideoLlavaForConditionalGeneration"]
NAMES_OF_4_42 = [
    "prune_heads",
    "get_head_mask",
    "invert_attention_mask",
    "get_extended_attention_mask",
    "create_extended_attention_mask_for_decoder",
    "estimate_tokens",
    "floating_point_ops",
    "add_memory_hooks",
    "reset_memory_hooks_state",
    "to_bettertransformer",
    "reverse_bettertransformer",
    "vision_tower",
    "multi_modal_projector",
    "language_model",
    "image_newline",
]


def common(ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys that both have, in nested parts too."""
    pairs = {name: (ours[name], theirs[name]) for name in sorted(set(ours) & set(theirs))}
    pairs = {
        name: common(*pair) if all(isinstance(each, dict) for each in pair) else pair for name, pair in pairs.items()
    }
    return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_defaults(name: str) -> None:
    ours, theirs = (getattr(library, name)().to_dict() for library in (videolm, transformers))
    found, expected = common(ours, theirs)
    assert found == expected
    assert len(found) > 8


@pytest.mark.parametrize("name", CONFIGS)
def test_what_one_writes_the_other_reads(name: str) -> None:
    ours, theirs = getattr(videolm, name), getattr(transformers, name)
    for reader, writer in ((ours, theirs), (theirs, ours)):
        found, expected = common(reader.from_dict(writer().to_dict()).to_dict(), reader().to_dict())
        assert found == expected


def offered_by_theirs(model_class: type) -> set[str]:
    return {name for name in set(dir(model_class)) - set(dir(nn.Module)) if not name.startswith("_")}


@pytest.mark.parametrize("name", MODELS)
def test_every_name_of_the_model_classes_is_offered_or_refused(name: str) -> None:
    ours, theirs = getattr(videolm, name), getattr(transformers, name)
    assert offered_by_theirs(theirs) - set(dir(ours)) - set(NOT_OFFERED) == set()
    part = getattr(transformers, name.removesuffix("ForConditionalGeneration") + "Model")
    assert offered_by_theirs(part) - set(dir(ours.backbone_class)) - set(NOT_OFFERED_BY_PARTS) == set()


@pytest.fixture(scope="module")
def model() -> Any:
    size = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    vision = videolm.CLIPVisionConfig(**size, image_size=8, patch_size=4)
    config = videolm.VideoLlavaConfig(vision, videolm.LlamaConfig(**size, vocab_size=20))
    return videolm.VideoLlavaForConditionalGeneration(config)


@pytest.mark.parametrize("name", sorted({*NAMES_OF_4_42, *NOT_OFFERED}))
def test_what_is_not_offered_says_so_in_one_line(model: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the reference hangs on torch's own class while it loads a model is not ours.
    monkeypatch.delattr(nn.Module, "smart_apply", raising=False)
    assert not hasattr(model, name)
    with pytest.raises(NotOfferedError, match=f"^VideoLlavaForConditionalGeneration has no {name}: ") as caught:
        getattr(model, name)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(NOT_OFFERED[name])


def test_the_part_without_the_head_refuses_too(model: Any) -> None:
    with pytest.raises(NotOfferedError, match="VideoLlavaModel has no prune_heads"):
        _ = model.model.prune_heads
    with pytest.raises(NotOfferedError, match=r"has no save_pretrained: .* Call it on the whole model"):
        model.model.save_pretrained("folder")
    assert model.model.multi_modal_projector is model.model._modules["multi_modal_projector"]


PLACES = sorted({advice for advice in NOT_OFFERED.values() if advice.startswith("It is model")})


@pytest.mark.parametrize("advice", PLACES)
def test_the_places_that_the_advice_names_exist(model: Any, advice: str) -> None:
    next_model = videolm.LlavaNextVideoForConditionalGeneration
    with torch.device("meta"):
        other = next_model(videolm.LlavaNextVideoConfig(text_config={"num_hidden_layers": 1}, spatial_pool_mode="conv"))
    for place in [word.strip(".,") for word in advice.split() if word.startswith("model.")]:
        found: Any = other
        for step in place.split(".")[1:]:
            found = getattr(found, step)
        assert isinstance(found, nn.Module | nn.Parameter)
    assert isinstance(model.model.image_tower, nn.Module)


@pytest.mark.parametrize("name", [*REFUSED_OPTIONS, "dtpye"])
def test_options_of_other_libraries(name: str, tiny_model_folder: Any) -> None:
    model_class = videolm.LlavaNextVideoForConditionalGeneration
    advice = REFUSED_OPTIONS.get(name, "Did you mean")
    with pytest.raises(ArgumentError, match=f"^from_pretrained got {name}, ") as caught:
        model_class.from_pretrained(tiny_model_folder, **{name: 1})
    assert advice in str(caught.value)
