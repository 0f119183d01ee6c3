"""The rows of a whole video in, as many as its budget allows out: which of them is decided here, before the decoder.

Both methods look at the video alone and never at the question, so that what they leave can be kept for the next one.
The rows that stay keep their order and stand next to each other: the decoder sees a shorter prompt without gaps in its
positions.

Tokens that end a row, a frame or the whole video, and class tokens, have no pixels of their own. One of a row or frame
is worth as much as the best patch there and comes right after it: it stays as long as anything that it belongs to, and
it counts. The one that ends a whole video always stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from videolm.models.fusion import lay_out_slow_fast, lay_out_video, pool_patches
from videolm.visual_tokens import VideoTokens

__all__ = ["kept_patches", "reduce_video"]

_PATCH, _CLASS, _NEWLINE, _FRAME_END = range(4)
# Of the published method: segments are cut where neighbours are less alike than this, and at the 7 least alike of
# about 32 frames; one frame in 4 gives the anchors; an anchor keeps this share of itself.
_ALIKE = 0.9
_FRAMES_A_SEGMENT = 4
_MOST_SEGMENTS = 8
_FRAMES_AN_ANCHOR_FRAME = 4
_OWN_SHARE = 0.6
_NEIGHBOURS = 4


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Where each of the ``T`` tokens of a whole video stands."""

    frame: Tensor
    """``[T]``"""
    group: Tensor
    """``[T]``: tokens with one number stay as long as the best patch with that number; -1 for the video's own end."""
    is_patch: Tensor
    """``[T]``"""

    @classmethod
    def of(cls, num_frames: int, tokens: VideoTokens) -> _Places:
        """Lay numbers out as features are laid out."""
        marks = torch.zeros(num_frames, _num_positions(tokens), 2)
        marks[..., 0] = torch.arange(num_frames)[:, None]
        if tokens.keep_class_token:
            marks[:, 0, 1] = _CLASS
        laid_out = _lay_out(marks, tokens, torch.tensor([-1, _NEWLINE]), torch.tensor([-1, _FRAME_END])).round().long()
        frame, kind = laid_out.unbind(1)
        frame = frame.cummax(0).values  # an end belongs to the frame before it
        is_patch = kind == _PATCH
        group = frame.clone()
        if tokens.newline == "grid":
            # Rows are told apart by the ends between them; a frame's other tokens belong to all of its rows.
            is_in_row = is_patch | (kind == _NEWLINE)
            row = (kind == _NEWLINE).cumsum(0) - (kind == _NEWLINE).long()
            group = torch.where(is_in_row, num_frames + row, frame)
        if tokens.newline == "one_token":
            group[kind == _NEWLINE] = -1
        return cls(frame=frame, group=group, is_patch=is_patch)


def reduce_video(rows: Tensor, pixels: Tensor, tokens: VideoTokens) -> Tensor:
    """Keep as many rows as the budget allows.

    Args:
        rows: ``[tokens.full_count(F), D]``, projected and laid out.
        pixels: ``[F, 3, H, W]``, what they were made from.

    Returns:
        ``[tokens.count(F), D]``; at a fraction of 1 the very same rows.
    """
    if tokens.count(len(pixels)) == len(rows):
        return rows
    places = _Places.of(len(pixels), tokens)
    if tokens.budget.method == "fastvid":
        return _merge_alike(rows, places, tokens)
    return rows[_keep_changed(pixels, places, tokens).to(rows.device)]


def kept_patches(pixels: Tensor, tokens: VideoTokens) -> list[Tensor] | None:
    """For each frame, which of its patches stay: ``[side, side]`` bool; None where that is not decided by pixels."""
    if tokens.budget.method != "evs":
        return None
    places = _Places.of(len(pixels), tokens)
    is_kept = torch.ones_like(places.is_patch)
    if tokens.budget.fraction < 1:
        is_kept = torch.zeros_like(places.is_patch).index_fill(0, _keep_changed(pixels, places, tokens), True)
    frames = [is_kept[places.is_patch & (places.frame == index)] for index in range(len(pixels))]
    return [frame.view(math.isqrt(len(frame)), -1) for frame in frames]


# --- dropping what did not change (EVS) ---


