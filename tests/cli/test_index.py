"""``videolm index``: media are encoded once, and questions about them then need neither video decoder nor tower."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from videolm.cli.main import main
from videolm.models.vit import VisionTransformer


@pytest.fixture
def run(tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """A command with the tiny model and a cache; gives the status, standard output and standard error."""

    def run(command: str, *words: str | Path) -> tuple[int, str, str]:
        common = ["--model", str(tiny_model_folder), "--cache", str(tmp_path / "cache")]
        status = main([command, *map(str, words), *common])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def without_eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither frames are decoded nor pixels encoded from here on."""

    def raises(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("decoded or encoded")

    monkeypatch.setattr("videolm.media.load.decode_video", raises)
    monkeypatch.setattr("videolm.media.load.load_picture", raises)
    monkeypatch.setattr(VisionTransformer, "forward", raises)


def test_indexed_media_need_neither_decoder_nor_tower(
    run: Any,
    clip: Path,
    picture: Path,
    tmp_path: Path,
    tiny_model_folder: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    question = (clip, picture, "What is this?", "--json", "--max-new-tokens", "5", "--frames", "4")
    assert main(["ask", *map(str, question), "--model", str(tiny_model_folder)]) == 0
    plain = capsys.readouterr().out
    status, out, err = run("index", clip, picture, "--frames", "4")
    assert (status, err) == (0, "")
    *told, last = out.splitlines()  # The first to be done is told first.
    assert sorted(told) == sorted([f"{clip}: 16 visual tokens, encoded", f"{picture}: 52 visual tokens, encoded"])
    assert last == f"2 encoded, 0 there already, 0 failed; use them with --cache {tmp_path / 'cache'}"
    renamed = tmp_path / "renamed.mp4"
    renamed.write_bytes(clip.read_bytes())
    request.getfixturevalue("without_eyes")
    status, out, err = run("ask", *question)
    assert (status, err) == (0, "")
    expected, answer = json.loads(plain), json.loads(out)
    assert {key: answer[key] for key in ("answer", "media", "usage")} == {
        key: expected[key] for key in ("answer", "media", "usage")
    }
    status, out, _ = run("index", renamed, "--frames", "4")
    assert (status, out.splitlines()[0]) == (0, f"{renamed}: 16 visual tokens, there already")
    with pytest.raises(AssertionError, match="decoded or encoded"):
        run("index", clip, "--frames", "5")
    with pytest.raises(AssertionError, match="decoded or encoded"):
        run("index", clip, "--frames", "4", "--keep-visual-tokens", "0.5")


def test_one_bad_medium_is_told_and_the_others_go_on(run: Any, clip: Path, tmp_path: Path) -> None:
    status, out, err = run("index", tmp_path / "nowhere.mp4", clip)
    assert status == 1
    assert err.startswith(f"videolm: {tmp_path / 'nowhere.mp4'} does not exist.")
    assert out.splitlines()[-1].startswith("1 encoded, 0 there already, 1 failed")


def test_a_damaged_file_is_warned_of_and_made_anew(run: Any, clip: Path, tmp_path: Path) -> None:
    run("index", clip, "--frames", "4")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    status, _, err = run("ask", clip, "What?", "--max-new-tokens", "2", "--frames", "4")
    assert status == 0
    assert err == f"videolm: warning: {file} is no whole file of features: it is ignored, and written anew.\n"
    assert run("ask", clip, "What?", "--max-new-tokens", "2", "--frames", "4")[2] == ""


def test_bounds_are_checked(run: Any, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ask", clip, "What?", "--cache-gb", "0")[2] == (
        "videolm: --cache-gb is 0: expected a number of GB above 0. Leave it out for 10.\n"
    )
    assert main(["ask", str(clip), "What?", "--cache-gb", "1"]) == 1
    assert "there is no --cache: expected both" in capsys.readouterr().err
