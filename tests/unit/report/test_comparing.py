"""A run beside an earlier one: what broke since, which packages drifted, and what is only noise."""

from __future__ import annotations

import dataclasses
import json

import pytest

from pytest_modelops.report import html, markdown
from pytest_modelops.report import json as report_json
from pytest_modelops.report.changes import Change, Drift
from pytest_modelops.report.comparing import compare
from pytest_modelops.report.model import CellReport, RunReport, Status
from pytest_modelops.report.paper import text
from pytest_modelops.report.terminal import matrix
from pytest_modelops.report.verdict import sentence
from tests.unit.report.made import broken, cell, check, run

OLD, NEW = "2026.7.1", "2026.8.0"
MSGPACK = {"msgpack": "1.2.0"}


def compared(old: RunReport, new: RunReport) -> RunReport:
    return dataclasses.replace(new, comparison=compare(old, new))


def changes(old: list[CellReport], new: list[CellReport]) -> list[tuple[str, Change, str | None]]:
    return [(one.id, one.change, one.check) for one in compare(run(*old), run(*new)).changes]


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        pytest.param(cell("3.13"), cell("3.13"), None, id="passes as before"),
        pytest.param(cell("3.13"), broken(), Change.NEWLY_BROKEN, id="broke"),
        pytest.param(broken(), broken(message="another text"), Change.STILL_BROKEN, id="at the same check"),
        pytest.param(broken(name="start"), broken(name="lambda"), Change.STILL_BROKEN, id="comes further than before"),
        pytest.param(
            cell("3.13", "2024.10.0", check("start"), check("lambda"), check("runtime", Status.FAILED, "x")),
            broken(name="lambda"),
            Change.NEWLY_BROKEN,
            id="a check broke that passed, though the cell was broken",
        ),
        pytest.param(broken(), cell("3.13"), Change.FIXED, id="fixed"),
        pytest.param(
            cell("3.13", "2024.10.0", check("start", Status.NOT_RUN)), broken(), Change.NEW, id="was never judged"
        ),
        pytest.param(
            cell("3.13"), cell("3.13", "2024.10.0", check("start", Status.NOT_RUN)), None, id="did not run this time"
        ),
    ],
)
def test_what_became_of_a_cell(old: CellReport, new: CellReport, change: Change | None) -> None:
    assert [found for _, found, _ in changes([old], [new])] == ([change] if change else [])


def test_cells_come_and_go() -> None:
    found = changes([cell(), cell("3.11", "1.0"), cell("3.11", "2.0")], [cell(), broken("3.14"), cell("3.10")])
    assert found == [
        ("py3.14-dask2024.10.0", Change.NEW, "lambda"),
        ("py3.10-dask2024.10.0", Change.NEW, None),
        ("py3.11-dask1.0", Change.GONE, None),
        ("py3.11-dask2.0", Change.GONE, None),
    ]


def upgrade(*newly: CellReport) -> RunReport:
    """`latest` has moved on: six cells, some of them broken now, in which Dask and another package drifted."""
    pythons = ("3.11", "3.12", "3.13")
    before = [cell(python, dask) for python in pythons for dask in ("2024.10.0", OLD)]
    now = {(python, dask): cell(python, dask) for python in pythons for dask in ("2024.10.0", NEW)}
    return compared(run(*before), run(*{**now, **{(one.python, one.dask): one for one in newly}}.values()))


def test_when_latest_moves_on_its_cells_are_compared_and_the_verdict_names_the_upgrade() -> None:
    report = upgrade(broken("3.13", NEW, lock=MSGPACK))
    assert report.comparison is not None
    (change,) = report.comparison.changes
    assert (change.id, change.was, change.change) == (f"py3.13-dask{NEW}", f"py3.13-dask{OLD}", Change.NEWLY_BROKEN)
    assert change.drift == (Drift("dask", OLD, NEW), Drift("msgpack", "1.1.0", "1.2.0"))
    assert report.comparison.suspects == (Drift("msgpack", "1.1.0", "1.2.0"),), "Dask drifted in cells that pass, too"
    assert sentence(report) == (
        f"Upgrade to Dask {NEW}: 1 of 6 cells newly broken; likely cause: msgpack 1.1.0 → 1.2.0."
    )


