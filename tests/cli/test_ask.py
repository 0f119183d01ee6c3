"""``videolm ask``: what stands on standard output and standard error, and the object that ``--json`` prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from videolm.cli.main import main

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def ask(tiny_model_folder: Path, capsys: Captured) -> Any:
    """Ask the tiny model; gives the status, standard output and standard error."""

    def run(*argv: str | Path) -> tuple[int, str, str]:
        status = main(["ask", "--model", str(tiny_model_folder), "--max-new-tokens", "5", *map(str, argv)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("page.mp4", "page.mp4 is a web page."),
        ("empty.mp4", "empty.mp4 is empty (0 bytes)."),
        ("folder", "The folder folder holds no pictures."),
        ("data:video/mp4;base64,PGh0bWw+", "data:video/mp4;base64 URI is a web page."),
    ],
)
def test_what_is_plainly_no_medium_is_refused_before_the_model_is_loaded(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.mp4").write_text("<html>")
    Path("empty.mp4").touch()
    Path("folder").mkdir()
    assert main(["ask", name, "What is this?", "--model", "nowhere"]) == 1
    assert capsys.readouterr().err.startswith(f"videolm: {message} Expected ")


def test_json_is_the_whole_report(ask: Any, clip: Path, picture: Path, tiny_model_folder: Path) -> None:
    status, out, err = ask(clip, picture, "What is this?", "--json", "--frames", "4")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert list(report) == ["answer", "finish_reason", "model", "media", "usage", "timings_s", "tokens_per_s"]
    assert report["finish_reason"] == "length"
    assert report["model"] == str(tiny_model_folder)
    video, image = report["media"]
    keys = ["source", "kind", "frame_indices", "frame_times_s", "visual_tokens", "visual_token_budget", "chosen"]
    assert list(video) == keys
    assert (video["source"], video["kind"], video["frame_indices"]) == (str(clip), "video", [0, 3, 7, 11])
    assert video["frame_times_s"] == pytest.approx([0, 3 / 6, 7 / 6, 11 / 6])
    assert (image["source"], image["kind"], image["frame_indices"]) == (str(picture), "image", [])
    assert report["usage"]["visual_tokens"] == video["visual_tokens"] + image["visual_tokens"]
    assert report["usage"]["completion_tokens"] == 5
    assert list(report["timings_s"]) == ["load", "decode", "preprocess", "vision", "first_token", "total"]
    assert 0 < report["timings_s"]["first_token"] <= report["timings_s"]["total"]


def test_streamed_and_whole_answers_are_the_same_text(ask: Any, clip: Path) -> None:
    answer = json.loads(ask(clip, "What moves?", "--json")[1])["answer"]
    warning = f"videolm: warning: {clip} has 12 frames, fewer than the 32 asked for; all of them are used.\n"
    assert ask(clip, "What moves?") == (0, f"{answer}\n", warning)
    assert ask(clip, "What moves?", "--no-stream") == (0, f"{answer}\n", warning)


def test_a_seed_repeats_a_draw(ask: Any, clip: Path) -> None:
    drawn = [ask(clip, "Say!", "--temperature", "1.5", "--seed", seed)[1] for seed in ("1", "1", "2")]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_a_special_token_in_the_question_stays_text(ask: Any, picture: Path) -> None:
    status, out, err = ask(picture, "What does </s> after <video> mean?", "--json")
    assert status == 0
    assert json.loads(out)["usage"]["completion_tokens"] == 5
    assert err == "videolm: warning: The text spells </s>, <video>: read as text, not as a special token.\n"


def test_the_system_prompt_is_part_of_the_prompt(ask: Any, picture: Path) -> None:
    def prompt_tokens(*argv: str) -> int:
        return json.loads(ask(picture, "What?", "--json", *argv)[1])["usage"]["prompt_tokens"]

    assert prompt_tokens("--system", "Be brief and friendly.") != prompt_tokens()
