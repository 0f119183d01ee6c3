"""``videolm convert``: what it writes answers questions, what it refuses and drops is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from videolm.cli.main import main

LAYOUTS = ("hf", "hf5", "original")
FAMILIES = ("llava_next_video", "llava_next", "llava_next_video2", "video_llava")
TIMED = Path(__file__).resolve().parents[1] / "assets" / "golden" / "video_llava_original" / "vlo_video"
FAST = dict(zip(FAMILIES, ("hf5", "original", "hf", "original"), strict=True))
CASES = [
    pytest.param(family, layout, marks=() if FAST[family] == layout else pytest.mark.slow)
    for family in FAMILIES
    for layout in LAYOUTS
]


def run(*words: str | Path, status: int = 0) -> None:
    assert main([str(word) for word in words]) == status


@pytest.mark.parametrize(("family", "layout"), CASES)
def test_a_converted_model_answers(
    write_small_model: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    family: str,
    layout: str,
) -> None:
    source = write_small_model(family, tmp_path / "source")
    run("convert", source, tmp_path / "new", "--layout", layout, "--max-shard-size", "100KB")
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].startswith(f"{family} in the layout {layout}, ")
    assert printed.err == ""
    frames = [Image.new("RGB", (40, 30), (20 * index, 0, 90)) for index in range(8)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:], duration=100)
    answers = []
    for model in (source, tmp_path / "new"):
        run("ask", "--model", model, tmp_path / "clip.gif", "What is this?", "--json", "--max-new-tokens", "6")
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0]["answer"] == answers[1]["answer"]
    assert answers[0]["usage"] == answers[1]["usage"]


def test_what_is_refused_and_what_is_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("convert", TIMED, tmp_path / "new", "--layout", "hf", status=1)
    printed = capsys.readouterr()
    assert printed.err.startswith("videolm: The layout hf cannot hold 44 tensors (")
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "new").exists()
    run("convert", TIMED, tmp_path / "new", "--layout", "hf", "--drop")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"video_llava in the layout hf, 176 tensors, is in {tmp_path / 'new'}"
    assert lines[1].startswith("Dropped: 44 tensors (")
    assert lines[2] == "There was no tokenizer, so neither it nor the processor was written."


def test_conventions_are_told(
    write_small_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("convert", write_small_model("llava_next", tmp_path), tmp_path / "new", "--layout", "original")
    assert capsys.readouterr().out.splitlines()[1:] == [
        "Readers of this layout change round_unpad True to False.",
        "Readers of this layout change rope_policy 'fixed' to 'auto'.",
    ]


def test_mistakes(tmp_path: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("convert", tiny_model_folder, tmp_path / "new", status=2)
    assert "the following arguments are required: --layout" in capsys.readouterr().err
    run("convert", tiny_model_folder, tmp_path / "new", "--layout", "gguf", status=2)
    assert "invalid choice: 'gguf'" in capsys.readouterr().err
    run("convert", tmp_path / "nothing", tmp_path / "new", "--layout", "hf", status=1)
    assert "nothing does not exist: expected the folder of a model, or a hub name" in capsys.readouterr().err
    run("convert", tiny_model_folder, tmp_path / "new", "--layout", "hf", "--max-shard-size", "big", status=1)
    assert "max_shard_size is 'big'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
