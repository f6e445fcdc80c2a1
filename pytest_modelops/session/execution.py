"""Running the tests of a matrix run: markers, the outcome of a test in a broken cell, the end of a cell."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from _pytest.runner import runtestprotocol  # plugins that run tests themselves have no other way

from pytest_modelops import fixtures
from pytest_modelops.cell.live import LiveCell
from pytest_modelops.errors import CellBroken, TimedOut
from pytest_modelops.markers import Demand, bundles_of
from pytest_modelops.report.model import BUDGET, CellReport, CheckResult, Status
from pytest_modelops.report.news import CellNews
from pytest_modelops.session import junit
from pytest_modelops.session.collection import DEMANDS, cell_of
from pytest_modelops.session.ending import STATUS, during_body, figures_of, note_figures, outcomes, time_out
from pytest_modelops.session.item import CheckItem, check_of, will_run
from pytest_modelops.session.locating import point_to
from pytest_modelops.session.module import result_of_test
from pytest_modelops.session.run import MatrixRun, short_id
from pytest_modelops.session.trusting import FILES, TestFiles, take

BLOCKED_BY = pytest.StashKey[str]()
PHASES = ("setup", "call", "teardown")
TAKEN = "taken"
"""Stands for the status of a test whose result is from an earlier run."""
LEFT = pytest.StashKey[bool]()
"""Whether a test's teardown failed because its cell left something behind."""