def _keep_changed(pixels: Tensor, places: _Places, tokens: VideoTokens) -> Tensor:
    """Ascending positions of what stays: the first frame, then what changed most since the frame before."""
    changes = _laid_out_changes(pixels, tokens)
    changes[places.frame == 0] += 1e6  # ranks the first frame's own patches, but all of them before the others
    kept, room = _always_kept(places, tokens.count(len(pixels)))
    ranked = _rank(changes, places, torch.nonzero(places.group >= 0)[:, 0])
    return torch.cat([ranked[:room], kept]).sort().values


def _laid_out_changes(pixels: Tensor, tokens: VideoTokens) -> Tensor:
    """``[T]`` mean absolute differences from the frame before; the first frame's are those from its mean colour."""
    num_frames, _, height, width = pixels.shape
    patch = min(height, width) // tokens.grid
    covered = pixels[..., : tokens.grid * patch, : tokens.grid * patch].detach().to("cpu")
    before = covered[0].float().mean((1, 2), keepdim=True)
    maps = []
    for frame in covered:
        frame = frame.float()
        maps.append(functional.avg_pool2d((frame - before).abs().mean(0)[None], patch).flatten())
        before = frame
    changes = torch.stack(maps)[..., None].double()  # [F, grid * grid, 1]
    if tokens.slow_every is None:
        changes = pool_patches(changes, replace(tokens, pool="average") if tokens.pool == "conv" else tokens)
    if tokens.keep_class_token:
        changes = torch.cat([changes.new_zeros(num_frames, 1, 1), changes], dim=1)
    nothing = changes.new_zeros(1)
    return _lay_out(changes, tokens, nothing, nothing)[:, 0]


# --- merging what is alike (FastVID, without its share of tokens chosen by attention) ---


def _merge_alike(rows: Tensor, places: _Places, tokens: VideoTokens) -> Tensor:
    """Keep density peaks of some frames of each segment, each moved towards the patches most like it."""
    num_frames = int(places.frame[-1]) + 1
    always, room = _always_kept(places, tokens.count(num_frames))
    features = functional.normalize(rows.detach().float(), dim=-1)
    is_ranked = places.group >= 0
    sizes = torch.bincount(places.frame[is_ranked], minlength=num_frames).tolist()
    segments = _segments(features, places, num_frames)
    kept, result = [always], rows.clone()
    shares = _share_out(room, [sum(sizes[start:end]) for start, end in segments])
    for (start, end), share in zip(segments, shares, strict=True):
        is_inside = is_ranked & (places.frame >= start) & (places.frame < end)
        chosen = _anchors(features, places, is_ranked, sizes, range(start, end), share)
        _merge_into(result, rows, features, places.is_patch & is_inside, chosen[places.is_patch[chosen]])
        kept.append(chosen)
    return result[torch.cat(kept).sort().values.to(rows.device)]


def _segments(features: Tensor, places: _Places, num_frames: int) -> list[tuple[int, int]]:
    """First and last frame of stretches in which neighbouring frames are alike."""
    means = features.new_zeros(num_frames, features.shape[1])
    is_patch = places.is_patch.to(features.device)
    means.index_add_(0, places.frame.to(features.device)[is_patch], features[is_patch])
    alike = functional.cosine_similarity(means[1:], means[:-1], dim=-1).cpu()  # [F - 1]
    num_least = min(_MOST_SEGMENTS, math.ceil(num_frames / _FRAMES_A_SEGMENT)) - 1
    least = torch.argsort(alike, stable=True)[:num_least].tolist()
    cuts = {index + 1 for index in least} | {index + 1 for index, value in enumerate(alike) if value < _ALIKE}
    return list(pairwise([0, *sorted(cuts), num_frames]))


def _anchors(
    features: Tensor, places: _Places, is_ranked: Tensor, sizes: Sequence[int], frames: range, share: int
) -> Tensor:
    """``share`` positions: the density peaks of evenly spaced frames, of as few as have so many tokens."""
    step = next(
        step for step in range(_FRAMES_AN_ANCHOR_FRAME, 0, -1) if sum(sizes[i] for i in frames[::step]) >= share
    )
    chosen = [torch.empty(0, dtype=torch.long)]
    for index, count in _with_shares(frames[::step], sizes, share):
        positions = torch.nonzero(is_ranked & (places.frame == index))[:, 0]
        scores = torch.zeros(len(places.frame), dtype=torch.double)
        patches = positions[places.is_patch[positions]]
        scores[patches] = _density_peaks(features[patches.to(features.device)]).double().cpu()
        chosen.append(_rank(scores, places, positions)[:count])
    return torch.cat(chosen)


