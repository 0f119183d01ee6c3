"""Beam search on tables of probabilities: what is found, how it is scored, when it ends."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch

from videolm.errors import ArgumentError
from videolm.generation.beams import BeamSearch, BeamSettings, Hypothesis

END = 0


def search(table: torch.Tensor, settings: BeamSettings, draw: torch.Generator | None = None) -> list[Hypothesis]:
    """Search where the next token depends on the last one alone: ``table [V, V]`` of log probabilities."""

    def ends(prompt: int, found: Sequence[Sequence[int]]) -> list[bool]:
        return [ids[-1] == END or len(ids) == settings.max_new_tokens for ids in found]

    beams = BeamSearch(1, settings, draw=draw)
    tokens = [1] * settings.num_beams
    for _ in range(settings.max_new_tokens):
        _, tokens = beams.step(table[tokens], ends)
        if beams.is_done:
            break
    return beams.best(settings.num_beams)


def random_table(seed: int, words: int = 5) -> torch.Tensor:
    return (torch.randn(words, words, generator=torch.Generator().manual_seed(seed)) * 2).log_softmax(-1)


def every_answer(table: torch.Tensor, length: int) -> dict[tuple[int, ...], float]:
    words = range(len(table))
    found = {}
    for size in range(1, length + 1):
        for ids in itertools.product(words, repeat=size):
            if END in ids[:-1] or (ids[-1] != END and size < length):
                continue
            found[ids] = sum(float(table[last, word]) for last, word in zip((1, *ids), ids, strict=False))
    return found


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_a_wide_enough_search_finds_the_best_answer(seed: int, penalty: float) -> None:
    table = random_table(seed)
    settings = BeamSettings(num_beams=64, max_new_tokens=3, length_penalty=penalty, early_stopping="never")
    scores = {ids: score / len(ids) ** penalty for ids, score in every_answer(table, 3).items()}
    best = max(scores, key=lambda ids: scores[ids])
    found = search(table, settings)[0]
    assert found.ids == best
    assert found.score == pytest.approx(scores[best], rel=1e-5)


def test_one_beam_is_greedy() -> None:
    table = random_table(3)
    found = search(table, BeamSettings(num_beams=1, max_new_tokens=4))[0]
    expected, last = [], 1
    for _ in range(4):
        last = int(table[last].argmax())
        expected.append(last)
        if last == END:
            break
    assert list(found.ids) == expected


def test_parents_tell_which_row_a_token_came_from() -> None:
    found = search(random_table(1), BeamSettings(num_beams=3, max_new_tokens=4))
    assert [len(hypothesis.parents) for hypothesis in found] == [len(hypothesis.ids) for hypothesis in found]
    assert all(hypothesis.parents[0] == 0 for hypothesis in found)


def test_answers_are_different_and_in_order() -> None:
    found = search(random_table(2), BeamSettings(num_beams=4, max_new_tokens=4))
    assert len({hypothesis.ids for hypothesis in found}) == 4
    assert [hypothesis.score for hypothesis in found] == sorted((each.score for each in found), reverse=True)


def test_drawn_candidates_repeat_with_their_seed() -> None:
    def draw(seed: int) -> list[tuple[int, ...]]:
        generator = torch.Generator().manual_seed(seed)
        settings = BeamSettings(num_beams=2, max_new_tokens=4)
        return [hypothesis.ids for hypothesis in search(random_table(4, 40), settings, generator)]

    assert draw(1) == draw(1) != draw(2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"num_beams": 0}, "num_beams is 0"), ({"early_stopping": "soon"}, "early_stopping is 'soon'")],
)
def test_settings_that_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        BeamSettings(**{"num_beams": 2, "max_new_tokens": 3, **changes})  # type: ignore[arg-type]
