"""Finding where a function is written: in its text, or in the file that it was compiled from.

Does not know the module that travels, nor the names that a function uses.
"""

from __future__ import annotations

import ast
import copy
import dis
import functools
import inspect
import io
import linecache
import re
import sys
import textwrap
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_modelops.errors import NotShippable
from pytest_modelops.shipping.definition import Definition, Node
from pytest_modelops.storage.source import compiled, syntax_tree


def parse(text: str) -> Definition:
    """Parse the text of one lambda expression or of one `def` block, indented or not."""
    what = repr(textwrap.shorten(text, 60))
    text = io.StringIO(text, newline=None).read()  # all lines end in one way, as they do in files
    indentation = text[: -len(text.lstrip()) or None].rpartition("\n")[2]
    if not re.match(r"\s*(@|def\b|async\b)", text):
        text, indentation = text.strip(), ""
    lines = io.StringIO(f"if 1:\n{text}" if indentation else text).readlines()
    try:
        tree: Any = syntax_tree("".join(lines))
    except SyntaxError as error:
        raise NotShippable(f"{what} is not valid Python: {error.msg}") from None
    body = tree.body[0].body if indentation else tree.body
    node = body[0] if len(body) == 1 else None
    if isinstance(node, ast.Expr):
        node = node.value
    if not isinstance(node, Node):
        raise NotShippable(f"{what} is not a function: give one lambda expression, or one def with its imports inside")
    return Definition(what, lines, tree, node, node, None)


def find(function: Any, user: str = "") -> Definition:
    """Find where a function is written; `user` names in messages what uses it."""
    what = f"{getattr(function, '__qualname__', type(function).__qualname__)!r}{user}"
    if isinstance(function, types.MethodType):
        raise NotShippable(f"{what} is a bound method: pass a function of a module, with what it needs as arguments")
    if isinstance(function, type):
        raise NotShippable(f"{what} is a class: pass a function")
    if isinstance(getattr(function, "registry", None), types.MappingProxyType):
        raise NotShippable(
            f"{what} is a generic function (functools.singledispatch), whose implementations do not travel: call it in "
            "a def that is installed in the cell, or write a def with isinstance"
        )
    if isinstance(function, functools.partial):
        raise NotShippable(
            f"{_called(function)}{user} is a wrapper and no function with a source: write a lambda or a def that calls "
            f"{_name_of(function.func)} with these arguments"
        )
    if callable(function) and not is_function(function) and not inspect.isroutine(function):
        named = getattr(function, "__name__", None) or getattr(function, "name", None)
        called = f"{named!r}{user}, an instance of {what}," if isinstance(named, str) else f"an instance of {what}"
        raise NotShippable(f"{called} is an object and no function: write a def that makes what it needs and calls it")
    if not is_function(function):
        raise NotShippable(f"{what} has no Python source: wrap it in a def or a lambda")
    inner = _undecorated(function)
    code = inner.__code__
    what = f"{inner.__qualname__!r} ({Path(code.co_filename).name}:{code.co_firstlineno}){user}"
    if code.co_freevars:
        names = ", ".join(map(repr, code.co_freevars))
        raise NotShippable(
            f"{what} closes over {names}: take that as an argument or define it in the module; "
            "if a decorator made this, let it use functools.wraps"
        )
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename, inner.__globals__)
    if not lines:
        raise NotShippable(f"{what} has no source file: define it in one, or pass its text")
    definition = Definition(what, lines, *_node(lines, code, what), function, inner)
    _check_decorators(definition, inner)
    return definition


