"""Plain data for cells: packed for `json`, or as literals in source."""

from __future__ import annotations

import math
from typing import Any

from pytest_modelops.errors import NotShippable
from pytest_modelops.remote.shared import plain

MISSING = object()
"""Stands where there is no value."""


def pack(value: Any, where: str = "value") -> Any:
    """Turn plain data into what `json` can write.

    Args:
        where: its name in messages.

    Raises:
        NotShippable: something in it is not plain data.
    """
    try:
        return plain.pack(value, where)
    except TypeError as error:
        raise NotShippable(str(error)) from None


def unpack(packed: Any) -> Any:
    """Return the value that was packed, here or in a cell.

    Raises:
        NotShippable: `pack` did not make this.
    """
    try:
        return plain.unpack(packed)
    except TypeError as error:
        raise NotShippable(str(error)) from None


def is_plain(value: Any) -> bool:
    """Return whether a value is plain data."""
    try:
        plain.pack(value)
    except TypeError:
        return False
    return True


def literal_of(value: Any) -> str:
    """Return an expression for plain data; `repr` has none for nan, inf, an empty set and very long integers."""
    kind = type(value)
    if kind is int:
        return repr(value) if value.bit_length() <= plain.MAX_BITS else hex(value)
    if kind is float:
        return repr(value) if math.isfinite(value) else f"float('{value}')"
    if kind is complex:
        return f"complex({literal_of(value.real)}, {literal_of(value.imag)})"
    if kind is dict:
        return "{" + ", ".join(f"{literal_of(key)}: {literal_of(item)}" for key, item in value.items()) + "}"
    if kind in {list, tuple, set, frozenset}:
        items = f"[{', '.join(map(literal_of, value))}]"
        return items if kind is list else f"{kind.__name__}({items})"
    return repr(value)


def same(one: Any, other: Any) -> bool:
    """Return whether two functions that use these values under one name can share the name."""
    return one is other or (is_plain(one) and is_plain(other) and literal_of(one) == literal_of(other))
