"""The benchmarks on tiny clips: both sides do the same work, and the report says what was measured."""

import datetime
import os
import sys
from dataclasses import replace
from pathlib import Path

import av
import bench_decode
import bench_preprocess
import bench_startup
import engine_model
import engine_ours
import engine_rows
import numpy as np
import plans
import pytest
import reports
import run
from av.video.frame import PictureType
from clips import Clip, make_clip
from documentation_loop import read_frames
from engine_rows import EngineRow, Sampler, SubRow
from measuring import Sample, Timing, alternate, spread_text
from reasons import WHY_MISSED

from videolm.contracts import ModelInputs

TINY = Clip(duration_s=1, height=96, width=128, bit_rate=200_000)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


def test_a_clip_is_made_once(cache: Path) -> None:
    path = make_clip(TINY, cache)
    made = path.stat().st_mtime_ns
    assert make_clip(TINY, cache) == path
    assert path.stat().st_mtime_ns == made
    assert [entry.name for entry in cache.iterdir()] == [path.name]


def test_clips_have_long_groups_of_pictures_and_b_frames(cache: Path) -> None:
    with av.open(str(make_clip(TINY, cache))) as container:
        types = [PictureType(frame.pict_type).name for frame in container.decode(video=0)]
    assert len(types) == TINY.duration_s * TINY.fps
    assert types.count("I") == 1
    assert types.count("B") > 5


@pytest.mark.parametrize("num_frames", [1, 4, 30])
def test_both_read_the_same_frames(cache: Path, num_frames: int) -> None:
    path = make_clip(TINY, cache)
    theirs = read_frames(path, num_frames)
    assert theirs.shape == (num_frames, TINY.height, TINY.width, 3)
    np.testing.assert_array_equal(theirs, np.stack(bench_decode.read_ours(path, num_frames)))


def test_both_make_nearly_the_same_values(cache: Path) -> None:
    path = make_clip(TINY, cache)
    theirs, ours = bench_preprocess.theirs_from_file(path, 3), bench_preprocess.ours_from_file(path, 3)
    # The resizing differs by at most 2/255, a step of 0.03 after normalising, in few values.
    assert (theirs.float() - ours.float()).abs().max() <= 0.04
    assert (theirs == ours).float().mean() > 0.98


def test_calls_alternate_as_often_as_asked() -> None:
    calls: list[str] = []
    timings = alternate(
        {"loop": lambda: calls.append("loop"), "ours": lambda: calls.append("ours")}, {"loop": 1, "ours": 3}
    )
    assert calls == ["loop", "ours", "ours", "ours"]
    assert [len(timing.samples) for timing in timings.values()] == [1, 3]


def test_timings_are_medians_with_their_range() -> None:
    timing = Timing(samples=tuple(Sample(wall_ms=t, cpu_ms=t / 2, others_cpu_ms=None) for t in (300.0, 100.0, 120.0)))
    assert (timing.wall_ms, timing.cpu_ms, timing.others_share) == (120.0, 60.0, None)
    assert timing.wall_text == "120 (100 to 300)"
    assert spread_text([1.26, 2.0, 3.0]) == "2.0 (1.3 to 3.0)"


def test_report_name_holds_subject_hardware_and_month(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "cpu_name", lambda: "AMD EPYC 9R14 (Zen)")
    monkeypatch.setattr(reports.os, "cpu_count", lambda: 2)
    assert reports.report_name("decode", datetime.date(2026, 11, 3)) == "decode_2x-amd-epyc-9r14-zen_202611.md"


def test_run_writes_a_whole_report(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        plans, "DEFAULT", replace(plans.QUICK, clips=(TINY,), frame_counts=(2,), repeats=1, long_loop_repeats=1)
    )
    monkeypatch.setattr(
        sys, "argv", ["benchmarks/run.py", "--only", "decode", "--cache", str(cache), "--out", str(tmp_path)]
    )
    run.main()

    (path,) = tmp_path.iterdir()
    assert capsys.readouterr().out == f"{path}\n"
    text = path.read_text()
    for part in (
        "# Decoding: 20",
        "- Hardware: ",
        "- Versions: videolm ",
        "- Command: `python benchmarks/run.py --only",
    ):
        assert part in text
    (row,) = [line for line in text.splitlines() if line.startswith("| 1 s, 128x96 | 2 |")]
    assert row.split(" | ")[-3] == "yes"


