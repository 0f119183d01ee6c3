"""The benchmark of guessed tokens: what it counts, on answers that repeat the prompt and on some that never do."""

from pathlib import Path

import bench_drafts as bench
import pytest


@pytest.fixture(scope="module")
def workloads(tmp_path_factory: pytest.TempPathFactory) -> tuple[bench.Workload, ...]:
    cache: Path = tmp_path_factory.mktemp("models")
    return (*bench.captions(1), bench.wrong_guesses("small", cache, 6))


@pytest.mark.slow
def test_guesses_change_no_answer_and_save_steps_only_where_answers_repeat(
    workloads: tuple[bench.Workload, ...],
) -> None:
    once, twice, never = (bench.measure(each, (0, 4), 1) for each in workloads)
    assert [row[:2] for row in once] == [("captions", "nothing"), ("captions", "4")]
    assert [row[2] for row in (once[0], twice[0], never[0])] == ["1.00"] * 3
    assert float(twice[1][2]) > 2
    assert float(never[1][2]) < 1.3
    assert [row[-1] for row in (*once, *twice)] == ["100% equal"] * 4
    assert bench.section_of([*once, *twice, *never], repeats=1, count=1).rows[0] == once[0]
