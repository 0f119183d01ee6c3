"""A picture of exactly what the model sees: every frame with its time, every tile with its place in the grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from videolm.contracts import Frames, VisualInput
from videolm.processing.pixels import denormalise
from videolm.processing.processor import Processor
from videolm.visual_tokens import ImageLayout, VideoTokens

_WIDTH = 1200
_MARGIN = 24
_GAP = 12
_CELL = 220
_SEAM = 4
_TITLE, _TEXT, _SMALL = 24, 18, 15
_PALE = 0.8
"""How far what is left out fades towards the paper."""
_PAPER, _INK, _GREY, _LINE = (255, 255, 255), (20, 20, 20), (110, 110, 110), (200, 200, 200)

Kept = Sequence[np.ndarray]
"""For each frame of a video, which of its patches stay: ``[side, side]`` bool."""

__all__ = ["Kept", "contact_sheet", "describe"]


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """A picture somewhere in a block, with a line of text below it."""

    left: int
    top: int
    picture: Image.Image
    caption: str


@dataclass(frozen=True, kw_only=True)
class _Block:
    """What one medium takes on the sheet."""

    title: str
    subtitle: str
    cells: tuple[_Cell, ...]
    height: int


def describe(items: Sequence[tuple[Frames, VisualInput]], processor: Processor) -> dict[str, Any]:
    """What the sheet shows, as values for JSON."""
    return {
        "media": [_describe_one(frames, visual, processor) for frames, visual in items],
        "visual_tokens": sum(visual.num_tokens for _, visual in items),
    }


def _describe_one(frames: Frames, visual: VisualInput, processor: Processor) -> dict[str, Any]:
    count, _, height, width = visual.pixel_values.shape
    rules = processor.tokens.video.within(visual.budget)
    facts: dict[str, Any] = {
        "source": frames.source,
        "kind": frames.kind,
        "width": frames.size[1],
        "height": frames.size[0],
        "visual_tokens": visual.num_tokens,
        "input_width": width,
        "input_height": height,
        "warnings": list(frames.warnings),
    }
    if frames.kind == "video":
        return facts | {
            "num_frames": count,
            "frame_indices": list(frames.frame_indices),
            "frame_times_s": list(frames.frame_times_s),
            "num_source_frames": frames.num_source_frames,
            "duration_s": frames.duration_s,
            "tokens_per_frame": rules.per_frame,
            "full_visual_tokens": rules.full_count(count),
            "visual_token_budget": visual.budget.fraction,
            "token_reduction": visual.budget.method if visual.budget.fraction < 1 else None,
            "chosen": frames.chosen,
            "method": frames.method,
            "num_bad_frames": frames.num_bad_frames,
        }
    layout = processor.tokens.image.layout(*visual.size)
    return facts | {"num_tiles": count, "tile_rows": layout.tile_rows, "tile_columns": layout.tile_columns}


def contact_sheet(
    items: Sequence[tuple[Frames, VisualInput]], processor: Processor, kept: Sequence[Kept | None] = ()
) -> Image.Image:
    """The sheet as an RGB picture; pixels are read back from what the model gets, not from the source.

    Args:
        kept: For each medium, which patches stay, where some are left out and it is known which; the others fade.
    """
    given = kept or [None] * len(items)
    blocks = [_block(frames, visual, processor, stays) for (frames, visual), stays in zip(items, given, strict=True)]
    total = sum(visual.num_tokens for _, visual in items)
    headline = f"What the model sees: {_plural(len(items), 'medium', 'media')}, {_plural(total, 'visual token')}"
    top = _MARGIN + _TITLE + 2 * _GAP
    sheet = Image.new("RGB", (_WIDTH, top + sum(block.height for block in blocks) + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), headline, fill=_INK, font=_font(_TITLE))
    for block in blocks:
        _draw_block(sheet, draw, block, top)
        top += block.height
    return sheet


def _draw_block(sheet: Image.Image, draw: ImageDraw.ImageDraw, block: _Block, top: int) -> None:
    draw.line((_MARGIN, top, _WIDTH - _MARGIN, top), fill=_LINE)
    draw.text((_MARGIN, top + _GAP), _fit(block.title, _TEXT), fill=_INK, font=_font(_TEXT))
    draw.text((_MARGIN, top + _GAP + _TEXT + 8), _fit(block.subtitle, _SMALL), fill=_GREY, font=_font(_SMALL))
    for cell in block.cells:
        left, cell_top = cell.left, top + cell.top
        sheet.paste(cell.picture, (left, cell_top))
        right, bottom = left + cell.picture.width, cell_top + cell.picture.height
        draw.rectangle((left - 1, cell_top - 1, right, bottom), outline=_LINE)
        draw.text((left, bottom + 4), cell.caption, fill=_GREY, font=_font(_SMALL))


def _block(frames: Frames, visual: VisualInput, processor: Processor, kept: Kept | None) -> _Block:
    is_video = frames.kind == "video"
    settings = processor.video_pixels if is_video else processor.image_pixels
    pixels = denormalise(visual.pixel_values, settings)
    if kept is not None:
        pixels = _faded(pixels, kept, processor.tokens.video)
    pictures = [Image.fromarray(picture) for picture in pixels]
    top = 2 * _GAP + _TEXT + _SMALL + 8
    if is_video:
        cells = list(_frame_cells(frames, pictures, top))
        subtitle = _video_line(frames, visual, processor, is_marked=kept is not None)
    else:
        layout = processor.tokens.image.layout(*visual.size)
        cells = list(_tile_cells(layout, pictures, top))
        subtitle = _picture_line(frames, visual, layout)
    return _Block(
        title=f"{frames.source}: {_plural(visual.num_tokens, 'visual token')}",
        subtitle=subtitle,
        cells=tuple(cells),
        height=max(cell.top + cell.picture.height for cell in cells) + _SMALL + 2 * _GAP,
    )


def _faded(pixels: np.ndarray, kept: Kept, tokens: VideoTokens) -> np.ndarray:
    """``[F, H, W, 3]`` frames in which the patches that are left out are pale."""
    faded = pixels.astype(np.float32)
    for picture, stays in zip(faded, kept, strict=True):
        patches = tokens.grid / len(stays) if tokens.pool == "bilinear" else tokens.grid // len(stays)
        edges = np.round(np.arange(len(stays) + 1) * patches * (picture.shape[0] // tokens.grid)).astype(int)
        for row, column in np.argwhere(~stays):
            place = picture[edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
            place += _PALE * (np.array(_PAPER, np.float32) - place)
    return faded.round().astype(np.uint8)


def _frame_cells(frames: Frames, pictures: Sequence[Image.Image], top: int) -> Iterator[_Cell]:
    """Frames from left to right, then down, with their place and time in the source."""
    columns = (_WIDTH - 2 * _MARGIN + _GAP) // (_CELL + _GAP)
    shown = [_shown(picture, _CELL) for picture in pictures]
    row_height = max(picture.height for picture in shown) + _SMALL + 2 * _GAP
    for at, picture in enumerate(shown):
        index = f"frame {frames.frame_indices[at]}" if at < len(frames.frame_indices) else f"frame {at}"
        time = f", {frames.frame_times_s[at]:.2f} s" if at < len(frames.frame_times_s) else ""
        row, column = divmod(at, columns)
        left = _MARGIN + column * (_CELL + _GAP)
        yield _Cell(left=left, top=top + row * row_height, picture=picture, caption=index + time)


def _tile_cells(layout: ImageLayout, pictures: Sequence[Image.Image], top: int) -> Iterator[_Cell]:
    """The base tile on the left, the grid as it lies in the picture beside it."""
    yield _Cell(left=_MARGIN, top=top, picture=_shown(pictures[0], _CELL), caption="base tile: the whole picture")
    if not layout.tile_rows:
        return
    grid_left = _MARGIN + _CELL + 3 * _GAP
    room = _WIDTH - _MARGIN - grid_left
    side = min(_CELL, room // layout.tile_columns - _SEAM)
    for at, picture in enumerate(pictures[1:]):
        row, column = divmod(at, layout.tile_columns)
        is_bottom_left = row == layout.tile_rows - 1 and column == 0
        yield _Cell(
            left=grid_left + column * (side + _SEAM),
            top=top + row * (side + _SEAM),
            picture=_shown(picture, side),
            caption=f"grid: {layout.tile_rows} x {layout.tile_columns} tiles, row by row" if is_bottom_left else "",
        )


def _video_line(frames: Frames, visual: VisualInput, processor: Processor, *, is_marked: bool) -> str:
    count, _, height, width = visual.pixel_values.shape
    rules = processor.tokens.video.within(visual.budget)
    reduced = ""
    if visual.budget.fraction < 1:
        full = rules.full_count(count)
        reduced = f"; {visual.num_tokens:,} of {full:,} tokens stay ({visual.budget.method})"
        reduced += ", pale places are left out" if is_marked else ""
    length = f", {frames.duration_s:.1f} s" if frames.duration_s is not None else ""
    return (
        f"video of {frames.size[1]}x{frames.size[0]} pixels{length}: {count} of "
        f"{_plural(frames.num_source_frames, 'frame')}, each {width}x{height} pixels and "
        f"{_plural(rules.per_frame, 'token')}{reduced}"
    )


def _picture_line(frames: Frames, visual: VisualInput, layout: ImageLayout) -> str:
    height, width = visual.pixel_values.shape[-2:]
    base = layout.grid**2 + int(layout.keep_class_token)
    tokens = f"{base} for the base tile"
    if layout.tile_rows:
        newline = " and a line end" if layout.newline else ""
        tokens += f", {layout.out_rows} rows of {layout.out_columns}{newline} for the grid"
    elif layout.newline:
        tokens += " and a line end"
    tiles = _plural(len(visual.pixel_values), "tile")
    return f"picture of {frames.size[1]}x{frames.size[0]} pixels: {tiles} of {width}x{height} pixels; tokens: {tokens}"


def _shown(picture: Image.Image, side: int) -> Image.Image:
    """The picture fitted into a square; small ones keep hard pixels, since those are what the model sees."""
    scale = side / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


@lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fit(text: str, size: int) -> str:
    """The text cut in the middle to the width of the sheet."""
    font, room = _font(size), _WIDTH - 2 * _MARGIN
    if font.getlength(text) <= room:
        return text
    kept = len(text)
    while kept > 2 and font.getlength(f"{text[: kept // 2]}…{text[-(kept // 2) :]}") > room:
        kept -= 1
    return f"{text[: kept // 2]}…{text[-(kept // 2) :]}"


def _plural(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
