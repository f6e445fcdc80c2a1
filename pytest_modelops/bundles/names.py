"""What a bundle's modules define, from their syntax trees: which names exist, and what each of them is.

Parses only the modules that are asked for and those that a name is imported from. What only running them can tell is
`UNKNOWN` and accepted. The library `griffe` does not replace this: it keeps one definition of a name, where several
conditional ones may count, and knows no name that `global`, `with`, `for`, `match`, `:=` or unpacking binds.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import re
import sys
from pathlib import Path

from packaging.version import Version

from pytest_modelops.bundles.bindings import Bindings
from pytest_modelops.bundles.documents import parse_python
from pytest_modelops.bundles.formats import Source
from pytest_modelops.errors import MalformedBundle


class Kind(enum.Enum):
    """What a name stands for; the value is for messages."""

    FUNCTION = "a function"
    COROUTINE = "an async function"
    CLASS = "a class"
    MODULE = "a module"
    VALUE = "a value that cannot be called"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Symbol:
    """One meaning of a name; a name that is defined under conditions has several.

    Attributes:
        arguments: its signature, `None` when that is unknown.
        skipped: how many of the first arguments the caller does not give (`self`).
        file: where it is defined.
        line: in that file.
    """

    kind: Kind
    arguments: ast.arguments | None = None
    skipped: int = 0
    file: Path | None = None
    line: int = 0


UNKNOWN = Symbol(kind=Kind.UNKNOWN)
_Asked = frozenset[tuple[str, str]]
"""Modules and names on the way to an answer."""


class Names:
    """The names in a bundle's modules.

    Args:
        source: the bundle.
        python: of the workers, whose syntax counts.
    """

    def __init__(self, source: Source, python: Version) -> None:
        self._source = source
        self._python = (python.major, python.minor)
        self._bindings = functools.lru_cache(maxsize=None)(self._read_bindings)

    def check(self, module: str) -> None:
        """Parse a module and the packages that contain it, all of which an import runs.

        Raises:
            MalformedBundle: one is not valid Python for the workers; the message has file and line.
        """
        parts = module.split(".")
        for count in range(1, len(parts) + 1):
            self._bindings(".".join(parts[:count]))

    def find(self, module: str, name: str) -> list[Symbol]:
        """Return every meaning that a name of a module may have; none if the module has no such name."""
        return self._find(module, name, frozenset())

    def near(self, module: str) -> dict[str, int]:
        """Return the names that a module defines or imports, with their lines; functions and classes first."""
        last = {name: nodes[-1] for name, nodes in (self._bindings(module) or Bindings()).names.items()}
        made = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        names = sorted(last, key=lambda name: not isinstance(last[name], made))
        return {name: getattr(last[name], "lineno", 0) for name in names}

    def _find(self, module: str, name: str, asked: _Asked) -> list[Symbol]:
        inner = f"{module}.{name}"
        file = self._source.file_of(inner)
        as_module = [Symbol(kind=Kind.MODULE, file=file)] if file or self._source.has_directory(inner) else []
        if (module, name) in asked:
            # Modules that import a name from each other define it nowhere; a package may import its own modules.
            return as_module
        if not self._source.owns(module):
            return [UNKNOWN]
        asked |= {(module, name)}
        bindings = self._bindings(module)
        if bindings and (nodes := bindings.names.get(name)):
            return [symbol for node in nodes for symbol in self._meanings(module, name, node, asked)]
        if as_module:
            return as_module
        if bindings is None:  # no Python source, or one for a newer Python than this one parses
            return [UNKNOWN] if self._source.file_of(module) else []
        found = [symbol for star in bindings.stars for symbol in self._find_in_star(star, name, asked)]
        is_dynamic = bindings.dynamic or "__getattr__" in bindings.names
        return found or ([UNKNOWN] if is_dynamic else [])

    def _find_in_star(self, module: str, name: str, asked: _Asked) -> list[Symbol]:
        bindings = self._bindings(module) if self._source.owns(module) else None
        if bindings is not None and not bindings.dynamic:
            exported = name in bindings.exported if bindings.exported is not None else not name.startswith("_")
            if not exported:
                return []
        return self._find(module, name, asked)

    def _meanings(self, module: str, name: str, node: ast.AST, asked: _Asked) -> list[Symbol]:
        """Return what the statement that binds a name makes of it."""
        if isinstance(node, ast.ImportFrom):
            original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
            return self._find(self._absolute(module, node), original, asked)
        symbol = dataclasses.replace(_symbol(node), file=self._source.file_of(module), line=getattr(node, "lineno", 0))
        return [symbol]

    def _absolute(self, module: str, node: ast.ImportFrom) -> str:
        """Return the dotted name of the module that a statement imports from."""
        if not node.level:
            return node.module or ""
        file = self._source.file_of(module)
        parts = module.split(".")
        is_package = file is not None and file.name.startswith("__init__.")
        parts = parts[: max(0, len(parts) - node.level + is_package)]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def _read_bindings(self, module: str) -> Bindings | None:
        """Return what a module binds, `None` if it has no Python source here, or one that cannot be followed."""
        file = self._source.file_of(module)
        tree = self._parse(file) if file is not None and file.suffix == ".py" else None
        try:
            return Bindings.of(tree, lambda node: self._absolute(module, node)) if tree else None
        except RecursionError:
            return None

    def _parse(self, file: Path) -> ast.Module | None:
        known = (sys.version_info.major, sys.version_info.minor)
        try:
            return parse_python(file, feature_version=min(self._python, known))
        except MalformedBundle as error:
            if self._python > known and not _WRONG_IN_ANY.search(str(error)):
                return None  # it may be syntax that only the workers know
            raise


_WRONG_IN_ANY = re.compile(
    r"was never closed|unmatched '|does not match opening|indent|null bytes|unexpected EOF|inconsistent use of tabs"
)
"""How a parser names errors that are errors in every version of Python."""
_ONLY_SELF = ast.arguments(posonlyargs=[], args=[ast.arg(arg="self")], kwonlyargs=[], kw_defaults=[], defaults=[])
_NOT_CALLABLE = (ast.Constant, ast.List, ast.Dict, ast.Set, ast.Tuple, ast.JoinedStr, ast.ListComp, ast.DictComp)


def _symbol(node: ast.AST) -> Symbol:
    match node:
        case ast.Import():
            return Symbol(kind=Kind.MODULE)
        case ast.FunctionDef(decorator_list=[]):
            return Symbol(kind=Kind.FUNCTION, arguments=node.args)
        case ast.AsyncFunctionDef(decorator_list=[]):
            return Symbol(kind=Kind.COROUTINE, arguments=node.args)
        case ast.ClassDef():
            return _class(node)
        case ast.Assign(targets=[ast.Name()], value=value) | ast.AnnAssign(value=ast.expr() as value):
            if isinstance(value, ast.Lambda):
                return Symbol(kind=Kind.FUNCTION, arguments=value.args)
            if isinstance(value, _NOT_CALLABLE):
                return Symbol(kind=Kind.VALUE)
    return UNKNOWN  # such as what a decorator returns


def _class(node: ast.ClassDef) -> Symbol:
    """Return a class, with its signature where no base, decorator, metaclass or `__new__` changes that."""
    unknown = Symbol(kind=Kind.CLASS)
    alone = all(isinstance(base, ast.Name) and base.id == "object" for base in node.bases)
    bindings = Bindings()
    bindings.bind(node.body, certain=True)
    if node.decorator_list or node.keywords or not alone or "__new__" in bindings.names:
        return unknown
    match bindings.names.get("__init__"):
        case None:
            return Symbol(kind=Kind.CLASS, arguments=_ONLY_SELF, skipped=1)
        case [ast.FunctionDef(decorator_list=[]) as init]:
            return Symbol(kind=Kind.CLASS, arguments=init.args, skipped=1)
    return unknown
