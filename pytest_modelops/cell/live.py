"""The living cell, as fixtures, markers and checks use it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pytest_modelops.backends.base import Backend
from pytest_modelops.bundles.bundle import Bundle, Patterns
from pytest_modelops.cell.checking import Checks
from pytest_modelops.cell.lifecycle import Lifecycle
from pytest_modelops.checks.attached import control_note
from pytest_modelops.checks.base import Check
from pytest_modelops.checks.calls import call_on
from pytest_modelops.cluster.cluster import Cluster
from pytest_modelops.cluster.faults import DuringJob
from pytest_modelops.config.faults import Fault
from pytest_modelops.config.model import AggregationSettings, ClusterSettings, RunnerSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Lock, Progress
from pytest_modelops.environments.uv import without_passwords
from pytest_modelops.errors import CheckFailed, ModelopsError, RemoteError
from pytest_modelops.matrix.cell import Cell, Role, Versions
from pytest_modelops.remote.shared.bundle_messages import BundleLocation
from pytest_modelops.remote.shared.facts import ClusterFacts
from pytest_modelops.report.known import KnownBreak
from pytest_modelops.report.model import CellReport, CheckResult, EnvironmentReport, Status
from pytest_modelops.shipping import pack, ship

if TYPE_CHECKING:
    from distributed import Client

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _without_our_frames(method: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have pytest show the user's line that an error came from, and no frame of this package."""

    @functools.wraps(method)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        __tracebackhide__ = True
        try:
            return method(*args, **kwargs)
        except ModelopsError as error:
            cell: LiveCell = args[0]  # type: ignore[assignment] # a method's first argument
            hide = cell.lifecycle.secrets.hide
            error.args = tuple(hide(one) if isinstance(one, str) else one for one in error.args)
            if isinstance(error, RemoteError):
                error.traceback = hide(error.traceback)
            raise error.with_traceback(None) from None

    return called


