"""From a scene and a time to an RGB picture; edges are smoothed by drawing larger and shrinking."""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from videolm.world.scene import Background, Scene, Shape, Text

OVERSAMPLING = 4
Point = tuple[float, float]


def draw_frame(scene: Scene, time: float, *, height: int | None = None, width: int | None = None) -> np.ndarray:
    """The scene at ``time`` as ``[H, W, 3]`` uint8, at the scene's own size or the one given."""
    high, wide = height or scene.height, width or scene.width
    canvas = Image.fromarray(_background(scene.background, high, wide).copy())
    for shape in scene.shapes:
        if shape.is_visible(time):
            _paste_shape(canvas, shape, time)
    if scene.text is not None:
        paste_text(canvas, scene.text)
    return np.asarray(canvas)


def frame_times(scene: Scene) -> tuple[float, ...]:
    """The scene's own time of each frame of its clip."""
    return tuple(index / max(scene.num_frames - 1, 1) for index in range(scene.num_frames))


def encode_clip(scene: Scene, *, codec: str = "libx264", crf: int = 23, container: str = "mp4") -> bytes:
    """The clip as a video file."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        options = {"crf": str(crf), "preset": "veryfast", "threads": "1"} if codec == "libx264" else {}
        stream: Any = output.add_stream(codec, rate=scene.fps, options=options)
        stream.width, stream.height = scene.width - scene.width % 2, scene.height - scene.height % 2
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.thread_count = 1
        for time in frame_times(scene):
            pixels = draw_frame(scene, time)[: stream.height, : stream.width]
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def encode_picture(scene: Scene, *, image_format: str = "PNG", quality: int = 90) -> bytes:
    """The picture as an image file."""
    buffer = io.BytesIO()
    Image.fromarray(draw_frame(scene, 0.0)).save(buffer, image_format, quality=quality)
    return buffer.getvalue()


@lru_cache(maxsize=8)
def _background(background: Background, height: int, width: int) -> np.ndarray:
    share = np.linspace(0.0, 1.0, height)[:, None, None]
    pixels = np.array(background.top) * (1 - share) + np.array(background.bottom) * share
    pixels = np.broadcast_to(pixels, (height, width, 3))
    if background.grain:
        noise = np.random.default_rng(background.grain_seed).integers(
            -background.grain, background.grain + 1, (height, width, 1)
        )
        pixels = pixels + noise
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _paste_shape(canvas: Image.Image, shape: Shape, time: float) -> None:
    x, y = shape.place(time)
    centre_x, centre_y = x * canvas.width, y * canvas.height
    radius = max(shape.size(time) * min(canvas.width, canvas.height), 1.0)
    left, top = math.floor(centre_x - radius) - 1, math.floor(centre_y - radius) - 1
    side = math.ceil(2 * radius) + 3
    mask = Image.new("L", (side * OVERSAMPLING, side * OVERSAMPLING))
    centre = ((centre_x - left) * OVERSAMPLING, (centre_y - top) * OVERSAMPLING)
    _draw_mask(ImageDraw.Draw(mask), shape.kind, centre, radius * OVERSAMPLING, shape.heading(time))
    canvas.paste(shape.rgb, (left, top), mask.reduce(OVERSAMPLING))


def _draw_mask(draw: ImageDraw.ImageDraw, kind: str, centre: Point, radius: float, angle: float) -> None:
    x, y = centre
    if kind in ("circle", "ring"):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        if kind == "ring":
            hole = 0.58 * radius
            draw.ellipse((x - hole, y - hole, x + hole, y + hole), fill=0)
        return
    turn = math.radians(angle)
    cos, sin = math.cos(turn), math.sin(turn)
    points = [(x + radius * (a * cos - b * sin), y + radius * (a * sin + b * cos)) for a, b in _outline(kind)]
    draw.polygon(points, fill=255)


@lru_cache(maxsize=8)
def _outline(kind: str) -> tuple[Point, ...]:
    """Corners of a shape inside the unit circle, upright, y pointing down."""
    if kind == "square":
        side = 0.82
        return ((-side, -side), (side, -side), (side, side), (-side, side))
    if kind == "triangle":
        return ((0.0, -0.98), (0.98, 0.75), (-0.98, 0.75))
    if kind == "star":
        corners = ((1.0 if k % 2 == 0 else 0.42, math.pi * k / 5) for k in range(10))
        return tuple((reach * math.sin(a), -reach * math.cos(a)) for reach, a in corners)
    assert kind == "cross", kind
    arm = 0.3
    quarter: list[Point] = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
    turned: list[Point] = []
    for _ in range(4):
        turned.extend(quarter)
        quarter = [(-b, a) for a, b in quarter]
    return tuple(turned)


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow without FreeType"
    return font


def paste_text(canvas: Image.Image, text: Text) -> None:
    """Print a word on a picture."""
    ImageDraw.Draw(canvas).text(
        (text.x * canvas.width, text.y * canvas.height),
        text.words,
        fill=text.rgb,
        font=_font_of(text, canvas.height, canvas.width),
        anchor="mm",
    )


def letter_boxes(text: Text, height: int, width: int) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Each letter of a word printed on a picture of this size, and the left, top, right and bottom of its part of it.

    From one letter's beginning to the next one's, as high as the highest of them; fractions of width and height.
    """
    font = _font_of(text, height, width)
    _, top, _, bottom = font.getbbox(text.words, anchor="mm")
    start_x, y = text.x * width - font.getlength(text.words) / 2, text.y * height
    ends = [start_x + font.getlength(text.words[: count + 1]) for count in range(len(text.words))]
    return [
        (letter, (left / width, (y + top) / height, right / width, (y + bottom) / height))
        for letter, left, right in zip(text.words, [start_x, *ends], ends, strict=False)
    ]


def _font_of(text: Text, height: int, width: int) -> ImageFont.FreeTypeFont:
    # The built-in font's capitals are about 0.72 of its size.
    return _font(max(round(text.height * min(width, height) / 0.72), 6))
