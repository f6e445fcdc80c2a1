"""The module that travels: a function, with the functions, data and imports that it uses, as one source.

Does not know how a function's source is found and cut out, nor what a cell can import.
"""

from __future__ import annotations

import builtins
import dataclasses
import dis
import inspect
import io
import sys
import tokenize
import types
from collections.abc import Callable
from typing import Any

from pytest_modelops.errors import NotShippable
from pytest_modelops.remote.shared import plain
from pytest_modelops.remote.shared.facts import ShippedModule
from pytest_modelops.shipping.definition import Definition
from pytest_modelops.shipping.finding import find, is_function, parse
from pytest_modelops.shipping.names import imports_of, is_library, is_never_in_cells, member_of, why_not
from pytest_modelops.shipping.values import MISSING, literal_of, same
from pytest_modelops.storage.source import compiled, syntax_tree

_HEADER = "from __future__ import annotations\n"
"""First line of every shipped module, so that names in annotations need not travel."""
_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


@dataclasses.dataclass(frozen=True)
class Shipped:
    """A function as the source of a module."""

    source: str  # executed in an empty namespace, it defines `name`
    name: str  # of the function in the module
    label: str  # its name for people: `double`, or a lambda's own text

    @property
    def module(self) -> ShippedModule:
        return {"source": self.source, "name": self.name}


def ship(function: Callable[..., Any] | str, *, oldest: tuple[int, int] | None = None) -> Shipped:
    """Turn a function into source that defines it, with the functions and data of its module that it uses.

    Data travels with its present value. Modules, and everything from the standard library or an installed
    distribution, are imported in the cell, where that may fail. Coroutine functions travel like any other.

    Args:
        function: a function written in Python, or the text of one lambda expression or of one `def`.
        oldest: the oldest Python that must parse the source; `None` checks nothing.

    Raises:
        NotShippable: it cannot travel, or something that it uses cannot; names what, why and what to do.
    """
    if not isinstance(function, str) and (shipped := _ship_import(function)):
        return shipped
    definition = parse(function) if isinstance(function, str) else find(function)
    module = _Module(oldest)
    code = module.define(definition.name, definition)
    if code.co_flags & _GENERATORS and not definition.decorators:
        raise NotShippable(
            f"{definition.what} is a generator function, and a generator cannot travel back: return a list"
        )
    return Shipped(module.source, definition.name, definition.label)


def _ship_import(function: Any) -> Shipped | None:
    """A library's function as an import, for its module's data must be the cell's; `None` for all others."""
    module, name = str(getattr(function, "__module__", "")), str(getattr(function, "__qualname__", ""))
    if not is_function(function) or not is_library(module) or member_of(module, name) is not function:
        return None
    return Shipped(f"from {module} import {name}\n", name, f"{module}.{name}")


class _Module:
    """A module under construction: imports, then data, then functions in an order that executes."""

    def __init__(self, oldest: tuple[int, int] | None) -> None:
        self._oldest = oldest
        self._known: dict[str, Any] = {}  # what each name stands for
        self._imports: dict[str, None] = {}
        self._data: list[str] = []
        self._functions: list[str] = []

    @property
    def source(self) -> str:
        return "".join([_HEADER, *self._imports, *self._data, *self._functions])

    def define(self, name: str, definition: Definition) -> types.CodeType:
        """Add a function, after what its decorators and defaults use; returns its code, without decorators."""
        self._known[name] = definition.value
        text = definition.source(name)
        if self._oldest and (newer := _newer_syntax(text, self._oldest)):
            version = ".".join(map(str, self._oldest))
            raise NotShippable(
                f"{definition.what} uses syntax newer than Python {version}, which must read it: {newer}"
            )
        module = compiled(_HEADER + text, optimize=0)
        code = _own_code(module)
        for used in sorted(_global_names(module, apart_from=code)):
            self._provide(used, definition)
        self._functions.append(text)
        for used in sorted(_global_names(code)):
            self._provide(used, definition)
        return code

    def _provide(self, name: str, user: Definition) -> None:
        """Define a name in the cell as in the module of the function that uses it."""
        if name in {"__name__", "__annotations__"}:
            return  # every module, and every class body, has its own
        value = user.globals.get(name, getattr(builtins, name, MISSING))
        if value is MISSING:
            raise NotShippable(f"{user.what} uses {name!r}, which is not defined: import it in the function")
        if name not in self._known:
            self._known[name] = value
            if name in user.globals:
                self._add(name, value, user)
        elif not same(self._known[name], value):
            raise NotShippable(
                f"{user.what} uses {name!r}, which is something else in another function that travels along: "
                "rename one of them"
            )

    def _add(self, name: str, value: Any, user: Definition) -> None:
        if name in {"__file__", "__path__"}:
            raise NotShippable(f"{user.what} uses {name!r}, a path of this machine: pass it as an argument")
        if imports := imports_of(name, value, user):
            self._imports.update(dict.fromkeys(imports))
        elif type(value) in plain.TYPES:
            try:
                plain.pack(value, name)
            except TypeError as error:
                raise NotShippable(f"{user.what} uses {name!r}: {error}") from None
            self._data.append(f"{name} = {literal_of(value)}\n")
        elif is_function(value) and (user.owns(value) or not is_never_in_cells(value)):
            self.define(name, find(value, f", which {user.what} uses,"))
        else:
            raise NotShippable(f"{user.what} uses {why_not(name, value)}")


def _own_code(compiled: types.CodeType) -> types.CodeType:
    """Return the code of the one function that was compiled; the code of its decorators and defaults precedes it."""
    own = [const for const in compiled.co_consts if isinstance(const, types.CodeType)][-1]
    return _own_code(own) if own.co_name.startswith("<generic parameters of ") else own


def _global_names(code: types.CodeType, apart_from: types.CodeType | None = None) -> set[str]:
    """Return the names that code, with all code in it, looks up in its module."""
    steps = list(dis.get_instructions(code))
    names = {s.argval for s in steps if s.opname in {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}}
    if code.co_name != "<module>":  # the names that the body of a class defines are its own
        names -= {s.argval for s in steps if s.opname == "STORE_NAME"}
    for const in code.co_consts:
        if isinstance(const, types.CodeType) and const is not apart_from:
            names |= _global_names(const, apart_from)
    return names


def _newer_syntax(text: str, oldest: tuple[int, int]) -> str | None:
    """Return what that Python cannot parse in the text; `None` if it can parse all of it."""
    try:
        syntax_tree(text, oldest)
    except SyntaxError as error:
        return error.msg
    if oldest < (3, 12) and _has_free_fstring(text):  # the parser does not check it
        return "the braces of an f-string hold its own quotes, a backslash, a comment or a line break (3.12)"
    return None


def _has_free_fstring(text: str) -> bool:
    """Return whether the braces of an f-string hold what only PEP 701 allows there."""
    if sys.version_info < (3, 12):
        return False  # this Python could not have read it
    quotes: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        literal = token.type in {tokenize.FSTRING_MIDDLE, tokenize.FSTRING_END}
        around = quotes[:-1] if literal else quotes  # those whose braces the token stands in
        if around and (
            token.type == tokenize.COMMENT
            or "\\" in token.string
            or any(quote in token.string for quote in around)
            or (token.string == "\n" and any(len(quote) == 1 for quote in around))
        ):
            return True
        if token.type == tokenize.FSTRING_START:
            quotes.append(token.string.lstrip("rRfF"))
        elif token.type == tokenize.FSTRING_END:
            quotes.pop()
    return False