def test_first_output_is_timed_apart_from_the_end() -> None:
    script = "import time; print('a', flush=True); time.sleep(0.5); print('b')"
    command = [sys.executable, "-S", "-c", script]
    assert bench_startup.time_to_first_output(command) + 300 < bench_startup.time_process(command)


def test_a_silent_or_failing_process_is_no_measurement() -> None:
    for script in ("pass", "print('a'); raise SystemExit(1)"):
        with pytest.raises(SystemExit, match="ended with status"):
            bench_startup.time_to_first_output([sys.executable, "-S", "-c", script])


def test_start_up_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench_startup, "demo_question", lambda: (tmp_path / "clip.mp4", "What moves?"))
    monkeypatch.setattr(bench_startup, "time_process", lambda command: 30.0)
    monkeypatch.setattr(bench_startup, "time_to_first_output", lambda command: 1234.0)
    section = bench_startup.run(plans.QUICK)
    assert section.rows[-2] == ("`videolm ask`, process start to first output", "1234 (1234 to 1234)", "2")
    assert section.reading[-2] == "`videolm ask`, process start to first output: 1.23 s."
    assert '`videolm ask clip.mp4 "What moves?"`' in section.setting


def sub_row(ours: tuple[float, ...], peer: tuple[float, ...]) -> SubRow:
    return SubRow(name="some", aim=2, ours=ours, peer=peer, unit="s", outputs="equal ids")


def test_ratios_say_how_many_times_better_ours_is() -> None:
    row = EngineRow(
        name="vision", question="?", setting="Here.", rows=(sub_row((1, 2, 4), (6, 4, 5)), sub_row((3,), (3,)))
    )
    found = row.as_object()
    assert (found["name"], found["aim"], found["ratio"], found["spread"]) == ("vision", 2, 2.5, [1.0, 6.0])
    assert (found["ours"], found["peer"], found["unit"]) == (2, 5, "s")
    assert [each["ratio"] for each in found["rows"]] == [2.5, 1.0]
    lines = row.as_section().as_markdown().splitlines()
    assert [line.split(" | ")[5] for line in lines if line.startswith("| some")] == ["2", "2, missed"]


def test_a_row_that_misses_its_aim_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WHY_MISSED, "load", ("Layers are laid out.",))
    met, missed = sub_row((1, 2, 4), (6, 4, 5)), sub_row((1, 2, 4), (2, 2, 2))
    row = EngineRow(name="load", question="?", setting="Here.", rows=(met, missed))
    assert "\n- Missed: Layers are laid out." in row.as_section().as_markdown()
    assert "Missed" not in replace(row, rows=(met,)).as_section().as_markdown()
    assert "Missed" not in replace(row, name="some").as_section().as_markdown()


def test_reasons_are_of_rows_that_there_are() -> None:
    assert set(WHY_MISSED) <= set(run.ENGINE_NAMES)


def test_the_default_run_is_all_rows_but_those_of_the_servers() -> None:
    assert list(run.DEFAULT_NAMES) == [
        "decode", "preprocess", "startup", "ask_once", "ask_again", "decode_cpu", "prefill", "vision", "many_videos",
        "concurrent", "many_questions", "load", "start", "memory", "scale", "gpu",
    ]  # fmt: skip


class FakeRow:
    """Rows that take a given time, the last of which fails."""

    def __init__(self, names: list[str], clock: list[float]) -> None:
        self.names, self.clock = names, clock

    def __call__(self, name: str, plan: object, cache: Path) -> EngineRow:
        if name not in self.names:
            raise SystemExit("In float32 the ids differ.")
        self.clock[0] += 90.0
        row = sub_row((1, 2, 4), (6, 4, 5))
        return EngineRow(name=name, question="?", setting="Here.", rows=(row,), draw=lambda path: path.touch())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(run.time, "perf_counter", lambda: now[0])
    return now


