"""The table of cells, with Pythons down and Dasks across; a list of the cells that do not fit; and a legend.

Messages and commands are the business of `terminal.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from pytest_modelops.report.looks import IN_PART, MARKS, NOT_PLANNED, TAKEN, Grid, Mark, cause_of, is_in_part, mark_of
from pytest_modelops.report.model import CellReport, Status
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

_GAPS = (3, 2)
"""Spaces between columns: in the roomy form and in the tight one."""
_CHECK = 20
"""How many columns of a check's name the tight form shows; the longest built-in name has 18."""


class Table:
    """The cells of a run, laid out on paper."""

    def __init__(self, cells: Sequence[CellReport], paper: Paper) -> None:
        self.cells = cells
        self.paper = paper
        self.grid = Grid(cells)

    def lines(self) -> list[Line]:
        """Return the table, the cells that have no place in it, and the legend; or a list if no table fits."""
        if not self.cells:
            return [(Segment("no cell was planned", Style.WARN),)]
        parts = self._blocks()
        gaps = bool(parts) and self.grid.has_gaps
        return apart([*parts, self._listed(self.grid.others if parts else self.cells), self._legend(gaps=gaps)])

    def _blocks(self) -> list[list[Line]]:
        """Return the table, split into blocks of columns if it is too wide; nothing if one column is too wide."""
        if not self.grid.at:
            return []
        left = [Segment("Python", Style.DIM), *map(Segment, self.grid.pythons)]
        between = [Segment("   Dask ", Style.DIM), *(Segment("") for _ in self.grid.pythons)]
        room = self.paper.width - widest(left) - widest(between)
        by_dask = {dask: [self.grid.at.get((python, dask)) for python in self.grid.pythons] for dask in self.grid.dasks}
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
            occur.add(NOT_PLANNED)
        marks = [mark for mark in (*MARKS.values(), TAKEN, NOT_PLANNED) if mark in occur]
        entries = [f"{self._symbol(mark)} {mark.text}" for mark in marks]
        if IN_PART in occur:
            entries.append(f"{self._symbol(IN_PART)} n/m only n of m checks were run")
        if not entries:
            return []
        return self.paper.flow(joined([Segment(entry, Style.DIM) for entry in entries]), indent=0)

    def _look(self, cell: CellReport | None, *, full: bool) -> Segment:
        """Return what the table shows for a cell; `full` has the check's bundle and whole name."""
        mark = mark_of(cell) if cell else NOT_PLANNED
        symbol = self._symbol(mark)
        if cell is None or (mark in {MARKS[Status.PASSED], TAKEN} and not is_in_part(cell)):
            return Segment(symbol, mark.style)
        if is_in_part(cell):
            return Segment(f"{symbol} {len(cell.ran)}/{len(cell.checks)}", mark.style)
        if cell.status is Status.NOT_RUN and (cell.beyond_budget or not cell.selected):
            return Segment(symbol, Style.DIM)
        cause = cause_of(cell)
        if cause is None:
            return Segment(f"{symbol} {mark.text}", mark.style)
        # Users' tests are named by their node ids, and the table has room for the last part.
        check_name = self.paper.clean((cause.label if full else cause.name).rpartition("::")[2])
        return Segment(f"{symbol} {check_name if full else self.paper.cut(check_name, _CHECK)}", mark.style)

    def _symbol(self, mark: Mark) -> str:
        return mark.unicode if self.paper.unicode else mark.ascii
