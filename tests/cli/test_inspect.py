"""``videolm inspect``: the sheet, the same in words and as JSON, and an output that is whole or absent."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from videolm.cli.main import main


@pytest.fixture
def inspect(tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Inspect with the tiny model; gives the status, standard output and standard error."""

    def run(*argv: str | Path) -> tuple[int, str, str]:
        status = main(["inspect", "--model", str(tiny_model_folder), *map(str, argv)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_the_sheet_and_its_description(inspect: Any, clip: Path, picture: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    status, out, err = inspect(clip, picture, "--frames", "3", "--out", sheet)
    assert (status, err) == (0, "")
    assert out == (
        f"{clip}: video, 3 of 12 frames, at 0.00, 0.83, 1.83 s, each 28x28 pixels; 12 visual tokens\n"
        f"{picture}: image, 3 tiles, each 28x28 pixels; 52 visual tokens\n"
        f"The sheet is in {sheet}.\n"
    )
    with Image.open(sheet) as image:
        assert image.format == "PNG"
    assert list(tmp_path.iterdir()) == [sheet]


def test_no_weights_are_read_and_no_device_is_named(
    tiny_model_folder: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ignore = shutil.ignore_patterns("*.safetensors")
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model", ignore=ignore)
    argv = ["inspect", "--model", str(folder), "--json", str(clip)]
    assert main(argv) == 0
    assert main([*argv, "--device", "cpu"]) == 2
    assert "unrecognized arguments: --device cpu" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["evs", "fastvid"])
def test_fewer_tokens_are_told_and_shown(inspect: Any, clip: Path, tmp_path: Path, method: str) -> None:
    sheet = tmp_path / "sheet.png"
    words = (clip, "--frames", "3", "--keep-visual-tokens", "0.5", "--token-reduction", method, "--out", sheet)
    status, out, err = inspect(*words)
    assert (status, err, out.splitlines()[0].endswith("; 6 of 12 visual tokens")) == (0, "", True)
    status, out, _ = inspect(*words[:-2], "--json")
    (medium,) = json.loads(out)["media"]
    told = [medium[key] for key in ("visual_tokens", "full_visual_tokens", "visual_token_budget", "token_reduction")]
    assert (status, told) == (0, [6, 12, 0.5, method])


def test_json_needs_no_sheet(inspect: Any, clip: Path) -> None:
    status, out, err = inspect("--json", clip, "--frames", "3")
    assert (status, err) == (0, "")
    described = json.loads(out)
    assert described["visual_tokens"] == 12
    assert described["media"][0]["frame_indices"] == [0, 5, 11]


def test_the_format_follows_the_name(inspect: Any, picture: Path, tmp_path: Path) -> None:
    assert inspect(picture, "--out", tmp_path / "sheet.JPG")[0] == 0
    with Image.open(tmp_path / "sheet.JPG") as image:
        assert image.format == "JPEG"


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("sheet.mp4", "expected a name that ends in one of .png, .jpg, .jpeg, .webp"),
        ("nowhere/sheet.png", "there is no folder"),
        ("folder.png", "which is a folder"),
    ],
)
def test_an_impossible_output_is_refused_first(
    inspect: Any, picture: Path, tmp_path: Path, out: str, message: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    status, printed, err = inspect(picture, "--out", tmp_path / out)
    assert (status, printed) == (1, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_write_that_fails_leaves_the_old_sheet(
    inspect: Any, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = tmp_path / "sheet.png"
    sheet.write_text("old")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(Path, "replace", fail)
    status, _, err = inspect(picture, "--out", sheet)
    assert status == 1
    assert "cannot be written: No space left on device" in err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("sheet.png", "old")]
