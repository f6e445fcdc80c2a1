"""Collection of a matrix run: the checks, the users' tests that belong to it, and their order."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from pytest_modelops import fixtures, markers
from pytest_modelops.bundles import contents
from pytest_modelops.cell.live import LiveCell
from pytest_modelops.errors import WrongInput, said_of
from pytest_modelops.markers import Demand
from pytest_modelops.matrix.cell import Role
from pytest_modelops.session.changed import Touched
from pytest_modelops.session.item import CheckItem, check_of
from pytest_modelops.session.locating import SettingsFile
from pytest_modelops.session.module import ChecksModule, names_tests, test_name
from pytest_modelops.session.needed import Needed
from pytest_modelops.session.run import MatrixRun
from pytest_modelops.session.trusting import TestFiles

DEMANDS = pytest.StashKey[list[Demand]]()


def cell_of(item: pytest.Item | None) -> LiveCell | None:
    if isinstance(item, CheckItem):
        return item.cell
    callspec = getattr(item, "callspec", None)
    cell = callspec.params.get(fixtures.NAME) if callspec is not None else None
    return cell if isinstance(cell, LiveCell) else None


class Collecting:
    def __init__(self, run: MatrixRun) -> None:
        self.run = run
        releases = [cell[role].python.release for cell in run.plan.cells for role in Role]
        self._context = markers.Context(
            oldest=min((release[0], release[1]) for release in releases),
            directory=run.settings.file.directory,
            bundles=run.settings.known_bundles,
            named={},
        )
        self._needed: Needed | None = None
        self._not_collected = 0

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        if self.run.wanted is not None and not names_tests(self.run.config):
            self._needed = Needed(session)

    @pytest.hookimpl(trylast=True)
    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leave directories out in which nothing mentions a cell, with their `conftest.py`, and the cache."""
        if collection_path == self.run.settings.cache:
            return True
        if self._needed is None or not collection_path.is_dir() or self._needed.directory(collection_path):
            return None
        return True

    @pytest.hookimpl(tryfirst=True, specname="pytest_make_collect_report")
    def pytest_collect_only_what_is_needed(self, collector: pytest.Collector) -> pytest.CollectReport | None:
        """Do not import test files that have nothing to do with cells, unless the command line names tests."""
        if self._needed is None or not isinstance(collector, pytest.File) or isinstance(collector, ChecksModule):
            return None
        if self._needed.file(collector):
            return None
        self._not_collected += 1
        return pytest.CollectReport(collector.nodeid, "passed", None, [])

    def pytest_report_collectionfinish(self) -> str:
        count = self._not_collected
        return f"modelops: test files without tests for cells, not imported: {count}" if count else ""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Put the checks in front of what the session collects; turn wrong markers into wrong input.

        A `UsageError` in an xdist worker would be an internal error. So the worker reports a failed collection, and the
        controller (or the only process) turns it into exit 4; see `pytest_collectreport`.
        """
        report = yield
        if isinstance(collector, pytest.Session) and report.passed and self.run.wanted is not None:
            report.result.insert(0, self._checks_module(collector, self.run.wanted))
        error = _wrong_input(report)
        if error is None and report.passed:
            try:
                self._check(collector, report.result)
            except WrongInput as wrong:
                error = wrong
        if error is not None:
            report.outcome = "failed"
            report.longrepr = str(error)
            report.result = []
            report.modelops_wrong_input = str(error)  # type: ignore[attr-defined]
        return report

    def _checks_module(self, session: pytest.Session, wanted: Sequence[str]) -> ChecksModule:
        run = self.run
        return ChecksModule.make(
            session, checks=run.checks, cells=run.cells.values(), wanted=wanted, settings=SettingsFile(run.file)
        )

    def _check(self, collector: pytest.Collector, nodes: Iterable[pytest.Item | pytest.Collector]) -> None:
        if isinstance(collector, ChecksModule) and (missing := collector.missing(nodes)):
            tests = ", ".join(dict.fromkeys(test_name(check.name) for check in self.run.checks))
            raise WrongInput(
                f"{missing[0]}: there is no such test; checks are {tests}; cells are {', '.join(self.run.cells)}"
            )
        for node in nodes:
            if not isinstance(node, pytest.Function) or isinstance(node, CheckItem):
                continue
            if _cannot_have_a_cell(node):
                raise WrongInput(
                    f"{node.nodeid}: pytest runs the tests of a unittest.TestCase once, not for each cell; make it a "
                    "plain class or a function"
                )
            if cell_of(node) is not None:
                node.stash[DEMANDS] = markers.demands(node, self._context)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """End the run with exit 4 for wrong input, on the controller."""
        wrong: str | None = getattr(report, "modelops_wrong_input", None)
        if wrong is not None and not hasattr(self.run.config, "workerinput"):
            raise pytest.UsageError(wrong)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self, collector: pytest.Collector, obj: object) -> None:
        """Give a test with one of our markers the cell, also if it does not name the fixture."""
        function = obj.__func__ if isinstance(obj, staticmethod | classmethod) else obj
        if not isinstance(function, FunctionType):
            return
        marks: Iterable[Any] = getattr(function, "pytestmark", ())
        if any(mark.name in markers.NAMES for mark in marks) or markers.applied(collector):
            pytest.mark.usefixtures(fixtures.NAME)(function)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize a test with the cells that its markers leave."""
        if fixtures.NAME not in metafunc.fixturenames:
            return
        planned = [*self.run.cells, *(left.id for left in self.run.plan.left_out)]
        usable = [cell_id for cell_id, live in self.run.cells.items() if live.cell.rolling is None]
        narrowing = list(metafunc.definition.iter_markers("modelops_cells"))
        with said_of(f"{metafunc.definition.nodeid}: marker modelops_cells"):
            # Of a run with other cells than the configured ones, it is not known whether it ever matches one.
            if not self.run.settings.matrix.replaced and not markers.narrow(planned, narrowing):
                patterns = ", ".join(repr(glob) for mark in narrowing for glob in mark.args)
                raise WrongInput(f"{patterns} matches none of the cells {', '.join(planned)}")
        ids = markers.narrow(usable, narrowing)
        cells: list[Any] = [self.run.cells[cell_id] for cell_id in ids]
        if not cells:  # else the ini setting `empty_parameter_set_mark` would decide what happens
            skip = pytest.mark.skip(reason="this run has none of the cells that its markers match")
            cells, ids = [pytest.param(None, marks=skip)], ["no-cell"]
        metafunc.parametrize(fixtures.NAME, cells, ids=ids, indirect=True, scope="session")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """Deselect tests that do not belong to the matrix; keep each cell's tests together, and its checks first.

        The user's fixtures and mocks may last from one test to the next, so no check comes between tests of a cell.
        Outermost, so after every other plugin's ordering: pytest before 9.1 groups parameters by their index, which
        would start a cell again for each test that is narrowed in another way.
        """
        if self.run.wanted is not None and not names_tests(config):
            others = [item for item in items if cell_of(item) is None]
            if others:
                config.hook.pytest_deselected(items=others)
                items[:] = [item for item in items if cell_of(item) is not None]
        if self.run.earlier.touched is not None:
            self._leave_out_untouched(self.run.earlier.touched, config, items)
        yield
        first_seen: dict[object, int] = {}

        def place(item: pytest.Item) -> tuple[int, int, bool]:
            cell = cell_of(item)
            rank = self.run.rank.get(cell.id, -1) if cell is not None else -1
            return rank, first_seen.setdefault(cell_of(item) or item, len(first_seen)), check_of(item) is None

        items.sort(key=place)

    def _leave_out_untouched(self, touched: Touched, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect what no change in git can have touched, besides the user's tests that belong to no cell."""
        files, checks = TestFiles(config, self.run.fingerprints), {check.label: check for check in self.run.checks}
        settings, needed = self.run.settings, dict[str, set[str]]()
        places = functools.cache(contents.places)  # many tests may name one directory
        for item in items:
            if isinstance(item, CheckItem) and touched.check(item.check, item.cell.id):
                needed.setdefault(item.cell.id, set()).add(item.check.label)
        needed = {cell_id: touched.with_needs(labels, checks) for cell_id, labels in needed.items()}

        def stays(item: pytest.Item) -> bool:
            cell = cell_of(item)
            if isinstance(item, CheckItem):
                return item.check.label in needed.get(item.cell.id, ())
            bundles = markers.bundles_of(item, settings.file.directory, settings.bundles)
            return cell is None or touched.test(cell.id, files.of(item.path), bundles, places)

        others = [item for item in items if not stays(item)]
        if others:
            config.hook.pytest_deselected(items=others)
            items[:] = [item for item in items if stays(item)]
            self.run.nothing_touched = not items


def _cannot_have_a_cell(test: pytest.Function) -> bool:
    """Return whether a test asks for a cell where pytest parametrizes nothing."""
    asks = fixtures.NAME in test.fixturenames or markers.applied(test)
    return asks and not hasattr(test, "callspec")


def _wrong_input(report: pytest.CollectReport) -> WrongInput | None:
    call = getattr(report, "call", None)
    error = call.excinfo.value if call is not None and call.excinfo is not None else None
    return error if isinstance(error, WrongInput) else None
