"""The documents name what there is: every module, every training key, every option; and only files that exist."""

from __future__ import annotations

import dataclasses
import importlib
import re
import textwrap
import typing
from pathlib import Path
from typing import Any

import pytest

from videolm.cli.main import COMMANDS
from videolm.cli.parser import Parser
from videolm.training.config import TrainConfig, load_train_config

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
# The card comes with the weights of the bundled model.
GENERATED = {"src/videolm/mini/weights/README.md"}


def test_every_module_has_its_sentence() -> None:
    package = ROOT / "src" / "videolm"
    page = (DOCS / "architecture.md").read_text()
    missing = []
    for folder in ("", *sorted(path.name for path in package.iterdir() if path.is_dir())):
        section = page.partition(f"### `{folder}/`" if folder else "### On top")[2].partition("\n### ")[0]
        paths = (package / folder).rglob("*.py") if folder else package.glob("*.py")
        names = {path.relative_to(package / folder).as_posix() for path in paths if path.name != "__init__.py"}
        missing += [f"{folder}/{name}" for name in sorted(names) if f"| `{name}` |" not in section]
    assert missing == []


def test_no_module_is_listed_that_is_gone() -> None:
    package = ROOT / "src" / "videolm"
    folder, gone = "", []
    for line in (DOCS / "architecture.md").read_text().splitlines():
        if line.startswith("### "):
            match = re.match(r"### `(\w+)/`", line)
            folder = match[1] if match else ""
        elif (match := re.match(r"\| `([\w/]+\.py)` \|", line)) and not (package / folder / match[1]).is_file():
            gone.append(f"{folder}/{match[1]}")
    assert gone == []


def keys_of(settings: Any) -> set[str]:
    """The names of all keys, those of nested settings included."""
    keys = set()
    for name, hint in typing.get_type_hints(settings).items():
        keys.add(name)
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner):
                keys |= keys_of(inner)
    return keys


def test_every_training_key_is_described() -> None:
    page = (DOCS / "training.md").read_text()
    assert {key for key in keys_of(TrainConfig) if f"| `{key}` |" not in page} == {"vision", "projector", "decoder"}


def test_the_example_run_is_valid_and_the_page_shows_it() -> None:
    example = ROOT / "examples" / "finetune" / "run.yaml"
    assert load_train_config(example).steps == 10
    assert example.read_text() in (DOCS / "training.md").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_described(name: str) -> None:
    command = importlib.import_module(f"videolm.cli.{name}")
    parser = Parser(name, usage=command.USAGE, description="")
    command.add_arguments(parser)
    page = (DOCS / "cli.md").read_text()
    # chat takes what ask takes, and says so.
    described = page if name == "chat" else page.partition(f"## videolm {name}\n")[2].partition("\n## ")[0]
    options = {text for action in parser._actions for text in action.option_strings if text.startswith("--")}
    assert {option for option in options - {"--help"} if option not in described} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    local = {(page.parent / target).resolve() for target in targets if "://" not in target}
    expected = {path for path in local if path.relative_to(ROOT).as_posix() not in GENERATED}
    assert [path for path in sorted(expected) if not path.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_documented_commands_exist(page: Path) -> None:
    commands = re.findall(r"^(?:\S+\| )?videolm ([a-zA-Z]\S*)", page.read_text(), re.MULTILINE)
    assert {name for name in commands if name not in COMMANDS} <= {"COMMAND"}
    targets = set(re.findall(r"^make ([a-z-]+)", page.read_text(), re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    assert {target for target in targets if f"\n{target}:" not in makefile} == set()


def test_the_python_examples_compile() -> None:
    for page in PAGES:
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)):
            # A block may go on inside the class that an earlier one began.
            compile(textwrap.dedent(block), f"{page.name} block {number}", "exec")


def test_the_page_on_serving_names_every_flag_with_its_default_and_no_other() -> None:
    from videolm.cli import serve

    page = (DOCS / "serving.md").read_text()
    rows = dict(re.findall(r"^\| `(--[a-z-]+)` \| ([^|]+) \|", page, flags=re.MULTILINE))
    settings: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(serve.ServerSettings)}
    limits: dict[str, Any] = dataclasses.asdict(settings["media"])
    defaults = {flag.name: settings[flag.field] for flag in serve.SETTINGS}
    defaults |= {flag.name: limits[flag.field] for flag in serve.LIMITS}
    wanted = {name: "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
              for name, value in defaults.items()}  # fmt: skip
    wanted |= {name: "off" for name, _, _ in serve.SWITCHES}
    wanted |= {"--cors-origin": "none", "--files-dir": "a temporary folder"}
    assert rows == wanted


def test_the_page_on_serving_names_every_field_endpoint_and_metric() -> None:
    from videolm.server.metrics import Metrics
    from videolm.server.openapi import OPERATIONS
    from videolm.server.schema import ChatRequest

    page = (DOCS / "serving.md").read_text()
    supported, _, refused = page.partition("## Fields of a chat request")[2].partition("| refused |")
    fields = {name for name in re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\|[^|]*\|", supported, flags=re.M)))}
    assert set(ChatRequest.__struct_fields__) <= fields
    rejected = {name for name in re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\|[^|]*\|", refused, flags=re.M)))}
    assert not rejected & set(ChatRequest.__struct_fields__)
    assert [each.path for each in OPERATIONS if f"{each.method.upper()} {each.path}`" not in page] == []
    from videolm.engine.statistics import EngineStats

    names = {metric.name for metric in Metrics(lambda: EngineStats(num_blocks=1)).registry.collect()}
    assert [name for name in sorted(names) if name not in page] == []
