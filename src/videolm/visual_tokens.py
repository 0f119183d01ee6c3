"""How many visual tokens a picture or a video becomes, and in what order: the only place that knows.

The processor counts with these classes and the model lays features out with them, so the two cannot disagree.
Pure arithmetic, no torch. Sizes are ``(height, width)`` throughout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from videolm.errors import ArgumentError

PoolMode = Literal["average", "max", "conv", "bilinear"]
NewlineMode = Literal["none", "grid", "frame", "one_token"]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a picture, as fractions of its width and height."""
PinpointOrder = Literal["height_width", "width_height"]
ReductionMethod = Literal["evs", "fastvid"]

__all__ = [
    "ALL_TOKENS",
    "Box",
    "ImageLayout",
    "ImageTokens",
    "NewlineMode",
    "PinpointOrder",
    "PoolMode",
    "ReductionMethod",
    "TokenBudget",
    "VideoTokens",
    "VisualTokens",
]


@dataclass(frozen=True, kw_only=True)
class TokenBudget:
    """How many tokens a request lets a video have. How many are kept is known from this alone; which ones is not."""

    fraction: float = 1.0
    """Share of a video's tokens that is kept, rounded up to whole tokens."""
    method: ReductionMethod = "evs"
    """What leaves tokens out: ``evs`` drops patches that hardly changed, ``fastvid`` merges patches that are alike."""
    stride: int | None = None
    """Pool frames with this stride; None: as the model does."""

    def __post_init__(self) -> None:
        is_number = isinstance(self.fraction, int | float) and not isinstance(self.fraction, bool)
        if not is_number or not 0 < self.fraction <= 1:
            raise ArgumentError(
                f"visual_token_budget is {self.fraction!r}: expected a fraction above 0 and at most 1. "
                "Use for example 0.5."
            )
        if self.method not in get_args(ReductionMethod):
            raise ArgumentError(
                f"token_reduction is {self.method!r}: expected one of {', '.join(get_args(ReductionMethod))}. "
                "Leave it out for evs."
            )

    def of(self, num_tokens: int) -> int:
        """How many of ``num_tokens`` are kept."""
        # In floats 0.1 of 130 is 13.000000000000002, which is meant as 13.
        return max(min(1, num_tokens), math.ceil(round(self.fraction * num_tokens, 6)))


ALL_TOKENS = TokenBudget()


