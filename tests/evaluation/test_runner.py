"""Running a task: asking, resuming, limits, reports."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import videolm
from videolm.contracts import Answer, MediaReport, Usage
from videolm.errors import ArgumentError, MediaError
from videolm.evaluation.runner import run, run_task
from videolm.evaluation.scoring import compare_facts
from videolm.evaluation.task import ItemScore, TaskItem


class Letters:
    """A task of four questions whose medium is the answer."""

    name = "letters"
    max_new_tokens = 3

    def __init__(self, version: str = "1") -> None:
        self.version = version

    def items(self) -> Iterator[TaskItem]:
        for index, letter in enumerate("abcd"):
            yield TaskItem(
                id=f"letter-{index}",
                category="vowel" if letter == "a" else "consonant",
                question=f"Which letter is number {index}?",
                expected=letter,
                open_media=lambda letter=letter: letter,
                tags={"parity": "even" if index % 2 == 0 else "odd"},
            )

    def score(self, item: TaskItem, answer: str) -> ItemScore:
        return compare_facts([item.expected], answer.split())


class Reader:
    """Answers with the medium itself, or breaks after some answers."""

    name = "reader"
    model = torch.nn.Linear(1, 1)

    def __init__(self, *, breaks_after: int | None = None, wrong: str = "") -> None:
        self.asked: list[str] = []
        self.options: dict[str, Any] = {}
        self.breaks_after = breaks_after
        self.wrong = wrong

    def ask(self, media: Any, question: str, **options: Any) -> Answer:
        if len(self.asked) == self.breaks_after:
            raise KeyboardInterrupt
        self.asked.append(question)
        self.options = options
        video = MediaReport(source="x", kind="video", frame_indices=(0, 5), frame_times_s=(0.0, 1.0), visual_tokens=9)
        usage = Usage(prompt_tokens=12, visual_tokens=9, completion_tokens=1)
        text = "z" if media == self.wrong else media
        return Answer(text=text, finish_reason="stop", model=self.name, usage=usage, media=(video,))

    stream = chat = None


def test_every_item_is_asked_and_graded() -> None:
    reader = Reader(wrong="c")
    report = run_task(Letters(), reader, frames=2)

    assert reader.asked == [f"Which letter is number {index}?" for index in range(4)]
    assert reader.options == {"max_new_tokens": 3, "temperature": 0.0, "frames": 2}
    result = report.as_dict()
    assert {name: (c["right"], c["total"]) for name, c in result["categories"].items()} == {
        "vowel": (1, 1),
        "consonant": (2, 3),
    }
    assert {name: c["right"] for name, c in result["tags"]["parity"].items()} == {"even": 1, "odd": 2}
    assert (result["overall"]["accuracy"], result["num_answered"], result["num_items"]) == (0.75, 4, 4)


def test_manifest_says_what_was_measured() -> None:
    manifest = run_task(Letters(), Reader()).as_dict()["manifest"]
    assert manifest.pop("packages").startswith("videolm ")
    assert manifest.pop("python")
    assert manifest == {
        "task": "letters",
        "version": "1",
        "model": "reader",
        "options": "max_new_tokens=3, temperature=0.0",
        "frames of a video": "2",
        "sampling": "see frame_indices of the predictions",
        "dtype": "float32",
        "device": "cpu",
    }


def test_an_answerer_may_state_its_sampling() -> None:
    reader = Reader()
    reader.sampling = "2 frames, linspace"  # type: ignore[attr-defined]
    assert run_task(Letters(), reader).manifest["sampling"] == "2 frames, linspace"


def test_limit_asks_the_first_items() -> None:
    reader = Reader()
    assert run_task(Letters(), reader, limit=2).num_items == 2
    assert len(reader.asked) == 2


@pytest.mark.parametrize("limit", [0, -1])
def test_impossible_limit_is_refused(limit: int) -> None:
    with pytest.raises(ArgumentError, match=rf"limit is {limit}: at least 1 item is expected"):
        run_task(Letters(), Reader(), limit=limit)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_task(Letters(), Reader(breaks_after=2), out=tmp_path)
    assert not (tmp_path / "report.json").exists()

    reader = Reader()
    resumed = run_task(Letters(), reader, out=tmp_path)
    assert reader.asked == ["Which letter is number 2?", "Which letter is number 3?"]
    assert resumed.as_dict() == run_task(Letters(), Reader()).as_dict()
    assert json.loads((tmp_path / "report.json").read_text())["overall"]["right"] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.jsonl", "report.json", "report.md"]


def test_a_line_cut_off_is_asked_again(tmp_path: Path) -> None:
    run_task(Letters(), Reader(), out=tmp_path)
    path = tmp_path / "predictions.jsonl"
    path.write_text(path.read_text()[:-20])

    reader = Reader()
    run_task(Letters(), reader, out=tmp_path)
    assert reader.asked == ["Which letter is number 3?"]
    assert [json.loads(line)["item"] for line in path.read_text().splitlines()] == [f"letter-{k}" for k in range(4)]


@pytest.mark.parametrize("change", ["version", "model", "options"])
def test_answers_of_another_run_are_not_used(tmp_path: Path, change: str) -> None:
    run_task(Letters(), Reader(), out=tmp_path)
    reader = Reader()
    if change == "model":
        reader.name = "another"
    run_task(
        Letters("2" if change == "version" else "1"),
        reader,
        out=tmp_path,
        **({"frames": 4} if change == "options" else {}),
    )
    assert len(reader.asked) == 4


def test_markdown_report_holds_table_and_mistakes(tmp_path: Path) -> None:
    run_task(Letters(), Reader(wrong="c"), out=tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# letters: reader\n")
    assert "| consonant | 2 | 3 | 66.7% | 20.8% to 93.9% | 66.7% | 66.7% |" in text
    assert "| all | 3 | 4 | 75.0% |" in text
    assert "- consonant, letter-2: Which letter is number 2? Expected: c Answer: z" in text


def test_a_file_as_output_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ArgumentError, match="is a file: expected a folder"):
        run_task(Letters(), Reader(), out=path)


def test_an_output_that_cannot_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ArgumentError, match=r"cannot be made \(Permission denied\): expected a folder to write to"):
        run_task(Letters(), Reader(), out=tmp_path / "results")


def test_foreign_predictions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "predictions.jsonl").write_text("not json\n")
    with pytest.raises(ArgumentError, match=r"Line 1 of .* is not JSON"):
        run_task(Letters(), Reader(), out=tmp_path)


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(ArgumentError, match="Try --task moving-shapes"):
        run("moving_shape", Reader())


# --- several at once ---


class Crowd(Reader):
    """Answers once so many others are being asked, the later ones sooner."""

    def __init__(self, expected: int, *, breaks_at: str = "") -> None:
        super().__init__()
        self.barrier = threading.Barrier(expected)
        self.breaks_at = breaks_at

    def ask(self, media: Any, question: str, **options: Any) -> Answer:
        self.barrier.wait(20)
        time.sleep(0.01 * ("dcba".index(media)))
        if media == self.breaks_at:
            raise MediaError(f"{media} cannot be read.")
        return super().ask(media, question, **options)


def test_several_are_asked_at_once_and_told_in_order(tmp_path: Path) -> None:
    crowd = Crowd(2)
    report = run_task(Letters(), crowd, at_once=2, out=tmp_path)
    assert report.as_dict() == run_task(Letters(), Reader()).as_dict()
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [line["item"] for line in lines] == [f"letter-{index}" for index in range(4)]
    assert [line["answer"] for line in lines] == list("abcd")


def test_what_was_answered_before_one_that_fails_is_kept(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="c cannot be read"):
        run_task(Letters(), Crowd(2, breaks_at="c"), at_once=2, out=tmp_path)
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["item"] for line in lines] == ["letter-0", "letter-1"]
    assert not [each for each in threading.enumerate() if each.name.startswith("videolm-evaluation")]
    reader = Reader()
    run_task(Letters(), reader, at_once=3, out=tmp_path)
    assert sorted(reader.asked) == ["Which letter is number 2?", "Which letter is number 3?"]


def test_at_least_one_is_asked_at_a_time() -> None:
    with pytest.raises(ArgumentError, match="at_once is 0: expected a whole number of at least 1"):
        run_task(Letters(), Reader(), at_once=0)


def test_a_session_gives_the_same_answers_to_several_at_once(tmp_path: Path) -> None:
    session = videolm.load()
    answers = []
    for at_once in (1, 4):
        run("moving-shapes", session, limit=5, at_once=at_once, out=tmp_path / str(at_once))
        lines = (tmp_path / str(at_once) / "predictions.jsonl").read_text().splitlines()
        answers.append([(json.loads(line)["item"], json.loads(line)["answer"]) for line in lines])
    assert answers[0] == answers[1]
    assert len({answer for _, answer in answers[0]}) > 1
