"""What a test's report carries of its cell: every result and every fact once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_modelops.matrix.cell import Cell, PythonVersion, Versions
from pytest_modelops.report.model import CellReport, CheckResult, Status
from pytest_modelops.session.execution import Running
from pytest_modelops.session.reporting import Reporting


class Live:
    """A cell with results."""

    def __init__(self) -> None:
        self.cell = Cell.uniform(Versions(PythonVersion.parse("3.12"), None, "latest"))
        self.id = self.cell.id
        self.checks = SimpleNamespace(results={})
        self.lifecycle = SimpleNamespace(unreported=[])
        self.facts: dict[str, Any] = {}
        self.seconds = 0.0

    def pass_(self, *names: str) -> None:
        self.checks.results |= {name: CheckResult(name=name, status=Status.PASSED) for name in names}

    def report(self) -> CellReport:
        self.seconds += 1
        checks = tuple(self.checks.results.values())
        return CellReport(
            id=self.id, python="3.12", dask="latest", seconds=self.seconds, checks=checks, observed=self.facts
        )


@pytest.fixture
def live() -> Live:
    return Live()


@pytest.fixture
def run(live: Live) -> Any:
    return SimpleNamespace(cell_of=lambda nodeid: live.id if "[" in nodeid else None, cells={live.id: live}, checks=[])


def logged(running: Running, when: str = "call", nodeid: str = "test_it[cell]") -> Any:
    report: Any = SimpleNamespace(nodeid=nodeid, when=when, failed=False)
    running.pytest_runtest_logreport(report)
    return report


def test_results_and_facts_travel_once(live: Live, run: Any) -> None:
    running = Running(run)
    live.pass_("resolve", "install")
    live.facts = {"client": {"pid": 1}}
    news = logged(running).modelops_news
    assert [check["name"] for check in news["checks"]] == ["resolve", "install"]
    assert (news["facts"]["observed"], news["facts"]["checks"]) == (live.facts, [])
    live.pass_("start")
    news = logged(running).modelops_news
    assert ([check["name"] for check in news["checks"]], news["facts"]) == (["start"], None)
    live.pass_("start")  # a new result of the same check
    live.facts = {}
    news = logged(running).modelops_news
    assert ([check["name"] for check in news["checks"]], news["facts"]["observed"]) == (["start"], {})
    assert logged(running, "teardown").modelops_news == {"id": live.id, "seconds": 4, "checks": [], "facts": None}


def test_a_report_without_a_cell_and_one_of_a_crash_carry_nothing(live: Live, run: Any) -> None:
    running = Running(run)
    assert not hasattr(logged(running, nodeid="test_other"), "modelops_news")
    assert not hasattr(logged(running, "???"), "modelops_news")
    assert hasattr(logged(running, "setup"), "modelops_news")


def test_the_controller_merges_what_the_workers_publish(live: Live, run: Any) -> None:
    reporting = Reporting(run, cast("Any", None))
    for names in (["resolve"], ["install"]):  # the second worker continues where the first crashed
        running = Running(run)
        live.checks.results.clear()
        live.pass_(*names)
        reporting.pytest_runtest_logreport(logged(running))
    found = reporting._cells[live.id]
    assert [check.name for check in found.checks] == ["resolve", "install"]
    assert found.seconds == 2
