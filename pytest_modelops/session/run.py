"""One `pytest --modelops-matrix`: the plan, the backend and the living cells, in this pytest process.

With xdist the controller makes the plan, before any worker starts, and hands it to the workers, so that all of them
collect the same tests even if the index changes in between.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import pytest

from pytest_modelops.backends.base import Backend
from pytest_modelops.backends.registry import check_settings, index_releases, open_backend
from pytest_modelops.cell.live import LiveCell
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import Cell
from pytest_modelops.matrix.plan import Plan
from pytest_modelops.session import logs, module
from pytest_modelops.session.configured import configure
from pytest_modelops.session.planning import plan_of
from pytest_modelops.session.progress import Progress
from pytest_modelops.session.reproducing import check_command, test_command


class Handed(TypedDict):
    """What an xdist worker gets from the controller, as plain data.

    Attributes:
        plan: as `Plan.to_json` has it.
        directory: of the run.
        wanted: as `MatrixRun.wanted`.
        backend: name of the controller's backend.
    """

    plan: Any
    directory: str
    wanted: list[str] | None
    backend: str


class MatrixRun:
    """A matrix run. Constructing it only reads settings; `open` asks the index and opens the backend.

    Attributes:
        settings: what was asked for.
        checks: each after those that it needs.
        directory: this run's own in the cache; holds the cells' logs.
        plan: the cells, and those left out.
        wanted: which of the checks' tests the command line asks for (see `module.wanted`).
        cells: by id.
    """

    plan: Plan
    wanted: list[str] | None
    backend: Backend
    progress: Progress
    cells: dict[str, LiveCell]

    def __init__(self, config: pytest.Config) -> None:
        """Read the settings.

        Raises:
            WrongInput: a setting is not valid.
        """
        self.config = config
        self._configured = configure(config)
        self.settings = self._configured.settings
        self.checks = self._configured.checks
        self._handed: Handed | None = getattr(config, "workerinput", {}).get("modelops")
        self.directory = Path(self._handed["directory"]) if self._handed else logs.new_directory(self.settings.cache)

    def open(self) -> None:
        """Open the backend, make the plan or take the controller's, and make the cells; starts none of them.

        Raises:
            WrongInput: the backend cannot be had here, or there is no such plan.
        """
        asked = module.wanted(self.config)
        matrix, handed = self.settings.matrix, self._handed
        with _usable(self.settings.cache):
            opened = open_backend(
                handed["backend"] if handed else self.settings.backend,
                containers=self.settings.containers,
                as_it_is=not (matrix.python or matrix.dask or matrix.include),
                spec=self.settings.environment,
                cache=self.settings.cache,
                fresh=self.settings.fresh,
                directory=self.directory,
            )
        self.backend = opened.backend
        self._why = f" ({opened.why})" if opened.why else ""
        try:
            if handed is None:
                logs.forget_old_runs(self.directory.parent)
                self.wanted = asked
                self.plan = plan_of(self._configured, releases=self.backend.releases, config=self.config)
            else:
                self.wanted = handed["wanted"]
                self.plan = Plan.from_json(handed["plan"])
        except BaseException:
            self._close_backend()
            raise
        self.progress = Progress(self.config, self.directory)
        self.cells = {cell.id: self._live(cell) for cell in self.plan.cells}

    def _live(self, cell: Cell) -> LiveCell:
        settings = self.settings
        return LiveCell(
            cell.with_variants(self.backend.variants),
            backend=self.backend,
            checks=self.checks,
            aggregation=settings.aggregation,
            runner=settings.runner,
            cluster_settings=ClusterSettings(
                workers=settings.workers,
                threads=settings.threads,
                nanny=settings.nanny,
                worker_variables=settings.environment.env,
                worker_arguments=settings.environment.worker_args,
            ),
            deadlines=self._configured.deadlines,
            progress=functools.partial(self.progress.say, cell.id),
            reproduce=functools.partial(check_command, self.config, self._configured),
            keep=settings.containers.keep,
            unpacked=settings.cache / "bundles",
        )

    def hand_over(self) -> Handed:
        return {
            "plan": self.plan.to_json(),
            "directory": str(self.directory),
            "wanted": self.wanted,
            "backend": self.backend.name,
        }

    def cell_of(self, nodeid: str) -> str | None:
        """Return the id of the cell that a test belongs to: the one of the plan that its parameters name."""
        parameters = f"-{nodeid.partition('[')[2].removesuffix(']')}-"
        found = [cell_id for cell_id in self.cells if f"-{cell_id}-" in parameters]
        return max(found, key=len, default=None)

    def reproduce_test(self, nodeid: str) -> str:
        """Return the command that runs one test again."""
        return test_command(self.config, nodeid)

    def describe(self) -> str:
        """Return one line for pytest's header."""
        count = len(self.plan.cells)
        left_out = f", {len(self.plan.left_out)} left out" if self.plan.left_out else ""
        return f"modelops: {count} cell{'' if count == 1 else 's'}{left_out}; {self.backend.describe()}{self._why}"

    def close(self) -> None:
        """End what still runs, and print what was left behind where no report says so."""
        with contextlib.ExitStack() as closing:  # one part that cannot be closed does not keep the others up
            closing.callback(self._close_backend)
            closing.callback(self.progress.close)
            for cell in self.cells.values():
                closing.callback(_close_cell, cell)

    def _close_backend(self) -> None:
        self.backend.close()
        if self._handed is None and self.directory.exists() and not any(self.directory.iterdir()):
            self.directory.rmdir()  # nothing was started


def plan_only(config: pytest.Config) -> tuple[Plan, str]:
    """Return the plan, and its text for people: cells, what is left out, and what each cell runs.

    Raises:
        WrongInput: a setting or version is not valid.
    """
    configured = configure(config)
    settings = configured.settings
    directory = logs.new_directory(settings.cache)
    check_settings(settings.backend, settings.containers)
    with contextlib.ExitStack() as asking:
        with _usable(settings.cache):
            releases = asking.enter_context(index_releases(settings.environment, settings.cache, directory))
        plan = plan_of(configured, releases=releases, config=config)
    return plan, f"{plan.to_text()}\n{configured.describe_checks()}"


@contextlib.contextmanager
def _usable(cache: Path) -> Iterator[None]:
    """Turn an error of the operating system into wrong input that names the cache."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # not of the operating system: the errors of `requests` are `OSError`s too
            raise
        raise WrongInput(
            f"the cache {cache} cannot be used: {error.strerror}; name a directory that can be "
            "written with --modelops-cache or PYTEST_MODELOPS_CACHE"
        ) from None


def _close_cell(cell: LiveCell) -> None:
    try:
        cell.close()
    finally:
        for message in cell.lifecycle.unreported:
            print(f"modelops: {message}", file=sys.stderr)  # noqa: T201 - the reports are written


def short_id(nodeid: str, cell_id: str) -> str:
    """Return a test's node id without the cell, for people: `tests/test_upgrade.py::test_upgrade`."""
    path, bracket, parameters = nodeid.partition("[")
    rest = f"-{parameters.removesuffix(']')}-".replace(f"-{cell_id}-", "-", 1).strip("-")
    return f"{path}[{rest}]" if bracket and rest else path