@dataclass(frozen=True, kw_only=True)
class VideoTokens:
    """Tokens of a video: frame after frame, row after row inside a frame."""

    grid: int
    """Patches per side of one frame."""
    keep_class_token: bool = False
    """Whether each frame starts with the tower's class token (only without pooling)."""
    pool: PoolMode | None = "average"
    stride: int = 2
    newline: NewlineMode = "none"
    usual_frames: int | None = None
    """Frames of all videos that the model was trained on, where another number deserves a warning."""
    slow_every: int | None = None
    """Slow-fast: of every so many frames the first is pooled with ``stride`` and the others with twice that, and a
    learned token ends each frame. None: all frames alike."""
    budget: TokenBudget = ALL_TOKENS

    def __post_init__(self) -> None:
        if self.grid < 1 or self.stride < 1:
            raise ArgumentError(
                f"A frame of {self.grid} patches a side pooled with stride {self.stride} has no tokens: "
                "both must be at least 1. Check image_size, patch_size and spatial_pool_stride."
            )
        if self.keep_class_token and self.pool is not None:
            raise ArgumentError(
                f"The class token cannot be kept when frames are pooled ({self.pool}): pooling needs a square grid. "
                "Use vision_feature_select_strategy='default', or no pooling."
            )
        if self.slow_every is not None:
            self._check_slow_fast(self.slow_every)

    @property
    def side(self) -> int:
        """Tokens per side of one frame after pooling: windows that do not fit are dropped, bilinear rounds up."""
        if self.pool is None:
            return self.grid
        return math.ceil(self.grid / self.stride) if self.pool == "bilinear" else self.grid // self.stride

    @property
    def per_frame(self) -> int:
        """Tokens of one frame, or of one slow frame; newlines and the learned token inside the frame included."""
        newlines = {"grid": self.side, "frame": 1}.get(self.newline, 0)
        return self.side**2 + int(self.keep_class_token) + newlines + int(self.slow_every is not None)

    @property
    def fast(self) -> VideoTokens:
        """The rules of the fast frames of slow-fast, without the learned token after each."""
        return replace(self, stride=2 * self.stride, slow_every=None)

    def slow_frames(self, num_frames: int) -> tuple[int, ...]:
        """Which of ``num_frames`` frames are slow: the first of each whole group, and all without slow-fast."""
        if self.slow_every is None:
            return tuple(range(num_frames))
        return tuple(range(0, num_frames // self.slow_every * self.slow_every, self.slow_every))

    def within(self, budget: TokenBudget) -> VideoTokens:
        """The same rules with another budget."""
        stride = self.stride if budget.stride is None else budget.stride
        if stride != self.stride and not self.has_free_stride:
            raise ArgumentError(
                f"Frames are to be pooled with the stride {stride}, but this model's pooling is {self.pool}, with "
                f"{self.stride}: another stride needs average, max or bilinear pooling. Leave the stride out."
            )
        return replace(self, budget=budget, stride=stride)

    @property
    def has_free_stride(self) -> bool:
        """Whether frames may be pooled with another stride than the model's own."""
        return self.pool in ("average", "max", "bilinear")

    def warn_of(self, num_frames: int, name: str) -> tuple[str, ...]:
        """A line where the model knows another number of frames, and one where nothing after the first is left."""
        lines = []
        if self.usual_frames not in (None, num_frames):
            count = f"{num_frames} frame{'s' * (num_frames != 1)}"
            lines.append(f"{name} is given as {count}, but this model was trained on {self.usual_frames} a video.")
        if self.budget.method == "evs" and num_frames > 1 and self.count(num_frames) <= self.full_count(1):
            lines.append(
                f"{name} keeps {self.count(num_frames)} of {self.full_count(num_frames)} visual tokens, no more than "
                "its first frame has: nothing of the later ones is left."
            )
        return tuple(lines)

    def count(self, num_frames: int) -> int:
        """Tokens of a video of ``num_frames`` frames, within the budget."""
        return self.budget.of(self.full_count(num_frames))

    def most_frames(self, num_tokens: int) -> int:
        """The most frames whose tokens number at most ``num_tokens``, but at least one."""
        fewest, most = 1, max(1, num_tokens) * math.ceil(1 / self.budget.fraction) + 1
        while most - fewest > 1:
            middle = (fewest + most) // 2
            fewest, most = (middle, most) if self.count(middle) <= num_tokens else (fewest, middle)
        return fewest

    def full_count(self, num_frames: int) -> int:
        """Tokens of a video of ``num_frames`` frames before any is left out."""
        num_slow = num_frames if self.slow_every is None else num_frames // self.slow_every
        num_fast_tokens = (num_frames - num_slow) * (self.fast.per_frame + 1) if num_slow < num_frames else 0
        return num_slow * self.per_frame + num_fast_tokens + int(self.newline == "one_token")

    def _check_slow_fast(self, slow_every: int) -> None:
        if slow_every < 1 or self.pool not in ("average", "max", "bilinear"):
            raise ArgumentError(
                f"Slow-fast with one slow frame in {slow_every} and the pooling {self.pool}: at least 1, and pooling "
                "that is average, max or bilinear, are expected. Correct faster_token_stride and spatial_pool_mode."
            )
        if self.pool != "bilinear" and self.grid < 2 * self.stride:
            raise ArgumentError(
                f"Slow-fast pools fast frames of {self.grid} patches a side with stride {2 * self.stride}: nothing "
                f"would be left of them. Use a spatial_pool_stride of at most {self.grid // 2}."
            )


@dataclass(frozen=True, kw_only=True)
class ImageLayout:
    """Where the tokens of one picture come from.

    Tokens: the base tile (``grid * grid``, after its class token if kept), then the grid tiles as one map of which rows
    ``top : top + rows`` and columns ``left : left + columns`` are kept, resized to ``out_rows x out_columns`` when
    these differ, one newline after each row. Without grid tiles: the base tile and, if the family has newlines, one
    newline.
    """

    grid: int
    keep_class_token: bool
    tile_rows: int
    """Grid tiles down; 0 when there is only the base tile."""
    tile_columns: int
    top: int
    left: int
    rows: int
    columns: int
    out_rows: int
    out_columns: int
    newline: bool

    @property
    def num_tiles(self) -> int:
        """Tiles that go through the tower: the base tile and the grid."""
        return 1 + self.tile_rows * self.tile_columns

    @property
    def count(self) -> int:
        """Tokens of the picture."""
        base = self.grid**2 + int(self.keep_class_token)
        if not self.tile_rows:
            return base + int(self.newline)
        return base + self.out_rows * (self.out_columns + int(self.newline))


@dataclass(frozen=True, kw_only=True)
class ImageTokens:
    """Tokens of a picture: one tile, or AnyRes tiles chosen from ``pinpoints``."""

    grid: int
    """Patches per side of one tile."""
    tile_size: int
    """Pixels per side of one tile."""
    pinpoints: tuple[tuple[int, int], ...] = ()
    """Resolutions in pixels to choose from, in order; empty: the base tile alone."""
    pinpoint_order: PinpointOrder = "height_width"
    """How a pinpoint pair is read: ports read (height, width), the original code (width, height)."""
    keep_class_token: bool = False
    newline: bool = True
    max_grid_tiles: int | None = None
    """``anyres_max_N``: a larger map is shrunk to about N tiles; None never shrinks."""
    round_unpad: bool = True
    """Round to 7 digits before truncating while unpadding (ports do, the original code does not)."""

    def choose_resolution(self, height: int, width: int) -> tuple[int, int]:
        """The pinpoint ``(height, width)`` that keeps most of the picture and wastes fewest pixels; ties: the first."""
        best: tuple[int, int] | None = None
        best_key = (-1, 0)
        for first, second in self.pinpoints:
            high, wide = (first, second) if self.pinpoint_order == "height_width" else (second, first)
            scale = min(wide / width, high / height)
            effective = min(int(width * scale) * int(height * scale), width * height)
            key = (effective, effective - high * wide)
            if key > best_key or best is None:
                best, best_key = (high, wide), key
        if best is None:
            raise ArgumentError(
                "This picture processor has no pinpoints to choose from: image_grid_pinpoints is empty."
            )
        return best

    def layout(self, height: int, width: int) -> ImageLayout:
        """The layout of a picture of ``height x width`` pixels."""
        if height < 1 or width < 1:
            raise ArgumentError(f"A picture of {width}x{height} pixels has no tokens: both sides must be at least 1.")
        if not self.pinpoints:
            return self._layout(0, 0, (0, 0, 0, 0), (0, 0))
        high, wide = self.choose_resolution(height, width)
        tile_rows, tile_columns = high // self.tile_size, wide // self.tile_size
        box = self._unpad(tile_rows * self.grid, tile_columns * self.grid, height, width)
        return self._layout(tile_rows, tile_columns, box, self._shrink(box[2], box[3]))

    def count(self, height: int, width: int) -> int:
        """Tokens of a picture of ``height x width`` pixels."""
        return self.layout(height, width).count

    def boxes(self, height: int, width: int) -> tuple[Box | None, ...]:
        """The part of a picture of ``height x width`` pixels that each of its tokens is of.

        The parts of outer tokens reach beyond the picture where its edge lies within a patch. None for newlines and
        class tokens, which are of no part.
        """
        layout = self.layout(height, width)
        if not layout.tile_rows:
            raise ArgumentError(
                "What part of a picture a token is of is known with AnyRes tiles alone, and image_grid_pinpoints is "
                "empty: whether the edges are cut off is up to the processor."
            )
        base = [None] * layout.keep_class_token + _cells(layout.grid, layout.grid, (0.0, 0.0, 1.0, 1.0))
        # In patches: the map of the tiles, the picture in its middle, and what of the map is kept.
        map_rows, map_columns = layout.tile_rows * layout.grid, layout.tile_columns * layout.grid
        scale = min(map_rows / height, map_columns / width)
        high, wide = height * scale, width * scale
        top, left = layout.top - (map_rows - high) / 2, layout.left - (map_columns - wide) / 2
        kept = (left / wide, top / high, (left + layout.columns) / wide, (top + layout.rows) / high)
        cells = _cells(layout.out_rows, layout.out_columns, kept)
        for row in range(layout.out_rows):
            first = row * layout.out_columns
            base += [*cells[first : first + layout.out_columns], *[None] * layout.newline]
        return tuple(base)

    def _unpad(self, map_rows: int, map_columns: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, rows, columns of the part of the map that is not padding."""
        if width / height > map_columns / map_rows:
            kept = self._truncate(height * (map_columns / width))
            pad = (map_rows - kept) // 2
            return pad, 0, map_rows - 2 * pad, map_columns
        kept = self._truncate(width * (map_rows / height))
        pad = (map_columns - kept) // 2
        return 0, pad, map_rows, map_columns - 2 * pad

    def _truncate(self, cells: float) -> int:
        return int(round(cells, 7)) if self.round_unpad else int(cells)

    def _shrink(self, rows: int, columns: int) -> tuple[int, int]:
        if self.max_grid_tiles is None:
            return rows, columns
        times = math.sqrt(rows * columns / (self.max_grid_tiles * self.grid**2))
        return (int(rows // times), int(columns // times)) if times > 1.1 else (rows, columns)

    def _layout(
        self, tile_rows: int, tile_columns: int, box: tuple[int, int, int, int], out: tuple[int, int]
    ) -> ImageLayout:
        return ImageLayout(
            grid=self.grid,
            keep_class_token=self.keep_class_token,
            tile_rows=tile_rows,
            tile_columns=tile_columns,
            top=box[0],
            left=box[1],
            rows=box[2],
            columns=box[3],
            out_rows=out[0],
            out_columns=out[1],
            newline=self.newline,
        )


def _cells(rows: int, columns: int, box: Box) -> list[Box | None]:
    """A part of a picture in so many rows and columns, row after row."""
    left, top, right, bottom = box
    width, height = (right - left) / columns, (bottom - top) / rows
    return [
        (left + column * width, top + row * height, left + (column + 1) * width, top + (row + 1) * height)
        for row in range(rows)
        for column in range(columns)
    ]


@dataclass(frozen=True, kw_only=True)
class VisualTokens:
    """The token rules of one model, for both kinds of media."""

    image: ImageTokens
    video: VideoTokens
