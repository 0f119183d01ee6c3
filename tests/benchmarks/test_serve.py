"""What the row about the server asks, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bench_serve
import engine_plan
import pytest
import serve_plan
from http_exchange import Address
from serve_plan import SMALL, Asked, arrivals_s, requests_of
from serve_rows import Loaded, ServeRow, ServeSubRow, percentiles


def test_the_same_media_or_other_ones_each_time(tmp_path: Path) -> None:
    same = requests_of(SMALL, "same", 32, first=0, cache=tmp_path)
    assert {each.kind for each in same} == {"video", "image", "text"}
    assert len({each.path for each in same if each.kind == "video"}) == serve_plan.NUM_CLIPS
    assert len({each.path for each in same if each.kind == "image"}) <= serve_plan.NUM_PICTURES
    distinct = requests_of(SMALL, "distinct", 16, first=0, cache=tmp_path)
    later = requests_of(SMALL, "distinct", 8, first=16, cache=tmp_path)
    paths = [each.path for each in distinct + later if each.path is not None]
    assert len(set(paths)) == len(paths) == 21
    assert not set(paths) & {each.path for each in same}
    assert len({each.text for each in distinct + later}) == 24
    assert requests_of(SMALL, "same", 32, first=0, cache=tmp_path) == same


def test_both_servers_are_asked_the_same() -> None:
    asked = Asked(kind="video", text="What?", path=Path("/a.mp4"), num_frames=4, num_new=3)
    ours, peers = asked.ours("m"), asked.peers("n")
    assert ours["messages"][0]["content"][0] == {"type": "video_url", "video_url": {"url": "file:///a.mp4"}}
    assert peers["messages"][0]["content"][0] == {"type": "video_url", "video_url": {"url": "/a.mp4"}}
    assert (ours["model"], ours["num_frames"]) == ("m", 4)
    assert (peers["model"], peers["chat_template_kwargs"]) == ("n", {"num_frames": 4})
    for name in ("max_tokens", "temperature", "stream"):
        assert ours[name] == peers[name]
    text = replace(asked, kind="text", path=None)
    assert "num_frames" not in text.ours("m")
    assert text.ours("m")["messages"] == text.peers("m")["messages"]


def test_arrivals_are_as_many_a_second_as_asked_for() -> None:
    times = arrivals_s(2000, 5.0)
    assert times[0] == 0.0
    assert times == sorted(times)
    assert 2000 / times[-1] == pytest.approx(5.0, rel=0.1)


def found(*texts: str, problem: str | None = None) -> dict[str, Any]:
    times = [0.1, 0.2, 0.4]
    answers = [{"text": text, "problem": problem, "times_s": times, "total_s": 0.5} for text in texts]
    return {"total_s": 2.0, "answers": answers}


def test_times_are_to_the_first_token_and_between_tokens() -> None:
    loaded = Loaded.of(found("a", "b"))
    assert loaded.first_s == (0.1, 0.1)
    assert loaded.between_s == pytest.approx((0.1, 0.2, 0.1, 0.2))
    assert (loaded.texts, loaded.problems, loaded.total_s) == (("a", "b"), (), 2.0)
    assert percentiles(range(101)) == [50.0, 95.0, 99.0]
    assert percentiles(()) == []


ASKED = [Asked(kind="text", text=text, path=None, num_frames=1, num_new=1) for text in ("one", "two")]


def sub_row(loads: dict[str, Loaded], alone: dict[Asked, str], num_clients: int = 8) -> ServeSubRow:
    return ServeSubRow.of("mid", "same", num_clients, 3.0, ((0.5,), (2.0,)), loads, ASKED, alone)


def test_a_row_says_requests_a_second_and_percentiles() -> None:
    loads = {"ours": Loaded.of(found("a", "b")), "peer": Loaded.of(found("a", "c", problem="no"))}
    row = sub_row(loads, dict(zip(ASKED, ("a", "b"), strict=True)))
    assert row.ratio == 4.0
    assert row.as_row() == (
        "mid, the same clips, 8 at once", "2", "0.5", "4.00", "3", "100 / 100 / 100", "100 / 100 / 100",
        "150 / 200 / 200", "150 / 200 / 200", "2, all as given alone; the peer failed 2",
    )  # fmt: skip
    told = row.as_object()
    assert told["ours_first_s"] == {"p50": 0.1, "p95": 0.1, "p99": 0.1}
    assert told["ratio"] == 4.0
    poisson = sub_row(loads, {}, num_clients=0).as_row()
    assert poisson[0] == "mid, the same clips, Poisson"
    assert poisson[3:5] == ("", "")
    table = ServeRow(name="serve", question="?", setting="Here.", rows=(row,)).as_section().as_markdown()
    assert "| mid, the same clips, 8 at once | 2 | 0.5 | 4.00 | 3 |" in table


def test_an_answer_that_failed_or_was_mixed_up_ends_the_benchmark() -> None:
    good, bad = Loaded.of(found("a", "b")), Loaded.of(found("a", "b", problem="no"))
    with pytest.raises(SystemExit, match="mid, same, 8 clients: 2 of 2 requests failed: no"):
        sub_row({"ours": bad, "peer": good}, {})
    with pytest.raises(SystemExit, match="1 of 2 answers differ from those given alone"):
        sub_row({"ours": good, "peer": good}, dict(zip(ASKED, ("a", "x"), strict=True)))


class FakeServer:
    """Takes nothing: the load is faked too."""

    model, port, address = "m", 1, Address(host="127.0.0.1", port=1)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def cpu_s(self) -> float:
        return 0.0


def test_each_level_asks_for_other_things_and_the_last_one_comes_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[tuple[str, int, Sequence[Asked], list[float] | None]] = []

    def load(side: Any, asked: Sequence[Asked], *, num_clients: int, at_s: list[float] | None = None) -> Loaded:
        loads.append((side.name, num_clients, asked, at_s))
        took_s = {"ours": 1.0, "peer": 4.0, "alone": 1.0}[side.name]
        return Loaded.of(found(*(each.text for each in asked)) | {"total_s": took_s})

    monkeypatch.setattr(bench_serve, "OurServer", FakeServer)
    monkeypatch.setattr(bench_serve, "PeerServer", FakeServer)
    monkeypatch.setattr(bench_serve._Side, "load", load)
    monkeypatch.setattr(bench_serve, "model_folder", lambda kind, dtype, cache: cache)
    row = bench_serve.serve_tiny(engine_plan.QUICK, tmp_path)
    assert [each.name for each in row.rows] == [
        "small, the same clips, 1 at once", "small, the same clips, 4 at once", "small, the same clips, Poisson",
        "small, distinct clips, 1 at once", "small, distinct clips, 4 at once", "small, distinct clips, Poisson",
    ]  # fmt: skip
    assert all(each.ratio == 4.0 for each in row.rows)
    before, compared = loads[1:3], loads[3:]
    # What is asked about again and again was asked about before, with other questions, by one client of each side.
    again = {each.path for _, _, asked, _ in compared[::4] for each in asked}
    assert [(name, num_clients) for name, num_clients, *_ in before] == [("ours", 1), ("peer", 1)]
    assert before[0][2] == before[1][2]
    assert {each.path for each in before[0][2]} == again - {None}
    assert not {each.text for each in before[0][2]} & {each.text for _, _, asked, _ in compared for each in asked}
    assert [name for name, *_ in compared] == ["ours", "peer"] * 6
    assert all(ours[2] == peers[2] for ours, peers in zip(compared[::2], compared[1::2], strict=True))
    distinct = [each.path for _, _, asked, _ in compared[2::4] for each in asked if each.path is not None]
    assert len(set(distinct)) == len(distinct)
    assert loads[0][0] == "alone"
    assert set(loads[0][2]) == {each for _, _, asked, _ in compared for each in asked}
    assert all((at_s is None) == (num_clients > 0) for _, num_clients, _, at_s in compared)
    loads.clear()
    assert bench_serve.serve(engine_plan.QUICK, tmp_path).as_object()["name"] == "serve"
    assert "alone" not in [name for name, *_ in loads]
