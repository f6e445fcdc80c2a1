"""Functions and values on their way into a cell: functions as source, values as plain data.

The host's bytecode is not the cell's, so a function travels as the text of a module of its own. The text is
cut out of its file by the positions of the syntax tree, neither dedented nor printed anew: both would change
strings that span lines. What cannot travel is refused by name. Knows nothing of cells.

Longer than most files here, because each way to travel wrongly and in silence has its few lines.
"""

from __future__ import annotations

import ast
import builtins
import copy
import dataclasses
import dis
import functools
import importlib.metadata
import importlib.util
import inspect
import io
import json
import linecache
import math
import os
import re
import sys
import textwrap
import tokenize
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pytest_modelops.errors import NotShippable
from pytest_modelops.incell import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_HEADER = "from __future__ import annotations\n"
"""Heads every shipped module, so that what only annotations name need not travel."""
_NEVER_IN_CELLS = frozenset({"pytest", "_pytest", "pytest_modelops"})
_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_MISSING = object()
_ELSEWHERE = 100_000  # lines that no file has
_Node = ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef


@dataclasses.dataclass(frozen=True)
class Shipped:
    """A function as the source of a module.

    Attributes:
        source: executed in an empty namespace, it defines `name`.
        name: what the module calls the function.
        label: what people call it: `double`, or a lambda's own text.
    """

    source: str
    name: str
    label: str


