"""What one `pytest --modelops-matrix` has in common: settings, plan, checks, backend and the living cells.

Made once in each pytest process. With xdist the controller makes the plan, before any worker starts, and hands it to
the workers, so that all of them collect the same tests even when an index changes its mind in between.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops.backends.registry import open_backend
from pytest_modelops.cell.live import LiveCell
from pytest_modelops.checks import BUNDLE_CHECKS, PLUGIN_CHECK, in_order
from pytest_modelops.checks import all_checks as checks_of
from pytest_modelops.checks.base import Check
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.config.options import OPTIONS, Kind
from pytest_modelops.config.settings import load, load_objects, load_runner
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import Cell, PythonVersion, Role
from pytest_modelops.matrix.plan import LeftOut, Plan, excluded, make_plan
from pytest_modelops.session import module
from pytest_modelops.session.progress import Progress

DISTS = ("no", "load", "loadgroup")
"""Values of xdist's --dist that leave the distribution to us."""


_OF_THE_RUN = {"matrix", "cell", "report", "fresh"}
"""Options that a command for a single test does not need again."""
_KEPT_RUNS = 20
"""How many runs' logs are kept."""


class MatrixRun:
    """Everything that a matrix run needs, in this pytest process.

    Attributes:
        settings: what was asked for.
        checks: the checks, each check after those that it needs.
        plan: the cells, and those left out.
        wanted: which of the checks's tests the command line asks for (see `checks.wanted`).
        directory: this run's own in the cache; holds the cells' logs.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Settle everything that can be wrong; starts nothing but questions to an index.

        Raises:
            WrongInput: a setting that cannot be meant.
        """
        _refuse_other_dists(config)
        _refuse_mistaken_rootdir(config)
        self.config = config
        bundles, plugin = load_objects(config)
        checks = checks_of(bundles, plugin, reuse=load_runner(config).reuses)
        config.hook.pytest_modelops_checks(checks=checks, config=config)
        self.checks = in_order([module.with_pytest_outcomes(check) for check in checks])
        check_names = dict.fromkeys([*(check.name for check in self.checks), *BUNDLE_CHECKS, PLUGIN_CHECK])
        self.settings = load(config, check_names=check_names)
        handed: Mapping[str, Any] | None = getattr(config, "workerinput", {}).get("modelops")
        if handed is None:
            now = datetime.datetime.now().astimezone()
            self.directory = self.settings.cache / "runs" / f"{now:%Y%m%d-%H%M%S}-{os.getpid()}"
        else:
            self.directory = Path(handed["directory"])
        try:
            matrix = self.settings.matrix
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
        except OSError as error:
            if error.strerror is None:  # not of the operating system; the errors of `requests` derive from it, too
                raise
            raise WrongInput(
                f"the cache {self.settings.cache} cannot be used: {error.strerror}; name a directory that can be "
                "written with --modelops-cache or PYTEST_MODELOPS_CACHE"
            ) from None
        asked = module.wanted(config)
        self._hosts = handed is None
        try:
            if handed is None:
                _forget_old_runs(self.directory.parent)
                self.wanted = asked
                self.plan = self._plan()
            else:
                self.wanted = handed["wanted"]
                self.plan = Plan.from_json(handed["plan"])
        except BaseException:
            self._close_backend()
            raise
        self.progress = Progress(config, self.directory)
        self.cells = {cell.id: self._live(cell) for cell in self.plan.cells}

    def _plan(self) -> Plan:
        spec = self.settings.environment
        plan = make_plan(
            self.settings.matrix,
            releases=self.backend.releases,
            installed=_installed_dask(),
            this_python=PythonVersion.parse(python_version()),
            as_is_allowed=not (spec.requirements or spec.constraints or spec.as_of),
        )
        cells = list(plan.cells)
        self.config.hook.pytest_modelops_cells(cells=cells, config=self.config)
        return _after_hook(plan, cells)

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
                worker_variables=settings.worker_env,
                worker_arguments=settings.worker_args,
            ),
            deadlines=settings.deadlines,
            progress=self._progress_of(cell),
            reproduce=self.reproduce,
            keep=settings.containers.keep,
            unpacked=settings.cache / "bundles",
        )

    def _progress_of(self, cell: Cell) -> Callable[[str], None]:
        return lambda doing: self.progress.say(cell.id, doing)

    def hand_over(self) -> dict[str, Any]:
        """What an xdist worker needs of the controller, as plain data."""
        return {
            "plan": self.plan.to_json(),
            "directory": str(self.directory),
            "wanted": self.wanted,
            "backend": self.backend.name,
        }

    def cell_of(self, nodeid: str) -> str | None:
        """Id of the cell that a test belongs to, by looking the plan's ids up in the node id's parameters."""
        parameters = f"-{nodeid.partition('[')[2].removesuffix(']')}-"
        found = [cell_id for cell_id in self.cells if f"-{cell_id}-" in parameters]
        return max(found, key=len, default=None)

    def reproduce_test(self, nodeid: str) -> str:
        """The command that runs one test again."""
        return shlex.join(["pytest", "--modelops-matrix", *self._same_flags(), nodeid])

    def reproduce(self, cell: Cell, check: Check) -> str:
        """The command that runs one check of one cell, and what it needs, again."""
        words = ["pytest", "--modelops-matrix", *self._same_flags()]
        drifts = {v.dask_request for v in (cell[role] for role in Role)} != {cell.base.dask_text}
        if (
            not cell.skew
            and drifts
            and not self.config.getoption("modelops_dask")
            and cell.base.dask
            and not cell.base.as_is
        ):
            words += self._pinned(cell)
        if check.bundle is not None and check not in self.checks:  # of a test's marker
            words.append(f"--modelops-bundle={check.bundle.path}")
        return shlex.join([*words, module.nodeid(check, cell.id)])

    def _pinned(self, cell: Cell) -> list[str]:
        """Flags that name a cell's release, since `latest` will be another one some day.

        With them `include` falls away, so that they also make the axes those of a cell which is there by it. Empty
        for one that is there by it alone: what `exclude` takes out of the axes, no flag puts in.
        """
        matrix = self.settings.matrix
        if excluded(cell, matrix.exclude):
            return []
        python = cell.base.python
        on_axis = matrix.python or (PythonVersion.parse(python_version()),)
        words = [] if python in on_axis else ["--modelops-python", str(python)]
        return [*words, "--modelops-dask", cell.base.dask_text]

    def _same_flags(self) -> list[str]:
        """The flags of this command line that the same cell needs again."""
        words = []
        if self.config.getoption("inifilename", None):
            words += ["-c", str(self.config.getoption("inifilename"))]
        if self.config.getoption("rootdir", None):
            words += ["--rootdir", str(self.config.getoption("rootdir"))]
        for option in OPTIONS:
            given = self.config.getoption(option.dest)
            if not given or option.name in _OF_THE_RUN:
                continue
            values = given if option.kind is Kind.MANY else [given]
            if option.path:  # as two words, pytest would look for its configuration there
                words += [f"{option.flag}={value}" for value in values]
            else:
                words += [word for value in values for word in (option.flag, str(value))]
        return words

    def plan_text(self) -> str:
        """The plan for people: its cells, what is left out, and what each cell runs."""
        names = dict.fromkeys(check.name for check in self.checks)
        listed = [
            f"{name}[{', '.join(check.bundle.name for check in self.checks if check.name == name and check.bundle)}]"
            if any(check.bundle for check in self.checks if check.name == name)
            else name
            for name in names
        ]
        return "\n".join([self.plan.to_text(), f"each runs: {', '.join(listed)}"])

    def describe(self) -> str:
        """One line for pytest's header."""
        count = len(self.plan.cells)
        left_out = f", {len(self.plan.left_out)} left out" if self.plan.left_out else ""
        return f"modelops: {count} cell{'' if count == 1 else 's'}{left_out}; {self.backend.describe()}{self._why}"

    def close(self) -> None:
        """End whatever still runs, and say what came of that where no report does."""
        with contextlib.ExitStack() as closing:  # what cannot be ended keeps nothing else from it
            closing.callback(self._close_backend)
            closing.callback(self.progress.close)
            for cell in self.cells.values():
                closing.callback(_close_cell, cell)

    def _close_backend(self) -> None:
        self.backend.close()
        if self._hosts and self.directory.exists() and not any(self.directory.iterdir()):
            self.directory.rmdir()  # nothing was started


