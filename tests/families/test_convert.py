"""Models from layout to layout: nothing is lost on the way, or it is named; nothing half-written is left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from videolm.contracts import Frames
from videolm.errors import ArgumentError, CheckpointError, ConfigError, ModelNotFoundError
from videolm.families import convert as conversion
from videolm.families.auto import family_of, load_config, load_model, load_processor
from videolm.families.convert import LAYOUTS, convert
from videolm.families.written_forms import written_form
from videolm.weights.files import open_weights

FAMILIES = ["llava_next_video", "llava_next", "llava_next_video2", "video_llava"]
MISTRAL = {"model_type": "mistral", "sliding_window": None}
TIMED = Path(__file__).resolve().parents[1] / "assets" / "golden" / "video_llava_original" / "vlo_video"
WriteSmallModel = Callable[..., Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, write_small_model: WriteSmallModel) -> dict[str, Path]:
    return {family: write_small_model(family, tmp_path_factory.mktemp(family) / "small") for family in FAMILIES}


def assert_same_weights(first: Path, second: Path) -> None:
    torch.testing.assert_close(
        dict(load_model(first).state_dict()), dict(load_model(second).state_dict()), rtol=0, atol=0
    )


def media() -> Iterator[Frames]:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 30, 50, 3), dtype=np.uint8)
    places = {"frame_indices": tuple(range(8)), "num_source_frames": 8, "fps": 4.0}
    yield Frames(kind="video", pixels=tuple(pixels), source="clip", size=(30, 50), **places)  # type: ignore[arg-type]
    yield Frames(kind="image", pixels=(pixels[0],), source="picture", size=(30, 50))


def prompt_of(folder: Path) -> Any:
    content = [{"type": "video"}, {"type": "image"}, {"type": "text", "text": "what is this?"}]
    return load_processor(folder).prepare([{"role": "user", "content": content}], list(media()))


def assert_same_answers(first: Path, second: Path) -> None:
    """The same tokens, pixels and scores for a clip and a picture."""
    one, other = prompt_of(first), prompt_of(second)
    assert one.media_starts == other.media_starts
    for mine, yours in zip(one.media, other.media, strict=True):
        assert torch.equal(mine.pixel_values, yours.pixel_values)
    logits = []
    for folder, prompt in ((first, one), (second, other)):
        model = load_model(folder)
        logits.append(model.prefill(prompt, model.new_cache()))
    assert torch.equal(*logits)


# --- round trips ---


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back(folders: dict[str, Path], tmp_path: Path, family: str, layout: str) -> None:
    source = folders[family]
    there = convert(source, tmp_path / "there", layout=layout)
    assert (there.family, there.layout, there.lost, there.has_processor) == (family, layout, "", True)
    back = convert(tmp_path / "there", tmp_path / "back", layout="hf")
    assert back.lost == ""
    for folder in (there.folder, back.folder):
        assert load_config(folder).model_type == family
        assert family_of(folder).sampling == family_of(source).sampling
        assert_same_weights(source, folder)
        assert_same_answers(source, folder)
    before, after = load_config(source).to_dict(), load_config(back.folder).to_dict()
    for name, taken in (("add_time_attn", False), ("num_frames", 8)):
        before["vision_config"].setdefault(name, taken)
        after["vision_config"].setdefault(name, taken)
    ours_alone = {"torch_dtype", "architectures", "rope_policy"}
    different = {name for name in before if before[name] != after.get(name)} - ours_alone
    assert different <= {"image_seq_length", "video_seq_length"}, "only what has no meaning may differ"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_names_of_each_layout(folders: dict[str, Path], tmp_path: Path, layout: str) -> None:
    convert(folders["llava_next_video"], tmp_path / "new", layout=layout)
    names = set(load_file(tmp_path / "new" / "model.safetensors"))
    marks = {
        "hf": "vision_tower.vision_model.embeddings.class_embedding",
        "hf5": "vision_tower.embeddings.class_embedding",
        "original": "model.vision_tower.vision_tower.vision_model.embeddings.class_embedding",
    }
    heads = {
        "hf": "language_model.lm_head.weight",
        "hf5": "language_model.lm_head.weight",
        "original": "lm_head.weight",
    }
    assert {marks[layout], heads[layout]} <= names


def test_an_original_folder_stays_as_it_is(tmp_path: Path) -> None:
    convert(TIMED, tmp_path / "copy", layout="original", max_shard_size="100KB")
    assert json.loads((tmp_path / "copy" / "config.json").read_text()) == json.loads(
        (TIMED / "config.json").read_text()
    )
    assert len(list((tmp_path / "copy").glob("model-*.safetensors"))) > 3
    assert_same_weights(TIMED, tmp_path / "copy")


def test_the_original_form_is_what_the_original_code_knows(folders: dict[str, Path], tmp_path: Path) -> None:
    convert(folders["llava_next_video2"], tmp_path / "new", layout="original")
    values = json.loads((tmp_path / "new" / "config.json").read_text())
    expected = {
        "model_type": "llava_qwen",
        "architectures": ["LlavaQwenForCausalLM"],
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_projector_type": "mlp2x_gelu",
        "mm_patch_merge_type": "spatial_unpad",
        "mm_newline_position": "grid",
        "mm_pooling_position": "after",
        "image_aspect_ratio": "anyres_max_9",
        "add_time_instruction": True,
        "add_faster_video": False,
        "vocab_size": 320,
        "rope_scaling": None,
    }
    assert {name: values.get(name) for name in expected} == expected
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_pairs_of_pinpoints_are_turned_with_the_way_to_read_them(
    write_small_model: WriteSmallModel, tmp_path: Path
) -> None:
    source = write_small_model("llava_next_video", tmp_path, image_grid_pinpoints=[[28, 56], [84, 28]])
    convert(source, tmp_path / "original", layout="original")
    values = json.loads((tmp_path / "original" / "config.json").read_text())
    assert values["image_grid_pinpoints"] == [[56, 28], [28, 84]]
    back = convert(tmp_path / "original", tmp_path / "back", layout="hf")
    config = load_config(back.folder)
    assert (config.image_grid_pinpoints, config.pinpoint_order) == ([[28, 56], [84, 28]], "height_width")
    written = json.loads((back.folder / "preprocessor_config.json").read_text())
    assert written["image_grid_pinpoints"] == [[28, 56], [84, 28]]


def test_conventions_of_other_readers_are_told(folders: dict[str, Path], tmp_path: Path) -> None:
    there = convert(folders["llava_next"], tmp_path / "there", layout="original")
    assert there.changed == ("round_unpad True to False", "rope_policy 'fixed' to 'auto'")
    assert load_config(there.folder).rope_policy == "auto"
    back = convert(there.folder, tmp_path / "back", layout="hf5")
    assert back.changed == ("round_unpad False to True", "rope_policy 'auto' to 'fixed'")
    assert load_config(back.folder).rope_policy == "fixed"


def test_stretched_positions_are_kept(write_small_model: WriteSmallModel, tmp_path: Path) -> None:
    rope = {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 5e4}}
    source = write_small_model("llava_next_video", tmp_path, text_config=rope)
    for layout in LAYOUTS:
        config = load_config(convert(source, tmp_path / layout, layout=layout).folder)
        decoder = config.model_settings().decoder
        assert (decoder.rope_factor, decoder.rope_theta, decoder.rope_policy) == (2.5, 5e4, "fixed")
    # Releases before 4.43 insist on these two keys.
    written = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert written["text_config"]["rope_scaling"] == {"type": "linear", "factor": 2.5}
    assert written["torch_dtype"] == written["dtype"] == "float32"


def test_frames_a_checkpoint_asks_for_are_kept(folders: dict[str, Path], tmp_path: Path) -> None:
    source = Path(shutil.copytree(folders["llava_next_video2"], tmp_path / "source"))
    path = source / "video_preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_frames": 5, "fps": 1.0}))
    there = convert(source, tmp_path / "there", layout="original").folder
    values = json.loads((there / "config.json").read_text())
    assert (values["frames_upbound"], values["force_sample"]) == (5, False)
    back = convert(there, tmp_path / "back", layout="hf").folder
    assert family_of(back).sampling == family_of(source).sampling == family_of(there).sampling


# --- what a layout cannot hold ---


def test_attention_over_time_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        convert(TIMED, tmp_path / "new", layout="hf")
    assert str(caught.value) == (
        "The layout hf cannot hold 44 tensors (model.video_tower.encoder.layers.0.temporal_embedding, "
        "model.video_tower.encoder.layers.0.temporal_layer_norm1.weight, …) and 1 setting (vision_config.add_time_attn "
        "True) of this model: other readers of such files would leave that out or take another value. Save as "
        "original, or drop it (drop=True, --drop)."
    )
    assert not (tmp_path / "new").exists()
    dropped = convert(TIMED, tmp_path / "new", layout="hf", drop=True)
    assert dropped.lost.startswith("44 tensors")
    assert not dropped.has_processor
    before, after = (load_model(folder).state_dict() for folder in (TIMED, tmp_path / "new"))
    assert len(before) == len(after) + 44
    tables = {"lm_head.weight", "model.language_model.embed_tokens.weight"}  # With rows for the placeholders.
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items() if name not in tables)
    assert load_config(tmp_path / "new").temporal_frames is None


@pytest.mark.parametrize(
    ("family", "changes", "layout", "setting", "taken"),
    [
        ("llava_next_video", {"newline_position": "grid"}, "hf", "newline_position 'grid'", "no_token"),
        ("llava_next_video", {"pooling_position": "after"}, "hf5", "pooling_position 'after'", "before"),
        ("llava_next_video", {"spatial_pool_mode": "bilinear"}, "hf", "spatial_pool_mode 'bilinear'", "average"),
        ("llava_next", {"vision_aspect_ratio": "anyres_max_4"}, "hf", "vision_aspect_ratio 'anyres_max_4'", "anyres"),
        ("llava_next", {"spatial_pool_stride": 4}, "original", "spatial_pool_stride 4", 2),
        ("llava_next_video", {"projector_hidden_act": "silu"}, "original", "projector_hidden_act 'silu'", "gelu"),
        (
            "llava_next_video2",
            {"text_config": {"rope_scaling": {"type": "linear", "factor": 2.0}}},
            "original",
            "text_config.rope_parameters {'factor': 2.0, 'rope_type': 'linear', 'rope_theta': 10000.0}",
            None,
        ),
    ],
)
def test_settings_are_refused_by_name(
    write_small_model: WriteSmallModel,
    tmp_path: Path,
    family: str,
    changes: dict[str, Any],
    layout: str,
    setting: str,
    taken: Any,
) -> None:
    source = write_small_model(family, tmp_path, **changes)
    with pytest.raises(CheckpointError) as caught:
        convert(source, tmp_path / "new", layout=layout)
    assert f"The layout {layout} cannot hold 1 setting ({setting}) of this model" in str(caught.value)
    dropped = convert(source, tmp_path / "new", layout=layout, drop=True)
    assert dropped.lost == f"1 setting ({setting})"
    if taken is not None:
        assert getattr(load_config(dropped.folder), setting.split()[0]) == taken


def test_pixels_that_the_original_code_makes_in_another_way(folders: dict[str, Path], tmp_path: Path) -> None:
    source = Path(shutil.copytree(folders["llava_next"], tmp_path / "source"))
    path = source / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"resample": 2}))
    with pytest.raises(CheckpointError, match=r"cannot hold 1 setting \(picture resample 'bilinear'\)"):
        convert(source, tmp_path / "new", layout="original")


def test_a_model_that_the_original_code_would_take_for_another(
    write_small_model: WriteSmallModel, tmp_path: Path
) -> None:
    source = write_small_model("llava_next_video2", tmp_path, newline_position="no_token", text_config=MISTRAL)
    with pytest.raises(CheckpointError, match="its files would be read as llava_next_video, not llava_next_video2"):
        convert(source, tmp_path / "new", layout="original", drop=True)


def test_a_list_of_layers_is_nothing_that_the_original_code_knows(
    write_small_model: WriteSmallModel, tmp_path: Path
) -> None:
    source = write_small_model("llava_next", tmp_path, vision_feature_layer=[-2, -3])
    with pytest.raises(CheckpointError, match=r"cannot hold this model.*mm_vision_select_layer is \[-2, -3\]"):
        convert(source, tmp_path / "new", layout="original", drop=True)


# --- placeholders and rows ---


def test_rows_for_placeholders_that_lie_outside_the_table(write_small_model: WriteSmallModel, tmp_path: Path) -> None:
    """Ports look placeholders up before they replace them."""
    source = write_small_model("llava_next_video", tmp_path, text_config={"vocab_size": 290})
    there = convert(source, tmp_path / "there", layout="hf").folder
    before, after = load_model(source), load_model(there)
    assert load_config(there).text_config.vocab_size == 320
    for name in ("lm_head.weight", "model.language_model.embed_tokens.weight"):
        old, new = before.state_dict()[name], after.state_dict()[name]
        assert torch.equal(new[:290], old)
        torch.testing.assert_close(new[290:], old.mean(0).expand(30, -1))
    back = convert(there, tmp_path / "back", layout="original").folder
    assert_same_weights(source, back)


# --- the folder ---


def test_nothing_is_overwritten(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(ArgumentError, match=r"full holds 1 entries: expected a folder to make, or an empty one"):
        convert(folders["llava_next"], tmp_path / "full", layout="hf")
    with pytest.raises(ArgumentError, match=r"notes\.txt is a file"):
        convert(folders["llava_next"], tmp_path / "full" / "notes.txt", layout="hf")
    with pytest.raises(ArgumentError, match="layout is 'memory': expected one of hf, hf5, original"):
        convert(folders["llava_next"], tmp_path / "new", layout="memory")
    (tmp_path / "empty").mkdir()
    convert(folders["llava_next"], tmp_path / "empty", layout="hf")
    assert_same_weights(folders["llava_next"], tmp_path / "empty")


def test_a_failure_leaves_nothing(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversion, "save_weights", fail)
    with pytest.raises(CheckpointError, match=r"failed \(No space left on device\): expected a folder with enough"):
        convert(folders["llava_next"], tmp_path / "new", layout="hf")
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is no folder"):
        convert(tmp_path / "nothing", tmp_path / "new", layout="hf")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="model_type is 'bert'"):
        convert(tmp_path, tmp_path / "new", layout="hf")


def test_one_tensor_at_a_time(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tensor is written before the next is read."""
    files = open_weights(folders["llava_next"])
    alive: list[Any] = []
    read = type(files).read

    def watched(self: Any, key: str) -> torch.Tensor:
        import weakref

        tensor = read(self, key)
        alive[:] = [reference for reference in alive if reference() is not None]
        assert len(alive) <= 1
        alive.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(type(files), "read", watched)
    convert(folders["llava_next"], tmp_path / "new", layout="hf5")


# --- saving from memory shares all that ---


def test_saving_a_model_refuses_and_drops_alike(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load_model(folders["llava_next_video"])
    model.config.newline_position = "grid"
    with pytest.raises(CheckpointError, match=r"layout hf5 cannot hold 1 setting \(newline_position 'grid'\)"):
        model.save_pretrained(tmp_path / "new", layout="hf5")
    model.save_pretrained(tmp_path / "new", layout="hf5", drop=True)
    assert load_config(tmp_path / "new").newline_position == "no_token"
    model.save_pretrained(tmp_path / "own")
    assert load_config(tmp_path / "own").newline_position == "grid"


def test_a_whole_form_without_a_layout_loses_nothing(folders: dict[str, Path]) -> None:
    config = load_config(folders["video_llava"])
    form = written_form(family_of(folders["video_llava"]), config, None, [])
    assert (form.name, form.config, form.lost) == ("hf", config.to_dict(), "")
