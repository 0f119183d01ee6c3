"""The public names: all there, imported only when used."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import videolm
import videolm.errors


@pytest.mark.parametrize("name", videolm.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    value = getattr(videolm, name)
    assert value.__name__ == name
    assert name in dir(videolm)


def test_all_is_sorted_and_complete() -> None:
    assert videolm.__all__ == sorted(videolm.__all__)
    assert set(videolm.__all__) == set(videolm._MODULE_OF)
    assert set(videolm.errors.__all__) <= set(videolm.__all__)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(videolm.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == videolm._MODULE_OF


def test_the_version_is_the_packages() -> None:
    assert videolm.__version__ == importlib.metadata.version("videolm")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'videolm' has no attribute 'laod'"):
        _ = videolm.laod


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, videolm; videolm.ArgumentError; videolm.FrameSampling; videolm.SamplingParams; "
        "heavy = {'torch', 'numpy', 'av', 'PIL', 'tokenizers', 'huggingface_hub', 'jinja2', 'transformers'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_session_runs_without_transformers() -> None:
    code = "import sys, videolm; videolm.load; videolm.Session; assert 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
