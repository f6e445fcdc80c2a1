"""The table of cells, with Pythons down and Dasks across; a list of the cells that do not fit; and a legend.

Decides how a status is shown. Messages and commands are the business of `terminal.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from packaging.version import InvalidVersion, Version

from pytest_modelops.report.model import CellReport, CheckResult, Status
from pytest_modelops.report.paper import (
    INDENT,
    Line,
    Paper,
    Segment,
    Style,
    apart,
    blocks,
    columns,
    joined,
    padded,
    trimmed,
    widest,
)


class Mark(NamedTuple):
    """How a status is shown. All marks differ without colour, and only that of `PASSED` looks like success."""

    unicode: str
    ascii: str
    text: str
    style: Style


MARKS: Mapping[Status, Mark] = {
    Status.PASSED: Mark("✓", "ok", "passed", Style.GOOD),
    Status.FAILED: Mark("✗", "X", "failed", Style.BAD),
    Status.TIMED_OUT: Mark("T", "T", "timed out", Style.BAD),
    Status.BLOCKED: Mark("!", "!", "blocked", Style.BAD),
    Status.UNAVAILABLE: Mark("?", "?", "unavailable", Style.WARN),
    Status.SKIPPED: Mark("s", "s", "skipped", Style.WARN),
    # Not "." in ASCII: in pytest's output that is a test that passed.
    Status.NOT_RUN: Mark("·", "~", "not run", Style.WARN),
}
"""By status of a check; for cells, use `mark_of`."""
_IN_PART = Mark("✓", "ok", "passed in part", Style.WARN)
_NOT_PLANNED = Mark("–", "-", "not planned", Style.DIM)

_GAPS = (3, 2)
"""Spaces between columns: in the roomy form and in the tight one."""
_CHECK = 20
"""How many columns of a check's name the tight form shows; the longest built-in name has 18."""


def mark_of(cell: CellReport) -> Mark:
    """Return how a cell is shown; one in which not all checks ran does not look like one that passed."""
    if cell.status is Status.PASSED and len(cell.ran) < len(cell.checks):
        return _IN_PART
    return MARKS[cell.status]


def cause_of(cell: CellReport) -> CheckResult | None:
    """Return the check that gave a cell its status, if the cell did not pass."""
    if cell.broken:
        return cell.broken
    same = (check for check in cell.checks if check.status is cell.status)
    return next((check for check in same if check.message or check.status is not Status.NOT_RUN), None)


class Table:
    """The cells of a run, laid out on paper."""

    def __init__(self, cells: Sequence[CellReport], paper: Paper) -> None:
        self.cells = cells
        self.paper = paper
        self.grid: dict[tuple[str, str], CellReport] = {}
        self.others: list[CellReport] = []
        for cell in cells:
            # A skew cell has no place in the table, and no cell may hide another one with the same place.
            if cell.skew or (cell.python, cell.dask) in self.grid:
                self.others.append(cell)
            else:
                self.grid[cell.python, cell.dask] = cell
        self.pythons = sorted({python for python, _ in self.grid}, key=_by_version)
        self.dasks = sorted({dask for _, dask in self.grid}, key=_by_version)

    def lines(self) -> list[Line]:
        """Return the table, the cells that have no place in it, and the legend; or a list if no table fits."""
        if not self.cells:
            return [(Segment("no cell was planned", Style.WARN),)]
        parts = self._blocks()
        gaps = bool(parts) and len(self.grid) < len(self.pythons) * len(self.dasks)
        return apart([*parts, self._listed(self.others if parts else self.cells), self._legend(gaps=gaps)])

    def _blocks(self) -> list[list[Line]]:
        """Return the table, split into blocks of columns if it is too wide; nothing if one column is too wide."""
        if not self.grid:
            return []
        left = [Segment("Python", Style.DIM), *map(Segment, self.pythons)]
        between = [Segment("   Dask ", Style.DIM), *(Segment("") for _ in self.pythons)]
        room = self.paper.width - widest(left) - widest(between)
        by_dask = {dask: [self.grid.get((python, dask)) for python in self.pythons] for dask in self.dasks}
        # From the roomiest form to the tightest; if none fits as a whole, the tightest is split into blocks.
        for full, gap in itertools.product((True, False), _GAPS):
            shown = {
                dask: [Segment(dask), *(self._look(cell, full=full) for cell in cells)]
                for dask, cells in by_dask.items()
            }
            widths = {dask: widest(column) for dask, column in shown.items()}
            fits = max(widths.values()) <= room
            cut = blocks(widths, gap, room)
            if fits and len(cut) == 1:
                break
        if not fits:
            return []
        table: list[list[Line]] = []
        for block in cut:
            parts = [padded(left), padded(between), *(padded(shown[dask], gap) for dask in block)]
            table.append([trimmed(row) for row in zip(*parts, strict=True)])
        return table

    def _listed(self, cells: Sequence[CellReport]) -> list[Line]:
        """Return a line for each cell: its id, and what the table would show."""
        lines: list[Line] = []
        for cell, aligned in zip(cells, padded([Segment(cell.id) for cell in cells], _GAPS[0]), strict=True):
            alone = Segment(cell.id + " " * _GAPS[0])
            looks = [self._look(cell, full=full) for full in (True, False)]
            for name, look in itertools.product((aligned, alone), looks):
                if columns(name.text + look.text) <= self.paper.width:
                    lines.append((name, look))
                    break
            else:
                lines.extend([(Segment(cell.id),), (Segment(" " * INDENT), looks[-1])])
        return lines

    def _legend(self, *, gaps: bool) -> list[Line]:
        """Explain the symbols that occur, except those for passed and failed."""
        occur = {mark_of(cell) for cell in self.cells} - {MARKS[Status.PASSED], MARKS[Status.FAILED]}
        if gaps:
            occur.add(_NOT_PLANNED)
        marks = [mark for mark in (*MARKS.values(), _NOT_PLANNED) if mark in occur]
        entries = [f"{self._symbol(mark)} {mark.text}" for mark in marks]
        if _IN_PART in occur:
            entries.append(f"{self._symbol(_IN_PART)} n/m only n of m checks were run")
        if not entries:
            return []
        return self.paper.flow(joined([Segment(entry, Style.DIM) for entry in entries]), indent=0)

    def _look(self, cell: CellReport | None, *, full: bool) -> Segment:
        """Return what the table shows for a cell; `full` has the check's bundle and whole name."""
        mark = mark_of(cell) if cell else _NOT_PLANNED
        symbol = self._symbol(mark)
        if cell is None or mark is MARKS[Status.PASSED]:
            return Segment(symbol, mark.style)
        if mark is _IN_PART:
            return Segment(f"{symbol} {len(cell.ran)}/{len(cell.checks)}", mark.style)
        if not cell.selected and cell.status is Status.NOT_RUN:
            return Segment(symbol, Style.DIM)
        cause = cause_of(cell)
        if cause is None:
            return Segment(f"{symbol} {mark.text}", mark.style)
        # Users' tests are named by their node ids, and the table has room for the last part.
        check_name = self.paper.clean((cause.label if full else cause.name).rpartition("::")[2])
        return Segment(f"{symbol} {check_name if full else self.paper.cut(check_name, _CHECK)}", mark.style)

    def _symbol(self, mark: Mark) -> str:
        return mark.unicode if self.paper.unicode else mark.ascii


def _by_version(version: str) -> tuple[bool, Version, str]:
    """Sort key: versions in their order, then other texts (`latest`, if no index could be asked)."""
    try:
        return False, Version(version), version
    except InvalidVersion:
        return True, Version("0"), version
