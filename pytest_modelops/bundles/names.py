"""What a bundle's modules define, from their syntax trees: which names there are, and what each of them is.

Only modules that are asked for are parsed, and those that a name is imported from. What cannot be known
without running it is `UNKNOWN`, and to be believed.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.version import Version

from pytest_modelops.bundles.bindings import Bindings, bind
from pytest_modelops.bundles.documents import parse_python
from pytest_modelops.bundles.formats import Source
from pytest_modelops.errors import MalformedBundle


class Kind(enum.Enum):
    """What a name stands for."""

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
        arguments: how it is called, `None` when that is not known.
        skipped: how many of the first arguments the caller does not give (`self`).
        file, line: where it is defined.
    """

    kind: Kind
    arguments: ast.arguments | None = None
    skipped: int = 0
    file: Path | None = None
    line: int = 0


UNKNOWN = Symbol(kind=Kind.UNKNOWN)


class Names:
    """The names in a bundle's modules.

    Args:
        source: the bundle.
        python: of the workers, whose syntax counts.
    """

    def __init__(self, source: Source, python: Version) -> None:
        self._source = source
        self._python = (python.major, python.minor)
        self.defined_in = functools.lru_cache(maxsize=None)(self._defined_in)

    def check(self, module: str) -> None:
        """Parse a module and the packages that it is in, all of which an import runs.

        Raises:
            MalformedBundle: one is not valid Python for the workers; the message has file and line.
        """
        parts = module.split(".")
        for count in range(1, len(parts) + 1):
            self.defined_in(".".join(parts[:count]))

    def find(self, module: str, name: str) -> tuple[Symbol, ...]:
        """What a name of a module may be, nothing when the module has no such name."""
        return tuple(self._find(module, name, frozenset()))

    def near(self, module: str) -> dict[str, int]:
        """Names that a module defines or imports, with their lines; functions and classes first."""
        bindings = self.defined_in(module) or Bindings()
        lines = {name: getattr(nodes[-1], "lineno", 0) for name, nodes in bindings.names.items()}
        made = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        return dict(sorted(lines.items(), key=lambda item: not isinstance(bindings.names[item[0]][-1], made)))

    def _find(self, module: str, name: str, asked: frozenset[tuple[str, str]]) -> Iterator[Symbol]:
        if (module, name) in asked:
            # Modules that import a name from each other define it nowhere; a package may import its own modules.
            if self._is_module(f"{module}.{name}"):
                yield Symbol(kind=Kind.MODULE, file=self._source.file_of(f"{module}.{name}"))
            return
        asked |= {(module, name)}
        if not self._source.owns(module):
            yield UNKNOWN
            return
        bindings = self.defined_in(module)
        if nodes := bindings.names.get(name) if bindings else None:
            for node in nodes:
                yield from self._meanings(module, name, node, asked)
            return
        if self._is_module(f"{module}.{name}"):
            yield Symbol(kind=Kind.MODULE, file=self._source.file_of(f"{module}.{name}"))
            return
        if bindings is None:
            if self._source.file_of(module) is not None:
                yield UNKNOWN  # no Python source, or in a newer Python than this one parses
            return
        found = [symbol for star in bindings.stars for symbol in self._starred(star, name, asked)]
        yield from found
        if not found and (bindings.dynamic or "__getattr__" in bindings.names):
            yield UNKNOWN

    def _starred(self, module: str, name: str, asked: frozenset[tuple[str, str]]) -> Iterator[Symbol]:
        bindings = self.defined_in(module) if self._source.owns(module) else None
        if bindings is not None:
            exported = name in bindings.exported if bindings.exported is not None else not name.startswith("_")
            if not exported and not bindings.dynamic:
                return
        yield from self._find(module, name, asked)

    def _meanings(self, module: str, name: str, node: ast.AST, asked: frozenset[tuple[str, str]]) -> Iterator[Symbol]:
        """What the statement that binds a name makes of it."""
        file = self._source.file_of(module)
        match node:
            case ast.ImportFrom():
                yield from self._imported(module, name, node, asked)
            case ast.Import():
                yield Symbol(kind=Kind.MODULE, file=file, line=node.lineno)
            case _:
                yield dataclasses.replace(_symbol(node), file=file, line=getattr(node, "lineno", 0))

    def _imported(
        self, module: str, name: str, node: ast.ImportFrom, asked: frozenset[tuple[str, str]]
    ) -> Iterator[Symbol]:
        origin = self._absolute(module, node)
        original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
        if self._source.owns(origin):
            yield from self._find(origin, original, asked)
        else:
            yield UNKNOWN

    def _absolute(self, module: str, node: ast.ImportFrom) -> str:
        """The dotted name of the module that a statement imports from."""
        if not node.level:
            return node.module or ""
        file = self._source.file_of(module)
        parts = module.split(".")
        is_package = file is not None and file.name.startswith("__init__.")
        parts = parts[: max(0, len(parts) - node.level + is_package)]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def _is_module(self, module: str) -> bool:
        return self._source.file_of(module) is not None or self._source.has_directory(module)

    def _defined_in(self, module: str) -> Bindings | None:
        """What a module binds, `None` when it has no Python source here, or one that cannot be followed."""
        file = self._source.file_of(module)
        tree = self._parsed(file) if file is not None and file.suffix == ".py" else None
        if tree is None:
            return None
        try:
            return Bindings.of(tree, lambda node: self._absolute(module, node))
        except RecursionError:
            return None

    def _parsed(self, file: Path) -> ast.Module | None:
        known = (sys.version_info.major, sys.version_info.minor)
        try:
            return parse_python(file, feature_version=min(self._python, known))
        except MalformedBundle as error:
            if self._python > known and not _WRONG_IN_ANY.search(str(error)):
                return None  # it may be syntax that only they know
            raise