def _with_shares(frames: range, sizes: Sequence[int], share: int) -> Iterator[tuple[int, int]]:
    return zip(frames, _share_out(share, [sizes[index] for index in frames]), strict=True)


def _density_peaks(features: Tensor) -> Tensor:
    """``[P]``: how far each of ``[P, D]`` unit vectors stands for many others, and apart from those that do so more."""
    num_patches = len(features)
    if num_patches < 2:
        return features.new_ones(num_patches)
    distances = (2 - 2 * (features @ features.T)).clamp(min=0)  # squared
    nearest = distances.topk(min(_NEIGHBOURS + 1, num_patches), largest=False).values[:, 1:]  # without itself
    density = torch.exp(-nearest.mean(1))
    order = torch.argsort(density, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(num_patches, device=order.device))
    is_denser = rank[None, :] < rank[:, None]
    separation = distances.masked_fill(~is_denser, math.inf).min(1).values
    separation = torch.where(rank == 0, distances.max(1).values, separation)
    return density * separation


def _merge_into(result: Tensor, rows: Tensor, features: Tensor, is_patch: Tensor, anchors: Tensor) -> None:
    """Move each anchor towards the mean of the patches that are more like it than like any other anchor."""
    is_rest = is_patch.index_fill(0, anchors, False)
    rest, anchors = torch.nonzero(is_rest)[:, 0].to(rows.device), anchors.to(rows.device)
    if not len(anchors) or not len(rest):
        return
    nearest = (features[rest] @ features[anchors].T).argmax(1)
    sums = torch.zeros(len(anchors), rows.shape[1], device=rows.device).index_add_(0, nearest, rows[rest].float())
    counts = torch.bincount(nearest, minlength=len(anchors))[:, None]
    moved = _OWN_SHARE * rows[anchors].float() + (1 - _OWN_SHARE) * sums / counts.clamp(min=1)
    result[anchors] = torch.where(counts > 0, moved.to(rows.dtype), rows[anchors])


# --- both ---


def _rank(scores: Tensor, places: _Places, positions: Tensor) -> Tensor:
    """``positions`` from the most to the least valuable; of equals the earlier, ends right after what they end."""
    scores = scores.clone()
    is_patch = places.is_patch[positions]
    patches, ends = positions[is_patch], positions[~is_patch]
    scores[ends] = _best_of(scores, places, patches, ends)
    candidates = torch.cat([patches, ends])
    return candidates[torch.sort(scores[candidates], descending=True, stable=True).indices]


def _best_of(scores: Tensor, places: _Places, patches: Tensor, ends: Tensor) -> Tensor:
    """The best score among the patches that each end belongs to: those of its row, or of its frame."""
    best = torch.full((int(places.group.max()) + 1,), -math.inf, dtype=scores.dtype)
    best.scatter_reduce_(0, places.group[patches], scores[patches], "amax")
    best.scatter_reduce_(0, places.frame[patches], scores[patches], "amax")
    return best[places.group[ends]]


def _always_kept(places: _Places, num_kept: int) -> tuple[Tensor, int]:
    """Positions that stay whatever they are worth, and how many others may."""
    positions = torch.nonzero(places.group < 0)[:, 0][: num_kept - 1]  # A budget of one is for a patch.
    return positions, num_kept - len(positions)


def _share_out(total: int, sizes: Sequence[int]) -> list[int]:
    """``total`` in whole parts as nearly in proportion to ``sizes`` as can be, none above its size."""
    exact = [total * size / sum(sizes) for size in sizes]
    shares = [int(part) for part in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda index: (shares[index] - exact[index], index))
    for index in by_remainder[: total - sum(shares)]:
        shares[index] += 1
    return shares


def _num_positions(tokens: VideoTokens) -> int:
    """Positions of a frame that are laid out: patches after pooling, before it for slow-fast, and the class token."""
    side = tokens.side if tokens.slow_every is None else tokens.grid
    return side**2 + int(tokens.keep_class_token)


def _lay_out(features: Tensor, tokens: VideoTokens, newline: Tensor, frame_end: Tensor) -> Tensor:
    if tokens.slow_every is None:
        return lay_out_video(features, tokens, newline)
    return lay_out_slow_fast(features, tokens, newline, frame_end)
