"""The rows about the engine: all run with tiny weights against the real peer, and their parts say what they should."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import av
import bench_concurrent
import bench_engine
import bench_many
import bench_scale
import engine_plan
import numpy as np
import peers
import pytest
import run
from bench_scale import Growth, fitted_power
from clips import Clip, make_long_clip
from PIL import Image

TINY = Clip(duration_s=1, height=96, width=128, bit_rate=200_000)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer's own environment, or this one, which has the same transformers but not what its server needs."""
    if not peers.PYTHON.exists():
        monkeypatch.setenv("VIDEOLM_PEER_PYTHON", sys.executable)


def test_the_rows_have_exactly_these_names() -> None:
    assert sorted(bench_engine.NAMES) == [
        "ask_again", "ask_once", "concurrent", "decode_cpu", "gpu", "load", "many_questions", "many_videos", "memory",
        "prefill", "scale", "serve", "serve_tiny", "start", "vision",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("peer")
@pytest.mark.parametrize("name", bench_engine.NAMES)
def test_each_row_prints_one_object(
    name: str, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name in ("concurrent", "serve", "serve_tiny") and not peers.PYTHON.exists():
        pytest.skip("the peer's server is installed by make bench-env")
    monkeypatch.setattr(sys, "argv", ["run.py", "--only", name, "--json", "--quick", "--cache", str(cache)])
    run.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["name"] == name
    assert found["rows"]
    for row in (found, *found["rows"]):
        assert {"name", "aim", "ratio", "spread", "ours", "peer", "unit"} <= row.keys()
        assert row["ratio"] == pytest.approx(row["peer"] / row["ours"])
        assert row["spread"][0] <= row["ratio"] <= row["spread"][1]


def test_every_question_of_every_user_comes_once_and_in_order(cache: Path) -> None:
    plan = replace(engine_plan.QUICK, users=4, user_videos=2, user_questions=3, arrivals_s=6.0)
    asked = bench_many.questions_of_users(plan, cache)
    assert len({each.question for each in asked}) == len(asked) == 12
    assert len({each.path for each in asked}) == 2
    times = [each.came_s for each in asked]
    assert times == sorted(times)
    assert times[0] == 0.0
    assert asked == bench_many.questions_of_users(plan, cache)


def test_the_default_asks_64_requests() -> None:
    plan = engine_plan.DEFAULT
    assert (plan.users, plan.user_videos, plan.user_questions) == (16, 4, 4)
    assert plan.users * plan.user_questions == 64
    assert plan.many_videos == 32


def test_a_long_clip_is_the_short_one_again_and_again(cache: Path) -> None:
    path = make_long_clip(TINY, 3, cache)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 3 * TINY.fps
    np.testing.assert_array_equal(frames[5], frames[5 + TINY.fps])
    assert not np.array_equal(frames[5], frames[6])


def test_the_power_of_a_growth_is_found() -> None:
    sizes = (8, 16, 64, 256)
    assert fitted_power(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert fitted_power(sizes, [7.0] * 4) == pytest.approx(0.0, abs=1e-12)


def test_growth_is_drawn_and_told(tmp_path: Path) -> None:
    growth = Growth(sizes=(1, 10), times_s=(1.0, 10.0), peaks_mb=(200.0, 200.0))
    slower = Growth(sizes=(1, 10), times_s=(1.0, 100.0), peaks_mb=(200.0, 400.0))
    measured = bench_scale.Measured(name="requests", unit="", growth=(growth, slower), outputs="outputs equal")
    rows = measured.rows()
    assert [(row.name, row.ratio) for row in rows] == [("requests, 10: time", 10.0), ("requests, 10: memory", 2.0)]
    assert rows[0].outputs == "grows with power 1.00, peer 2.00; outputs equal"
    bench_scale.draw([measured], tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.size == (1200, 600)


def test_tokens_a_second_are_given_as_seconds_so_that_larger_ratios_are_better() -> None:
    way = bench_concurrent.WAYS["bfloat16"][0]
    rate, first = bench_concurrent._rows(way, (20.0, 1.0, ["\ufffd w12 w3", "w4"]), (5.0, 4.0, ["w12 w3", "w5"]))
    assert (rate.ours, rate.peer, rate.ratio) == ((50.0,), (200.0,), 4.0)
    assert first.ratio == 4.0
    assert rate.outputs == "50% of words equal"
