"""Several prompts side by side as padded tensors, under the names that Hugging Face models take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from videolm.contracts import Frames, MediaKind, ModelInputs, VisualInput
from videolm.errors import ProcessingError
from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling

_EVERY_FRAME = FrameSampling(rule="fps", num_frames=None, fps=1e6)

__all__ = ["BatchInputs", "Padding", "collate", "list_media", "truncate"]

Padding = Literal["longest", "max_length"]


class BatchInputs(dict[str, Any]):
    """Named tensors, also as attributes; made for ``model.generate(**inputs)``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"These inputs hold {', '.join(self)}, and no {name!r}.") from error

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> BatchInputs:
        """The same on a device; ``dtype`` applies to floating-point values alone."""
        moved = {}
        for name, value in self.items():
            if isinstance(value, Tensor):
                value = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
            moved[name] = value
        return BatchInputs(moved)


def list_media(media: Any, kind: MediaKind) -> list[Frames]:
    """What ``images=`` or ``videos=`` may hold, as a flat list of media: one, a list of them, or a list of lists."""
    if media is None:
        return []
    if _is_one(media, kind):
        return [_load(media, kind)]
    return [frames for item in media for frames in list_media(item, kind)]


def _is_one(media: Any, kind: MediaKind) -> bool:
    if isinstance(media, (np.ndarray, Tensor)):
        return media.ndim <= (3 if kind == "image" else 4)
    if isinstance(media, (list, tuple)):
        return kind == "video" and bool(media) and all(_is_picture(item) for item in media)
    return True


def _is_picture(item: Any) -> bool:
    """Whether a list of such items is one video."""
    if isinstance(item, (np.ndarray, Tensor)):
        return item.ndim == 3
    return not isinstance(item, (list, tuple, str, bytes, Path, Frames)) and hasattr(item, "convert")


def _load(media: Any, kind: MediaKind) -> Frames:
    if isinstance(media, (list, tuple)) and not hasattr(media[0], "convert"):
        media = np.stack([_channels_last(np.asarray(frame)) for frame in media])
    elif isinstance(media, (np.ndarray, Tensor)):
        media = _channels_last(np.asarray(media))
    return load_media(media, sampling=_EVERY_FRAME, kind=kind)


def _channels_last(array: np.ndarray) -> np.ndarray:
    """``[…, 3, H, W]`` as ``[…, H, W, 3]``, as transformers takes both."""
    is_first = array.ndim >= 3 and array.shape[-3] == 3 and array.shape[-1] != 3
    return np.moveaxis(array, -3, -1) if is_first else array


def truncate(row: ModelInputs, max_length: int) -> ModelInputs:
    """The first ``max_length`` tokens; never a part of a medium."""
    if len(row.input_ids) <= max_length:
        return row
    ends = [start + medium.num_tokens for start, medium in zip(row.media_starts, row.media, strict=True)]
    if ends and ends[-1] > max_length:
        raise ProcessingError(
            f"Truncating {len(row.input_ids)} tokens to {max_length} would cut into the media, which end at token "
            f"{ends[-1]}: media are kept whole. Use fewer frames, or max_length={len(row.input_ids)} or more."
        )
    return replace(row, input_ids=row.input_ids[:max_length])


def collate(rows: Sequence[ModelInputs], *, pad_token_id: int, padding_side: str, pad_to: int = 0) -> BatchInputs:
    """Padded tensors of ``B`` prompts.

    Returns:
        ``input_ids`` and ``attention_mask`` ``[B, S]``; with pictures ``pixel_values`` ``[images, tiles, 3, H, W]``
        (zero where one has fewer tiles) and ``image_sizes`` ``[images, 2]``; with videos ``pixel_values_videos``
        ``[videos, F, 3, H, W]``.
    """
    length = max(pad_to, *(len(row.input_ids) for row in rows))
    input_ids = torch.full((len(rows), length), pad_token_id)
    attention_mask = torch.zeros((len(rows), length), dtype=torch.int64)
    for row, ids, mask in zip(rows, input_ids, attention_mask, strict=True):
        size = len(row.input_ids)
        place = slice(length - size, length) if padding_side == "left" else slice(0, size)
        ids[place] = torch.tensor(row.input_ids)
        mask[place] = 1
    batch = BatchInputs(input_ids=input_ids, attention_mask=attention_mask)
    batch.update(stack_media([medium for row in rows for medium in row.media]))
    return batch


def stack_media(media: Sequence[VisualInput]) -> dict[str, Tensor]:
    """Pixel values of a batch, by the names of ``collate``."""
    images = [medium for medium in media if medium.kind == "image"]
    videos = [medium.pixel_values for medium in media if medium.kind == "video"]
    stacked: dict[str, Tensor] = {}
    if images:
        stacked["pixel_values"] = torch.nn.utils.rnn.pad_sequence([i.pixel_values for i in images], batch_first=True)
        stacked["image_sizes"] = torch.tensor([image.size for image in images])
    if len({len(video) for video in videos}) > 1:
        raise ProcessingError(
            f"The videos of one batch have {', '.join(str(len(video)) for video in videos)} frames: equal numbers are "
            "expected, since they share one tensor. Sample equally many frames, or process them one by one."
        )
    if videos:
        stacked["pixel_values_videos"] = torch.stack(videos)
    return stacked
