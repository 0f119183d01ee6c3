"""A real server under random requests for minutes: the same answers, and nothing that grows or stays."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import soak

SECONDS = float(os.environ.get("VIDEOLM_SOAK_S", "120"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory and handles are read from /proc")
def test_a_server_stays_as_it_is_and_right(tmp_path: Path) -> None:
    found = soak.run(soak.Plan(seconds=SECONDS), tmp_path)
    assert found.faults() == []
    done = found.client.done
    total = sum(done.values()) - done["closed early"]
    assert total > SECONDS / 2
    assert 0.1 < done["cancelled"] / total < 0.3
    assert 0.05 < done["bad"] / total < 0.2
    assert all(done[name] > 0 for name in ("asked", "new media", "uploaded", "inspected", "looked", "closed early"))