def ship(function: Callable[..., Any] | str, *, oldest: tuple[int, int] | None = None) -> Shipped:
    """Turn a function into source that defines it, with the functions and data of its module that it uses.

    Data travels as it is now. Modules, and what comes from the standard library or from an installed
    distribution, are imported in the cell; whether the cell has them is for the cell to say. Coroutine
    functions travel like any other.

    Args:
        function: a function written in Python, or the text of one lambda expression or of one `def`.
        oldest: the oldest Python that must be able to read the source; `None` leaves that to the cell.

    Raises:
        NotShippable: it cannot travel, or something that it uses cannot; names what, why and what to do.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the compiler says of this source, it said when it was imported
        if not isinstance(function, str) and (shipped := _ship_import(function)):
            return shipped
        definition = _parse(function) if isinstance(function, str) else _find(function)
        module = _Module(oldest)
        code = module.define(definition.name, definition)
    if code.co_flags & _GENERATORS and not definition.decorators:
        raise NotShippable(
            f"{definition.what} is a generator function, and a generator cannot travel back: return a list"
        )
    return Shipped(module.source, definition.name, definition.label)


def pack(value: Any, where: str = "value") -> Any:
    """Turn plain data into what `json` can write; messages call it `where`.

    Raises:
        NotShippable: something in it is not plain data; says what and where.
    """
    try:
        return plain.pack(value, where)
    except TypeError as error:
        raise NotShippable(str(error)) from None


def unpack(packed: Any) -> Any:
    """Return the value that `pack` made this of, here or in a cell.

    Raises:
        NotShippable: `pack` makes no such thing.
    """
    try:
        return plain.unpack(packed)
    except TypeError as error:
        raise NotShippable(str(error)) from None


# The module that travels.


class _Module:
    """A module in the making: imports, then data, then functions in an order that executes."""

    def __init__(self, oldest: tuple[int, int] | None) -> None:
        self._oldest = oldest
        self._known: dict[str, Any] = {}  # what each name stands for
        self._imports: dict[str, None] = {}
        self._data: list[str] = []
        self._functions: list[str] = []

    @property
    def source(self) -> str:
        return "".join([_HEADER, *self._imports, *self._data, *self._functions])

    def define(self, name: str, definition: _Definition) -> types.CodeType:
        """Add a function: after what its decorators and defaults use, before what its body uses.

        Returns:
            the function's code, without its decorators.
        """
        self._known[name] = definition.value
        text = definition.source(name)
        if self._oldest and (newer := _newer_syntax(text, self._oldest)):
            version = ".".join(map(str, self._oldest))
            raise NotShippable(
                f"{definition.what} uses syntax newer than Python {version}, which must read it: {newer}"
            )
        module = compile(_HEADER + text, "<shipped>", "exec", dont_inherit=True, optimize=0)
        code = _own_code(module)
        for used in sorted(_global_names(module, apart_from=code)):
            self._provide(used, definition)
        self._functions.append(text)
        for used in sorted(_global_names(code)):
            self._provide(used, definition)
        return code

    def _provide(self, name: str, user: _Definition) -> None:
        """Let a name mean in the cell what it means in the module of the function that uses it."""
        if name in {"__name__", "__annotations__"}:
            return  # every module, and every class body, has its own
        value = user.globals.get(name, getattr(builtins, name, _MISSING))
        if value is _MISSING:
            raise NotShippable(f"{user.what} uses {name!r}, which is not defined: import it in the function")
        if name not in self._known:
            self._known[name] = value
            if name in user.globals:
                self._add(name, value, user)
        elif not _same(self._known[name], value):
            raise NotShippable(
                f"{user.what} uses {name!r}, which is something else in another function that travels along: "
                "rename one of them"
            )

    def _add(self, name: str, value: Any, user: _Definition) -> None:
        if name in {"__file__", "__path__"}:
            raise NotShippable(f"{user.what} uses {name!r}, a path of this machine: pass it as an argument")
        if imports := _imports(name, value, user):
            self._imports.update(dict.fromkeys(imports))
        elif type(value) in plain.TYPES:
            try:
                plain.pack(value, name)
            except TypeError as error:
                raise NotShippable(f"{user.what} uses {name!r}: {error}") from None
            self._data.append(f"{name} = {_literal(value)}\n")
        elif _is_function(value) and (user.owns(value) or _home(value) not in _NEVER_IN_CELLS):
            self.define(name, _find(value, f", which {user.what} uses,"))
        else:
            raise NotShippable(f"{user.what} uses {_why_not(name, value)}")


def _own_code(compiled: types.CodeType) -> types.CodeType:
    """The code of the one function that was compiled; that of its decorators and defaults comes before it."""
    own = [const for const in compiled.co_consts if isinstance(const, types.CodeType)][-1]
    return _own_code(own) if own.co_name.startswith("<generic parameters of ") else own


def _global_names(code: types.CodeType, apart_from: types.CodeType | None = None) -> set[str]:
    """The names that code, with all code in it, takes from its module."""
    steps = list(dis.get_instructions(code))
    names = {s.argval for s in steps if s.opname in {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}}
    if code.co_name != "<module>":  # the names that the body of a class defines are its own
        names -= {s.argval for s in steps if s.opname == "STORE_NAME"}
    for const in code.co_consts:
        if isinstance(const, types.CodeType) and const is not apart_from:
            names |= _global_names(const, apart_from)
    return names


def _newer_syntax(text: str, oldest: tuple[int, int]) -> str | None:
    """What a Python of that age cannot read in the text."""
    try:
        ast.parse(text, feature_version=oldest)
    except SyntaxError as error:
        return error.msg
    if oldest < (3, 12) and _has_free_fstring(text):  # to which the parser is blind
        return "the braces of an f-string hold its own quotes, a backslash, a comment or a line break (3.12)"
    return None


def _has_free_fstring(text: str) -> bool:
    """Whether the braces of an f-string hold what only PEP 701 allows there."""
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


# Where a function is written.


@dataclasses.dataclass(frozen=True)
class _Definition:
    """Where a function is written.

    Attributes:
        what: how messages call it.
        lines: the file, or the text that was given.
        tree: the syntax tree of the lines; `node` is the function in it.
        value: the function with its decorators, which is what its module calls by its name.
        function: the function without them; `None` when it was given as text.
    """

    what: str
    lines: Sequence[str]
    tree: ast.AST
    node: _Node
    value: Any
    function: types.FunctionType | None

    @property
    def name(self) -> str:
        return "shipped_lambda" if isinstance(self.node, ast.Lambda) else self.node.name

    @property
    def label(self) -> str:
        if isinstance(self.node, ast.Lambda):
            return textwrap.shorten(str(ast.get_source_segment("".join(self.lines), self.node)), 60)
        return self.function.__qualname__ if self.function else self.name

    @property
    def globals(self) -> Mapping[str, Any]:
        """What its module defines; a text defines itself alone."""
        return self.function.__globals__ if self.function else {self.name: self.value}

    def owns(self, value: Any) -> bool:
        """Whether a value says that it is of the same module."""
        return bool(getattr(value, "__module__", _MISSING) == self.globals.get("__name__"))

    @property
    def decorators(self) -> list[ast.expr]:
        """The decorators that travel: `staticmethod` means nothing outside a class."""
        found: list[ast.expr] = getattr(self.node, "decorator_list", [])
        return [] if [ast.unparse(decorator) for decorator in found] == ["staticmethod"] else found

    def source(self, name: str) -> str:
        """Its own text, made to define `name`."""
        text = "".join(self.lines).encode()
        start, end = self._span(self.node)
        edits = [(*self._span(default), literal) for default, literal in self._computed_defaults()]
        if not isinstance(self.node, ast.Lambda):
            if match := re.compile(rb"(?:async\s+)?def\s+([^\s(\[]+)").match(text, start):
                edits.append((*match.span(1), name))
            start = self._offset(min(part.lineno for part in [self.node, *self.decorators]), 0)
        cut = ""
        for begin, stop, new in sorted(edits):
            cut += text[start:begin].decode() + new
            start = stop
        cut += text[start:end].decode()
        if isinstance(self.node, ast.Lambda):
            return f"{name} = ({cut})\n"
        return f"if 1:\n{cut}\n" if cut[0].isspace() else f"{cut}\n"

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        end_line, end_column = node.end_lineno or 0, node.end_col_offset or 0  # never None from the parser
        return self._offset(node.lineno, node.col_offset), self._offset(end_line, end_column)

    def _offset(self, line: int, column: int) -> int:
        """A position of the tree as one in the UTF-8 of the text, whose bytes columns count."""
        return len("".join(self.lines[: line - 1]).encode()) + column

    def _computed_defaults(self) -> Iterator[tuple[ast.expr, str]]:
        """Defaults that came from variables, as literals: by now the `i` of a loop's `i=i` is another."""
        if self.function is None:
            return
        spec, by_keyword = self.node.args, self.function.__kwdefaults__ or {}
        keywords = [argument.arg for argument in spec.kwonlyargs]
        pairs: list[tuple[ast.expr | None, Any]] = [
            *zip(spec.defaults, self.function.__defaults__ or (), strict=False),
            *zip(spec.kw_defaults, map(by_keyword.get, keywords), strict=True),
        ]
        for default, value in pairs:
            if default is None or not any(isinstance(part, ast.Name) for part in ast.walk(default)):
                continue
            if _is_plain(value):
                yield default, _literal(value)
            elif isinstance(default, ast.Name) and self.globals.get(default.id, value) is not value:
                raise NotShippable(
                    f"{self.what} has the default {default.id!r}, which means something else by now: "
                    "pass it as an argument"
                )