class LiveCell:
    """One cell with its real scheduler and workers.

    Tests get it from the fixture `modelops_cell`. Functions travel into the cell as source and values as plain data;
    see `call`.

    Attributes:
        checks: runs its checks.
        lifecycle: starts and stops its cluster.
        not_taken: why the results of an earlier run were not taken, if that was asked for.
    """

    def __init__(
        self,
        cell: Cell,
        *,
        backend: Backend,
        checks: Sequence[Check],
        aggregation: AggregationSettings,
        patterns: Patterns,
        runner: RunnerSettings,
        cluster_settings: ClusterSettings,
        deadlines: Mapping[str, float],
        progress: Progress,
        reproduce: Callable[[Cell, Check], str],
        keep: str = "never",
        unpacked: Path | None = None,
        known: Sequence[KnownBreak] = (),
        fingerprint: Callable[[Mapping[Versions, Lock]], Mapping[str, str]] = lambda _: {},
    ) -> None:
        """Create the cell; nothing starts.

        Args:
            keep: when its cluster is left up: `never`, `failed` or `always`.
            unpacked: the directory for the contents of bundles that are archives.
            deadlines: seconds by check, where they are not the check's own.
            reproduce: the command that runs one check of a cell.
            known: checks that are known to be broken.
            fingerprint: returns what decides about the results, with these locks, as hashes of named parts.
        """
        self.cell = cell
        self.backend = backend
        self.aggregation = aggregation
        self.patterns = patterns
        self.runner = runner
        self.progress = progress
        self.locks: MutableMapping[Versions, Lock] = {}
        self.environments: MutableMapping[Versions, Environment] = {}
        self.observed: ClusterFacts = {}
        self.unpacked = unpacked
        self.locations: MutableMapping[Bundle, BundleLocation] = {}
        self.not_taken = ""
        self._fingerprint = fingerprint
        self._taken: CellReport | None = None
        self.lifecycle = Lifecycle(cell, backend, cluster_settings, keep=keep, progress=progress)
        self.checks = Checks(self, self.lifecycle, checks, deadlines=deadlines, reproduce=reproduce, known=known)
        self.run_check, self.require, self.add = self.checks.run, self.checks.require, self.checks.add
        self.has, self.uses_cluster = self.checks.has, self.checks.uses_cluster
        self.keep_log = self.lifecycle.write_log

    def __repr__(self) -> str:
        return f"<cell {self.id}>"

    # What users call ------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The cell's id, for people: `py3.12-dask2024.10.0`."""
        return self.cell.id

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of the workers, also before they run: `("worker-0", "worker-1")`."""
        return self.lifecycle.workers

    @property
    def logs(self) -> Mapping[str, Path]:
        """Log of each process by its name (`scheduler`, `worker-0`, `agent`)."""
        return {name: Path(path) for name, path in self.lifecycle.logs.items()}

    @_without_our_frames
    def call(
        self, function: Callable[..., Any] | str, *args: Any, worker: str | None = None, deadline: float | None = None
    ) -> Any:
        """Run a function on one worker and return its value.

        Args:
            function: a function or lambda, or the source of a lambda. It travels as source, with the functions,
                modules and plain data that it uses.
            args: plain data.
            worker: name of the worker; by default any.
            deadline: seconds; by default those of the check `lambda`.

        Raises:
            NotShippable: the function or an argument cannot travel; names which.
            RemoteError: it raised there; holds the cell's traceback.
            TimedOut: it did not finish.
        """
        return self._call(function, args, [worker], deadline)[worker]

    @_without_our_frames
    def call_each(
        self, function: Callable[..., Any] | str, *args: Any, deadline: float | None = None
    ) -> dict[str, Any]:
        """Run a function on every worker, all at once; return the values by worker name. See `call`."""
        if self.attached:
            self._prepared_cluster()  # only then are the workers known
        return {str(name): value for name, value in self._call(function, args, self.workers, deadline).items()}

    @_without_our_frames
    def client(self) -> Client:
        """Return a real `distributed.Client` in this process, which is closed together with the cell.

        Raises:
            CheckFailed: this pytest's Python or packages are not the cell's, or its scheduler cannot be reached from
                here; the message lists the differences.
        """
        cluster = self._prepared_cluster()
        scheduler = self.observed["scheduler"]
        names = self.observed["client"]["packages"]  # a deployment reports more
        host = {"Python": python_version(), **{name: _installed(name) for name in names}}
        cells = {"Python": scheduler["python"], **{name: scheduler["packages"].get(name) for name in names}}
        differences = [f"{n} {host[n]} here, {cells[n]} in the cell" for n in cells if host[n] != cells[n]]
        if differences:
            raise CheckFailed(
                f"a client of this pytest cannot speak with cell {self.id}: {'; '.join(differences)}. "
                "Use modelops_cell.call, which runs in the cell's own Python, or run pytest in such an environment."
            )
        answer = cluster.agent.call("connect", seconds=1, deadline=Deadline(5))
        address = cluster.sandbox.host_address(answer["scheduler"])
        if address is None:
            raise CheckFailed(f"the scheduler of cell {self.id} ({answer['scheduler']}) cannot be reached from here.")
        from distributed import Client

        client = Client(address, set_as_default=False, timeout=self.checks.seconds_for("lambda"))
        self.lifecycle.clients.append(client)
        return client

    def _call(
        self,
        function: Callable[..., Any] | str,
        args: tuple[Any, ...],
        workers: Sequence[str | None],
        seconds: float | None,
    ) -> dict[str | None, Any]:
        oldest = self.cell.client.python.release
        shipped = ship(function, oldest=(oldest[0], oldest[1]))
        packed = [pack(arg, f"argument {number}") for number, arg in enumerate(args, start=1)]
        cluster = self._prepared_cluster()
        deadline = Deadline(seconds or self.checks.seconds_for("lambda"))
        where = f"{shipped.label} in cell {self.id}"
        return self.checks.with_diagnosis(lambda: call_on(cluster, shipped, packed, workers, deadline, where=where))

    def _prepared_cluster(self) -> Cluster:
        self.checks.prepare_cluster()
        return self.cluster

    # What checks call -----------------------------------------------------------------------------------------------

    @property
    def attached(self) -> bool:
        return self.lifecycle.deployment is not None

    @property
    def cluster(self) -> Cluster:
        """The running cluster; `CheckFailed` if none runs."""
        if self.lifecycle.cluster is None:
            raise CheckFailed(
                f'no cluster of cell {self.id} runs; give a check that uses it needs=("start",), or call '
                "cell.call, which starts it"
            )
        return self.lifecycle.cluster

    def open_cluster(self, deadline: Deadline) -> Cluster:
        return self.lifecycle.open(self.environments, deadline)

    @contextlib.contextmanager
    def during_job(self, fault: Fault, tasks: int | None = None) -> Iterator[DuringJob]:
        during = self.cluster.during_job(fault, tasks)
        try:
            with during:
                yield during
        finally:
            if during.began:
                self.lifecycle.disturbed = True
                self.locations.clear()  # the next cluster has no bundles

    # What the session calls -----------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        return self.lifecycle.seconds

    def check_ahead(self, label: str) -> None:
        self.checks.run_ahead(label)
        self.lifecycle.rest()

    def is_for_main(self, label: str) -> bool:
        # What a cell that is left up shows must not go on after the test that ends the run.
        return (self.lifecycle.may_be_kept and self.uses_cluster(label)) or self.checks.is_for_main(label)

    def give_up(self) -> None:
        self.checks.give_up()
        self.lifecycle.give_up()

    @property
    def taken(self) -> str | None:
        """When the run started that its results are from; `None` if it is run."""
        return self._taken.taken if self._taken is not None else None

    def take(self, report: CellReport) -> None:
        """Take the results of an earlier run, instead of running anything."""
        self._taken = report
        for result in report.ran:
            self.checks.add(result)

    def report(self) -> CellReport:
        if self._taken is not None:
            return self._taken
        # Copies, since a check may run in another thread.
        environments, locks, results = dict(self.environments), dict(self.locks), self.checks.results
        secrets = self.lifecycle.secrets
        of_checks = (str(result.data["note"]) for result in results.values() if "note" in result.data)
        of_environments = (note for environment in environments.values() for note in environment.warnings)
        notes = [*of_environments, *of_checks, *self.lifecycle.notes]
        report, roles = CellReport.of(self.cell), tuple(Role)
        if self.attached:  # scheduler and workers are planned by nobody
            roles = (Role.CLIENT,)
            report = dataclasses.replace(report, roles={"client": report.roles["client"]})
            notes += filter(None, [control_note(self.observed, results.values())])
        return dataclasses.replace(
            report,
            seconds=self.lifecycle.seconds,
            checks=tuple(results.values()),
            observed=secrets.hide_in(self.observed),
            lock=tuple(dict.fromkeys(line for lock in locks.values() for line in lock.lines)),
            environments=tuple(_environment_report(self.cell, roles, *item) for item in environments.items()),
            started=dict(self.lifecycle.started),
            logs={**self.lifecycle.logs, **self.lifecycle.diagnoses},
            notes=secrets.hide_in(tuple(dict.fromkeys(notes))),
            fingerprint=self._fingerprint(locks),
            not_taken=self.not_taken,
        )

    @property
    def leftover(self) -> CheckResult | None:
        """A failed `stop`, if stopping the cluster left something behind."""
        return self.checks.results.get("stop")

    def close(self) -> None:
        """Stop the cluster, if one runs, and prove that nothing is left; see `leftover`."""
        self.locations.clear()
        try:
            self.lifecycle.close(broke=any(result.status.broke for result in self.checks.results.values()))
        finally:
            if self.lifecycle.leftover:
                self.add(CheckResult(name="stop", status=Status.FAILED, message=self.lifecycle.leftover))


def _environment_report(
    cell: Cell, roles: Sequence[Role], versions: Versions, environment: Environment
) -> EnvironmentReport:
    report = EnvironmentReport(
        python=str(environment.lock.python),
        dask=versions.dask_text,
        reused=environment.reused,
        seconds=round(environment.seconds, 3),
        location=environment.location,
        roles=[role.value for role in roles if versions in {cell[role], cell.upgraded(role)}],
        requirements=without_passwords(environment.lock.requirements),
    )
    if environment.identity:
        report["identity"] = environment.identity
    return report


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
