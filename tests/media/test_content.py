"""The hash of a medium's content: the same whatever it is called, another when anything in it is."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from videolm.contracts import Frames
from videolm.errors import MediaNotFoundError
from videolm.media.content import open_content
from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling

from .conftest import Clip


def content(source: Any) -> str:
    return open_content(source)[2]


def test_bytes_decide_and_names_do_not(clip: Clip, tmp_path: Path) -> None:
    path, other = clip("one-frame.mp4"), tmp_path / "other.mp4"
    data = path.read_bytes()
    other.write_bytes(data)
    alike = [path, str(path), other, data, io.BytesIO(data), f"file://{path}"]
    assert len({content(source) for source in alike}) == 1
    other.write_bytes(data[:-1] + b"x")
    assert content(other) != content(path)


def test_what_was_opened_is_read_in_its_place(clip: Clip) -> None:
    path = clip("one-frame.mp4")

    class Pipe(io.RawIOBase):
        """Can be read once."""

        left = path.read_bytes()

        def read(self, size: int = -1) -> bytes:
            taken, self.left = self.left, b""
            return taken

        def seekable(self) -> bool:
            return False

    opened, name, digest = open_content(Pipe())
    assert (name, digest) == ("file object", content(path))
    sampling = FrameSampling(num_frames=3)
    assert load_media(opened, sampling=sampling).frame_indices == load_media(path, sampling=sampling).frame_indices


def test_folders_are_their_frames_in_order(tmp_path: Path) -> None:
    for name, shade in (("0.png", 0), ("1.png", 90)):
        Image.new("RGB", (4, 4), (shade, 0, 0)).save(tmp_path / name)
    before = content(tmp_path)
    (tmp_path / "notes.txt").write_text("no frame")
    assert content(tmp_path) == before
    (tmp_path / "0.png").rename(tmp_path / "2.png")
    assert content(tmp_path) != before


def test_pixels_in_memory_are_told_apart() -> None:
    video = np.zeros((2, 4, 6, 3), np.uint8)
    changed = video.copy()
    changed[1, 3, 5, 2] = 1
    frames = Frames(kind="video", pixels=tuple(video), source="a", size=(4, 6), fps=1.0)
    picture = Image.fromarray(video[0])
    sources = [
        video,
        changed,
        video[0],
        list(video),
        frames,
        replace(frames, fps=2.0),
        picture,
        video.reshape(2, 6, 4, 3),
    ]
    assert len({content(source) for source in sources}) == len(sources)
    assert content(video.copy()) == content(video)
    assert content(replace(frames, source="b")) == content(frames)
    assert content(picture.convert("L")) != content(picture)


def test_what_is_missing_is_told() -> None:
    with pytest.raises(MediaNotFoundError):
        open_content("nowhere.mp4")
