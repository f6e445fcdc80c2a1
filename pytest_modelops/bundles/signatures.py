"""Whether what a bundle defines can be called the way a runner calls it."""

from __future__ import annotations

import ast
import dataclasses

from pytest_modelops.bundles.names import Kind, Symbol

_TARGET = ("sim_returns", "target_data")
_WIRE = ("entrypoint", "params", "seed")


@dataclasses.dataclass(frozen=True)
class _Call:
    """A signature, as a caller sees it.

    Attributes:
        positional: names that may be given in order; star: whether more may.
        required: names without a default among them.
        keyword_required: names without a default that must be given by name.
    """

    positional: tuple[str, ...]
    star: bool
    required: tuple[str, ...]
    keyword_required: tuple[str, ...]

    @classmethod
    def of(cls, symbol: Symbol) -> _Call | None:
        """How a symbol is called, `None` when that is not known."""
        if symbol.arguments is None:
            return None
        arguments = symbol.arguments
        every = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
        required = every[: len(every) - len(arguments.defaults)]
        by_name = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        return cls(
            positional=tuple(every[symbol.skipped :]),
            star=arguments.vararg is not None,
            required=tuple(required[symbol.skipped :]),
            keyword_required=tuple(argument.arg for argument, default in by_name if default is None),
        )

    def takes(self, count: int) -> bool:
        """Whether it can be called with so many arguments, in order."""
        enough = self.star or len(self.positional) >= count
        return enough and len(self.required) <= count and not self.keyword_required


def wrong_as_wire(symbol: Symbol) -> str:
    """Why a runner cannot call it as the wire function; empty when it can, or when that is not known."""
    if wrong := _wrong_kind(symbol):
        return wrong
    call = _Call.of(symbol)
    if call is None or call.takes(len(_WIRE)):
        return ""
    return f"it is called with ({', '.join(_WIRE)}), but takes {_shown(symbol)}"


def wrong_as_target(symbol: Symbol) -> str:
    """Why a runner cannot call it as a target; empty when it can, or when that is not known."""
    if wrong := _wrong_kind(symbol):
        return wrong
    call = _Call.of(symbol)
    if call is None or call.takes(len(_TARGET)):
        return ""
    if set(call.required + call.keyword_required) <= {"data_paths"}:
        return ""
    return (
        f"a target takes ({', '.join(_TARGET)}), or nothing or only data_paths to return an object with evaluate; "
        f"this takes {_shown(symbol)}"
    )


def _wrong_kind(symbol: Symbol) -> str:
    match symbol.kind:
        case Kind.COROUTINE:
            return "it is async, and nothing awaits it; write it with def"
        case Kind.MODULE | Kind.VALUE:
            return f"it is {symbol.kind.value}, not a function"
        case _:
            return ""


def _shown(symbol: Symbol) -> str:
    """The arguments that a caller gives, as written."""
    if symbol.arguments is None:
        return "(…)"
    text = ast.unparse(symbol.arguments)
    return f"({text.partition(', ')[2] if symbol.skipped else text})"
