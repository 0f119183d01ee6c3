"""Folders and sequences of frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from videolm.errors import ArgumentError, MediaError, MediaLimitError, MediaNotFoundError
from videolm.media.limits import MediaLimits
from videolm.media.picture_sequence import check_array, frame_files, sample_folder, sample_pictures
from videolm.media.sampling import FrameSampling

FOUR = FrameSampling(num_frames=4)


def picture(value: int) -> np.ndarray:
    return np.full((4, 6, 3), value, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(12):
        Image.fromarray(picture(i)).save(tmp_path / f"frame{i}.png")
    (tmp_path / ".hidden.png").write_bytes(b"no frame")
    (tmp_path / "notes.txt").write_text("no frame")
    (tmp_path / "inner.png").mkdir()
    return tmp_path


def test_a_folder_is_read_in_natural_order(folder: Path) -> None:
    assert [file.name for file in frame_files(folder, "f", MediaLimits())] == [f"frame{i}.png" for i in range(12)]


def test_natural_order_compares_numbers_and_then_text(tmp_path: Path) -> None:
    names = ["1.png", "2.png", "02.png", "10.png", "a1b2.png", "a1b10.png", "A2.png", "b.png"]
    for name in reversed(names):
        (tmp_path / name).touch()

    ordered = [file.name for file in frame_files(tmp_path, "f", MediaLimits())]

    assert ordered == ["1.png", "02.png", "2.png", "10.png", "a1b2.png", "a1b10.png", "A2.png", "b.png"]


def test_only_the_chosen_frames_of_a_folder_are_opened(folder: Path) -> None:
    (folder / "frame1.png").write_bytes(b"damaged, and not chosen")

    frames = sample_folder(folder, "clip", sampling=FOUR, limits=MediaLimits())

    assert (frames.kind, frames.method, frames.source, frames.size) == ("video", "folder", "clip", (4, 6))
    assert (frames.frame_indices, frames.frame_times_s) == ((0, 3, 7, 11), ())
    assert (frames.num_source_frames, frames.fps, frames.duration_s, frames.warnings) == (12, None, None, ())
    assert [int(pixels[0, 0, 0]) for pixels in frames.pixels] == [0, 3, 7, 11]


def test_a_damaged_frame_is_named(folder: Path) -> None:
    (folder / "frame3.png").write_bytes(b"damaged")

    with pytest.raises(MediaError, match=r"frame3\.png cannot be read as a picture: its header is damaged"):
        sample_folder(folder, "clip", sampling=FOUR, limits=MediaLimits())


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()

    with pytest.raises(MediaNotFoundError, match=r"^The folder here holds no pictures\. Expected frames as \.png, "):
        sample_folder(tmp_path, "here", sampling=FOUR, limits=MediaLimits())


def test_a_folder_of_too_many_pictures(folder: Path) -> None:
    with pytest.raises(MediaLimitError, match=r"^clip holds more than 11 pictures\. Expected at most max_packets\."):
        sample_folder(folder, "clip", sampling=FOUR, limits=MediaLimits(max_packets=11))


@pytest.mark.parametrize("make", [Image.fromarray, np.asarray, torch.from_numpy])
def test_sequences_of_images_and_arrays(make: Any) -> None:
    frames = sample_pictures([make(picture(i)) for i in range(9)], "list", sampling=FOUR, limits=MediaLimits())

    assert (frames.kind, frames.method, frames.size, frames.num_source_frames) == ("video", "array", (4, 6), 9)
    assert frames.frame_indices == (0, 2, 5, 8)
    assert [int(pixels[0, 0, 0]) for pixels in frames.pixels] == [0, 2, 5, 8]


def test_each_sampled_frame_passes_through_on_frame() -> None:
    frames = sample_pictures(
        np.stack([picture(i) for i in range(3)]),
        "array",
        sampling=FOUR,
        limits=MediaLimits(),
        on_frame=lambda frame: frame[:2, :2] + 1,
    )

    assert frames.size == (4, 6)
    assert [pixels.tolist() for pixels in frames.pixels] == [np.full((2, 2, 3), i).tolist() for i in (1, 2, 3)]
    assert frames.warnings == ("array has 3 frames, fewer than the 4 asked for; all of them are used.",)


def test_no_frames_at_all() -> None:
    with pytest.raises(ArgumentError, match=r"^list holds no frames\. Expected at least one\."):
        sample_pictures([], "list", sampling=FOUR, limits=MediaLimits())


@pytest.mark.parametrize(
    ("array", "num_dimensions", "message"),
    [
        (np.zeros((4, 6, 3)), 3, "x has dtype float64. Expected uint8 with values from 0 to 255."),
        (torch.zeros(4, 6, 3), 3, "x has dtype float32. Expected uint8 with values from 0 to 255."),
        (np.zeros((3, 4, 6), np.uint8), 3, "x has shape [3, 4, 6]. Expected [H, W, 3]. Move the channels to the end."),
        (np.zeros((4, 6), np.uint8), 3, "x has shape [4, 6]. Expected [H, W, 3]. Convert it to RGB"),
        (np.zeros((4, 6, 4), np.uint8), 3, "x has shape [4, 6, 4]. Expected [H, W, 3]. Convert it to RGB"),
        (np.zeros((0, 6, 3), np.uint8), 3, "x has shape [0, 6, 3]. Expected [H, W, 3]."),
        (np.zeros((2, 3, 4, 6), np.uint8), 4, "x has shape [2, 3, 4, 6]. Expected [F, H, W, 3]. Move the channels"),
        ("a path", 3, "x has dtype <U6. Expected uint8"),
    ],
)
def test_arrays_of_another_kind_are_refused(array: Any, num_dimensions: int, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        check_array(array, num_dimensions, "x", MediaLimits())

    assert str(caught.value).startswith(message)


def test_the_advice_for_arrays_works() -> None:
    channels_first = torch.zeros(2, 3, 4, 6)

    taken = check_array((channels_first.movedim(1, -1) * 255).to(torch.uint8), 4, "x", MediaLimits())

    assert taken.shape == (2, 4, 6, 3)
