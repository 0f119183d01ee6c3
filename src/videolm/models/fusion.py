"""Tower features in, the rows that replace placeholders out: select, pool, project, newlines, laid out in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from videolm.models.config import FusionConfig
from videolm.models.layers import activation
from videolm.visual_tokens import ImageLayout, VideoTokens

__all__ = [
    "ConvPool",
    "Projector",
    "lay_out_image",
    "lay_out_slow_fast",
    "lay_out_video",
    "pool_patches",
    "select_features",
]


class Projector(nn.Module):
    """Two linear layers from the tower's width to the decoder's."""

    def __init__(self, config: FusionConfig, feature_width: int, decoder_width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(feature_width, decoder_width, bias=config.projector_bias)
        self.activation = activation(config.projector_hidden_act)
        self.linear_2 = nn.Linear(decoder_width, decoder_width, bias=config.projector_bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[F, P, E]`` to ``[F, P, D]``."""
        projected: Tensor = self.linear_2(self.activation(self.linear_1(features)))
        return projected


class ConvPool(nn.Module):
    """Learned pooling; a container, because the parameters are called ``vision_resampler.pool``."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.pool = nn.Conv2d(width, width, kernel_size=stride, stride=stride)

    def forward(self, patches: Tensor) -> Tensor:
        """Pool ``[F, E, grid, grid]``."""
        pooled: Tensor = self.pool(patches)
        return pooled


def select_features(states: Sequence[Tensor], *, drop_class_token: bool) -> Tensor:
    """Join hidden states ``[F, P, E]`` on channels, without their first token if it is to be dropped."""
    features = states[0] if len(states) == 1 else torch.cat(list(states), dim=-1)
    return features[:, 1:] if drop_class_token else features


def pool_patches(features: Tensor, tokens: VideoTokens, conv: nn.Module | None = None) -> Tensor:
    """Pool each frame's patch grid.

    Args:
        features: ``[F, grid * grid, E]``, row-major, no class token.
        tokens: Which pooling.
        conv: The learned pooling, where ``tokens.pool`` is ``conv``.

    Returns:
        ``[F, side * side, E]``.
    """
    if tokens.pool is None:
        return features
    num_frames, _, width = features.shape
    grid = features.reshape(num_frames, tokens.grid, tokens.grid, width).permute(0, 3, 1, 2)  # [F, E, grid, grid]
    if tokens.pool == "average":
        pooled = functional.avg_pool2d(grid, tokens.stride)
    elif tokens.pool == "max":
        pooled = functional.max_pool2d(grid, tokens.stride)
    elif tokens.pool == "bilinear":
        pooled = functional.interpolate(grid, size=(tokens.side, tokens.side), mode="bilinear")
    else:
        assert conv is not None, "learned pooling without its module"
        pooled = conv(grid)
    return pooled.flatten(2).transpose(1, 2)  # [F, side * side, E]


def lay_out_video(features: Tensor, tokens: VideoTokens, newline: Tensor | None) -> Tensor:
    """Put frames one after another.

    Args:
        features: ``[F, side * side, D]``, or one more token a frame where the class token is kept.
        tokens: Where newlines go.
        newline: ``[D]``; None where the model has none.

    Returns:
        ``[tokens.full_count(F), D]``.
    """
    num_frames, _, width = features.shape
    if tokens.newline == "none":
        return features.flatten(0, 1)
    assert newline is not None, "newlines without their embedding"
    newline = newline.to(features.dtype)
    if tokens.newline == "one_token":
        return torch.cat([features.flatten(0, 1), newline[None]])
    if tokens.newline == "frame":
        return torch.cat([features, newline.expand(num_frames, 1, width)], dim=1).flatten(0, 1)
    first = int(tokens.keep_class_token)
    rows = features[:, first:].reshape(num_frames, tokens.side, tokens.side, width)
    rows = torch.cat([rows, newline.expand(num_frames, tokens.side, 1, width)], dim=2).flatten(1, 2)
    return torch.cat([features[:, :first], rows], dim=1).flatten(0, 1)


def lay_out_slow_fast(features: Tensor, tokens: VideoTokens, newline: Tensor | None, faster: Tensor) -> Tensor:
    """Pool slow and fast frames each in their way and put them one after another, in the order of time.

    Args:
        features: ``[F, grid * grid, D]``, projected and not pooled.
        tokens: Which frames are slow, how both kinds are pooled, and where newlines go.
        newline: ``[D]``; None where the model has none.
        faster: ``[D]``, the token that ends each frame.

    Returns:
        ``[tokens.full_count(F), D]``.
    """
    num_frames, _, width = features.shape
    slow = tokens.slow_frames(num_frames)
    fast = [index for index in range(num_frames) if index not in slow]
    ends_once = tokens.newline == "one_token"
    frames: dict[int, Tensor] = {}
    for indices, rules in ((list(slow), tokens), (fast, tokens.fast)):
        if not indices:
            continue
        alike = replace(rules, slow_every=None, newline="none" if ends_once else rules.newline)
        rows = lay_out_video(pool_patches(features[indices], alike), alike, newline)
        rows = rows.view(len(indices), alike.per_frame, width)
        frames |= zip(indices, rows, strict=True)
    parts = [part for index in range(num_frames) for part in (frames[index], faster[None].to(features.dtype))]
    if ends_once:
        assert newline is not None, "newlines without their embedding"
        parts.append(newline[None].to(features.dtype))
    return torch.cat(parts)


def lay_out_image(features: Tensor, layout: ImageLayout, newline: Tensor | None) -> Tensor:
    """Put the base tile first, then the kept part of the grid row by row.

    Args:
        features: ``[tiles, grid * grid, D]``, or one more token a tile where the class token is kept.
        layout: Which tiles there are and what is kept of them.
        newline: ``[D]``; None where the model has none.

    Returns:
        ``[layout.count, D]``.
    """
    base = features[0]
    if layout.newline:
        assert newline is not None, "newlines without their embedding"
        newline = newline.to(features.dtype)
    if not layout.tile_rows:
        return torch.cat([base, newline[None]]) if layout.newline and newline is not None else base
    tiles = features[1:, int(layout.keep_class_token) :]  # A map of patches has no place for class tokens.
    rows = _kept_map(tiles, layout)
    if layout.newline and newline is not None:
        rows = torch.cat([rows, newline.expand(layout.out_rows, 1, -1)], dim=1)
    return torch.cat([base, rows.flatten(0, 1)])


def _kept_map(tiles: Tensor, layout: ImageLayout) -> Tensor:
    """The kept part ``[out_rows, out_columns, D]`` of the map that the grid tiles form."""
    grid = layout.grid
    blocks = tiles.reshape(layout.tile_rows, layout.tile_columns, grid, grid, -1)
    whole = blocks.transpose(1, 2).reshape(layout.tile_rows * grid, layout.tile_columns * grid, -1)
    kept = whole[layout.top : layout.top + layout.rows, layout.left : layout.left + layout.columns]
    if (layout.out_rows, layout.out_columns) == (layout.rows, layout.columns):
        return kept
    size = (layout.out_rows, layout.out_columns)
    resized: Tensor = functional.interpolate(kept.permute(2, 0, 1)[None], size=size, mode="bilinear")
    return resized[0].permute(1, 2, 0)
