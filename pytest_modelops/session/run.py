"""One `pytest --modelops-matrix`: the plan, the backend and the living cells, in this pytest process.

With xdist the controller makes the plan, before any worker starts, and hands it to the workers, so that all of them
collect the same tests even if the index changes in between.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import pytest

from pytest_modelops.backends.base import Backend
from pytest_modelops.backends.registry import Opened, Options, check_settings, index_releases, open_backend, settled
from pytest_modelops.cell.live import LiveCell
from pytest_modelops.checks import of_cell
from pytest_modelops.config.attach import AttachPlanJson
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.config.options import start_of
from pytest_modelops.config.settings import MADE, Settings
from pytest_modelops.errors import WrongInput, of_full_disk
from pytest_modelops.matrix.cell import Cell
from pytest_modelops.matrix.plan import LeftOutJson, Plan, PlanJson
from pytest_modelops.matrix.shards import telling_first
from pytest_modelops.report.paper import counted
from pytest_modelops.session import logs, module
from pytest_modelops.session.ahead import Ahead
from pytest_modelops.session.baseline import past_of
from pytest_modelops.session.budget import Budget
from pytest_modelops.session.capacity import ahead_on_this_machine
from pytest_modelops.session.changed import Asked, touched
from pytest_modelops.session.configured import configure
from pytest_modelops.session.earlier import Earlier, EarlierJson
from pytest_modelops.session.fingerprint import Fingerprints
from pytest_modelops.session.locating import SettingsFile
from pytest_modelops.session.planning import plan_of, unavailable
from pytest_modelops.session.progress import Progress
from pytest_modelops.session.reproducing import check_command, test_command
from pytest_modelops.storage.files import mark_as_cache


class Handed(TypedDict):
    """What an xdist worker gets from the controller, as plain data.

    Attributes:
        plan: as `Plan.to_json` has it.
        directory: of the run.
        wanted: as `MatrixRun.wanted`.
        backend: name of the controller's backend.
        start: the directory in which pytest was called.
        started: time of day at which the run started.
        earlier: what it found of earlier runs.
    """

    plan: Any
    directory: str
    wanted: list[str] | None
    backend: str
    start: str
    started: float
    earlier: EarlierJson


class MatrixRun:
    """A matrix run. Constructing it only reads settings; `open` asks the index and opens the backend.

    Attributes:
        settings: what was asked for.
        checks: each after those that it needs.
        directory: this run's own in the cache; holds the cells' logs.
        plan: the cells, and those left out.
        wanted: which of the checks' tests the command line asks for (see `module.wanted`).
        cells: by id.
        ahead: runs their checks ahead of their tests.
        rank: of each cell, by id, in the order in which cells run with a time limit; empty without one.
        budget: decides which cells fit into the run's time limit, if there is one.
        note: for people, if the backend is not the one that was meant; empty otherwise.
        earlier: what it knows of earlier runs.
        nothing_touched: whether no test is left, because changes in git touch none; with xdist, in any worker.
    """

    plan: Plan
    wanted: list[str] | None
    backend: Backend
    progress: Progress
    cells: dict[str, LiveCell]
    ahead: Ahead
    rank: dict[str, int]
    budget: Budget | None
    note: str
    earlier: Earlier

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
        self.nothing_touched = False
        self.directory = Path(self._handed["directory"]) if self._handed else logs.new_directory(self.settings.cache)

    def open(self) -> None:
        """Open the backend, make the plan or take the controller's, and make the cells; starts none of them.

        Raises:
            WrongInput: the backend cannot be had here, or there is no such plan.
        """
        asked = module.wanted(self.config, SettingsFile(self.file))
        handed = self._handed
        with _usable(self.settings.cache):
            mark_as_cache(self.settings.cache)
            opened = _opened(self.settings, handed["backend"] if handed else self.settings.backend, self.directory)
        self.backend = opened.backend
        try:
            if handed is None:
                logs.forget_old_runs(self.directory.parent)
                self.wanted = asked
                with _room():
                    self.plan = plan_of(self._configured, releases=self.backend.releases, config=self.config)
                opened = settled(opened, self.plan.cells)
                self.backend = opened.backend
            else:
                self.wanted = handed["wanted"]
                self.plan = Plan.from_json(handed["plan"])
        except BaseException:
            self._close_backend()
            raise
        self._why = f" ({opened.why})" if opened.why else ""
        self.note = opened.note
        self.progress = Progress(self.config, self.directory)
        with _usable(self.settings.cache):
            self.fingerprints = Fingerprints(self.settings.cache)
        self.cells = {cell.id: self._live(cell) for cell in self.plan.cells}
        try:
            self.earlier = Earlier.from_json(handed["earlier"]) if handed else self._find_earlier()
        except BaseException:
            self.progress.close()
            self._close_backend()
            raise
        self._started = handed["started"] if handed else time.time()
        self.budget, self.rank = None, {}
        if (limit := self.settings.budget) is not None:
            measured, red = past_of(self.settings)
            self.budget = Budget(limit, self._started, measured)
            order = telling_first(self.plan.cells, red)
            self.rank = {cell.id: number for number, cell in enumerate(order)}
        interrupt = self.backend.interrupt
        self.ahead = ahead_on_this_machine(self.settings, self.config, budget=self.budget, interrupt=interrupt)

    def _find_earlier(self) -> Earlier:
        asked = Asked(self._configured, self.plan, self.backend.releases, self.config)
        cells, name = self.cells.values(), self.backend.name
        return Earlier.find(asked, cells, backend=name, fingerprints=self.fingerprints)

    def _live(self, cell: Cell) -> LiveCell:
        settings, environment = self.settings, self.settings.environment
        worker_variables, scheduler_variables, client_variables = environment.variables()
        in_backend = cell.with_variants(self.backend.variants)
        return LiveCell(
            in_backend,
            backend=self.backend,
            checks=of_cell(self.checks, cell),
            aggregation=settings.aggregation,
            patterns=settings.preflight,
            runner=settings.runner,
            cluster_settings=ClusterSettings(
                workers=settings.workers,
                threads=settings.threads,
                nanny=settings.nanny,
                start=settings.start,
                worker_variables=worker_variables,
                worker_arguments=environment.worker_args,
                scheduler_variables=scheduler_variables,
                client_variables=client_variables,
                secrets=environment.secrets(settings.containers.pass_env),
                rootdir=environment.rootdir,
                made=settings.cluster if settings.backend == MADE else None,
            ),
            deadlines=self._configured.deadlines,
            progress=functools.partial(self.progress.say, cell.id),
            reproduce=functools.partial(check_command, self.config, self._configured),
            keep=settings.containers.keep,
            known=settings.known_broken,
            unpacked=settings.cache / "bundles",
            fingerprint=functools.partial(self.fingerprints.of_cell, in_backend, self.backend),
        )

    def hand_over(self) -> Handed:
        return {
            "plan": self.plan.to_json(),
            "directory": str(self.directory),
            "wanted": self.wanted,
            "backend": self.backend.name,
            "start": str(start_of(self.config)),
            "started": self._started,
            "earlier": self.earlier.to_json(),
        }

    @property
    def file(self) -> Path:
        """The file with the settings, which need not exist."""
        return self.settings.file.path or self.config.rootpath / "pyproject.toml"

    def cell_of(self, nodeid: str) -> str | None:
        """Return the id of the cell that a test belongs to: the one of the plan that its parameters name."""
        parts = nodeid.partition("[")[2].removesuffix("]").split("-")
        some = ("-".join(parts[start:end]) for start, end in itertools.combinations(range(len(parts) + 1), 2))
        return max((one for one in some if one in self.cells), key=len, default=None)

    def reproduce_test(self, nodeid: str) -> str:
        """Return the command that runs one test again."""
        return test_command(self.config, nodeid)

    def describe(self) -> list[str]:
        """Return lines for pytest's header."""
        cells = counted(len(self.plan.cells), "cell")
        left_out = f", {len(self.plan.left_out)} left out" if self.plan.left_out else ""
        return [
            f"modelops: {cells}{left_out}; {self.backend.describe()}{self._why}",
            f"modelops configuration: {self.settings.file.description}",
            *([f"modelops: {self.earlier.touched.describe()}"] if self.earlier.touched else []),
        ]

    def close(self) -> None:
        """End what still runs, and print what was left behind where no report says so."""
        with contextlib.ExitStack() as closing:  # one part that cannot be closed does not keep the others up
            closing.callback(self._close_backend)
            closing.callback(self.progress.close)
            closing.callback(self._print_unreported)
            closing.callback(self.close_cells)

    def close_cells(self) -> None:
        """End what runs ahead, then stop every cluster; one that cannot be stopped does not keep the others up."""
        with contextlib.ExitStack() as closing:
            for cell in self.cells.values():
                closing.callback(cell.close)
            closing.callback(self.ahead.close)

    def _print_unreported(self) -> None:
        for cell in self.cells.values():
            for message in cell.lifecycle.unreported:
                print(f"modelops: {message}", file=sys.stderr)  # noqa: T201 - the reports are written

    def _close_backend(self) -> None:
        self.backend.close()
        if self._handed is None and self.directory.exists() and not any(self.directory.iterdir()):
            self.directory.rmdir()  # nothing was started