def _close_cell(cell: LiveCell) -> None:
    try:
        cell.close()
    finally:
        for message in cell.lifecycle.unreported:
            print(f"modelops: {message}", file=sys.stderr)  # noqa: T201 - the reports are written


def _forget_old_runs(runs: Path) -> None:
    """Remove the logs of all but the latest runs, and of those that still go on."""
    for directory in sorted(runs.glob("*"))[:-_KEPT_RUNS]:
        if not _goes_on(directory):
            shutil.rmtree(directory, ignore_errors=True)


def _goes_on(directory: Path) -> bool:
    """Whether the process that a run's directory is named after is there.

    Another of that number only delays tidying.
    """
    try:
        os.kill(int(directory.name.rpartition("-")[2]), 0)
    except PermissionError:  # somebody else's
        return True
    except (OSError, OverflowError, ValueError):
        return False
    return True


def short_id(nodeid: str, cell_id: str) -> str:
    """A test's node id without the cell, for people: `tests/test_upgrade.py::test_upgrade`."""
    path, bracket, parameters = nodeid.partition("[")
    rest = f"-{parameters.removesuffix(']')}-".replace(f"-{cell_id}-", "-", 1).strip("-")
    return f"{path}[{rest}]" if bracket and rest else path


def _after_hook(plan: Plan, cells: Sequence[Cell]) -> Plan:
    """The plan with the cells that `pytest_modelops_cells` made of its own.

    Raises:
        WrongInput: no cell is left, one is there twice, or something else than cells is there.
    """
    if not cells:
        raise WrongInput("pytest_modelops_cells: no cell is left")
    for cell in cells:
        if not isinstance(cell, Cell):
            raise WrongInput(f"pytest_modelops_cells: {cell!r} is not a pytest_modelops.matrix.cell.Cell")
    ids = [cell.id for cell in cells]
    if twice := next((cell_id for cell_id in ids if ids.count(cell_id) > 1), None):
        raise WrongInput(f"pytest_modelops_cells: {twice} is there twice")
    left_out = [left for left in plan.left_out if left.id not in ids]
    left_out += [
        LeftOut(id=cell.id, reason="removed by pytest_modelops_cells") for cell in plan.cells if cell.id not in ids
    ]
    return Plan(cells=tuple(cells), left_out=tuple(left_out))


def _refuse_other_dists(config: pytest.Config) -> None:
    dist = getattr(config.option, "dist", "no")
    if dist not in DISTS and not hasattr(config, "workerinput"):
        raise WrongInput(
            f"--dist {dist}: --modelops-matrix keeps each cell in one xdist worker and this would split it; "
            f"use one of {', '.join(DISTS)}, or leave it out"
        )


def _refuse_mistaken_rootdir(config: pytest.Config) -> None:
    """Refuse a path in a word of its own that pytest, which reads its configuration first, took for one of tests."""
    words = [str(word) for word in config.invocation_params.args]
    flags = {option.flag for option in OPTIONS if option.path}
    for flag, value in itertools.pairwise(words):
        path = (config.invocation_params.dir / value).resolve()
        if flag not in flags or not path.is_dir():
            continue
        if config.rootpath.is_relative_to(path) and not config.invocation_params.dir.is_relative_to(path):
            raise WrongInput(
                f"{flag} {value}: pytest takes {value} for a directory of tests and {config.rootpath} for the project; "
                f"write {flag}={value}"
            )


def _installed_dask() -> Version | None:
    try:
        return Version(metadata.version("distributed"))
    except metadata.PackageNotFoundError:
        return None
