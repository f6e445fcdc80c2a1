"""Entries of `known-broken`: what a check ends with that one matches, and how reports show it."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from pytest_modelops.report import github, html, markdown
from pytest_modelops.report.changes import Change
from pytest_modelops.report.comparing import compare
from pytest_modelops.report.known import KnownBreak
from pytest_modelops.report.model import CellReport, Status
from pytest_modelops.report.verdict import sentence
from tests.unit.report.made import broken, cell, check, run

DAY = datetime.date(2027, 3, 1)
AFTER = DAY + datetime.timedelta(days=1)
ENTRY = KnownBreak(
    cell="py3.14-*", check="lambda", reason="no 3.14 yet", link="https://issues.example/1", until=DAY, place="x[0]"
)
P, F, T, K = Status.PASSED, Status.FAILED, Status.TIMED_OUT, Status.KNOWN_BROKEN


@pytest.mark.parametrize(
    ("status", "today", "judged"),
    [
        (F, DAY, K),
        (T, DAY, K),
        (F, AFTER, F),
        (T, AFTER, T),
        (P, DAY, F),
        (P, AFTER, F),
        *((other, DAY, other) for other in Status if other not in {P, F, T}),
    ],
)
def test_what_a_known_break_ends_with(status: Status, today: datetime.date, judged: Status) -> None:
    found, message = ENTRY.judge(status, "it broke", today)
    assert found is judged
    assert (ENTRY.link in message) is (status in {P, F, T})
    assert ("it broke" in message) is (status is not P)
    if judged is K is not status:
        assert message.splitlines()[0] == "no 3.14 yet (https://issues.example/1), until 2027-03-01"
    elif status in {P, F, T}:
        assert "x[0]" in message, "what to change"


@pytest.mark.parametrize(
    ("pattern", "cell_id", "name", "label", "matches"),
    [
        ("lambda", "py3.14-dask1", "lambda", "lambda", True),
        ("lambda", "py3.13-dask1", "lambda", "lambda", False),
        ("handshake", "py3.14-dask1", "handshake", "handshake[seir]", True),
        ("handshake[seir]", "py3.14-dask1", "handshake", "handshake[seir]", True),
        ("handshake[seir]", "py3.14-dask1", "handshake", "handshake[numbers]", False),
    ],
)
def test_which_checks_an_entry_matches(pattern: str, cell_id: str, name: str, label: str, *, matches: bool) -> None:
    entry = KnownBreak(cell="py3.14-*", check=pattern, reason="r", link="l")
    assert entry.matches(cell_id, name, label) is matches


def known() -> CellReport:
    status, message = ENTRY.judge(F, "it broke", DAY)
    blocked = check("aggregation", Status.BLOCKED, "blocked by lambda", blocked_by="lambda")
    return cell("3.14", "2024.10.0", check("start"), check("lambda", status, message), blocked)


def test_reports_show_known_breaks_apart_with_reason_and_link() -> None:
    report = run(cell(), broken(), known())
    assert report.cells[2].status is K
    assert run(cell(), known()).complete
    assert sentence(run(cell(), known())) == "1 of 2 cells passed; 1 known broken."
    assert sentence(report) == "1 of 3 cells broken, with Python 3.13; lambda failed; 1 known broken."
    text = markdown.render(report)
    assert (
        "| 3.14 | 2024.10.0 | ⚠️ `lambda` known broken | no 3.14 yet (https://issues.example/1), until 2027-03-01 |"
        in text
    )
    page = html.render(report)
    assert '(<a href="https://issues.example/1" rel="noopener">https://issues.example/1</a>), until 2027-03-01' in page
    assert page.index(">Broken <") < page.index(">Known to be broken <") < page.index(">Passed <")
    assert len(list(github.commands(report, Path("/")))) == 1


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        pytest.param(broken("3.14"), known(), None, id="somebody wrote the entry"),
        pytest.param(known(), known(), None, id="as before"),
        pytest.param(known(), cell("3.14"), Change.FIXED, id="fixed, and the entry is gone"),
        pytest.param(known(), broken("3.14"), Change.NEWLY_BROKEN, id="the entry has expired"),
    ],
)
def test_a_known_break_beside_a_baseline(old: CellReport, new: CellReport, change: Change | None) -> None:
    assert [one.change for one in compare(run(old), run(new)).changes] == ([change] if change else [])
