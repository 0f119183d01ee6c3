"""Guessing from the text itself."""

from __future__ import annotations

from videolm.engine.draft import PromptLookup


def test_what_followed_last_time_is_guessed() -> None:
    lookup = PromptLookup(2, 3)
    assert lookup.guess([1, 2, 3, 4, 5, 1, 2], 100) == (3, 4, 5)
    assert lookup.guess([1, 2, 3, 4, 5, 1, 2, 3], 100) == (4, 5, 1)
    assert lookup.guess([1, 2, 3, 4, 5, 1, 2, 3, 9], 100) == ()


def test_the_latest_occurrence_counts() -> None:
    assert PromptLookup(1, 2).guess([1, 2, 3, 1, 4, 5, 1], 100) == (4, 5)


def test_a_run_does_not_predict_itself() -> None:
    assert PromptLookup(2, 4).guess([1, 2], 100) == ()
    assert PromptLookup(1, 4).guess([7, 7], 100) == (7,)


def test_tokens_of_media_are_never_guessed() -> None:
    assert PromptLookup(1, 3).guess([1, 2, 2**64, 3, 1], 100) == (2,)


def test_a_short_text_has_no_guess() -> None:
    assert PromptLookup(3, 3).guess([1, 1], 100) == ()
