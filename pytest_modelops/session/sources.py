"""Source files of a project, what they import of it, and which of its other files they name."""

from __future__ import annotations

import ast
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pytest_modelops.storage.source import syntax_tree

_FOREIGN = {"site-packages", "dist-packages", "node_modules"}
_IMPORTS = {"import_module", "__import__", "importorskip"}
"""Functions that import the module that they are given by name."""
_RUNS_FILES = {"spec_from_file_location", "SourceFileLoader", "run_path", "run_module"}
"""Functions that run a file or module which only they know."""

_LONGEST_PATH = 255
"""Characters of a string that may name a file."""


class Sources:
    """Reads each file once. What is installed is not followed.

    Args:
        root: of the project.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._texts: dict[Path, str] = {}
        self._imports: dict[Path, tuple[Path, ...]] = {}
        self._unknown: set[Path] = set()
        """Files that import what is only known when they run."""
        self._named: dict[Path, set[Path]] = {}
        """Files and directories of the project that strings in a file name."""

    def read(self, file: Path) -> str:
        """Return a file's text; empty if it cannot be read."""
        if file not in self._texts:
            try:
                self._texts[file] = file.read_text(encoding="utf-8", errors="replace")
            except OSError:
                self._texts[file] = ""
        return self._texts[file]

    def with_imported(self, *files: Path) -> list[Path]:
        """Return files and all that they import, directly or not."""
        seen: dict[Path, None] = {}
        left = list(files)
        while left:
            file = left.pop()
            if file not in seen:
                seen[file] = None
                if file.is_relative_to(self._root) and not is_foreign(file):
                    left += self._imported(file)
        return list(seen)

    def code_of(self, *files: Path) -> list[Path]:
        """Return files and what they import; where one imports what only it finds out, every Python file there is."""
        found = self.with_imported(*files)
        return found if self._unknown.isdisjoint(found) else list(dict.fromkeys([*found, *below(self._root)]))

    def that_decide(self, *files: Path) -> list[Path]:
        """Return the code of files, and what strings in it name of the project: files, and directories as a whole."""
        found = self.code_of(*files)
        data = (path for file in found for path in sorted(self._named.get(file, ())))
        return list(dict.fromkeys([*found, *data]))

    def _imported(self, file: Path) -> tuple[Path, ...]:
        if file not in self._imports:
            self._imports[file] = tuple(self._find_imported(file))
        return self._imports[file]

    def _find_imported(self, file: Path) -> Iterator[Path]:
        """Yield the files of modules that a file imports, of this project or installed."""
        try:
            tree = syntax_tree(self.read(file))
        except (SyntaxError, ValueError):
            return
        above = [file.parent, *(parent for parent in file.parents if parent.is_relative_to(self._root))]
        bases = list(dict.fromkeys([*above, self._root / "src", *map(Path, filter(None, sys.path))]))
        yield from _packages_of(file)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self._named.setdefault(file, set()).update(self._paths_in(node.value, file))
            for start, dotted in self._asked_by(node, file, bases):
                if dotted and dotted.partition(".")[0] not in sys.stdlib_module_names:
                    for whole in itertools.accumulate(dotted.split("."), "{}.{}".format):
                        yield from _files_of(start, whole)

    def _asked_by(self, node: ast.AST, file: Path, bases: list[Path]) -> list[tuple[list[Path], str]]:
        """Return the modules that a piece of code imports: the directories to look in, and the dotted name."""

        def start(level: int) -> list[Path]:
            return [file.parents[level - 1]] if level else bases

        if isinstance(node, ast.Import):
            return [(bases, alias.name) for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if any(alias.asname and alias.name in _IMPORTS | _RUNS_FILES for alias in node.names):
                self._unknown.add(file)
            names = ["", *(alias.name for alias in node.names)]
            return [(start(node.level), ".".join(filter(None, [module, name]))) for name in names]
        if isinstance(node, ast.Assign) and _is_plugins(node):
            texts = (one.value for one in ast.walk(node.value) if isinstance(one, ast.Constant))
            return [(bases, text) for text in texts if isinstance(text, str)]
        if isinstance(node, ast.Call) and (called := _name_of(node.func)) in _IMPORTS | _RUNS_FILES:
            name = next((one.value for one in node.args[:1] if isinstance(one, ast.Constant)), None)
            if called in _IMPORTS and isinstance(name, str):
                level = len(name) - len(name.lstrip("."))
                return [(start(level), name[level:])]
            self._unknown.add(file)
        return []

    def _paths_in(self, text: str, file: Path) -> Iterator[Path]:
        """Yield what a string names beside its file or in the project's directory, besides directories above it."""
        if not text.strip("./") or len(text) > _LONGEST_PATH or not text.isprintable():
            return
        for directory in {file.parent, self._root}:
            path = Path(os.path.normpath(directory / text))
            if path.is_relative_to(self._root) and path not in (self._root, *file.parents) and path.exists():
                yield path


def is_foreign(file: Path) -> bool:
    """Whether a file is installed and not the project's own."""
    return not _FOREIGN.isdisjoint(file.parts)


def below(directory: Path) -> Iterator[Path]:
    """Yield the project's Python files below a directory, and none of a virtual environment or cache."""
    for here, names, files in os.walk(directory):
        names[:] = [n for n in names if not n.startswith(".") and n not in _FOREIGN and n != "__pycache__"]
        if not {"pyvenv.cfg", "CACHEDIR.TAG"}.isdisjoint(files):
            names.clear()
            continue
        yield from (Path(here, file) for file in sorted(files) if file.endswith(".py"))


def conftests(file: Path, root: Path) -> list[Path]:
    """Return the `conftest.py` files that pytest reads for a file of tests."""
    above = [file.parent, *file.parent.parents]
    return [one for parent in above if parent.is_relative_to(root) and (one := parent / "conftest.py").is_file()]


def _name_of(function: ast.expr) -> str:
    """Return the name of a function that is called, without what it is an attribute of."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _is_plugins(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "pytest_plugins" for target in node.targets)


def _packages_of(file: Path) -> Iterator[Path]:
    """Yield the `__init__.py` of the packages that a file is in, which its import runs."""
    for parent in file.parents:
        if not (init := parent / "__init__.py").is_file():
            return
        if init != file:
            yield init


def _files_of(bases: list[Path], dotted: str) -> Iterator[Path]:
    for base in bases:
        path = base.joinpath(*dotted.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                yield file
                return
