"""Weight files and a module (usually on the meta device) in, the same module with its parameters loaded out."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from videolm.errors import CheckpointError
from videolm.weights.files import WeightFiles
from videolm.weights.keymap import KeyLayout, detect_layout

__all__ = ["LayerMaker", "load_weights", "match_weights"]

Progress = Callable[[int, int | None], None]
LayerMaker = Callable[[str, nn.Linear, str], nn.Module | None]
"""A linear layer's path, the layer and its weight's name in the files in, what takes its place out; None: nothing."""

_LEAST_MAPPED_BYTES = 1 << 20
"""Of smaller ones there are many, and each mapping takes pages and a place in the system's list."""


@dataclass(frozen=True, kw_only=True)
class _Slot:
    """One parameter or buffer, under every name that it has in the module (tied weights have several)."""

    tensor: Tensor
    names: tuple[str, ...]


def load_weights(
    module: nn.Module,
    files: WeightFiles,
    layouts: Sequence[KeyLayout],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    make_layer: LayerMaker | None = None,
    maps: bool = False,
) -> KeyLayout:
    """Fill a module from files, one tensor at a time, each going straight to its dtype and device.

    Names and shapes are all checked before the first tensor is read. A missing or unexpected name is an error unless
    the layout ignores it.

    Args:
        dtype: Of the floating-point tensors; None keeps what the files hold.
        progress: Called with the tensors read so far and their number.
        make_layer: Asked for each linear layer when its weight is due; it reads the weight itself.
        maps: Leave large tensors that stay as they are in their files, which must not be changed meanwhile: they are
            read as they are first used.

    Returns:
        The layout of the files.
    """
    layout, sources = match_weights(module, files, layouts)
    slots = _slots(module)
    for done, slot in enumerate(slots):
        key = sources[slot.names[0]]
        if make_layer is None or not _replace(module, slot, key, make_layer):
            # Nothing else holds what was read: it is gone before the next tensor comes.
            tensor = _mapped(files, key, dtype, device) if maps else None
            _place(module, slot, _converted(files.read(key), dtype, device) if tensor is None else tensor)
        if progress is not None:
            progress(done + 1, len(slots))
    return layout


def _mapped(files: WeightFiles, key: str, dtype: torch.dtype | None, device: torch.device | str) -> Tensor | None:
    # Of bfloat16 alone: products of float32 depend in their last digit on how a tensor lies in memory.
    is_plain = files.dtype(key) == torch.bfloat16 and dtype in (None, torch.bfloat16)
    stays = is_plain and torch.device(device).type == "cpu"
    is_large = math.prod(files.shape(key)) * torch.bfloat16.itemsize >= _LEAST_MAPPED_BYTES
    return files.mapped(key) if stays and is_large else None


def _converted(tensor: Tensor, dtype: torch.dtype | None, device: torch.device | str) -> Tensor:
    wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    return tensor.to(device=device, dtype=wanted, copy=True)


def match_weights(
    module: nn.Module, files: WeightFiles, layouts: Sequence[KeyLayout]
) -> tuple[KeyLayout, dict[str, str]]:
    """The layout of the files, and for each parameter of the module the name that it has there; nothing is read.

    Of parameters that share a tensor the first stands for all.
    """
    layout = detect_layout(files, layouts)
    return layout, _match(_slots(module), files, layout)


def _slots(module: nn.Module) -> list[_Slot]:
    """What the files must fill, in the module's order."""
    kept = module.state_dict(keep_vars=True)
    names: dict[int, list[str]] = {}
    for name, tensor in kept.items():
        names.setdefault(id(tensor), []).append(name)
    return [_Slot(tensor=kept[group[0]], names=tuple(group)) for group in names.values()]


def _match(slots: Sequence[_Slot], files: WeightFiles, layout: KeyLayout) -> dict[str, str]:
    """The name in the files for the first name of each slot."""
    owner = {name: slot for slot in slots for name in slot.names}
    sources: dict[str, str] = {}
    unexpected: list[str] = []
    for key in files:
        name = layout.to_module(key)
        if name is None or name not in owner:
            if not layout.is_ignored(key):
                unexpected.append(key)
            continue
        _check_shape(key, files.shape(key), owner[name], files)
        sources.setdefault(owner[name].names[0], key)
    missing = [layout.to_file(slot.names[0]) for slot in slots if slot.names[0] not in sources]
    if missing or unexpected:
        raise _names_differ(files, layout, missing, unexpected)
    return {slot.names[0]: sources[slot.names[0]] for slot in slots}


def _check_shape(key: str, shape: tuple[int, ...], slot: _Slot, files: WeightFiles) -> None:
    expected = tuple(slot.tensor.shape)
    if shape != expected:
        raise CheckpointError(
            f"{key} in {files.folder} has the shape {list(shape)}, but the configuration asks for {list(expected)}: "
            "the weights and the config.json belong to different models. Use both from the same place."
        )


def _names_differ(
    files: WeightFiles, layout: KeyLayout, missing: Sequence[str], unexpected: Sequence[str]
) -> CheckpointError:
    parts = []
    if missing:
        nearest = difflib.get_close_matches(missing[0], list(unexpected) or list(files), n=1)
        hint = f"; nearest there: {nearest[0]}" if nearest else ""
        parts.append(f"lack {len(missing)} tensors ({_sample(missing)}{hint})")
    if unexpected:
        parts.append(f"hold {len(unexpected)} that the model has no place for ({_sample(unexpected)})")
    return CheckpointError(
        f"The weights in {files.folder}, read as layout {layout.name}, {' and '.join(parts)}: expected exactly the "
        "tensors that config.json describes. Check that both come from the same model and that no shard is missing."
    )


def _sample(keys: Iterable[str]) -> str:
    keys = list(keys)
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")


def _replace(module: nn.Module, slot: _Slot, key: str, make_layer: LayerMaker) -> bool:
    path, _, attribute = slot.names[0].rpartition(".")
    owner = module.get_submodule(path)
    made = make_layer(path, owner, key) if attribute == "weight" and type(owner) is nn.Linear else None
    if made is not None:
        module.set_submodule(path, made)
    return made is not None


def _place(module: nn.Module, slot: _Slot, tensor: Tensor) -> None:
    is_parameter = isinstance(slot.tensor, nn.Parameter)
    value = nn.Parameter(tensor, requires_grad=slot.tensor.requires_grad) if is_parameter else tensor
    for name in slot.names:
        path, _, attribute = name.rpartition(".")
        owner = module.get_submodule(path)
        if is_parameter:
            owner.register_parameter(attribute, value)  # type: ignore[arg-type]
        else:
            owner._buffers[attribute] = value