def _name_of(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _called(function: functools.partial[Any]) -> str:
    keywords = [f"{name}={value!r}" for name, value in function.keywords.items()]
    arguments = ", ".join([_name_of(function.func), *map(repr, function.args), *keywords])
    return f"'functools.partial({textwrap.shorten(arguments, 60)})'"


def is_function(value: Any) -> bool:
    """Return whether a value is a function written in Python, perhaps with decorators."""
    if isinstance(value, type | types.MethodType):
        return False
    return isinstance(_undecorated(value), types.FunctionType)


def _undecorated(function: Any) -> Any:
    """Return the function that a def made, without its decorators.

    A function without a closure is what its own source says, even if its `__wrapped__` was set by hand.
    """
    if isinstance(function, types.FunctionType) and not function.__code__.co_freevars:
        return function
    try:
        return inspect.unwrap(function)
    except ValueError:  # it wraps itself
        return function


@functools.lru_cache(maxsize=32)
def _compiled(text: str) -> tuple[ast.Module, frozenset[types.CodeType]]:
    """Return the syntax tree of a file and all its code without places; nothing of a file that is not valid Python."""
    try:
        tree = syntax_tree(text)
        return tree, frozenset(map(_placeless, _codes(tree)))
    except SyntaxError:
        return ast.Module([], []), frozenset()


def _codes(tree: ast.Module) -> list[types.CodeType]:
    """Return all code of a file. Code must be compiled with its file, because it depends on what that imports."""
    codes = [compiled(tree)]
    for code in codes:
        codes += [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return codes


def _node(lines: Sequence[str], code: types.CodeType, what: str) -> tuple[ast.Module, Node]:
    """Return the syntax tree of a file, and in it what this code was compiled from."""
    tree, codes = _compiled("".join(lines))
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, Node)
        and getattr(node, "name", "<lambda>") == code.co_name
        and min(n.lineno for n in [node, *getattr(node, "decorator_list", [])]) == code.co_firstlineno
    ]
    lambdas = [node for node in found if isinstance(node, ast.Lambda)]
    if len(lambdas) > 1 and sys.version_info >= (3, 11):
        found = [*_at_positions(lambdas, code)]
    if not found or (_placeless(code) not in codes and not _becomes_rewritten(found[0], tree, code)):
        raise NotShippable(
            f"{what} is not what its file says: the file changed since its import, or a hook changed its code"
        )
    if len({ast.dump(node) for node in found}) > 1:
        raise NotShippable(
            f"{what} cannot be distinguished from the other lambdas on its line: give each lambda a line of its own"
        )
    return tree, found[0]


def _at_positions(lambdas: list[ast.Lambda], code: types.CodeType) -> list[ast.Lambda]:
    """Return which lambda of a line the code is from, by its positions; all of them if it has no positions."""
    steps = list(dis.get_instructions(code))
    if [step.opname for step in steps] == ["RESUME", "RETURN_CONST"]:  # has no positions in Python 3.12
        constant = ast.dump(ast.Constant(steps[-1].argval))
        return [node for node in lambdas if ast.dump(node.body) == constant] or lambdas
    # Instructions that are from no expression have no columns, or none but 0.
    places = [place for place in code.co_positions() if None not in place and place[3]]
    if not places:
        return lambdas
    begin = min((line or 0, column or 0) for line, _, column, _ in places)
    end = max((line or 0, column or 0) for _, line, _, column in places)
    around = [
        node
        for node in lambdas
        if (node.body.lineno, node.body.col_offset) <= begin
        and end <= (node.body.end_lineno or 0, node.body.end_col_offset or 0)
    ]
    return around[-1:]  # a lambda within another comes after it: the innermost one


def _placeless(code: types.CodeType) -> types.CodeType:
    """Return code without its places: pytest before 8.0 moves a lambda in an assert to where that begins."""
    consts = (_placeless(const) if isinstance(const, types.CodeType) else const for const in code.co_consts)
    return code.replace(co_linetable=b"", co_consts=tuple(consts))


def _becomes_rewritten(node: Node, tree: ast.Module, code: types.CodeType) -> bool:
    """Return whether pytest's rewriting of asserts may have made the code of this def: everything else matches."""
    if not any(isinstance(part, ast.Assert) for part in ast.walk(node)):
        return False
    rest = _codes(_WithoutAsserts().visit(copy.deepcopy(tree)))
    place = code.co_name, code.co_firstlineno
    return any(
        _ingredients(made) <= _ingredients(code) for made in rest if (made.co_name, made.co_firstlineno) == place
    )


class _WithoutAsserts(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        return ast.copy_location(ast.Pass(), node)


def _ingredients(code: types.CodeType) -> set[object]:
    """Return the names and simple constants of code and of all code in it."""
    found: set[object] = {*code.co_names, *code.co_varnames}
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found |= _ingredients(const)
        elif isinstance(const, str | bytes | int | float | complex):
            found.add((type(const), repr(const)))
    return found


def _check_decorators(definition: Definition, inner: types.FunctionType) -> None:
    """Refuse methods, and functions that were wrapped or unwrapped outside of their def."""
    what, node, value = definition.what, definition.node, definition.value
    static = not definition.decorators and getattr(node, "decorator_list", [])
    for scope in ast.walk(definition.tree):
        if isinstance(scope, ast.ClassDef) and node in scope.body and not static:
            raise NotShippable(f"{what} is a method of class {scope.name!r}: pass a function of a module")
    in_module = "." not in inner.__qualname__
    named = inner.__globals__.get(definition.name) if definition.decorators and in_module else value
    if named is not value or (value is not inner and not definition.decorators and not static):
        raise NotShippable(
            f"{what} is not what its def and decorators made: it was wrapped or unwrapped later, by hand; "
            "write a def for it"
        )
