"""Whether what a bundle defines can be called the way a runner calls it."""

from __future__ import annotations

import ast

from pytest_modelops.bundles.names import Kind, Symbol

_TARGET = ("sim_returns", "target_data")
_WIRE = ("entrypoint", "params", "seed")


def wrong_as_wire(symbol: Symbol) -> str:
    """Return why a runner cannot call a symbol as the wire function; empty when it can or that is unknown."""
    if wrong := _wrong_kind(symbol):
        return wrong
    if symbol.arguments is None or _takes(symbol, symbol.arguments, len(_WIRE)):
        return ""
    return f"it is called with ({', '.join(_WIRE)}), but takes {_shown(symbol, symbol.arguments)}"


def wrong_as_target(symbol: Symbol) -> str:
    """Return why a runner cannot call a symbol as a target; empty when it can or that is unknown."""
    if wrong := _wrong_kind(symbol):
        return wrong
    if symbol.arguments is None or _takes(symbol, symbol.arguments, len(_TARGET)):
        return ""
    if _required(symbol, symbol.arguments) <= {"data_paths"}:
        return ""
    return (
        f"a target takes ({', '.join(_TARGET)}), or nothing or only data_paths to return an object with evaluate; "
        f"this takes {_shown(symbol, symbol.arguments)}"
    )


def _wrong_kind(symbol: Symbol) -> str:
    match symbol.kind:
        case Kind.COROUTINE:
            return "it is async, and nothing awaits it; write it with def"
        case Kind.MODULE | Kind.VALUE:
            return f"it is {symbol.kind.value}, not a function"
        case _:
            return ""


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


def _shown(symbol: Symbol, arguments: ast.arguments) -> str:
    """Return the arguments that a caller gives, as written."""
    text = ast.unparse(arguments)
    return f"({text.partition(', ')[2] if symbol.skipped else text})"
