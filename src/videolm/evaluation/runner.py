"""Runs a task: every item to the answerer, every answer to the grader, everything to a report."""

from __future__ import annotations

import json
import platform
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from videolm.contracts import Answerer
from videolm.errors import ArgumentError
from videolm.evaluation.predictions import Predictions, write_atomically
from videolm.evaluation.report import Report, ScoredItem
from videolm.evaluation.task import Task, TaskItem
from videolm.evaluation.tasks import registry
from videolm.generation.params import check_whole

__all__ = ["run", "run_task"]

PACKAGES = ("videolm", "torch", "av", "numpy", "pillow")


def run(
    task_name: str,
    answerer: Answerer,
    *,
    limit: int | None = None,
    out: str | Path | None = None,
    at_once: int = 1,
    **options: Any,
) -> Report:
    """Evaluate ``answerer`` on a task by name.

    Args:
        limit: Ask only so many items, the first ones.
        out: Folder for ``predictions.jsonl``, ``report.json`` and ``report.md``. Answers of the same task version,
            model and options that stand there already are kept and not asked for again.
        at_once: Ask so many items at a time, each from a thread of its own; what a session answers is the same.
        options: For ``Answerer.ask``, such as ``frames``.
    """
    return run_task(registry.task_named(task_name), answerer, limit=limit, out=out, at_once=at_once, **options)


def run_task(
    task: Task,
    answerer: Answerer,
    *,
    limit: int | None = None,
    out: str | Path | None = None,
    at_once: int = 1,
    **options: Any,
) -> Report:
    """Evaluate ``answerer`` on a task."""
    check_whole("at_once", at_once, 1)
    if limit is not None and limit < 1:
        raise ArgumentError(f"The limit is {limit}: at least 1 item is expected. Leave --limit out to ask all of them.")
    items = list(islice(task.items(), limit))
    options = {"max_new_tokens": task.max_new_tokens, "temperature": 0.0, **options}
    key = {"task": task.name, "version": task.version, "model": answerer.name, "options": options}
    key = json.loads(json.dumps(key, default=str))  # as it will be read back from the file
    predictions = Predictions(Path(out), key) if out is not None else None
    records = dict(predictions.answered) if predictions else {}
    new = [item for item in items if item.id not in records]
    with (
        closing(_answers(answerer, new, options, at_once)) as answers,
        _bar(task, len(items), len(items) - len(new)) as bar,
    ):
        for record in answers:
            records[record["item"]] = record
            if predictions:
                predictions.add(record)
            bar.update()
    scored = [
        ScoredItem(item=item, answer=records[item.id]["answer"], score=task.score(item, records[item.id]["answer"]))
        for item in items
    ]
    manifest = _manifest(key, answerer, [records[item.id] for item in items])
    report = Report(manifest=manifest, scored=scored, num_items=len(items))
    if out is not None:
        _write(report, Path(out))
    return report


def _bar(task: Task, total: int, initial: int) -> tqdm[Any]:
    return tqdm(total=total, initial=initial, desc=f"evaluate {task.name}", unit="question", disable=None)


def _answers(
    answerer: Answerer, items: Sequence[TaskItem], options: Mapping[str, Any], at_once: int
) -> Generator[dict[str, Any], None, None]:
    """The record of each item, in their order."""
    if at_once == 1:
        for item in items:
            yield _ask(answerer, item, options)
        return
    asked: deque[Future[dict[str, Any]]] = deque()
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="videolm-evaluation")
    try:
        for item in items:
            asked.append(pool.submit(_ask, answerer, item, options))
            if len(asked) == 2 * at_once:  # A slow one in front leaves the others something to do.
                yield asked.popleft().result()
        while asked:
            yield asked.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _ask(answerer: Answerer, item: TaskItem, options: Mapping[str, Any]) -> dict[str, Any]:
    answer = answerer.ask(item.open_media(), item.question, **options)
    return {
        "item": item.id,
        "category": item.category,
        "question": item.question,
        "expected": item.expected,
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "frame_indices": [list(medium.frame_indices) for medium in answer.media if medium.kind == "video"],
        "visual_tokens": answer.usage.visual_tokens,
        "total_s": round(float(answer.timings_s.get("total", 0.0)), 4),
    }


def _manifest(key: Mapping[str, Any], answerer: Answerer, records: list[dict[str, Any]]) -> dict[str, Any]:
    """What someone needs to get the same numbers again."""
    frames = sorted({len(indices) for record in records for indices in record["frame_indices"]})
    return {
        **{name: value for name, value in key.items() if name != "options"},
        "options": ", ".join(f"{name}={value}" for name, value in key["options"].items()),
        "frames of a video": " or ".join(map(str, frames)) or "none",
        "sampling": str(getattr(answerer, "sampling", "see frame_indices of the predictions")),
        **_precision(answerer),
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
        "python": platform.python_version(),
    }


def _precision(answerer: Answerer) -> dict[str, str]:
    """Dtype and device of the answerer's model, where it shows one."""
    parameters = getattr(getattr(answerer, "model", None), "parameters", None)
    first = next(iter(parameters()), None) if parameters is not None else None
    return {name: str(getattr(first, name, "unknown")).removeprefix("torch.") for name in ("dtype", "device")}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _write(report: Report, folder: Path) -> None:
    write_atomically(folder / "report.json", json.dumps(report.as_dict(), indent=2, ensure_ascii=False) + "\n")
    write_atomically(folder / "report.md", report.as_markdown())
