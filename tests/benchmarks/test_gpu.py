"""The row about GPUs: empty where none is, and on the CPU the whole of it with tiny models of both families."""

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bench_gpu
import pytest
import run
import torch
from gpu_plan import GPU, KNOWN, TRIAL, known_limits, our_settings, peer_settings, planned_rows

from videolm.families import auto
from videolm.families.base import FamilyModel
from videolm.families.initialise import without_values

pytest.importorskip("transformers")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other make tiny products many times slower where other processes run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_report_is_an_empty_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--only", "gpu", "--json", "--out", str(tmp_path)])
    run.main()

    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["name"], found["ratio"], found["ours"], found["peer"]) == ("gpu", None, None, None)
    (path,) = tmp_path.iterdir()
    lines = path.read_text().splitlines()
    today = datetime.date.today().isoformat()
    assert f"- No accelerator was there on {today}: nothing was measured, and the cells are empty." in lines
    assert "| batch 1, 8 frames: decode |  |  | ms per 1000 tokens |  | 4 |  |" in lines
    assert "| LLaVA-Video shapes, 64 frames: first token, 25% of the visual tokens |  |  | ms |  | 2.5 |  |" in lines
    assert [line for line in lines if line.startswith("| batch ")] == [
        line for line in lines if line.startswith("| batch ") and "|  |  |" in line
    ]


def test_the_trial_measures_every_row_with_equal_ids(capsys: pytest.CaptureFixture[str]) -> None:
    row = bench_gpu.measure(TRIAL)
    assert [each.name for each in row.rows] == list(planned_rows(TRIAL))
    assert row.setting.endswith("float32, small models of both families: equal ids.")
    for each in row.rows:
        assert len(each.ours) == 2
        assert min(each.ours) > 0
        assert len(each.peer) == (1 if "limit" in each.name else 2)
        assert each.ratio == pytest.approx(sum(each.peer) / len(each.peer) / (sum(each.ours) / 2))
    by_name = {each.name: each.outputs for each in row.rows}
    assert by_name["LLaVA-Video shapes, 3 frames: first token, 25% of the visual tokens"] == "27 tokens, the peer 48"
    assert (row.accelerator, row.reason) == ("", "")
    assert len(capsys.readouterr().err.splitlines()) == len(row.rows)


def test_parts_that_are_not_asked_for_stay_empty() -> None:
    row = bench_gpu.measure(TRIAL, ["prefill"])
    assert [each.name for each in row.rows if each.is_measured] == [
        "prefill of 40 tokens", "prefill of 40 tokens, beside the arithmetic limit",
    ]  # fmt: skip


def test_other_ids_end_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu_measured
    from gpu_sides import DevicePeer

    generate = DevicePeer.generate

    def generate_wrongly(self, prompts, num_new):  # type: ignore[no-untyped-def]
        ids, times = generate(self, prompts, num_new)
        return [[each + 1 for each in row] for row in ids], times

    monkeypatch.setattr(DevicePeer, "generate", generate_wrongly)
    with pytest.raises(SystemExit, match="expected the same ids"):
        gpu_measured.check_ids(TRIAL)


def test_a_side_without_memory_has_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    from gpu_measured import Measured

    def fail(_: int) -> float:
        raise torch.OutOfMemoryError

    measured = Measured(plan=TRIAL, device_name="cpu")
    values = measured.sample(lambda repeat: float(repeat), fail)
    assert values == ((0.0, 1.0), (), "transformers: too little memory")
    name = "batch 3, 1 frames: decode"
    measured.fill(name, *values)
    assert measured.rows[name].as_cells() == (
        name, "0.5 (0.0 to 1.0)", "", "ms per 1000 tokens", "", "", "transformers: too little memory",
    )  # fmt: skip
    assert measured.rows[name].as_object()["ratio"] is None
    assert capsys.readouterr().err.startswith(name)


def test_tokens_are_counted_while_all_requests_run() -> None:
    from gpu_sides import first_and_rate

    # From second 2 to second 4: two tokens of the first request and three of the second.
    times = [[1.0, 2.0, 3.0, 4.0], [2.0, 2.5, 3.5, 4.0, 5.0]]
    assert first_and_rate(times) == (2000.0, pytest.approx(2 / 5 * 1e6))
    with pytest.raises(SystemExit, match="answered before another had begun"):
        first_and_rate([[1.0, 2.0], [3.0, 4.0]])


def shapes_of(family: str) -> FamilyModel:
    transformers = pytest.importorskip("transformers")
    name = {"next": "LlavaNextVideoConfig", "video": "LlavaOnevisionConfig"}[family]
    settings = our_settings(family, getattr(transformers, name)(**peer_settings(family, "7b")).to_dict())
    with without_values():
        return auto.model_class_for(settings, "the settings")(settings).to(torch.bfloat16)


def test_limits_are_those_of_the_published_shapes() -> None:
    from gpu_limits import decode_bytes, prefill_flop

    model, limits = shapes_of("next"), KNOWN["H200"]
    assert (limits.bytes_a_s, limits.flop_a_s) == (4.3e12, 790e12)
    # Decoder and head in bfloat16, and 512 KiB of keys and values a token.
    assert decode_bytes(model, 1, 0) == pytest.approx(13.2e9, rel=0.01)
    assert decode_bytes(model, 8, 100) - decode_bytes(model, 1, 0) == 800 * 512 * 1024
    assert limits.bytes_a_s / decode_bytes(model, 1, 1188) == pytest.approx(309, abs=3)
    assert prefill_flop(model, 4644) == pytest.approx(65.8e12, rel=0.01)
    assert known_limits("NVIDIA H200") == limits
    assert known_limits("NVIDIA H100 80GB HBM3") is None


@pytest.mark.parametrize(("family", "num_tokens"), [("next", 32 * 144), ("video", 32 * 196 + 1)])
def test_videos_have_as_many_tokens_as_the_peer_gives_them(family: str, num_tokens: int) -> None:
    assert shapes_of(family).tokens.video.count(32) == num_tokens


def test_the_measurement_has_the_sizes_of_its_aims() -> None:
    assert (GPU.device, GPU.repeats, GPU.batch_sizes, GPU.frames) == ("cuda", 5, (1, 8, 32, 128), (8, 32))
    aims = {row.name: row.aim for row in planned_rows(GPU).values() if row.aim is not None}
    assert list(aims.values()) == [4, 0.7, 4, 0.7, 0.5, 1.3, 2.5, 10, 10]


@pytest.mark.slow
def test_it_needs_no_pyav() -> None:
    script = (
        "import sys; sys.modules['av'] = None\n"
        "import bench_gpu\n"
        "row = bench_gpu.measure(bench_gpu.TRIAL, ['prefill'])\n"
        "print(sum(each.is_measured for each in row.rows), sys.modules.get('av'))\n"
    )
    path = os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1:] == ["2 None"], done.stderr


def test_without_transformers_the_table_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu.importlib.util, "find_spec", lambda name: None)
    row = bench_gpu.measure(TRIAL)
    assert not any(each.is_measured for each in row.rows)
    assert f"{sys.executable} had no transformers" in row.reason
