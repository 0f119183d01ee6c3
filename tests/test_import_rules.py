"""Who may import whom: the table of docs/architecture.md, checked on the source as text."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"

LEVELS_0_TO_3 = frozenset(
    {"visual_tokens", "contracts", "devices", "freed_memory", "media", "processing", "models", "weights", "generation"}
    | {"options", "stopwatch", "families", "engine"}
)
ALLOWED: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "visual_tokens": frozenset(),
    "devices": frozenset(),
    "freed_memory": frozenset(),
    "native": frozenset(),
    "contracts": frozenset({"visual_tokens"}),
    "media": frozenset({"contracts"}),
    "world": frozenset({"contracts"}),
    "processing": frozenset({"media", "visual_tokens", "contracts"}),
    "models": frozenset({"visual_tokens", "contracts"}),
    "weights": frozenset(),
    "generation": frozenset({"models", "contracts"}),
    "options": frozenset({"generation", "media", "visual_tokens"}),
    "stopwatch": frozenset(),
    "context_fit": frozenset({"visual_tokens", "media"}),
    "reader": frozenset(
        {"options", "stopwatch", "context_fit", "processing", "contracts", "media", "visual_tokens"},
    ),
    "conversation": frozenset({"options", "stopwatch", "reader", "processing", "models", "contracts", "engine"}),
    "families": frozenset(
        {"processing", "models", "weights", "generation", "visual_tokens", "devices", "contracts", "media"},
    ),
    "engine": frozenset(
        {
            "processing",
            "models",
            "weights",
            "generation",
            "visual_tokens",
            "contracts",
            "media",
            "freed_memory",
            "native",
        },
    ),
    "indexing": frozenset({"conversation", "reader", "options", "stopwatch", "engine", "contracts"}),
    "session": LEVELS_0_TO_3 | {"conversation", "reader", "indexing"},
    "training": LEVELS_0_TO_3 - {"engine"},
    "server": LEVELS_0_TO_3 - {"families"} | {"reader", "conversation"},
    "captioning": LEVELS_0_TO_3,
    "evaluation": LEVELS_0_TO_3 | {"world"},
    "mini": frozenset({"world", "session", "training", "families", "contracts"}),
}
"""Everyone may also import errors and itself; cli and ``videolm/__init__`` may import anything."""

ANYTHING = frozenset({"cli", "__init__"})
WITHOUT_TORCH = frozenset(
    {"media/sampling.py", "generation/stopping.py", "engine/scheduler.py", "captioning/manifest.py", "cli/main.py"}
)
FAMILY_WORDS = re.compile(r"llava|vicuna|languagebind", re.IGNORECASE)


@dataclass(frozen=True)
class Import:
    """One imported module, by its full name."""

    module: str
    line: int
    at_import_time: bool
    """Neither inside a function nor under ``if TYPE_CHECKING``."""


def violations(src: Path) -> list[str]:
    """Every breach of the rules below ``src/videolm``, one line each."""
    package = src / "videolm"
    found: list[str] = []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        text = path.read_text(encoding="utf-8")
        imports = list(imports_of(text))
        found += (f"{name}:{problem}" for problem in _breaches(name, imports))
        found += (f"{name}:{problem}" for problem in _family_words(name, text))
        if name in WITHOUT_TORCH and (chain := torch_chain(package, name)):
            found.append(f"{name}: imports torch by way of {' -> '.join(chain)}")
    return found


def imports_of(text: str) -> Iterator[Import]:
    """The imports of a source text; a relative import is given with its dots."""
    yield from _imports_below(ast.parse(text).body, at_import_time=True)


def _imports_below(nodes: Iterable[ast.AST], *, at_import_time: bool) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, at_import_time) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for module in _from_modules(node):
                yield Import(module, node.lineno, at_import_time)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imports_below(node.body, at_import_time=False)
            yield from _imports_below(node.orelse, at_import_time=at_import_time)
        else:
            later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports_below(ast.iter_child_nodes(node), at_import_time=at_import_time and not later)


def _from_modules(node: ast.ImportFrom) -> list[str]:
    module = "." * node.level + (node.module or "")
    # `from videolm import media` names the package in the alias, not in the module.
    return [f"videolm.{alias.name}" for alias in node.names] if module == "videolm" else [module]


def _breaches(name: str, imports: list[Import]) -> Iterator[str]:
    unit = name.split("/")[0].removesuffix(".py")
    if unit not in ALLOWED and unit not in ANYTHING:
        yield f" {unit} has no row in the table"
    for item in imports:
        top, _, rest = item.module.partition(".")
        target = rest.split(".")[0]
        if name.endswith("__init__.py") and item.at_import_time and not _may_stand_in_init(name, top):
            yield f"{item.line} an __init__ file imports nothing, and this one imports {item.module}"
        if not top:
            yield f"{item.line} imports are absolute, and this is {item.module}"
        if top == "transformers":
            yield f"{item.line} transformers is for tests only"
        if top == "videolm" and unit in ALLOWED and target not in ALLOWED[unit] | {"errors", unit}:
            yield f"{item.line} {unit} may not import {target or 'videolm'}"


def _may_stand_in_init(name: str, top: str) -> bool:
    # The root needs the standard library for its lazy exports; everything else comes when it is asked for.
    return top in sys.stdlib_module_names if name == "__init__.py" else top == "__future__"


def _family_words(name: str, text: str) -> Iterator[str]:
    if name == "__init__.py" or name.startswith(("families/", "mini/")):
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if match := FAMILY_WORDS.search(line):
            yield f"{number} a family's name ({match.group()}) stands outside families/ and mini/"


def torch_chain(package: Path, name: str, seen: frozenset[str] = frozenset()) -> list[str]:
    """How importing ``name`` comes to import torch: the modules on the way, or nothing."""
    path = package / name
    for item in imports_of(path.read_text(encoding="utf-8")):
        if item.module.split(".")[0] == "torch" and (item.at_import_time or not seen):
            return ["torch"]
        inner = item.module.removeprefix("videolm.").replace(".", "/") + ".py"
        if not item.at_import_time or not item.module.startswith("videolm.") or inner in seen:
            continue
        if (package / inner).is_file() and (chain := torch_chain(package, inner, seen | {name, inner})):
            return [inner, *chain]
    return []


def test_the_source_keeps_the_rules() -> None:
    assert violations(SRC) == []


def test_the_architecture_page_has_the_same_table() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d \| (\w+) \| ([\w, -]+) \|$", page, re.MULTILINE)
    assert {name: frozenset(allowed.split(", ")) - {"-"} for name, allowed in rows} == ALLOWED


def test_every_package_has_a_row() -> None:
    packages = {path.name for path in (SRC / "videolm").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert packages <= ALLOWED.keys() | ANYTHING


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("media/load.py", "from videolm.models.vit import Tower", "media may not import models"),
        ("media/load.py", "def f():\n    import videolm.processing.chat", "media may not import processing"),
        ("processing/chat.py", "from videolm import families", "processing may not import families"),
        ("processing/chat.py", "import videolm", "processing may not import videolm"),
        ("models/vit.py", "from videolm.weights.files import x", "models may not import weights"),
        ("weights/files.py", "from videolm.contracts import Frames", "weights may not import contracts"),
        ("engine/engine.py", "from videolm.families.auto import load_model", "engine may not import families"),
        ("training/sft.py", "from videolm.engine.engine import Engine", "training may not import engine"),
        ("session.py", "from videolm.world.scene import Scene", "session may not import world"),
        ("world/scene.py", "from videolm.media.load import load_media", "world may not import media"),
        ("errors.py", "if TYPE_CHECKING:\n    from videolm.contracts import Frames", "errors may not import contracts"),
        ("weights/files.py", "from .keymap import KeyRule", "imports are absolute"),
        ("families/auto.py", "import transformers", "transformers is for tests only"),
        ("media/__init__.py", "from videolm.media.load import load_media", "an __init__ file imports nothing"),
        ("__init__.py", "from videolm.session import load", "an __init__ file imports nothing"),
        ("media/__init__.py", "import importlib", "an __init__ file imports nothing"),
        ("training/data.py", "# the LLaVA way", "a family's name (LLaVA) stands outside"),
        ("media/sampling.py", "import torch", "imports torch"),
        ("media/sampling.py", "def f():\n    import torch", "imports torch"),
        ("helpers/paths.py", "", "helpers has no row"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, name: str, text: str, problem: str) -> None:
    plant(tmp_path, name, text)
    assert [line for line in violations(tmp_path) if problem in line], violations(tmp_path)


def test_torch_by_way_of_another_module_is_found(tmp_path: Path) -> None:
    plant(tmp_path, "generation/stopping.py", "from videolm.contracts import Answer")
    plant(tmp_path, "contracts.py", "import torch")
    assert violations(tmp_path) == ["generation/stopping.py: imports torch by way of contracts.py -> torch"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("media/load.py", "from videolm.contracts import Frames\nfrom videolm.errors import MediaError\nimport numpy"),
        ("media/load.py", "from videolm.media.sampling import FrameSampling"),
        ("evaluation/tasks/shapes.py", "from videolm.world.truth import facts"),
        ("__init__.py", "import importlib\ndef __getattr__(name):\n    import videolm.session"),
        ("families/auto.py", "WORDS = ('llava', 'vicuna', 'LanguageBind')"),
        ("cli/ask.py", "from videolm.session import load\nfrom videolm.families.auto import resolve"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, name: str, text: str) -> None:
    plant(tmp_path, name, text)
    assert violations(tmp_path) == []


def plant(src: Path, name: str, text: str) -> None:
    path = src / "videolm" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
