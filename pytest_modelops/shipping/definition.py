"""A function within the source that it is written in, and its own part of that source.

The part is cut out by the positions of the syntax tree. It is neither dedented nor unparsed, since both change strings
that span lines. Does not know how functions are found, nor what happens to the names that they use.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_modelops.errors import NotShippable
from pytest_modelops.shipping.values import MISSING, is_plain, literal_of

Node = ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef
"""A function in a syntax tree."""


@dataclasses.dataclass(frozen=True)
class Definition:
    """Where a function is written."""

    what: str  # its name in messages
    lines: Sequence[str]  # of the file, or of the text that was given
    tree: ast.AST  # of the lines
    node: Node  # the function in the tree
    value: Any  # the function with its decorators, which its module has under its name
    function: types.FunctionType | None  # the function without decorators; `None` if it was given as text

    @property
    def name(self) -> str:
        """Its name in the module that travels."""
        return "shipped_lambda" if isinstance(self.node, ast.Lambda) else self.node.name

    @property
    def label(self) -> str:
        """Its name for people: the qualified name, or a lambda's own text."""
        if isinstance(self.node, ast.Lambda):
            return textwrap.shorten(str(ast.get_source_segment("".join(self.lines), self.node)), 60)
        return self.function.__qualname__ if self.function else self.name

    @property
    def globals(self) -> Mapping[str, Any]:
        """What its module defines; a text defines only itself."""
        return self.function.__globals__ if self.function else {self.name: self.value}

    def owns(self, value: Any) -> bool:
        """Return whether a value is defined in the same module, by its `__module__`."""
        return bool(getattr(value, "__module__", MISSING) == self.globals.get("__name__"))

    @property
    def decorators(self) -> list[ast.expr]:
        """The decorators that travel; `staticmethod` does not, it means nothing outside a class."""
        found: list[ast.expr] = getattr(self.node, "decorator_list", [])
        return [] if [ast.unparse(decorator) for decorator in found] == ["staticmethod"] else found

    def source(self, name: str) -> str:
        """Return its own source, changed to define `name`."""
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
        """Return a position of the tree as an offset in the UTF-8 of the text; columns count bytes."""
        return len("".join(self.lines[: line - 1]).encode()) + column

    def _computed_defaults(self) -> Iterator[tuple[ast.expr, str]]:
        """Yield defaults that use variables, with their values as literals: the `i` of a loop's `i=i` has changed."""
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
            if is_plain(value):
                yield default, literal_of(value)
            elif isinstance(default, ast.Name) and self.globals.get(default.id, value) is not value:
                raise NotShippable(
                    f"{self.what} has the default {default.id!r}, whose value has changed since: pass it as an argument"
                )