def test_a_run_that_ends_early_leaves_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    monkeypatch.setattr(run.bench_engine, "run", FakeRow(["vision", "load"], clock))
    names = ["vision", "load", "prefill", "memory"]
    monkeypatch.setattr(sys, "argv", ["run.py", "--only", *names, "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="the ids differ"):
        run.main()
    (report,) = tmp_path.glob("*.md")
    text = report.read_text()
    assert text.startswith(f"# vision, load: {datetime.date.today().isoformat()}\n")
    assert "\n- The run is not over: still missing are prefill, memory\n" in text
    assert text.count("\nThis row took 1.5 minutes.\n") == 2
    assert "\nThe 2 rows took 3.0 minutes.\n" in text
    plots = sorted(path.name for path in tmp_path.glob("*.png"))
    assert plots == [f"{report.stem}_load.png", f"{report.stem}_vision.png"]
    assert text.endswith(f"\n![?]({report.stem}_vision.png)\n\n![?]({report.stem}_load.png)\n")


def test_a_finished_report_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run.bench_engine, "run", FakeRow(["vision"], clock))
    monkeypatch.setattr(sys, "argv", ["run.py", "--only", "vision", "--out", str(tmp_path)])
    run.main()
    (report,) = tmp_path.glob("*.md")
    assert capsys.readouterr().out == f"{report}\n"
    text = report.read_text()
    assert "missing" not in text
    assert "rows took" not in text
    assert text.endswith(f"\nThis row took 1.5 minutes.\n\n![?]({report.stem}.png)\n")


def test_what_was_not_measured_is_an_empty_cell() -> None:
    unknown = SubRow(name="some", aim=None, ours=(), peer=(), unit="s", outputs="")
    half = SubRow(name="other", aim=3, ours=(1.0,), peer=(), unit="s", outputs="too little memory")
    row = EngineRow(name="gpu", question="?", setting="Here.", rows=(unknown, half), reason="No device.")
    assert [each.as_cells() for each in row.rows] == [
        ("some", "", "", "s", "", "", ""),
        ("other", "1.0 (1.0 to 1.0)", "", "s", "", "3", "too little memory"),
    ]
    assert row.as_section().reading == ("No device.",)
    found = row.as_object()
    assert (found["ratio"], found["ours"], found["spread"], found["reason"]) == (None, None, None, "No device.")
    assert [each["ours"] for each in found["rows"]] == [None, 1.0]


def test_a_sample_that_others_disturbed_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter((0.5, 0.0, 0.0))
    now = [0.0]
    cores = os.cpu_count() or 1
    monkeypatch.setattr(engine_rows.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(engine_rows.time, "process_time", lambda: 0.0)
    busy_ms = [0.0]
    monkeypatch.setattr(engine_rows, "machine_busy_ms", lambda: busy_ms[0])
    seen: list[int] = []

    def sample(repeat: int) -> float:
        seen.append(repeat)
        now[0] += 1.0
        busy_ms[0] += next(shares) * cores * 1000
        return float(repeat)

    sampler = Sampler(repeats=1, peer_cpu_s=lambda: 0.0)
    assert sampler.pairs(sample, sample) == ((100.0,), (0.0,))
    assert seen == [0, 100, 0]
    assert sampler.others_share == 0.0


@pytest.mark.parametrize("only", [["decode"], ["vision", "prefill"]])
def test_json_is_for_one_row_about_the_engine(
    only: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--json", "--only", *only])
    with pytest.raises(SystemExit):
        run.main()
    assert "--json goes with --only and one of ask_once, ask_again, decode_cpu" in capsys.readouterr().err


def test_models_of_the_engine_rows_load_and_answer_alike(tmp_path: Path) -> None:
    folder = engine_model.model_folder("small", "float32", tmp_path)
    assert engine_model.model_folder("small", "float32", tmp_path) == folder
    ours = engine_ours.Ours(folder, dtype="float32")
    ids = engine_ours.text_ids(20, 1)
    first, times = ours.generate(ModelInputs(input_ids=tuple(ids)), 5)
    again, _ = ours.generate(ModelInputs(input_ids=tuple(ids)), 5)
    assert first == again
    assert len(times) == 5
    assert times == sorted(times)
