"""The results of a matrix run: collected from the tests' reports, written and shown, on the controller."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import platform
import sys
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from importlib import metadata

import pytest
from _pytest._io import TerminalWriter
from _pytest.config import create_terminal_writer

from pytest_modelops.checks.base import Check
from pytest_modelops.report import terminal
from pytest_modelops.report.changes import Change
from pytest_modelops.report.model import CellReport, CheckResult, PlannedCell, RunReport, Status
from pytest_modelops.report.news import CellNews, merge_checks
from pytest_modelops.session.execution import PHASES, TAKEN
from pytest_modelops.session.locating import SettingsFile
from pytest_modelops.session.module import nodeid, result_of_test, short_nodeid
from pytest_modelops.session.run import MatrixRun, short_id
from pytest_modelops.session.writing import Writing

_NOT_REACHED = "the run ended before it came to this"
_FINE = {Status.PASSED, Status.KNOWN_BROKEN}
_WORDS = {
    (Status.TIMED_OUT.value, "failed"): ("failed", "T", ("TIMED-OUT", {"red": True})),
    (Status.UNAVAILABLE.value, "failed"): ("failed", "U", ("UNAVAILABLE", {"red": True})),
    (TAKEN, "skipped"): ("taken", "=", ("TAKEN", {"green": True})),
    (Status.NOT_RUN.value, "skipped"): ("not run", "-", ("NOT-RUN", {"yellow": True})),
    (Status.KNOWN_BROKEN.value, "skipped"): ("xfailed", "x", ("KNOWN-BROKEN", {"yellow": True})),
    (Status.BLOCKED.value, "skipped"): ("blocked", "b", ("BLOCKED", {"yellow": True})),
}
"""By status and pytest's outcome, which an `xfail` may have changed: category, letter and word."""


