"""`python -m pytest_modelops merge`: the reports of several machines as one, also with their logs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_modelops.errors import WrongInput
from pytest_modelops.report import directory, write
from pytest_modelops.report.changes import Change
from pytest_modelops.report.comparing import compare
from pytest_modelops.report.merging import merge
from pytest_modelops.report.model import RunReport, Status
from pytest_modelops.report.reading import found_in
from pytest_modelops.report.targets import FORMATS, JUNIT, Target, target
from pytest_modelops.report.verdict import sentence
from pytest_modelops.session.baseline import report_at


def merged(
    inputs: Sequence[Path], outputs: Sequence[str], *, baseline: Path | None, new_only: bool
) -> tuple[str, bool]:
    """Merge reports, write the result, and return its verdict, and whether the run is fine.

    Args:
        inputs: reports, or directories in which all reports are taken.
        outputs: as `--modelops-report` takes them, but for JUnit and GitHub.
        new_only: whether the run is fine if all that is broken was broken in the baseline.

    Raises:
        WrongInput: an input cannot be read, or an output has no such form.
        OSError: an output cannot be written.
    """
    targets = [_target(text) for text in outputs]
    files = [file for path in inputs for file in found_in(path)]
    if not files:
        raise WrongInput(f"there is no report in {', '.join(map(str, inputs))}")
    reports = {file: report_at(file) for file in dict.fromkeys(file.resolve() for file in files)}
    report = merge(list(reports.values()))
    if baseline is not None:
        report = dataclasses.replace(report, comparison=compare(report_at(baseline), report))
    for one in targets:
        _write(report, one, reports)
    return sentence(report), report.complete or (new_only and _as_before(report))


def _target(text: str) -> Target:
    try:
        found = target(text, Path(text).absolute())
    except ValueError as error:
        raise WrongInput(f"-o: {error}") from None
    if found.path is None or found.ending == JUNIT:
        valid = ", ".join(FORMATS)
        raise WrongInput(f"-o {text}: a merged report ends in one of {valid}, or is a directory; pytest writes JUnit")
    return found


def _write(report: RunReport, to: Target, reports: Mapping[Path, RunReport]) -> None:
    if to.path is None:
        return
    if to.ending:
        write(report, to.path)
        return
    logs: dict[str, dict[str, Path]] = {}
    for file, one in reports.items():
        for cell in one.cells:  # a path in a directory of reports is relative to it
            logs.setdefault(cell.id, {}).update({name: file.parent / path for name, path in cell.logs.items()})
    directory.write(report, to.path, logs=logs, clean=str)


def _as_before(report: RunReport) -> bool:
    if report.comparison is None:
        return False
    before = {change.id for change in report.comparison.of(Change.STILL_BROKEN)}
    others = [cell for cell in report.cells if cell.selected and cell.id not in before]
    fine = all(cell.status in {Status.PASSED, Status.KNOWN_BROKEN} or cell.beyond_budget for cell in others)
    return fine and not report.comparison.breaks