class PlanOnlyJson(PlanJson):
    """What `--modelops-plan=json` prints.

    Attributes:
        unavailable: those of the cells that cannot run on this machine, and why.
        backend: name of the one that a run would use.
        configuration: path of the file with the settings, if there is one.
        attach: what would be sent to a deployment; `None` without one.
    """

    unavailable: list[LeftOutJson]
    backend: str
    configuration: str | None
    attach: AttachPlanJson | None


def plan_only(config: pytest.Config) -> tuple[PlanOnlyJson, str]:
    """Return the plan for machines and for people: cells, what is left out, and what each cell runs.

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
        with _room():
            plan = plan_of(configured, releases=releases, config=config)
        note = releases.note
        asked, revision = Asked(configured, plan, releases, config), settings.changed
        changed = touched(asked, revision).describe() if revision is not None else ""
    backend, why = settings.backend, ""
    if backend == "auto":
        opened = settled(_opened(settings, backend, directory), plan.cells)
        backend, why = opened.backend.name, f" ({opened.why})"
        opened.backend.close()
    missing = unavailable(plan.cells, backend)
    lines = [plan.to_text(unavailable=missing), configured.describe_checks(), f"backend: {backend}{why}"]
    if attach := settings.attach.plan(settings.aggregation.tasks):
        lines.append(
            f"each client asks {attach['deployment']} for its versions, and sends it at most {attach['tasks']} tasks: "
            f"2 for each worker, {attach['aggregation_tasks']} of the check aggregation, and those of bundles and of "
            f"your tests; at most {attach['bytes']:,} bytes, for at most {attach['seconds']:g} s; "
            + (f"allowed there: {', '.join(attach['allow'])}" if attach["allow"] else "nothing is written there")
        )
    lines += [*filter(None, [f"index: {note}" if note else "", changed]), f"configuration: {settings.file.description}"]
    as_json: PlanOnlyJson = {
        **plan.to_json(),
        "unavailable": [{"id": cell_id, "reason": reason} for cell_id, reason in missing.items()],
        "backend": backend,
        "configuration": str(settings.file.path) if settings.file.path else None,
        "attach": attach,
    }
    return as_json, "\n".join(lines)


def _opened(settings: Settings, name: str, directory: Path) -> Opened:
    matrix = settings.matrix
    options = Options(
        containers=settings.containers,
        attach=settings.attach,
        cluster=settings.cluster,
        spec=settings.environment,
        cache=settings.cache,
        fresh=settings.fresh,
        directory=directory,
    )
    return open_backend(name, options, as_it_is=not (matrix.python or matrix.dask or matrix.include))


@contextlib.contextmanager
def _room() -> Iterator[None]:
    """Turn a full disk into wrong input that names the path."""
    try:
        yield
    except OSError as error:
        if full := of_full_disk(error):
            raise WrongInput(full) from None
        raise


@contextlib.contextmanager
def _usable(cache: Path) -> Iterator[None]:
    """Turn an error of the operating system, or a full disk, into wrong input that names the cache."""
    there = next(directory for directory in (cache.absolute(), *cache.absolute().parents) if directory.exists())
    space = os.statvfs(there)
    if space.f_blocks and not space.f_bavail:
        raise WrongInput(f"the cache {cache}: no space left on its disk; free some, or name another --modelops-cache")
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # not of the operating system: the errors of `requests` are `OSError`s too
            raise
        raise WrongInput(
            f"the cache {cache} cannot be used: {error.strerror}; name a directory that can be "
            "written with --modelops-cache or PYTEST_MODELOPS_CACHE"
        ) from None


def short_id(nodeid: str, cell_id: str) -> str:
    """Return a test's node id without the cell, for people: `tests/test_upgrade.py::test_upgrade`."""
    path, bracket, parameters = nodeid.partition("[")
    rest = f"-{parameters.removesuffix(']')}-".replace(f"-{cell_id}-", "-", 1).strip("-")
    return f"{path}[{rest}]" if bracket and rest else path