def _parse(text: str) -> _Definition:
    """Read the text of one lambda expression or of one `def` block, indented or not."""
    what = repr(textwrap.shorten(text, 60))
    text = io.StringIO(text, newline=None).read()  # all lines end in one way, as they do in files
    indentation = text[: -len(text.lstrip()) or None].rpartition("\n")[2]
    if not re.match(r"\s*(@|def\b|async\b)", text):
        text, indentation = text.strip(), ""
    lines = io.StringIO(f"if 1:\n{text}" if indentation else text).readlines()
    try:
        tree: Any = ast.parse("".join(lines))
    except SyntaxError as error:
        raise NotShippable(f"{what} is not valid Python: {error.msg}") from None
    body = tree.body[0].body if indentation else tree.body
    node = body[0] if len(body) == 1 else None
    if isinstance(node, ast.Expr):
        node = node.value
    if not isinstance(node, _Node):
        raise NotShippable(
            f"{what} is no function: give one lambda expression, or one def with its imports inside"
        )
    return _Definition(what, lines, tree, node, node, None)


def _find(function: Any, user: str = "") -> _Definition:
    """Find where a function is written; `user` says in messages who uses it."""
    what = f"{getattr(function, '__qualname__', type(function).__qualname__)!r}{user}"
    if isinstance(function, types.MethodType):
        raise NotShippable(
            f"{what} is a bound method: pass a function of a module, with what it needs as arguments"
        )
    if isinstance(function, type):
        raise NotShippable(f"{what} is a class: pass a function")
    if not _is_function(function):
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
    definition = _Definition(what, lines, *_node(lines, code, what), function, inner)
    _check_decorators(definition, inner)
    return definition


