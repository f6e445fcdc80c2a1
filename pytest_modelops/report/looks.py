"""How results are looked at: the mark of each status, the grid of the cells, what broke. For every kind of report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from packaging.version import InvalidVersion, Version

from pytest_modelops.report.model import CellReport, CheckResult, Status
from pytest_modelops.report.paper import Style


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
    Status.MISSING: Mark("m", "m", "missing", Style.BAD),
    Status.KNOWN_BROKEN: Mark("k", "k", "known broken", Style.WARN),
}
"""By status of a check; for cells, use `mark_of`."""
TAKEN = Mark("=", "=", "taken", Style.GOOD)
"""Passed in an earlier run, whose results are taken."""
IN_PART = Mark("✓", "ok", "passed in part", Style.WARN)
NOT_PLANNED = Mark("–", "-", "not planned", Style.DIM)


def mark_of(cell: CellReport) -> Mark:
    """Return how a cell is shown; one that was not run, or only in part, does not look like one that passed."""
    if cell.taken is not None and cell.status is Status.PASSED:
        return TAKEN
    if is_in_part(cell):
        return IN_PART
    return MARKS[cell.status]


def is_in_part(cell: CellReport) -> bool:
    """Whether a cell passed, with some of its checks only."""
    return cell.status is Status.PASSED and len(cell.ran) < len(cell.checks)


def mark_of_check(check: CheckResult) -> Mark:
    return MARKS[check.status]


def cause_of(cell: CellReport) -> CheckResult | None:
    """Return the check that gave a cell its status, if the cell did not pass."""
    if cell.broken or cell.status is Status.PASSED:
        return cell.broken
    same = (check for check in cell.checks if check.status is cell.status)
    return next((check for check in same if check.message or check.status is not Status.NOT_RUN), None)


class Grid:
    """The cells of a run with Pythons down and Dasks across.

    Attributes:
        at: by Python and Dask.
        others: cells that have no place there: skew cells, rolling upgrades, and those whose place another cell has.
        pythons, dasks: the axes, in the order of versions.
    """

    def __init__(self, cells: Sequence[CellReport]) -> None:
        self.at: dict[tuple[str, str], CellReport] = {}
        self.others: list[CellReport] = []
        for cell in cells:
            if cell.skew or cell.rolling or (cell.python, cell.dask) in self.at:
                self.others.append(cell)
            else:
                self.at[cell.python, cell.dask] = cell
        self.pythons = sorted({python for python, _ in self.at}, key=by_version)
        self.dasks = sorted({dask for _, dask in self.at}, key=by_version)

    def rows(self) -> Iterator[tuple[str, list[CellReport | None]]]:
        """Yield each Python with its cells, one for each Dask; `None` where no cell was planned."""
        for python in self.pythons:
            yield python, [self.at.get((python, dask)) for dask in self.dasks]

    @property
    def has_gaps(self) -> bool:
        return len(self.at) < len(self.pythons) * len(self.dasks)


def by_version(version: str) -> tuple[bool, Version, str]:
    """Sort key: versions in their order, then other texts (`latest`, if no index could be asked)."""
    try:
        return False, Version(version), version
    except InvalidVersion:
        return True, Version("0"), version
