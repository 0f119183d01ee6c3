"""``videolm chat``: lines in, answers out, with the media read once."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from videolm import reader
from videolm.cli.main import main
from videolm.models.video_lm import VideoLM


class Terminal(io.StringIO):
    """Standard input as a person's terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def chat(
    tiny_model_folder: Path, picture: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Chat with the tiny model about a picture; gives the status, standard output and standard error."""

    def run(text: str, *, terminal: bool = False) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", Terminal(text) if terminal else io.StringIO(text))
        status = main(["chat", "--model", str(tiny_model_folder), "--max-new-tokens", "3", str(picture)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_each_line_of_a_pipe_is_answered(chat: Any) -> None:
    status, out, err = chat("What is it?\n\nAnd its colour?")
    assert (status, err) == (0, "")
    assert out.count("\n") >= 2
    assert out.startswith(chat("What is it?\n")[1])


def test_exit_ends_it(chat: Any) -> None:
    assert chat("/exit\nWhat is it?\n") == (0, "", "")


def test_no_input_ends_it(chat: Any) -> None:
    assert chat("") == (0, "", "")


def test_a_terminal_gets_a_prompt(chat: Any) -> None:
    assert chat("", terminal=True) == (0, "> \n", "")


def test_media_are_read_and_encoded_once(chat: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for owner, name in ((reader, "load_media"), (VideoLM, "encode_media")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name), name, calls))
    assert chat("One?\nTwo?\nThree?\n")[0] == 0
    assert calls == ["load_media", "encode_media"]


def counted(function: Any, name: str, calls: list[str]) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return function(*args, **kwargs)

    return wrapper


def test_a_mistake_ends_a_script_and_not_a_conversation(chat: Any) -> None:
    too_long = "very " * 1000
    status, out, err = chat(f"{too_long}\nWhat is it?\n")
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    status, out, err = chat(f"{too_long}\nWhat is it?\n", terminal=True)
    assert status == 0
    assert out.count("> ") == 3
    assert err.startswith("videolm: The prompt has")