class Running:
    """pytest's hooks around a test, in xdist's workers or the only process."""

    def __init__(self, run: MatrixRun) -> None:
        self.run = run
        self._checks: dict[str, list[CheckItem]] = {}
        """The selected checks of each cell."""
        self._tested: set[str] = set()
        """The cells that tests of the user's use."""
        self._coming: list[CheckItem] = []
        """The first check of each cell, until they run ahead."""
        self._published: dict[str, dict[str, CheckResult]] = {}
        self._facts: dict[str, CellReport] = {}

    @functools.cached_property
    def _files(self) -> TestFiles:
        return TestFiles(self.run.config, self.run.fingerprints)

    def _hash_files(self, item: pytest.Item) -> str:
        """Return the hash of the files of a user's test; empty if more decides about it."""
        settings = self.run.settings
        bundles = bundles_of(item, settings.file.directory, settings.bundles)
        return "" if None in bundles.values() else self._files.hash(item.path)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        tests: dict[str, dict[str, str]] = {}
        for item in session.items:
            if isinstance(item, CheckItem):
                self._checks.setdefault(item.cell.id, []).append(item)
            elif (cell := cell_of(item)) is not None:
                self._tested.add(cell.id)
                # Also without results to take: the next run compares with the files as they were imported.
                tests.setdefault(cell.id, {})[short_id(item.nodeid, cell.id)] = self._hash_files(item)
        for cell_id in self._checks.keys() | tests.keys():
            checks = [item.check for item in self._checks.get(cell_id, ())]
            live, mine = self.run.cells[cell_id], tests.get(cell_id, {})
            every = [check for check in self.run.checks if live.has(check.label)]
            take(self.run.earlier.trusted, live, checks, mine, every=every)
        self._coming = [checks[0] for checks in self._checks.values() if checks[0].cell.taken is None]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a check once, whatever plugins repeat, fork or skip tests in this hook."""
        if check_of(item) is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # the user's `filterwarnings = error` is meant for the user's code
            if not item.config.getoption("setuponly", False):
                self._look_ahead(item, nextitem)
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            runtestprotocol(item, nextitem=nextitem)
            item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
            self._leave_to_user(item.session, nextitem)
        return True

    def _look_ahead(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Have the checks of this cell, and of those that come later, run ahead; see `Ahead`."""
        self.run.ahead.resume()
        if hasattr(item.config, "workerinput"):  # an xdist worker knows no more than the next test
            known = [one for one in (item, nextitem) if isinstance(one, CheckItem) and one.cell.taken is None]
        else:
            known, self._coming = self._coming, []
        for one in known:
            checks = self._checks[one.cell.id]
            checks = checks[checks.index(one) :]  # those before may have crashed another worker
            labels = [check.check.label for check in checks if will_run(check)]
            self.run.ahead.add(one.cell, one.cell.checks.ahead_of(labels), held=one.cell.id in self._tested)

    def _leave_to_user(self, session: pytest.Session, nextitem: pytest.Item | None) -> None:
        """Have no check run while a test of the user's does."""
        cell = cell_of(nextitem)
        if cell is not None and cell.taken is not None:
            return
        if nextitem is not None and check_of(nextitem) is None and not (session.shouldfail or session.shouldstop):
            self.run.ahead.pause()

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item) -> bool | None:
        """Take over from pytest-timeout, which would end a check before its own deadline."""
        return True if check_of(item) is not None else None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Block a test if a fixture of the user's finds the cell broken."""
        cell, budget = cell_of(item), self.run.budget
        if cell is not None and cell.taken is not None:
            raise pytest.skip.Exception(f"taken from the run of {cell.taken}", _use_item_location=True)
        if cell is not None and budget is not None and not budget.admits(cell.id):
            item.stash[STATUS] = Status.NOT_RUN
            raise pytest.skip.Exception(budget.reason, _use_item_location=True)
        try:
            return (yield)
        except TimedOut as error:
            time_out(item, error)
            raise
        except CellBroken as broken:
            if cell is None:
                raise
            self._end_blocked(item, cell, broken)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Do what the markers ask for, then run the test; a broken cell is not a failed test."""
        cell = cell_of(item)
        if cell is None:
            return (yield)
        try:
            demands = item.stash.get(DEMANDS, [])
            if demands:
                cell.checks.require("start")
            for demand in demands:
                _perform(item, demand, cell)
            with self._turn(item, cell), during_body(item, cell):
                outcome = yield
        except TimedOut as error:
            time_out(item, error)
            raise
        except CellBroken as broken:
            self._end_blocked(item, cell, broken)
        check = check_of(item)
        if check is not None:
            self._end_as(item, cell.checks.run(check.label))
        return outcome

    def _turn(self, item: pytest.Item, cell: LiveCell) -> contextlib.AbstractContextManager[None]:
        check = check_of(item)
        return self.run.ahead.turn(cell, check.label) if check is not None else contextlib.nullcontext()

    def _end_blocked(self, item: pytest.Item, cell: LiveCell, broken: CellBroken) -> NoReturn:
        """End a test that the cell's state prevents: skip it if a test of this run fails for the reason, else fail."""
        item.stash[STATUS] = Status.BLOCKED
        item.stash[BLOCKED_BY] = broken.root
        root = cell.checks.run(broken.root)
        if root.label in (item.check.label for item in self._checks.get(cell.id, ())):
            reason = f"blocked by {root.label}: {root.message.partition(chr(10))[0]}"
            raise pytest.skip.Exception(reason, _use_item_location=True) from None
        raise pytest.fail.Exception(f"{broken}\n\nreproduce: {root.reproduce}", pytrace=False) from None

    @staticmethod
    def _end_as(item: pytest.Item, result: CheckResult) -> None:
        item.stash[STATUS] = result.status
        if result.status is Status.SKIPPED:
            raise pytest.skip.Exception(result.message, _use_item_location=True)
        if result.status is Status.KNOWN_BROKEN:
            raise pytest.xfail.Exception(result.message.partition("\n")[0], pytrace=False)
        if result.status is not Status.PASSED:
            pytest.fail(f"{result.message}\n\nreproduce: {result.reproduce}", pytrace=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the result of a user's test to its cell."""
        report = yield
        cell = cell_of(item)
        if cell is None:
            return report
        path, line, _ = item.reportinfo()
        point_to(report, Path(path), line)
        check = check_of(item)
        if check is not None and report.when == "call" and (result := cell.checks.results.get(check.label)):
            report.duration = result.seconds  # without waiting for it
        if LEFT in item.stash or cell.taken is not None:
            pass  # the cell has a result for that
        elif item.stash.get(STATUS, None) is Status.NOT_RUN:
            if report.when == "setup" and self.run.settings.budget is not None:
                not_run = self._result_of(item, cell, report, call)
                cell.add(dataclasses.replace(not_run, data={BUDGET: self.run.settings.budget}, reproduce=""))
        elif check is None and (report.when == "call" or not report.passed):
            cell.add(self._result_of(item, cell, report, call))
        elif report.failed and item.stash.get(STATUS, Status.PASSED) is Status.PASSED:
            # The check passed; a time limit on the test, a warning or another plugin's hook failed it.
            cell.add(self._result_of(item, cell, report, call))
        if report.when == "call" or (report.when == "setup" and not report.passed):
            check = check_of(item)
            result = cell.checks.results.get(check.label if check else short_id(item.nodeid, cell.id))
            item.user_properties.extend(junit.properties(cell.cell, result, cell.taken))
        if report.when != "teardown":
            status = item.stash.get(STATUS, None) and item.stash[STATUS].value
            report.modelops_status = TAKEN if cell.taken is not None else status  # type: ignore[attr-defined]
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Attach the cell's news, as plain data that also travels from an xdist worker to the controller.

        Not when the report is made: plugins that repeat tests drop reports.
        """
        cell_id = self.run.cell_of(report.nodeid)
        if cell_id is None or report.when not in PHASES or hasattr(report, "modelops_news"):
            return  # of no cell, or from a worker
        report.modelops_news = self._news(self.run.cells[cell_id]).to_json()  # type: ignore[attr-defined]

    def _news(self, cell: LiveCell) -> CellNews:
        """Return what no earlier report held of the cell, so that everything travels once from an xdist worker."""
        published = self._published.setdefault(cell.id, {})
        results, cell.lifecycle.unreported = cell.checks.results, []
        new = [result for label, result in results.items() if published.get(label) is not result]
        published.update(results)
        report = cell.report()
        facts = dataclasses.replace(report, checks=(), seconds=0.0, logs=dict(report.logs))
        changed = facts != self._facts.get(cell.id)
        self._facts[cell.id] = facts
        return CellNews(id=cell.id, seconds=report.seconds, checks=tuple(new), facts=facts if changed else None)

    def _result_of(
        self, item: pytest.Item, cell: LiveCell, report: pytest.TestReport, call: pytest.CallInfo[Any]
    ) -> CheckResult:
        status = item.stash.get(STATUS, None)
        if status not in {Status.BLOCKED, Status.NOT_RUN}:
            broke = Status.TIMED_OUT if status is Status.TIMED_OUT else Status.FAILED
            status = {"passed": Status.PASSED, "skipped": Status.SKIPPED}.get(report.outcome, broke)
        text = cell.lifecycle.secrets.hide(str(call.excinfo.value)) if call.excinfo is not None else ""
        figures = figures_of(item)
        files = {} if check_of(item) else {FILES: self._hash_files(item)}
        return result_of_test(
            check_of(item),
            short_id(item.nodeid, cell.id),
            status,
            "" if status is Status.PASSED else text or report.outcome,
            seconds=call.duration,
            blocked_by=item.stash[BLOCKED_BY] if status is Status.BLOCKED else None,
            reproduce=self.run.reproduce_test(item.nodeid),
            data={**cell.lifecycle.secrets.hide_in(figures), **files},
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """End a cell with its last test, so that a leftover is an error of that test and not of the next one.

        The user's fixtures end before a check, those of the session's scope, too: a mock may be among them.
        """
        cell = cell_of(item)
        ends = cell is not None and cell is not cell_of(nextitem)
        try:
            result = yield
            if check_of(item) is None and (check_of(nextitem) is not None or (ends and nextitem is None)):
                item.session._setupstate.teardown_exact(None)  # noqa: SLF001
            return result
        finally:
            if cell is not None and ends:
                self._end_cell(item, cell)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        self.run.ahead.stop()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """End what runs ahead and cells whose last test never came: after the user's fixtures, before the reports."""
        self.run.close_cells()
        if hasattr(self.run.config, "workeroutput"):
            self.run.config.workeroutput["modelops_nothing_touched"] = self.run.nothing_touched

    def _end_cell(self, item: pytest.Item, cell: LiveCell) -> None:
        if not isinstance(item, CheckItem) and cell.taken is None:
            # pytest does the same when the next test asks for another cell: it first ends the fixtures that use it.
            definition = item._fixtureinfo.name2fixturedefs[fixtures.NAME][-1]  # type: ignore[attr-defined] # noqa: SLF001
            definition.finish(item._request)  # type: ignore[attr-defined] # noqa: SLF001
            if stop_timer := getattr(item.config.hook, "pytest_timeout_cancel_timer", None):
                stop_timer(item=item)  # pytest-timeout's limit is the test's, not that of stopping a cell
        self.run.ahead.end(cell)
        if cell.leftover is not None:
            item.stash[LEFT] = True
            raise pytest.fail.Exception(f"cell {cell.id}: {cell.leftover.message}", pytrace=False)


def _perform(item: pytest.Item, demand: Demand, cell: LiveCell) -> None:
    with outcomes(item, cell):
        note_figures(item, demand(cell) or {})
