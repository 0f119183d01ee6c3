"""Benchmarks are scripts beside the package, so their folder has to be made importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
