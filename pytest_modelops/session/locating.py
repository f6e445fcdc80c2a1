"""Where people can act on a failed check: the line of the settings that asks for its bundle or cell.

Reports, annotations of CI systems and editors show a file and a line; a line of this package would be of no use.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.matrix.cell import Cell, Role

_TABLE = re.compile(r"\s*\[\[?\s*([\w.\"'-]+)\s*\]")
_KEY = re.compile(r"\s*(python|dask|include|exclude)\s*=")
_TEXT = re.compile(r"\"([^\"]*)\"|'([^']*)'")


class SettingsFile:
    """The lines of a file with `[tool.modelops]`. Everything falls back to the line of the table."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            self._lines = []

    def __bool__(self) -> bool:
        return bool(self._lines)

    def line_of(self, cell: Cell, bundle: Bundle | None) -> int:
        """Return the number of the line, the first being 0."""
        found = self._of_bundle(bundle) if bundle is not None else None
        return found if found is not None else self._of_cell(cell)

    def _of_bundle(self, bundle: Bundle) -> int | None:
        path = bundle.path.resolve()
        for number, _, _, texts in self._values():
            if any((self.file.parent / text).resolve() == path for text in texts):
                return number
        return None

    def _of_cell(self, cell: Cell) -> int:
        """Return the line of the matrix that names most of a cell's versions."""
        versions = [cell[role] for role in Role]
        named = {text for v in versions for text in (str(v.python), v.dask_text, v.dask_request)}
        best, most = self._table(), 0
        for number, table, key, texts in self._values():
            if table.startswith("tool.modelops.matrix") and key != "exclude" and len(named & texts) > most:
                best, most = number, len(named & texts)
        return best

    def _table(self) -> int:
        tables = [number for number, line in enumerate(self._lines) if re.match(r"\s*\[\s*tool\.modelops\b", line)]
        return tables[0] if tables else 0

    def _values(self) -> Iterator[tuple[int, str, str, set[str]]]:
        """Yield each line of our tables that has text values: its number, its table, the matrix's key, the values."""
        table = key = ""
        for number, line in enumerate(self._lines):
            if match := _TABLE.match(line):
                table, key = match[1], match[1].rpartition(".")[2]
            if match := _KEY.match(line):
                key = match[1]
            texts = {double or single for double, single in _TEXT.findall(line)}
            if texts and table.startswith("tool.modelops"):
                yield number, table, key, texts


def point_to(report: pytest.TestReport, path: Path, line: int | None) -> None:
    """Have a failure point to a place, of which the first line is 0, unless it points to code of the user's."""
    found = report.longrepr
    crash = getattr(found, "reprcrash", None)
    if crash is None or not Path(crash.path).resolve().is_relative_to(Path(__file__).resolve().parents[1]):
        return
    moved = dataclasses.replace(crash, path=str(path), lineno=(line or 0) + 1)
    found.reprcrash = moved  # type: ignore[union-attr]
    if chain := getattr(found, "chain", None):  # what travels from an xdist worker
        traceback, _, description = chain[-1]
        found.chain = [*chain[:-1], (traceback, moved, description)]  # type: ignore[union-attr]
