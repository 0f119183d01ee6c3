"""What a session does about positions that are stretched, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videolm.cli.main import main
from videolm.errors import ConfigError, ProcessingError
from videolm.session import Session, load

WINDOW = 300


@pytest.fixture
def session_with(tiny_folder: Path) -> Any:
    """A session on the tiny model under a rope policy."""

    def make(policy: str | None, factor: float = 1.0) -> Session:
        config = json.loads((tiny_folder / "config.json").read_text())
        config["text_config"] |= {
            "max_position_embeddings": WINDOW,
            "rope_parameters": {"rope_type": "linear", "factor": factor, "rope_theta": 10000.0},
        }
        config |= {} if policy is None else {"rope_policy": policy}
        (tiny_folder / "config.json").write_text(json.dumps(config))
        return load(tiny_folder, device="cpu", dtype="float32")

    return make


def notes(session: Session, question: str = "What?") -> list[str]:
    clip = np.zeros((8, 28, 28, 3), dtype=np.uint8)
    warnings = session.ask(clip, question, max_new_tokens=2).warnings
    return [line for line in warnings if "rope_policy" in line]


def test_the_automatic_policy_says_how_far_it_stretches(session_with: Any) -> None:
    (line,) = notes(session_with("auto"))
    assert "trained for 300: positions are divided by 4 (rope_policy auto)" in line


def test_the_fixed_policy_says_so_where_the_prompt_needs_it(session_with: Any) -> None:
    session = session_with(None, factor=4.0)
    assert notes(session) == []
    (line,) = notes(session, "x" * WINDOW)
    assert "positions are divided by 4 (rope_policy fixed)" in line


def test_without_stretching_the_context_is_the_decoders_own(session_with: Any) -> None:
    session = session_with("none", factor=4.0)
    assert notes(session) == []
    with pytest.raises(ProcessingError, match=rf"the model's context holds {WINDOW}:"):
        session.ask(np.zeros((8, 28, 28, 3), dtype=np.uint8), "x" * WINDOW)


@pytest.mark.parametrize(("policy", "said"), [("auto", "divided by 4 (rope_policy auto)"), ("none", None)])
def test_the_policy_can_be_chosen_when_loading(session_with: Any, tiny_folder: Path, policy: str, said: str) -> None:
    session_with("fixed", factor=4.0)
    session = load(tiny_folder, device="cpu", dtype="float32", rope_policy=policy)
    assert [said in line for line in notes(session)] == ([True] if said else [])
    assert session.model.config.rope_policy == policy
    with pytest.raises(ConfigError, match="rope_policy is 'often': expected one of fixed, auto, none"):
        load(tiny_folder, rope_policy="often")


def test_the_command_line_says_which_it_used(
    session_with: Any, tiny_folder: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session_with(None, factor=2.0)
    question = ["ask", str(clip), "What?", "--model", str(tiny_folder), "--max-new-tokens", "2", "--frames", "8"]
    assert main([*question, "--rope-policy", "auto"]) == 0
    assert "positions are divided by 4 (rope_policy auto)" in capsys.readouterr().err
    assert main(question) == 0
    assert "rope_policy" not in capsys.readouterr().err
