"""A reader whose media are read elsewhere, and one that tells which medium cannot be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from videolm.contracts import Frames
from videolm.errors import MediaNotFoundError
from videolm.media.load import load_media
from videolm.options import MediaOptions
from videolm.reader import Reader
from videolm.session import load_reader
from videolm.stopwatch import Stopwatch


@pytest.fixture(scope="module")
def reader(tiny_model_folder: Path) -> Reader:
    return load_reader(tiny_model_folder)


def watch() -> Stopwatch:
    return Stopwatch(torch.device("cpu"))


def test_another_loader_is_given_all_that_matters_and_its_frames_are_used(
    reader: Reader, clip: Path, picture: Path
) -> None:
    asked: list[dict[str, Any]] = []

    def load(source: Any, **options: Any) -> Frames:
        asked.append({"source": source, **options})
        return load_media(source, on_frame=reader.processor.prepare_frame, **options)

    options = MediaOptions(frames=3)
    sources: Any = [(clip, "video"), (picture, "auto")]
    expected = reader.read(sources, options, watch())
    found = replace(reader, load=load).read(sources, options, watch())
    assert [(each["source"], each["kind"], each["progress"]) for each in asked] == [
        (clip, "video", None),
        (picture, "auto", None),
    ]
    assert {each["sampling"].num_frames for each in asked} == {3}
    for (_, mine), (_, theirs) in zip(found, expected, strict=True):
        assert torch.equal(mine.pixel_values, theirs.pixel_values)


def test_media_are_read_one_by_one_until_one_cannot_be(reader: Reader, clip: Path, tmp_path: Path) -> None:
    media = reader.read_each([(clip, "auto"), (tmp_path / "none.mp4", "auto")], MediaOptions(), watch())
    assert next(media)[0].source == str(clip)
    with pytest.raises(MediaNotFoundError):
        next(media)
