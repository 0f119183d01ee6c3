"""Shares, intervals, precision and recall."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videolm.evaluation.scoring import Share, compare_facts, summarise
from videolm.evaluation.task import ItemScore


@pytest.mark.parametrize(
    ("hits", "total", "expected"),
    # Values of the published formula, e.g. 0 of 10 ends at z^2 / (n + z^2).
    [(0, 10, (0.0, 0.27753)), (5, 10, (0.23659, 0.76341)), (10, 10, (0.72247, 1.0)), (95, 100, (0.88825, 0.97846))],
)
def test_wilson_interval(hits: int, total: int, expected: tuple[float, float]) -> None:
    assert Share(hits=hits, total=total).interval() == pytest.approx(expected, abs=1e-5)


def test_a_share_of_nothing_has_no_value() -> None:
    share = Share(hits=0, total=0)
    assert (share.value, share.interval()) == (None, None)


@given(st.integers(0, 200), st.integers(1, 200))
def test_interval_holds_the_share(hits: int, total: int) -> None:
    share = Share(hits=min(hits, total), total=total)
    low, high = share.interval() or (1.0, 0.0)
    assert 0 <= low <= (share.value or 0) + 1e-12
    assert (share.value or 0) - 1e-12 <= high <= 1


def test_compare_facts_sorts_them_into_four_kinds() -> None:
    score = compare_facts(["a", "b"], ["b", "c", "d"], allowed=["c"])
    assert score == ItemScore(found=("b",), missing=("a",), extra=("c",), false=("d",))
    assert (score.is_right, score.num_expected, score.num_true, score.num_stated) == (False, 2, 2, 3)


def test_extra_true_facts_keep_an_answer_right() -> None:
    assert compare_facts(["a"], ["a", "c"], allowed=["c"]).is_right
    assert not compare_facts(["a"], ["a", "c"]).is_right
    assert not compare_facts(["a"], []).is_right


def test_summaries_add_up_facts() -> None:
    scores = [compare_facts(["a", "b", "c"], ["a", "b", "x"]), compare_facts(["a"], ["a"])]
    summary = summarise(scores)
    assert summary.accuracy == Share(hits=1, total=2)
    assert summary.precision == Share(hits=3, total=4)
    assert summary.recall == Share(hits=3, total=4)
