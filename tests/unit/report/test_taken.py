"""A cell whose results are from an earlier run, in every report: seen as passed then, and never as run now."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.report import github, html, markdown, terminal
from pytest_modelops.report.comparing import compare
from pytest_modelops.report.merging import merge
from pytest_modelops.report.model import CellReport, RunReport, Status
from pytest_modelops.report.paper import text
from pytest_modelops.report.verdict import sentence
from tests.unit.report import made

THEN = "2026-11-19T08:00:00+00:00"
BUILT = {"python": "3.12.1", "dask": "2024.10.0", "reused": False, "location": "/cache/environments/py3.12"}


def taken(python: str = "3.12", **fields: Any) -> CellReport:
    return dataclasses.replace(made.cell(python, environments=(BUILT,)), taken=THEN, **fields)


@pytest.fixture
def report() -> RunReport:
    ran = dataclasses.replace(made.cell("3.13"), not_taken=f"bundle seir changed since the run of {THEN}")
    return made.run(taken(), ran, since="main")


def test_the_terminal_says_what_was_taken_and_why_the_rest_was_not(report: RunReport) -> None:
    for unicode, passed in ((True, "✓"), (False, "ok")):
        shown = text(terminal.matrix(report, width=100, unicode=unicode))
        assert f"3.12          =\n3.13          {passed}\n" in shown
        assert "= taken\n" in shown
        assert f"not run, taken from the run of {THEN}: py3.12-dask2024.10.0\n" in shown
        reason = f"run, since bundle seir changed since the run of {THEN}: py3.13-dask2024.10.0"
        assert reason in " ".join(shown.split())
        assert "2 cells in 41 s: 1 taken, 1 passed\n" in shown, "and its environment was not built in this run"


def test_the_other_reports_say_it_too(report: RunReport, tmp_path: Path) -> None:
    verdict = "All 2 cells passed; 1 taken from an earlier run."
    assert sentence(report) == verdict
    shown = markdown.render(report)
    assert verdict in shown
    assert f"| 3.12 | 2024.10.0 | ✅ taken | from the run of {THEN} |" in shown
    assert "only what changes since main can have touched" in shown
    page = html.render(report)
    assert verdict in page
    assert f"Not run: its results are from the run of {THEN}." in page
    assert f"Run, since bundle seir changed since the run of {THEN}." in page
    assert 'data-status="taken"' in page
    assert "only what changes since main can have touched" in page
    assert not [*github.commands(report, tmp_path)]
    github.append_summary(report, tmp_path / "summary.md")
    assert verdict in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert RunReport.from_json(report.to_json()) == report


def test_a_part_of_a_cell_is_taken_as_a_part() -> None:
    checks = (made.check("start"), made.check("lambda", Status.NOT_RUN, selected=False))
    report = made.run(taken(checks=checks))
    assert "3.12          = 1/2\n" in text(terminal.matrix(report, width=100, unicode=True))
    assert sentence(report) == "The cell passed, each only in part; 1 taken from an earlier run."


def test_merged_a_taken_cell_is_there_and_as_old_as_its_own_run() -> None:
    early, late = "2026-11-19T09:00:00+00:00", "2026-11-19T10:00:00+00:00"
    planned = made.run(taken()).cells
    alone = merge([made.run(*planned, started=late)])
    assert (alone.cells[0].taken, alone.cells[0].status) == (THEN, Status.PASSED)
    broken = made.broken("3.12")
    for order in ((0, 1), (1, 0)):
        reports = [made.run(broken, started=early), made.run(taken(), started=late)]
        assert merge([reports[number] for number in order]).cells == (broken,), "which was run later than it"


def test_merged_a_cell_that_no_change_has_touched_is_not_missing() -> None:
    left = dataclasses.replace(made.cell("3.13", "2024.10.0", made.check("start", Status.NOT_RUN)), selected=False)
    assert merge([made.run(made.cell("3.12"), left)]).cells[1].status is Status.MISSING
    merged = merge([made.run(made.cell("3.12"), left, since="main")])
    assert (merged.cells[1], merged.complete, merged.since) == (left, True, "main")
    ran = made.cell("3.13")
    assert merge([made.run(made.cell("3.12"), left, since="main"), made.run(ran)]).cells[1] == ran


def test_a_baseline_sees_no_slower_cell_in_one_that_was_not_run() -> None:
    quick = dataclasses.replace(made.cell("3.12"), checks=(made.check("start", seconds=1.0),))
    slow = taken(checks=(made.check("start", seconds=60.0),))
    assert compare(made.run(quick), made.run(slow)).changes == ()
    assert [one.change.value for one in compare(made.run(made.broken("3.12")), made.run(slow)).changes] == ["fixed"]
