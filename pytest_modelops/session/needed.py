"""Which of the user's test files a matrix run collects: those that mention a cell, or import a module that does.

A file that has nothing to do with cells is not imported, so that what is wrong in it, or what its import does, is of no
importance to the matrix. Whoever reads a file's text for its meaning errs; this errs towards collecting.
"""

from __future__ import annotations

import ast
import inspect
import keyword
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from pytest_modelops import fixtures

_MENTION = "modelops_"
"""Part of the fixture's name, and of each marker's and hook's."""
_WORD = re.compile(r"\b[^\W\d]\w*\b")
_FOREIGN = {"site-packages", "dist-packages", "node_modules"}


class Needed:
    """Answers for one session. Reads each file once."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._root = session.config.rootpath
        self._texts: dict[Path, str] = {}
        here = session.config.invocation_params.dir
        self._asked = [(here / arg.partition("::")[0]).resolve() for arg in session.config.args]

    def file(self, collector: pytest.File) -> bool:
        """Return whether a file may have tests for cells."""
        if isinstance(collector, pytest.Package):  # a module in pytest before 8
            return True
        if not isinstance(collector, pytest.Module):  # doctests, YAML: no fixture can reach them
            return False
        return self._leads_to_a_cell(collector.path, collector)

    def directory(self, path: Path) -> bool:
        """Return whether something below a directory may be needed, and with it the directory's `conftest.py`."""
        if any(asked.is_relative_to(path) for asked in self._asked):
            return True
        above = (parent / "conftest.py" for parent in path.parents if parent.is_relative_to(self._root))
        return any(fixtures.NAME in self._read(file) for file in above) or any(
            self._leads_to_a_cell(file, self._session) for file in _sources(path)
        )

    def _leads_to_a_cell(self, file: Path, node: pytest.Collector) -> bool:
        """Return whether a file, or one that it imports, names one of ours or a fixture that is built on a cell."""
        texts = [self._read(one) for one in self._with_imported(file, {})]
        if any(_MENTION in text for text in texts):
            return True

        def test() -> None:
            """Stand for a test that asks for each name in these files."""

        words = {word for text in texts for word in _WORD.findall(text) if not keyword.iskeyword(word)}
        parameters = [inspect.Parameter(word, inspect.Parameter.KEYWORD_ONLY) for word in sorted(words)]
        test.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        manager = self._session._fixturemanager  # noqa: SLF001
        return fixtures.NAME in manager.getfixtureinfo(node, test, None).names_closure  # type: ignore[arg-type]

    def _read(self, file: Path) -> str:
        if file not in self._texts:
            try:
                self._texts[file] = file.read_text(encoding="utf-8", errors="replace")
            except OSError:
                self._texts[file] = ""
        return self._texts[file]

    def _with_imported(self, file: Path, seen: dict[Path, None]) -> Iterable[Path]:
        seen[file] = None
        if file.is_relative_to(self._root) and not _FOREIGN & {*file.parts}:
            for other in self._imported(file, self._read(file)):
                if other not in seen:
                    self._with_imported(other, seen)
        return seen

    def _imported(self, file: Path, text: str) -> Iterator[Path]:
        """Yield the files of modules that a file imports, of this project or installed."""
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            return
        above = [file.parent, *(parent for parent in file.parents if parent.is_relative_to(self._root))]
        bases = list(dict.fromkeys([*above, self._root / "src", *map(Path, filter(None, sys.path))]))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found = [(bases, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                start = [file.parents[node.level - 1]] if node.level else bases
                names = ["", *(alias.name for alias in node.names)]
                found = [(start, ".".join(filter(None, [module, name]))) for name in names]
            else:
                continue
            for start, dotted in found:
                if dotted and dotted.partition(".")[0] not in sys.stdlib_module_names:
                    yield from _files_of(start, dotted)


def _files_of(bases: list[Path], dotted: str) -> Iterator[Path]:
    for base in bases:
        path = base.joinpath(*dotted.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                yield file
                return


def _sources(directory: Path) -> Iterator[Path]:
    for here, names, files in os.walk(directory):
        names[:] = [n for n in names if not n.startswith(".") and n not in _FOREIGN and n != "__pycache__"]
        if "pyvenv.cfg" in files:
            names.clear()
            continue
        yield from (Path(here, file) for file in sorted(files) if file.endswith(".py"))