def _is_function(value: Any) -> bool:
    """Whether there is a function written in Python, perhaps under decorators."""
    if isinstance(value, type | types.MethodType):
        return False
    return isinstance(_undecorated(value), types.FunctionType)


def _undecorated(function: Any) -> Any:
    """The function that a def made, without its decorators.

    One without a closure is what its own source says, whatever was set by hand as its `__wrapped__`.
    """
    if isinstance(function, types.FunctionType) and not function.__code__.co_freevars:
        return function
    try:
        return inspect.unwrap(function)
    except ValueError:  # it wraps itself
        return function


@functools.lru_cache(maxsize=32)
def _compiled(text: str) -> tuple[ast.Module, list[types.CodeType]]:
    """The syntax tree of a file and all code in it; nothing of a file that is no Python (any more)."""
    try:
        tree = ast.parse(text)
        return tree, _codes(tree)
    except SyntaxError:
        return ast.Module([], []), []


def _codes(tree: ast.Module) -> list[types.CodeType]:
    """All code of a file. Code must be compiled with its file, because it depends on what that imports."""
    codes = [compile(tree, "<file>", "exec", dont_inherit=True)]
    for code in codes:
        codes += [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return codes


def _node(lines: Sequence[str], code: types.CodeType, what: str) -> tuple[ast.Module, _Node]:
    """The syntax tree of a file, and in it what this code was compiled from."""
    tree, codes = _compiled("".join(lines))
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, _Node)
        and getattr(node, "name", "<lambda>") == code.co_name
        and min(n.lineno for n in [node, *getattr(node, "decorator_list", [])]) == code.co_firstlineno
    ]
    if len(found) > 1:
        found = [node for node in found if _becomes(node, tree, code)]
    if not found or (code not in codes and not _becomes_rewritten(found[0], tree, code)):
        raise NotShippable(
            f"{what} is not what its file says: the file changed since its import, or a hook changed its code"
        )
    if len({ast.dump(node) for node in found}) > 1:
        raise NotShippable(
            f"{what} cannot be told from the other lambdas on its line: give it a line of its own"
        )
    return tree, found[0]


def _becomes(node: _Node, tree: ast.Module, code: types.CodeType) -> bool:
    """Whether just this lambda of its line is compiled to the code: moved elsewhere, it is known by its line."""
    _move(node, _ELSEWHERE)
    try:
        made = next((made for made in _codes(tree) if made.co_firstlineno == node.lineno), None)
    finally:
        _move(node, -_ELSEWHERE)
    return made == _moved(code, _ELSEWHERE)