_WRONG_IN_ANY = re.compile(
    r"was never closed|unmatched '|does not match opening|indent|null bytes|unexpected EOF|inconsistent use of tabs"
)
"""How a parser says what is no Python of any version."""
_NOT_CALLABLE = (ast.Constant, ast.List, ast.Dict, ast.Set, ast.Tuple, ast.JoinedStr, ast.ListComp, ast.DictComp)


def _symbol(node: ast.AST) -> Symbol:
    match node:
        case ast.FunctionDef(decorator_list=[]):
            return Symbol(kind=Kind.FUNCTION, arguments=node.args)
        case ast.AsyncFunctionDef(decorator_list=[]):
            return Symbol(kind=Kind.COROUTINE, arguments=node.args)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return UNKNOWN  # a decorator may return anything
        case ast.ClassDef():
            return _class(node)
        case ast.Assign(targets=[ast.Name()], value=value) | ast.AnnAssign(value=ast.expr() as value):
            if isinstance(value, ast.Lambda):
                return Symbol(kind=Kind.FUNCTION, arguments=value.args)
            if isinstance(value, _NOT_CALLABLE):
                return Symbol(kind=Kind.VALUE)
    return UNKNOWN


def _class(node: ast.ClassDef) -> Symbol:
    """A class, and how it is called where only it can say: no base, decorator or metaclass takes part."""
    unknown = Symbol(kind=Kind.CLASS)
    alone = all(isinstance(base, ast.Name) and base.id == "object" for base in node.bases)
    if node.decorator_list or node.keywords or not alone:
        return unknown
    arguments = ast.arguments(posonlyargs=[], args=[ast.arg(arg="self")], kwonlyargs=[], kw_defaults=[], defaults=[])
    bindings = Bindings()
    bind(node.body, bindings, certain=True)
    if "__new__" in bindings.names:
        return unknown
    match bindings.names.get("__init__"):
        case None:
            pass
        case [ast.FunctionDef(decorator_list=[]) as init]:
            arguments = init.args
        case _:
            return unknown
    return Symbol(kind=Kind.CLASS, arguments=arguments, skipped=1)
