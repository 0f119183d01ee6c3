"""The models and media that the scripts of the documentation name, made here."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from .checkpoints import CHECKPOINTS, write_checkpoint


@pytest.fixture(scope="session")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache that holds the documentation's models; a module may have its own."""
    cache = tmp_path_factory.mktemp("hub")
    for name, write_parts in CHECKPOINTS.items():
        write_checkpoint(cache, name, write_parts)
    return cache


@pytest.fixture(autouse=True)
def _only_the_cache(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub_cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def video_path(clip: Path) -> str:
    """In the place of a video on the hub: twelve frames."""
    return str(clip)


@pytest.fixture
def image(picture: Path) -> Image.Image:
    """In the place of a picture from a URL: twice as wide as high."""
    return Image.open(picture)
