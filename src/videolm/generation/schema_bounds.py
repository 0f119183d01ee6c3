"""A JSON schema in, nothing out: what is no schema, or would take too long to follow, is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from videolm.errors import ArgumentError

MAX_BYTES = 64 << 10
MAX_DEPTH = 64
"""Objects and lists in each other."""
MAX_OBJECTS = 500
MAX_DIVISOR = 10_000
"""Numbers that are a multiple of n need as many states as n has remainders."""

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_DIVISOR", "MAX_OBJECTS", "check_schema"]


def check_schema(schema: Any) -> None:
    """Refuse what is too large, too deep, no JSON, or matches nothing."""
    if schema is True:
        return
    if not isinstance(schema, Mapping):
        found = "false, which nothing matches" if schema is False else f"a {type(schema).__name__}"
        raise ArgumentError(f'The JSON schema is {found}: expected an object. Write for example {{"type": "object"}}.')
    if "x-guidance" in schema:
        raise ArgumentError(
            "The JSON schema has the key x-guidance: how JSON is written is not for it to say. Leave it out."
        )
    objects = [node for node in _nodes(schema) if isinstance(node, Mapping)]
    if len(objects) > MAX_OBJECTS:
        _refuse(f"has {len(objects)} objects", f"at most {MAX_OBJECTS}")
    try:
        num_bytes = len(json.dumps(schema, allow_nan=False).encode())
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"The JSON schema is no JSON ({error}): expected plain values. Correct it.") from error
    if num_bytes > MAX_BYTES:
        _refuse(f"has {num_bytes} bytes", f"at most {MAX_BYTES}")
    _check_divisors(objects)


def _nodes(schema: Any) -> Iterator[Any]:
    """All values, the outer ones first; a schema in itself is too deep."""
    level = [schema]
    for _ in range(MAX_DEPTH):
        yield from level
        level = [value for node in level for value in _inside(node)]
        if not level:
            return
        if len(level) > MAX_BYTES:
            _refuse(f"has {len(level)} values", f"no more than {MAX_BYTES} bytes hold")
    _refuse(f"is more than {MAX_DEPTH} levels deep", f"at most {MAX_DEPTH}")


def _inside(node: Any) -> list[Any]:
    values = node.values() if isinstance(node, Mapping) else node if isinstance(node, list | tuple) else ()
    return list(values)


def _check_divisors(objects: list[Any]) -> None:
    product = 1
    for divisor in {str(node["multipleOf"]) for node in objects if _is_number(node.get("multipleOf"))}:
        scaled = Decimal(divisor)
        digits = scaled.as_tuple().exponent
        product *= max(int(scaled.scaleb(-digits) if isinstance(digits, int) and digits < 0 else scaled), 1)
    if product > MAX_DIVISOR:
        _refuse(f"has a multipleOf of {product}, counted in its last digit and all together", f"at most {MAX_DIVISOR}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse(what: str, expected: str) -> None:
    raise ArgumentError(f"The JSON schema {what}: expected {expected}. Make it simpler.")
