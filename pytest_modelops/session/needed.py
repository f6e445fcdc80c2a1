"""Which of the user's test files a matrix run collects: those that mention a cell, or import a module that does.

A file that has nothing to do with cells is not imported, so that what is wrong in it, or what its import does, is of no
importance to the matrix. Whoever reads a file's text for its meaning errs; this errs towards collecting.
"""

from __future__ import annotations

import inspect
import keyword
import re
from pathlib import Path

import pytest

from pytest_modelops import fixtures
from pytest_modelops.session.sources import Sources, below

_MENTION = "modelops_"
"""Part of the fixture's name, and of each marker's and hook's."""
_WORD = re.compile(r"\b[^\W\d]\w*\b")


class Needed:
    """Answers for one session."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._root = session.config.rootpath
        self._sources = Sources(self._root)
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
        return any(fixtures.NAME in self._sources.read(file) for file in above) or any(
            self._leads_to_a_cell(file, self._session) for file in below(path)
        )

    def _leads_to_a_cell(self, file: Path, node: pytest.Collector) -> bool:
        """Return whether a file, or one that it imports, names one of ours or a fixture that is built on a cell."""
        texts = [self._sources.read(one) for one in self._sources.with_imported(file)]
        if any(_MENTION in text for text in texts):
            return True

        def test() -> None:
            """Stand for a test that asks for each name in these files."""

        words = {word for text in texts for word in _WORD.findall(text) if not keyword.iskeyword(word)}
        parameters = [inspect.Parameter(word, inspect.Parameter.KEYWORD_ONLY) for word in sorted(words)]
        test.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        manager = self._session._fixturemanager  # noqa: SLF001
        return fixtures.NAME in manager.getfixtureinfo(node, test, None).names_closure  # type: ignore[arg-type]
