"""``videolm models``: the bundled model, local folders and the hub's cache in, a table of what can be loaded out."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from pathlib import Path

from videolm.cli.output import print_json
from videolm.cli.progress import progress_bar
from videolm.errors import ModelNotFoundError, VideoLMError

USAGE = "[NAME...] [--json]"
DESCRIPTION = (
    "List the models that can be loaded: the bundled one, those in folders below the working directory, and those in\n"
    "the Hugging Face cache. With names, say what is known of these folders or Hugging Face names; nothing is fetched."
)
BUNDLED_NAME = "videolm-mini"
MAX_DEPTH = 3
UNITS = (("G", 10**9), ("M", 10**6), ("k", 10**3))

__all__ = ["DESCRIPTION", "USAGE", "ModelRow", "add_arguments", "folders_with_models", "run"]


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One model of the list."""

    name: str
    """What ``--model`` takes."""
    family: str | None
    num_parameters: int | None
    bytes: int
    """Of the weight files on this machine."""
    present: bool


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="a folder or a Hugging Face name")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: Namespace) -> int:
    """Print the list."""
    from videolm.families.auto import MODEL_CLASSES

    rows = [_named(name) for name in args.names] if args.names else list(_everything())
    families = [model_class.family.model_type for model_class in MODEL_CLASSES]
    if args.json:
        print_json({"models": [asdict(row) for row in rows], "families": families})
        return 0
    print("\n".join(_table(rows)))
    if not args.names:
        print(
            f"\n--model takes any of these, any folder and any Hugging Face name of the families {', '.join(families)}."
        )
    return 0


def _everything() -> Iterator[ModelRow]:
    with as_file(files("videolm") / "mini" / "weights") as folder:
        yield _row(BUNDLED_NAME, folder) or ModelRow(
            name=BUNDLED_NAME, family=None, num_parameters=None, bytes=0, present=False
        )
    with progress_bar("Looking for models", unit=" folders") as update:
        found = [*folders_with_models(Path()), *_cached()]
        for done, (name, folder) in enumerate(found):
            update(done, len(found))
            if row := _row(name, folder):
                yield row


def _named(name: str) -> ModelRow:
    from videolm.families.auto import describe_folder, resolve

    if name == BUNDLED_NAME:
        return next(_everything())
    try:
        folder = resolve(name, download=False, weights=False)
    except ModelNotFoundError:
        if Path(name).exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise
        return ModelRow(name=name, family=None, num_parameters=None, bytes=0, present=False)
    return ModelRow(name=name, **describe_folder(folder))


def _row(name: str, folder: Path) -> ModelRow | None:
    """None for what is not a model of a known family."""
    from videolm.families.auto import describe_folder

    try:
        return ModelRow(name=name, **describe_folder(folder))
    except VideoLMError:
        return None


def folders_with_models(root: Path) -> Iterator[tuple[str, Path]]:
    """Folders with a ``config.json``, not far below ``root`` and not hidden."""
    for here, folders, names in os.walk(root):
        place = Path(here)
        if "config.json" in names:
            yield f".{os.sep}{place}", place
        depth = len(place.relative_to(root).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < MAX_DEPTH else []


def _cached() -> Iterator[tuple[str, Path]]:
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return
    for repository in sorted(repositories, key=lambda item: item.repo_id):
        if repository.repo_type == "model" and repository.revisions:
            newest = max(repository.revisions, key=lambda revision: revision.last_modified)
            yield repository.repo_id, newest.snapshot_path


def _table(rows: Sequence[ModelRow]) -> list[str]:
    cells = [("name", "family", "parameters", "size", "here")]
    for row in rows:
        size = f"{_short(row.bytes)}B" if row.bytes else "-"
        parameters = _short(row.num_parameters) if row.num_parameters else "-"
        cells.append((row.name, row.family or "unknown", parameters, size, "yes" if row.present else "no"))
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _short(number: int) -> str:
    """Three digits and a unit: ``7.06 G``."""
    for unit, value in UNITS:
        if number >= value:
            return f"{number / value:.3g} {unit}"
    return f"{number} "
