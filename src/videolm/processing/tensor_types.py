"""Torch tensors in, the type of array that a caller asked for out."""

from __future__ import annotations

import importlib
from typing import Any

from torch import Tensor

from videolm.errors import ArgumentError, MissingExtraError

TENSOR_TYPES = ("pt", "np", "jax", "tf")
_LIBRARIES = {"jax": "jax.numpy", "tf": "tensorflow"}

__all__ = ["TENSOR_TYPES", "as_type", "tensor_type"]


def tensor_type(value: Any) -> str | None:
    """What ``return_tensors`` names: one of ``TENSOR_TYPES`` or None."""
    value = getattr(value, "value", value)
    if value is not None and value not in TENSOR_TYPES:
        raise ArgumentError(
            f"return_tensors is {value!r}: expected one of {', '.join(TENSOR_TYPES)}, or None. Choose one of these."
        )
    return value  # type: ignore[no-any-return]


def as_type(value: Any, kind: str | None) -> Any:
    """A tensor, or a list of them, as another library's arrays; None gives lists: of numbers, or of numpy arrays."""
    if kind == "pt":
        return value
    if isinstance(value, list):
        return [as_type(entry, "np" if kind is None else kind) for entry in value]
    if not isinstance(value, Tensor):
        return value
    if kind is None:
        return list(value.numpy()) if value.is_floating_point() else value.tolist()
    if kind == "np":
        return value.numpy()
    try:
        library = importlib.import_module(_LIBRARIES[kind])
    except ImportError as error:
        raise MissingExtraError(
            f"return_tensors is {kind!r}, and {_LIBRARIES[kind].split('.')[0]} is not installed: expected one of the "
            "array types that are. Install it, or use return_tensors='pt' or 'np'."
        ) from error
    return library.asarray(value.numpy()) if kind == "jax" else library.convert_to_tensor(value.numpy())
