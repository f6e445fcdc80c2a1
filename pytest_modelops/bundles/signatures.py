"""Whether what a bundle defines can be called the way a runner calls it."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from pytest_modelops.bundles.names import Kind, Symbol

_TARGET = ("sim_returns", "target_data")
_WIRE = ("entrypoint", "params", "seed")


def wrong_as_wire(symbol: Symbol) -> str:
    """Return why a runner cannot call a symbol as the wire function; empty when it can or that is unknown."""
    return _wrong(symbol, _WIRE, f"it is called with ({', '.join(_WIRE)}), but takes")


def wrong_as_target(symbol: Symbol) -> str:
    """Return why a runner cannot call a symbol as a target; empty when it can or that is unknown."""
    takes = f"a target takes ({', '.join(_TARGET)}), or nothing or only data_paths to return an object with evaluate"
    return _wrong(symbol, _TARGET, f"{takes}; this takes", by_name=frozenset({"data_paths"}))


def _wrong(symbol: Symbol, given: Sequence[str], text: str, *, by_name: frozenset[str] | None = None) -> str:
    """Check a call with these arguments in order, or with some of `by_name`; `text` begins the message."""
    if symbol.kind is Kind.COROUTINE:
        return "it is async, and nothing awaits it; write it with def"
    if symbol.kind in {Kind.MODULE, Kind.VALUE}:
        return f"it is {symbol.kind.value}, not a function"
    arguments = symbol.arguments
    if arguments is None or _takes(symbol, arguments, len(given)):
        return ""
    if by_name is not None and _required(symbol, arguments) <= by_name:
        return ""
    shown = ast.unparse(arguments)
    return f"{text} ({shown.partition(', ')[2] if symbol.skipped else shown})"


def _takes(symbol: Symbol, arguments: ast.arguments, count: int) -> bool:
    """Whether a call with so many positional arguments is possible."""
    given = count + symbol.skipped
    names = len(arguments.posonlyargs) + len(arguments.args)
    enough = arguments.vararg is not None or names >= given
    return enough and names - len(arguments.defaults) <= given and None not in arguments.kw_defaults


def _required(symbol: Symbol, arguments: ast.arguments) -> set[str]:
    """Return the names of arguments that a caller must give."""
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    by_name = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    required = positional[symbol.skipped : len(positional) - len(arguments.defaults)]
    return {*required, *(argument.arg for argument, default in by_name if default is None)}