class Reporting:
    def __init__(self, run: MatrixRun, writing: Writing) -> None:
        self.run = run
        self._started = datetime.datetime.now().astimezone()
        self._clock = time.monotonic()
        self._cells = {cell_id: CellReport.of(live.cell) for cell_id, live in run.cells.items()}
        self._crashed: dict[str, list[CheckResult]] = {}
        self._selected: set[str] = set()
        self._failed: list[tuple[pytest.TestReport, str]] = []
        self._finished: RunReport | None = None
        self._writing = writing
        self._shown = False
        self._others_failed = self._as_before = False

    def pytest_report_header(self) -> list[str]:
        return self.run.describe()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._selected.update(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Iterable[str]) -> None:
        self._selected.update(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Merge the news of a test's report into the report of its cell."""
        plain = getattr(report, "modelops_news", None)
        if plain is None:
            if report.failed and self.run.cell_of(report.nodeid) is None:
                self._others_failed = True
            if report.failed and report.when not in PHASES:
                self._take_in_crash(report)
            return
        # If an xdist worker crashes, another worker continues the cell: results of both are merged.
        news = CellNews.from_json(plain)
        if report.failed:
            self._failed.append((report, news.id))
        known = self._cells[news.id]
        checks = merge_checks(known.checks, news.checks)
        self._cells[news.id] = dataclasses.replace(news.facts or known, seconds=news.seconds, checks=checks)

    def _take_in_crash(self, report: pytest.TestReport) -> None:
        """Note a test in which an xdist worker crashed, and of which there is no result."""
        cell_id = self.run.cell_of(report.nodeid)
        if cell_id is None:
            return
        name = short_id(report.nodeid, cell_id)
        checks = {short_nodeid(check): check for check in self.run.checks}
        reproduce = self.run.reproduce_test(report.nodeid)
        result = result_of_test(checks.get(name), name, Status.FAILED, str(report.longrepr), reproduce=reproduce)
        self._crashed.setdefault(cell_id, []).append(result)

    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, Mapping[str, bool]]] | None:
        if report.when == "teardown":
            return None
        return _WORDS.get((getattr(report, "modelops_status", None) or "", report.outcome))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
        """Write the reports after the cells have been stopped, also after an interrupt, and before they are shown."""
        try:
            return (yield)
        finally:
            self._finish(session, exitstatus)

    def _finish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the reports; a run with a planned and selected cell that did not pass never exits 0."""
        no_verdict = exitstatus in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR)
        if no_verdict or session.config.option.collectonly or _only_sets_up(session.config):
            return
        self._finished = self._report()
        self._explain_failures(self._finished)
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self.run.nothing_touched:
            session.exitstatus = exitstatus = pytest.ExitCode.OK
        if exitstatus == pytest.ExitCode.OK and not self._finished.complete:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif exitstatus == pytest.ExitCode.TESTS_FAILED and self._fails_only_as_before(self._finished):
            session.exitstatus = pytest.ExitCode.OK
            self._as_before = True
        if not self._writing.write(self._finished):
            session.exitstatus = exitstatus or pytest.ExitCode.TESTS_FAILED

    def _explain_failures(self, report: RunReport) -> None:
        """Have pytest show the probable cause, and what to do, below the message of each test that failed."""
        found = {(cell.id, check.label): check.probable_cause for cell in report.cells for check in cell.checks}
        labels = {short_nodeid(check): check.label for check in self.run.checks}
        for test, cell_id in self._failed:
            name = short_id(test.nodeid, cell_id)
            probable = found.get((cell_id, labels.get(name, name)))
            if probable is not None and probable.known:
                test.sections.append(("probable cause", probable.text))

    def _fails_only_as_before(self, report: RunReport) -> bool:
        """Whether the run is asked to fail for new breaks only, and has none."""
        if self.run.settings.fail_on != "new" or report.comparison is None or self._others_failed:
            return False
        as_before = {change.id for change in report.comparison.of(Change.STILL_BROKEN)}
        asked = [cell for cell in report.cells if cell.selected and not cell.beyond_budget]
        return not report.comparison.breaks and {cell.id for cell in asked if cell.status not in _FINE} <= as_before

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Show the matrix below a reporter that has replaced pytest's and shows no summaries of plugins."""
        unwanted = config.getoption("no_summary", False) or config.pluginmanager.is_blocked("terminal")
        if not self._shown and not unwanted:
            self._show(create_terminal_writer(config, sys.stdout))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.ensure_newline()
        self._show(terminalreporter._tw)  # noqa: SLF001 - the only way to its width

    def _show(self, writer: TerminalWriter) -> None:
        """Write the matrix, which configuration it is of, and where the reports are."""
        self._shown = True
        if _only_sets_up(self.run.config):
            writer.line("modelops: --setup-plan and --setup-only run no test, so nothing was checked")
        if self._finished is not None and self.run.nothing_touched:
            writer.line(f"modelops: no change since {self._finished.since} can have touched what is selected")
        if self._finished is None or not any(cell.selected for cell in self._finished.cells):
            return
        writer.sep("=", "modelops matrix")
        encoding = getattr(writer._file, "encoding", None) or "ascii"  # noqa: SLF001
        for line in terminal.matrix(self._finished, width=writer.fullwidth, unicode=encoding.lower().startswith("utf")):
            for segment in line:
                writer.write(segment.text, **segment.style.markup)
            writer.line()
        if self._as_before:
            writer.line("exit code 0: everything that failed is still broken since the baseline")
        writer.line(f"configuration: {self.run.settings.file.description}")
        self._writing.show(writer)

    @functools.cached_property
    def _lines(self) -> SettingsFile:
        return SettingsFile(self.run.file)

    def _report(self) -> RunReport:
        file = self.run.settings.file
        tests: dict[str | None, list[str]] = {}
        for test in sorted(self._selected):
            tests.setdefault(self.run.cell_of(test), []).append(test)
        report = RunReport(
            started=self._started.isoformat(timespec="seconds"),
            seconds=time.monotonic() - self._clock,
            host={
                "python": platform.python_version(),
                "platform": platform.platform(),
                "pytest": pytest.__version__,
                "pytest_modelops": metadata.version("pytest-modelops"),
            },
            configuration=str(file.path) if file.path else None,
            backend=self.run.backend.name,
            cells=tuple(self._cell_report(cell_id, tests.get(cell_id, ())) for cell_id in self.run.cells),
            left_out=self.run.plan.left_out,
            shard=str(self.run.settings.shard) if self.run.settings.shard else None,
            fingerprint=self.run.earlier.fingerprint,
            since=self.run.earlier.touched.revision if self.run.earlier.touched else None,
            planned=tuple(PlannedCell.of(cell) for cell in self.run.plan.whole) if self.run.plan.elsewhere else (),
        )
        return self._writing.compared(self._writing.explained(report))

    def _cell_report(self, cell_id: str, tests: Sequence[str]) -> CellReport:
        """Return the report of a cell, with a `not-run` for each check that did not run.

        Args:
            tests: node ids of its selected tests.
        """
        live = self.run.cells[cell_id]
        # After an interrupt the cell in this process knows more than the tests' reports; with xdist, it knows nothing.
        here = live.report()
        live.lifecycle.unreported.clear()
        found = here if here.checks else self._cells[cell_id]
        # A crash outweighs what the test's check came to in another worker.
        by_name = {check.label: check for check in (*found.checks, *self._crashed.get(cell_id, ()))}
        of_cell = [check for check in self.run.checks if live.has(check.label)]
        check_names = {check.label: self._not_run(check, cell_id) for check in of_cell}
        reached = by_name.keys() | {short_nodeid(check) for check in self.run.checks}
        names = [name for test in tests if (name := short_id(test, cell_id)) not in reached]
        missed = [CheckResult(name=name, status=Status.NOT_RUN, message=_NOT_REACHED) for name in names]
        checks = (*{**check_names, **by_name}.values(), *missed)
        notes = (*found.notes, *filter(None, [self.run.note]))
        line = self._lines.line_of(live.cell, None) + 1 if self._lines else None
        return dataclasses.replace(found, checks=checks, selected=bool(tests), notes=notes, line=line)

    def _not_run(self, check: Check, cell_id: str) -> CheckResult:
        selected = nodeid(check, cell_id) in self._selected
        return check.ended(Status.NOT_RUN, _NOT_REACHED if selected else "", selected=selected)


def _only_sets_up(config: pytest.Config) -> bool:
    """Return whether pytest runs no test's body: `--setup-only`, which `--setup-plan` implies."""
    return bool(config.getoption("setuponly", False))
