"""The Triton kernel in Triton's interpreter: a process of its own, since Triton is told before it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_interpreted_values_are_those_of_gathering() -> None:
    checks = Path(__file__).with_name("interpreted_kernel.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(checks)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "8 passed" in done.stdout
