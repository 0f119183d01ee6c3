"""The answers of a run as JSON lines: appended one by one, so that an interrupted evaluation goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videolm.errors import ArgumentError

__all__ = ["Predictions", "write_atomically"]


class Predictions:
    """``predictions.jsonl`` in a folder: one object a line with the run's key, the item and its answer.

    Lines of another task version, model or setting stay in the file and are not counted.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.path = folder / "predictions.jsonl"
        self.key = dict(key)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ArgumentError(
                f"The output {folder} is a file: expected a folder, which is made when it is missing. "
                "Give another path as --out."
            ) from error
        except OSError as error:
            raise ArgumentError(
                f"The output {folder} cannot be made ({error.strerror}): expected a folder to write to. "
                "Give another path as --out."
            ) from error
        lines = self._read()
        self.answered: dict[str, dict[str, Any]] = {
            line["item"]: line for line in lines if all(line.get(name) == value for name, value in self.key.items())
        }

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one answer; it is on the disk when this returns."""
        line = {**self.key, **record}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.answered[line["item"]] = line

    def _read(self) -> list[dict[str, Any]]:
        """All whole lines; one cut off by an interruption is removed from the file."""
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8", errors="replace")
        whole, _, rest = text.rpartition("\n")
        if rest:
            write_atomically(self.path, whole + "\n" if whole else "")
        lines = []
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ArgumentError(
                    f"Line {number} of {self.path} is not JSON: expected the answers of an earlier evaluation. "
                    "Give another folder as --out, or remove the file."
                ) from error
        return lines


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
