"""Values as plain data: what may pass between host and cell, and its JSON form.

`None`, `bool`, `str`, finite `float`, short `int` and lists are written as JSON has them; everything else is an
object with one key, its type: `{"tuple": [1, 2]}`. Only exact types pass, because a subclass would arrive as something
else. Copied into cells: standard library only, Python 3.10 and up.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TYPES = (type(None), bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict)
"""The types of plain data. A container is plain when all that it holds is."""
MAX_DEPTH = 200
"""How deep containers may nest: far from where `json` meets the recursion limit."""
MAX_BITS = 64
"""Longer integers travel in base 16, which `sys.set_int_max_str_digits` does not limit."""


def pack(value: Any, where: str = "value") -> Any:
    """Turn plain data into what `json` can write; `unpack` is the inverse.

    Args:
        value: the data. An object that it holds twice arrives as two equal ones.
        where: what messages call it, such as `argument 2`.

    Raises:
        TypeError: something in it is not plain, contains itself or is nested too deep; the message says what and where.
    """
    try:
        return _pack(value, ())
    except _NotPlain as error:
        raise TypeError(f"{where}{error.path} {error.reason}") from None


def unpack(packed: Any) -> Any:
    """Return the value that was packed.

    Raises:
        TypeError: this was not made by `pack`.
    """
    if isinstance(packed, list):
        return [unpack(item) for item in packed]
    if not isinstance(packed, dict):
        return packed
    try:
        [(kind, content)] = packed.items()
        return _READERS[kind](content)
    except (ValueError, KeyError, AttributeError):
        raise TypeError(f"this is not packed data: {packed!s:.80}") from None


class _NotPlain(Exception):
    """Why something cannot pass. Its path grows on the way up, so that good data costs nothing extra."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.path = ""


def _pack(value: Any, outer: tuple[int, ...]) -> Any:
    """Pack a value that is in the containers with these ids."""
    kind = type(value)
    if kind in _WRITERS:
        return _WRITERS[kind](value)
    if kind not in TYPES:
        raise _NotPlain(_why_not(kind))
    if id(value) in outer:
        raise _NotPlain(f"is the {kind.__name__} that it is in: data that contains itself cannot travel")
    if len(outer) == MAX_DEPTH:
        raise _NotPlain(f"is nested more than {MAX_DEPTH} deep")
    outer = (*outer, id(value))
    if kind is dict:
        keys = _pack_each(value, outer, lambda _: " (a key)")
        return {"dict": [keys, _pack_each(value.values(), outer, lambda index: f"[{keys[index]!r:.40}]")]}
    if kind in {set, frozenset}:
        return {kind.__name__: _pack_each(value, outer, lambda _: " (an element)")}
    items = _pack_each(value, outer, lambda index: f"[{index}]")
    return items if kind is list else {"tuple": items}


def _pack_each(items: Iterable[Any], outer: tuple[int, ...], step: Callable[[int], str]) -> list[Any]:
    """Pack what a container holds; `step` describes the place of the item that cannot pass."""
    packed: list[Any] = []
    try:
        for item in items:
            packed.append(_pack(item, outer))  # noqa: PERF401 - how far it came names the culprit
    except _NotPlain as error:
        error.path = step(len(packed)) + error.path
        raise
    return packed


def _why_not(kind: type) -> str:
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    base = next((plain.__name__ for plain in TYPES if issubclass(kind, plain)), None)
    if base:
        return f"is a {name}: only plain data travels and no subclass of it; convert it with {base}(…)"
    return f"is a {name}: only plain data travels (None, {', '.join(plain.__name__ for plain in TYPES[1:])})"


def _as_is(value: Any) -> Any:
    return value


def _write_int(value: int) -> Any:
    return value if value.bit_length() <= MAX_BITS else {"int": hex(value)}


def _write_float(value: float) -> Any:
    return value if math.isfinite(value) else {"float": str(value)}  # JSON has no nan and no infinity


def _write_str(value: str) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as in the names of files that are not UTF-8
        return {"str": value.encode("utf-8", "surrogatepass").hex()}
    return value


_WRITERS: dict[type, Callable[[Any], Any]] = {
    type(None): _as_is,
    bool: _as_is,
    int: _write_int,
    float: _write_float,
    complex: lambda value: {"complex": [_write_float(value.real), _write_float(value.imag)]},
    str: _write_str,
    bytes: lambda value: {"bytes": base64.b64encode(value).decode("ascii")},
}

_READERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "float": float,
    "complex": lambda parts: complex(*unpack(parts)),
    "str": lambda text: bytes.fromhex(text).decode("utf-8", "surrogatepass"),
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "tuple": lambda items: tuple(unpack(items)),
    "set": lambda items: set(unpack(items)),
    "frozenset": lambda items: frozenset(unpack(items)),
    "dict": lambda parts: dict(zip(*map(unpack, parts), strict=True)),
}
