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
from videolm.errors import ArgumentError, DeviceError, ProcessingError
from videolm.media.load import load_media
from videolm.media.sampling import FrameSampling

_EVERY_FRAME = FrameSampling(rule="fps", num_frames=None, fps=1e6)
_PADDINGS = (True, False, None, "longest", "max_length", "do_not_pad")
_TRUNCATIONS = (True, False, None, "longest_first", "do_not_truncate")
_SIDES = ("left", "right")

__all__ = ["BatchInputs", "Padding", "collate", "list_media", "pad_rows", "stack_alike", "stack_media", "truncate"]

Padding = Literal["longest", "max_length"]


class BatchInputs(dict[str, Any]):
    """Named tensors or lists of them, also as attributes; made for ``model.generate(**inputs)``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"These inputs hold {', '.join(self)}, and no {name!r}.") from error

    def to(self, *where: Any, **options: Any) -> BatchInputs:
        """Move these inputs to a device, a dtype or both, and return them; a dtype applies to pixels alone."""
        device, dtype = options.pop("device", None), options.pop("dtype", None)
        for each in where:
            device, dtype = (device, each) if isinstance(each, torch.dtype) else (each, dtype)
        _check_device(device)
        for name, value in self.items():
            self[name] = _moved(value, device, dtype, options)
        return self


def _moved(value: Any, device: Any, dtype: torch.dtype | None, options: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_moved(entry, device, dtype, options) for entry in value]
    if not isinstance(value, Tensor):
        return value
    return value.to(device=device, dtype=dtype if value.is_floating_point() else None, **options)


def _check_device(device: Any) -> None:
    # A bare number means the first accelerator, which torch cannot even name where there is none.
    try:
        wanted = torch.device("cuda", device) if isinstance(device, int) else device and torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(
            f"These inputs cannot move to {device!r}: a device such as cpu or cuda:0, or a torch dtype for the pixels, "
            "is expected. Use .to(model.device), or .to(model.device, torch.float16)."
        ) from error
    if wanted is not None and wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"These inputs cannot move to {wanted}: this machine has {torch.cuda.device_count()} such devices. "
            "Use .to(model.device)."
        )


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


def pad_rows(
    rows: Sequence[ModelInputs],
    *,
    pad_token_id: int,
    padding_side: str,
    padding: bool | str = True,
    truncation: bool | str = False,
    max_length: int | None = None,
    ragged: bool = False,
    with_media: bool = True,
) -> BatchInputs:
    """``collate`` as callers ask for it.

    Args:
        padding: To the longest row, or to ``max_length``; without it rows must be equally long.
        truncation: Cut rows to ``max_length``, but never inside media.
        ragged: Without padding, give lists instead of tensors, whatever the lengths.
        with_media: Add the pixel values.
    """
    for name, value, known in (("padding", padding, _PADDINGS), ("truncation", truncation, _TRUNCATIONS)):
        if value not in known:
            raise ArgumentError(f"{name} is {value!r}: expected one of {known}. Pass True for the usual one.")
    if padding_side not in _SIDES:
        raise ArgumentError(f"padding_side is {padding_side!r}: left or right is expected. Generation needs left.")
    is_padded, is_cut = padding not in (None, False, "do_not_pad"), truncation not in (None, False, "do_not_truncate")
    if (is_cut or padding == "max_length") and max_length is None:
        raise ArgumentError("There is no max_length to truncate or pad to: a number is expected. Pass max_length.")
    if is_cut and max_length is not None:
        rows = [truncate(row, max_length) for row in rows]
    if not with_media:
        rows = [ModelInputs(input_ids=row.input_ids) for row in rows]
    lengths = {len(row.input_ids) for row in rows}
    if ragged and not is_padded:
        ids = [list(row.input_ids) for row in rows]
        return BatchInputs(input_ids=ids, attention_mask=[[1] * len(row) for row in ids])
    if not is_padded and len(lengths) > 1:
        raise ArgumentError(
            f"The prompts have {len(lengths)} different lengths: equal ones are expected without padding. "
            "Pass padding=True."
        )
    pad_to = max_length if padding == "max_length" and max_length else 0
    return collate(rows, pad_token_id=pad_token_id, padding_side=padding_side, pad_to=pad_to)


def collate(rows: Sequence[ModelInputs], *, pad_token_id: int, padding_side: str, pad_to: int = 0) -> BatchInputs:
    """Padded tensors of ``B`` prompts.

    Returns:
        ``input_ids`` and ``attention_mask`` ``[B, S]``; with pictures ``pixel_values`` ``[images, tiles, 3, H, W]``
        (zero where one has fewer tiles) and ``image_sizes`` ``[images, 2]``; with videos ``pixel_values_videos``
        ``[videos, F, 3, H, W]``, or a list of ``[F, 3, H, W]`` where the videos differ in their number of frames.
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


def stack_media(media: Sequence[VisualInput]) -> dict[str, Any]:
    """Pixel values of a batch, by the names of ``collate``."""
    images = [medium for medium in media if medium.kind == "image"]
    videos = [medium.pixel_values for medium in media if medium.kind == "video"]
    stacked: dict[str, Any] = {}
    if images:
        stacked["pixel_values"] = torch.nn.utils.rnn.pad_sequence([i.pixel_values for i in images], batch_first=True)
        stacked["image_sizes"] = torch.tensor([image.size for image in images])
    if videos:
        stacked["pixel_values_videos"] = stack_alike(videos)
    return stacked


def stack_alike(tensors: Sequence[Tensor]) -> Tensor | list[Tensor]:
    """One tensor where all have the same shape, else the list of them."""
    return torch.stack(list(tensors)) if len({tensor.shape for tensor in tensors}) == 1 else list(tensors)