def _move(node: _Node, lines: int) -> None:
    """Move a function down, but not its defaults: their code is not in its own."""
    ast.increment_lineno(node, lines)
    for default in [*node.args.defaults, *node.args.kw_defaults]:
        if default is not None:
            ast.increment_lineno(default, -lines)


def _moved(code: types.CodeType, lines: int) -> types.CodeType:
    consts = (
        _moved(const, lines) if isinstance(const, types.CodeType) else const for const in code.co_consts
    )
    return code.replace(co_firstlineno=code.co_firstlineno + lines, co_consts=tuple(consts))


def _becomes_rewritten(node: _Node, tree: ast.Module, code: types.CodeType) -> bool:
    """Whether this def may have become the code under pytest's rewriting of asserts: as far as the rest tells."""
    if not any(isinstance(part, ast.Assert) for part in ast.walk(node)):
        return False
    rest = _codes(_WithoutAsserts().visit(copy.deepcopy(tree)))
    place = code.co_name, code.co_firstlineno
    return any(
        _ingredients(made) <= _ingredients(code)
        for made in rest
        if (made.co_name, made.co_firstlineno) == place
    )


class _WithoutAsserts(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        return ast.copy_location(ast.Pass(), node)


def _ingredients(code: types.CodeType) -> set[object]:
    """The names and simple constants of code and of all code in it."""
    found: set[object] = {*code.co_names, *code.co_varnames}
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found |= _ingredients(const)
        elif isinstance(const, str | bytes | int | float | complex):
            found.add((type(const), repr(const)))
    return found


def _check_decorators(definition: _Definition, inner: types.FunctionType) -> None:
    """Refuse methods, and functions that were wrapped or unwrapped elsewhere than on their def."""
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


# Names that a function uses.


def _imports(name: str, value: Any, user: _Definition) -> list[str]:
    """The statements that import a value in a cell; none if no cell can import it.

    The user's own statements come first: a submodule that was imported by name is needed too, and an object's
    `__module__` may be a private one that other versions do not have (`pathlib._local` of Python 3.13).
    """
    if found := list(_written_imports(name, value, user)):
        return found
    if isinstance(value, types.ModuleType):
        return [f"import {value.__name__} as {name}\n"] if _is_importable(value.__name__) else []
    module, attribute = str(getattr(value, "__module__", "")), str(getattr(value, "__qualname__", ""))
    if user.owns(value) or not _is_importable(module) or _attribute(module, attribute) is not value:
        return []
    return [f"from {module} import {attribute} as {name}\n"]


def _written_imports(name: str, value: Any, user: _Definition) -> Iterator[str]:
    """The import statements of the user's file that make the name mean this value."""
    for node in ast.walk(user.tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            if (alias.asname or alias.name.partition(".")[0]) != name:
                continue
            if isinstance(node, ast.Import):
                bound = alias.name if alias.asname else name
                if sys.modules.get(bound) is value and _is_importable(alias.name):
                    yield f"import {ast.unparse(alias)}\n"
            elif _is_importable(module := _absolute(node, user)) and _attribute(module, alias.name) is value:
                yield f"from {module} import {ast.unparse(alias)}\n"


def _absolute(node: ast.ImportFrom, user: _Definition) -> str:
    """The module of a `from … import`, of a relative one too; empty if that leads nowhere."""
    module = node.module or ""
    if not node.level:
        return module
    try:
        return importlib.util.resolve_name("." * node.level + module, user.globals.get("__package__"))
    except ImportError:
        return ""


def _attribute(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, _MISSING)


def _ship_import(function: Any) -> Shipped | None:
    """A library's function as an import, for its module's data must be the cell's; `None` for all others."""
    module, name = str(getattr(function, "__module__", "")), str(getattr(function, "__qualname__", ""))
    if not _is_function(function) or not _is_library(module) or _attribute(module, name) is not function:
        return None
    return Shipped(f"from {module} import {name}\n", name, f"{module}.{name}")


def _is_importable(module: str) -> bool:
    """Whether a cell can have a module: it is of the standard library or of an installed distribution."""
    root = module.partition(".")[0]
    if module not in sys.modules or root in _NEVER_IN_CELLS:
        return False
    return _is_library(module) or _is_editable(module)


def _is_library(module: str) -> bool:
    """Whether a module lies where Python or an installer put it.

    Its name does not tell: pytest's importlib mode calls the file `platform/test_it.py` of a project
    `platform.test_it`, and some distributions have installed a package `tests`.
    """
    root, place = module.partition(".")[0], _place(module)
    if module not in sys.modules or root in _NEVER_IN_CELLS:
        return False
    in_python = place == Path() or place.is_relative_to(Path(os.__file__).parent)
    return (root in sys.stdlib_module_names and in_python) or _is_in_site(place)


def _place(module: str) -> Path:
    """The file of a loaded module, or a folder of its package; an empty path if it is built into Python."""
    loaded = sys.modules.get(module)
    return Path(getattr(loaded, "__file__", None) or next(iter(getattr(loaded, "__path__", ())), ""))


def _is_in_site(place: object) -> bool:
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(str(place)).parts)


def _is_editable(module: str) -> bool:
    """Whether a module is of a distribution that is installed from a checkout.

    Not every installer lists the names in it; then the distribution's own is taken, and all that lies in
    `src`. What else a checkout holds may be tests.
    """
    names, sources = _checkouts()
    root, place = module.partition(".")[0], _place(module)
    return root.lower() in names or any(place.is_relative_to(source) for source in sources)


@functools.lru_cache(maxsize=1)
def _checkouts() -> tuple[set[str], set[Path]]:
    """Top-level names, in lower case, and `src` folders of distributions that lie outside site-packages."""
    names, sources = set(), set()
    for distribution in importlib.metadata.distributions():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable") or not _is_in_site(distribution.locate_file("")):
            listed = distribution.read_text("top_level.txt") or str(distribution.name).replace("-", "_")
            names.update(listed.lower().split())
            sources.add(Path(url2pathname(urlsplit(origin.get("url", "")).path), "src"))
    return names, sources


def _home(value: Any) -> str:
    """The top-level package that a value says it is from."""
    module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    return str(module).partition(".")[0]


def _why_not(name: str, value: Any) -> str:
    """Why a module's value cannot travel, and what to do."""
    if _home(value) in _NEVER_IN_CELLS:
        return f"{name!r}: {_home(value).strip('_')} is in no cell, so do without it in this function"
    if isinstance(value, types.ModuleType):
        return (
            f"the module {value.__name__!r}, which belongs to neither the standard library nor an installed "
            "distribution: import functions from it by name, and they travel along"
        )
    kind = f"the class {value.__qualname__}" if isinstance(value, type) else f"an object of {type(value)!r}"
    return f"{name!r}, {kind}: only modules, functions and plain data travel; make it inside the function"


def _same(one: Any, other: Any) -> bool:
    """Whether two functions that use these two under one name can share it."""
    return one is other or (_is_plain(one) and _is_plain(other) and _literal(one) == _literal(other))


def _is_plain(value: Any) -> bool:
    try:
        plain.pack(value)
    except TypeError:
        return False
    return True


def _literal(value: Any) -> str:
    """An expression for plain data; `repr` gives none for nan, inf, an empty set and very long integers."""
    kind = type(value)
    if kind is int:
        return repr(value) if value.bit_length() <= plain.MAX_BITS else hex(value)
    if kind is float:
        return repr(value) if math.isfinite(value) else f"float('{value}')"
    if kind is complex:
        return f"complex({_literal(value.real)}, {_literal(value.imag)})"
    if kind is dict:
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if kind in {list, tuple, set, frozenset}:
        items = f"[{', '.join(map(_literal, value))}]"
        return items if kind is list else f"{kind.__name__}({items})"
    return repr(value)
