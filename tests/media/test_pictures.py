"""Pictures and animations through PIL: upright, RGB, within limits, with the times of their frames."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from videolm.errors import MediaError, MediaLimitError
from videolm.media.limits import MediaLimits
from videolm.media.pictures import decode_animation, load_picture, num_animation_frames, open_picture
from videolm.media.sampling import FrameSampling
from videolm.media.source import open_source

GRADIENT = np.stack([*np.meshgrid(np.arange(0, 250, 10), np.arange(0, 160, 10)), np.full((16, 25), 7)], axis=-1).astype(
    np.uint8
)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def load(data: bytes | Path, limits: MediaLimits | None = None) -> np.ndarray:
    with open_picture(open_source(data), limits or MediaLimits()) as image:
        frames = load_picture(image, "picture", limits or MediaLimits())
    assert (frames.kind, frames.method, frames.size) == ("image", "picture", frames.pixels[0].shape[:2])
    return frames.pixels[0]


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_pictures_are_exact(format: str) -> None:
    np.testing.assert_array_equal(load(saved(Image.fromarray(GRADIENT), format)), GRADIENT)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF"])
def test_lossy_pictures_are_near(format: str) -> None:
    assert np.abs(load(saved(Image.fromarray(GRADIENT), format, quality=95)).astype(int) - GRADIENT).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation: int) -> None:
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation

    np.testing.assert_array_equal(load(saved(Image.fromarray(GRADIENT), "PNG", exif=exif)), undo(GRADIENT))


def test_a_damaged_exif_block_leaves_the_picture_as_it_is() -> None:
    data = saved(Image.fromarray(GRADIENT), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")

    np.testing.assert_array_equal(load(data), GRADIENT)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    deep = Image.fromarray(np.full((4, 5), 0x8080, np.uint16))
    image = deep if mode == "I;16" else Image.new("RGB", (5, 4)).convert(mode)
    picture = load(saved(image, "TIFF" if mode == "CMYK" else "PNG"))

    assert picture.shape == (4, 5, 3)
    assert picture.dtype == np.uint8
    assert np.unique(picture).tolist() == [0x80 if mode == "I;16" else 0]


def test_a_palette_with_transparency_gives_no_warning() -> None:
    image = Image.fromarray(GRADIENT).quantize(16)
    data = saved(image, "PNG", transparency=bytes(range(16)))

    np.testing.assert_array_equal(load(data), np.asarray(image.convert("RGB")))


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises its size and holds nothing."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


@pytest.mark.parametrize("side", [9000, 12_000, 60_000])
def test_an_image_bomb_is_refused_from_its_header(side: int) -> None:
    with pytest.raises(MediaLimitError) as caught:
        load(png_header(side, side))

    assert "pixels" in str(caught.value)
    assert str(caught.value).startswith("bytes has ")
    assert "Scale it down" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_pixel_limit_is_exact_and_can_be_raised() -> None:
    data = saved(Image.fromarray(GRADIENT), "PNG")

    assert load(data, MediaLimits(max_pixels=400)).shape == (16, 25, 3)
    with pytest.raises(MediaLimitError, match=r"bytes has 25x16 = 400 pixels\. Expected at most 399 a picture\."):
        load(data, MediaLimits(max_pixels=399))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_pictures_are_refused_in_one_line(format: str, share: float) -> None:
    rng = np.random.default_rng(0)
    data = saved(Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)), format)

    with pytest.raises(MediaError, match=r"^(bytes|picture) cannot be read as a picture: ") as caught:
        load(data[: int(len(data) * share)])

    assert "\n" not in str(caught.value)


DURATIONS_MS = [100, 200, 300, 400, 500]


def animation(format: str) -> tuple[bytes, list[np.ndarray]]:
    pictures = [np.roll(GRADIENT, 3 * i, axis=1) for i in range(5)]
    images = [Image.fromarray(picture) for picture in pictures]
    options = {"lossless": True} if format == "WEBP" else {}
    data = saved(images[0], format, save_all=True, append_images=images[1:], duration=DURATIONS_MS, **options)
    return data, pictures


@pytest.mark.parametrize("format", ["WEBP", "PNG"])
@pytest.mark.parametrize("num_frames", [3, 5])
def test_an_animation_is_exact_and_keeps_its_times(format: str, num_frames: int) -> None:
    data, pictures = animation(format)
    indices = {3: (0, 2, 4), 5: (0, 1, 2, 3, 4)}[num_frames]
    times_s = [0.0, 0.1, 0.3, 0.6, 1.0]

    with open_picture(open_source(data), MediaLimits()) as image:
        assert num_animation_frames(image, "bytes") == 5
        frames = decode_animation(image, "bytes", sampling=FrameSampling(num_frames=num_frames), limits=MediaLimits())

    assert (frames.kind, frames.method, frames.size) == ("video", "picture", (16, 25))
    assert (frames.num_source_frames, frames.warnings) == (5, ())
    assert frames.duration_s == pytest.approx(1.5)
    assert frames.fps == pytest.approx(5 / 1.5)
    assert frames.frame_indices == indices
    assert frames.frame_times_s == pytest.approx([times_s[i] for i in indices])
    for i, ours in zip(indices, frames.pixels, strict=True):
        np.testing.assert_array_equal(ours, pictures[i])


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (MediaLimits(max_packets=4), r"bytes has 5 frames\. Expected at most max_packets=4\."),
        (MediaLimits(max_duration_s=1), r"bytes is 2 s long\. Expected at most 1 s\."),
        (MediaLimits(max_frames=2), r"5 frames of bytes were asked for\. Expected at most 2"),
    ],
)
def test_the_limits_of_an_animation(limits: MediaLimits, message: str) -> None:
    data, _ = animation("WEBP")

    with (
        open_picture(open_source(data), limits) as image,
        pytest.raises(MediaLimitError, match=message),
    ):
        decode_animation(image, "bytes", sampling=FrameSampling(num_frames=8), limits=limits)


def test_a_still_picture_has_one_frame() -> None:
    with open_picture(open_source(saved(Image.fromarray(GRADIENT), "GIF")), MediaLimits()) as image:
        assert num_animation_frames(image, "bytes") == 1
