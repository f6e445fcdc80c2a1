"""Making one report of those of several machines, in which a planned cell that no report has is missing."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Sequence

from pytest_modelops.report.model import CellReport, CheckResult, PlannedCell, RunReport, Status

_UNREPORTED = "no report has this cell: its job did not run, was ended before it could report, or was left out here"


def merge(reports: Sequence[RunReport]) -> RunReport:
    """Return one report. Of a cell that was run more than once, the latest verdict counts.

    Args:
        reports: at least one.
    """
    oldest_first = sorted(reports, key=_started)
    by_id: dict[str, CellReport] = {}
    untouched = {cell.id: cell for report in oldest_first if report.since for cell in report.cells if not cell.selected}
    found = [(_time(cell.taken or report.started), cell) for report in oldest_first for cell in report.cells]
    for _, cell in sorted(found, key=lambda one: one[0]):  # a cell that was taken is as old as the run that it is from
        if not cell.selected and not cell.ran:
            continue  # left to another machine
        if cell.id not in by_id or cell.status is not Status.NOT_RUN:
            by_id[cell.id] = cell
    planned = _planned(oldest_first)
    begin = _started(oldest_first[0])
    end = max(_started(report) + datetime.timedelta(seconds=report.seconds) for report in reports)
    left_out = {left.id: left for report in oldest_first for left in report.left_out if left.id not in planned}
    return RunReport(
        started=oldest_first[0].started,
        seconds=(end - begin).total_seconds(),
        host={name: _joined(report.host.get(name, "") for report in oldest_first) for name in _names(oldest_first)},
        configuration=_joined(report.configuration or "" for report in oldest_first) or None,
        backend=_joined(report.backend for report in oldest_first),
        cells=tuple(by_id.get(one.id) or untouched.get(one.id) or _missing(one) for one in planned.values()),
        left_out=tuple(left_out.values()),
        since=_joined(report.since or "" for report in oldest_first) or None,
    )


def _started(report: RunReport) -> datetime.datetime:
    return _time(report.started)


def _time(started: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(started.replace("Z", "+00:00"))


def _planned(reports: Iterable[RunReport]) -> dict[str, PlannedCell]:
    """Return all planned cells by id, in the plan's order."""
    found: dict[str, PlannedCell] = {}
    for report in reports:
        own = map(PlannedCell.of_report, report.cells)
        for cell in (*report.planned, *own):
            found.setdefault(cell.id, cell)
    return found


def _missing(cell: PlannedCell) -> CellReport:
    check = CheckResult(name="report", status=Status.MISSING, message=_UNREPORTED)
    planned = {field.name: getattr(cell, field.name) for field in dataclasses.fields(cell)}
    return CellReport(**planned, checks=(check,))


def _names(reports: Iterable[RunReport]) -> list[str]:
    return list(dict.fromkeys(name for report in reports for name in report.host))


def _joined(values: Iterable[str]) -> str:
    """Return the values that machines have, each once."""
    return ", ".join(dict.fromkeys(filter(None, values)))
