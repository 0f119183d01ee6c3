"""``videolm models``: what is listed, from which places, and how names that are not there are told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from videolm.cli.main import main
from videolm.cli.models import folders_with_models


@pytest.fixture
def workplace(tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with one model, one folder that is none, and an empty hub cache."""
    shutil.copytree(tiny_model_folder, tmp_path / "runs" / "first" / "export")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "something_else"}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / ".cache"))
    return tmp_path


def listed(capsys: pytest.CaptureFixture[str], *argv: str) -> list[dict[str, object]]:
    assert main(["models", "--json", *argv]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)["models"]


def test_models_below_the_working_directory_are_listed(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundled, *local = listed(capsys)
    assert bundled["name"] == "videolm-mini"
    assert local == [
        {
            "name": "./runs/first/export",
            "family": "llava_next_video",
            "num_parameters": 70880,
            "bytes": (workplace / "runs/first/export/model.safetensors").stat().st_size,
            "present": True,
        }
    ]


def test_the_table_has_a_line_for_each(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "family", "parameters", "size", "here"]
    assert lines[2].split() == ["./runs/first/export", "llava_next_video", "70.9", "k", "291", "kB", "yes"]


def test_a_model_without_its_weights_is_not_here(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "runs/first/export/model.safetensors").unlink()
    assert [(row["bytes"], row["present"]) for row in listed(capsys, "runs/first/export")] == [(0, False)]


@pytest.mark.usefixtures("workplace")
def test_a_hub_name_that_is_not_in_the_cache_is_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, "someone/some-model") == [
        {"name": "someone/some-model", "family": None, "num_parameters": None, "bytes": 0, "present": False}
    ]


def test_a_model_in_the_hub_cache_is_listed(
    workplace: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = workplace / ".cache" / "models--someone--tiny"
    revision = "0123456789" * 4
    shutil.copytree(tiny_model_folder, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    assert [(row["name"], row["family"], row["present"]) for row in listed(capsys)[1:]] == [
        ("./runs/first/export", "llava_next_video", True),
        ("someone/tiny", "llava_next_video", True),
    ]
    assert [row["name"] for row in listed(capsys, "someone/tiny")] == ["someone/tiny"]


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "videolm: ./nowhere does not exist"),
        ("other", "videolm: model_type is 'something_else' in other"),
        ("other/config.json", "videolm: other/config.json is a file"),
    ],
)
def test_a_name_that_is_no_model_is_an_error(name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", name]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(message)
    assert printed.err.count("\n") == 1


def test_hidden_and_deep_folders_are_not_searched(tmp_path: Path) -> None:
    for place in ("a/b/c", "a/b/c/d", ".hidden", "a"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "config.json").touch()
    assert [folder.relative_to(tmp_path).as_posix() for _, folder in folders_with_models(tmp_path)] == ["a", "a/b/c"]