def test_the_upgrade_itself_is_no_likely_cause() -> None:
    red = [broken(python, NEW, lock=MSGPACK) for python in ("3.11", "3.12", "3.13")]
    assert sentence(upgrade(*red)) == (
        f"Upgrade to Dask {NEW}: 3 of 6 cells newly broken, all with Dask {NEW}; likely cause: msgpack 1.1.0 → 1.2.0."
    )


def test_the_verdict_says_what_the_newly_broken_cells_share() -> None:
    red = [
        broken("3.12", "2024.10.0", worker="3.13", lock=MSGPACK),
        broken("3.11", "2024.10.0", worker="3.13", lock=MSGPACK),
    ]
    before = [cell(), cell("3.13", "2024.8.0"), *(cell(one.python, one.dask, worker="3.13") for one in red)]
    report = compared(run(*before), run(cell(), cell("3.13", "2024.8.0"), *red))
    assert sentence(report) == (
        "2 of 4 cells newly broken, both with roles that differ in their versions; likely cause: msgpack 1.1.0 → 1.2.0."
    )


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ([cell()], [cell()], "Nothing newly broken in 1 cell."),
        ([cell(), broken()], [cell(), broken()], "Nothing newly broken in 2 cells; 1 still broken."),
        (
            [broken(), broken("3.14")],
            [cell("3.13"), broken("3.14")],
            "Nothing newly broken in 2 cells; 1 still broken; 1 fixed.",
        ),
        (
            [cell()],
            [cell(), broken("3.13"), cell("3.14")],
            "Nothing newly broken in 3 cells; 1 new and broken; 1 new.",
        ),
        ([cell(), cell("3.11", "1.0")], [broken("3.12")], "1 of 1 cell newly broken; 1 gone."),
    ],
)  # fmt: skip
def test_the_verdict_against_a_baseline(old: list[CellReport], new: list[CellReport], verdict: str) -> None:
    assert sentence(compared(run(*old), run(*new))) == verdict


def timed(factors: list[float], seconds: float = 10.0) -> list[CellReport]:
    return [
        cell(f"3.{number}", "1", check("install", seconds=100 * factor), check("lambda", seconds=seconds * factor))
        for number, factor in enumerate(factors)
    ]


@pytest.mark.parametrize(
    ("factors", "slower"),
    [
        pytest.param([1, 1.1, 0.9, 1, 1, 3], [5], id="one of six"),
        pytest.param([3, 3.1, 2.9, 3, 3, 3], [], id="a slow machine"),
        pytest.param([1, 2, 0.6, 1.5, 0.7, 2.4], [], id="noise"),
        pytest.param([1, 2], [], id="too few cells to know the noise"),
        pytest.param([1, 3], [1], id="too few cells, and far slower"),
    ],
)
def test_slower_is_what_neither_noise_nor_the_machine_explains(factors: list[float], slower: list[int]) -> None:
    found = changes(timed([1.0] * len(factors)), timed(factors))
    assert [(cell_id, change) for cell_id, change, _ in found] == [(f"py3.{n}-dask1", Change.SLOWER) for n in slower]


def test_short_times_and_other_checks_are_not_compared() -> None:
    assert changes(timed([1.0] * 6, seconds=0.1), timed([1, 1, 1, 1, 1, 9], seconds=0.1)) == []
    assert (
        changes([cell("3.12", "1", check("lambda", seconds=1))], [cell("3.12", "1", check("start", seconds=99))]) == []
    )


def test_every_report_has_the_changes_and_the_terminal_begins_with_the_verdict() -> None:
    report = upgrade(broken("3.13", NEW, lock={"msgpack": "1.2.0", "zict": "3.0"}))
    shown = text(matrix(report, width=200, unicode=True))
    assert shown.startswith(sentence(report) + "\n")
    assert f"newly broken: py3.13-dask{NEW} at lambda; was py3.13-dask{OLD}; dask {OLD} → {NEW}, msgpack" in shown
    assert f"- newly broken at `lambda`: py3.13-dask{NEW}: `dask {OLD} → {NEW}`" in markdown.render(report)
    assert f"dask {OLD} → {NEW}, msgpack 1.1.0 → 1.2.0" in html.render(report)
    plain = json.loads(report_json.render(report))
    assert plain["verdict"] == sentence(report)
    assert RunReport.from_json(plain) == report
