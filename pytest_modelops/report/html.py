"""The report as one HTML file that asks for nothing else: the verdict, the matrix, and each cell to open.

The details of a cell are rendered here, too, but parsed by the browser only when someone opens the cell, so that a
page of a thousand cells opens at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from pytest_modelops.report.changes import Drift
from pytest_modelops.report.differences import Versions, drift, nearest, passed_cells, versions_by_role
from pytest_modelops.report.looks import Grid, Mark, cause_of, mark_of, mark_of_check
from pytest_modelops.report.model import CellReport, CheckResult, RunReport, Status
from pytest_modelops.report.paper import duration
from pytest_modelops.report.upgrades import upgrades
from pytest_modelops.report.verdict import RED, sentence

_TEMPLATES = Path(__file__).with_name("templates")
_ORDER = (
    (frozenset({Status.MISSING}), "Missing"),
    (RED, "Broken"),
    (frozenset({Status.KNOWN_BROKEN}), "Known to be broken"),
    (frozenset({Status.NOT_RUN, Status.SKIPPED}), "Not run"),
    (frozenset({Status.PASSED}), "Passed"),
)
"""The groups of cells on the page: what people look for comes first."""


@dataclasses.dataclass(frozen=True)
class Bar:
    """A check on the time line of its cell; `start` and `length` in per cent of the cell's time."""

    check: CheckResult
    mark: Mark
    start: float
    length: float


@dataclasses.dataclass(frozen=True)
class Seen:
    """A cell as the page shows it.

    Attributes:
        cause: the check that gave it its status, if it did not pass.
        headline: the first line of that check's message.
        evidence: the other lines.
        near: the cell that passed whose versions are nearest, with the packages that differ from it.
    """

    cell: CellReport
    mark: Mark
    cause: CheckResult | None
    headline: str
    evidence: str
    near: CellReport | None
    changed: tuple[Drift, ...]

    @property
    def fragment(self) -> str:
        return "cell-" + quote(self.cell.id, safe="+.-_")

    @property
    def filter(self) -> str:
        """What the page's filter calls the cause: the probable one, or the check that broke; empty if none did."""
        if self.cause is None or not self.cause.status.broke:
            return ""
        probable = self.cell.probable_cause
        if probable is None:
            return self.cause.label
        return probable.cause if probable.known else f"{probable.cause}: {self.cause.label}"

    @property
    def shown(self) -> str:
        """What the matrix shows beside the symbol."""
        if self.cause is not None and self.cause.status in {Status.KNOWN_BROKEN, *RED}:
            return self.cause.label.rpartition("::")[2]
        return self.mark.text

    @property
    def bundles(self) -> list[str]:
        return sorted({check.bundle for check in self.cell.checks if check.bundle})

    @property
    def roles(self) -> list[Versions]:
        return versions_by_role(self.cell)

    @property
    def bars(self) -> list[Bar]:
        """The checks on a time line, one after the other, as they run."""
        total = sum(check.seconds for check in self.cell.checks) or 1.0
        found, at = [], 0.0
        for check in self.cell.checks:
            found.append(Bar(check, mark_of_check(check), 100 * at / total, 100 * check.seconds / total))
            at += check.seconds
        return found


def render(report: RunReport) -> str:
    """Return the page."""
    import jinja2  # most runs write no page

    passed = passed_cells(report.cells)
    cells = {cell.id: _seen(cell, passed) for cell in report.cells}
    grid = Grid(report.cells)
    groups = [(title, [one for one in cells.values() if one.cell.status in statuses]) for statuses, title in _ORDER]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["duration"] = duration
    return environment.get_template("report.html").render(
        report=report,
        verdict=sentence(report),
        upgrades=upgrades(report),
        good=report.complete,
        grid=grid,
        cells=cells,
        groups=[(title, members) for title, members in groups if members],
        statuses=dict.fromkeys(one.mark.text for one in cells.values()),
        bundles=sorted({bundle for one in cells.values() for bundle in one.bundles}),
        causes=dict.fromkeys(one.filter for one in cells.values() if one.filter),
    )


def _seen(cell: CellReport, passed: Sequence[CellReport]) -> Seen:
    cause = cause_of(cell)
    headline, _, evidence = (cause.message if cause else "").strip().partition("\n")
    near = nearest(cell, passed) if cell.status is not Status.PASSED else None
    changed = drift(near, cell) if near else ()
    return Seen(cell, mark_of(cell), cause, headline, evidence.strip("\n"), near, changed)
