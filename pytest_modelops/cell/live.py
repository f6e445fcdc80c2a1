"""The living cell: what fixtures, markers and checks hold. Opens environments, cluster and agent when first needed."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pytest_modelops.backends.base import Backend, Sandbox
from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks.aggregation import run_with as run_aggregation
from pytest_modelops.checks.base import Check
from pytest_modelops.checks.bundle_in_workers import install_again
from pytest_modelops.checks.calls import call_on
from pytest_modelops.checks.lambdas import run_on_each
from pytest_modelops.checks.outcome import outcome_of
from pytest_modelops.cluster.cluster import Cluster
from pytest_modelops.config.model import AggregationSettings, ClusterSettings, RunnerSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Lock, Progress
from pytest_modelops.errors import CellBroken, CheckFailed, ModelopsError, RunnerTimedOut, TimedOut
from pytest_modelops.matrix.cell import Cell, Role, Versions
from pytest_modelops.remote.shared.bundle_messages import BundleLocation
from pytest_modelops.report.model import CellReport, CheckResult, Status
from pytest_modelops.shipping import Shipped, pack, ship

if TYPE_CHECKING:
    from distributed import Client


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _without_our_frames(method: Callable[_P, _T]) -> Callable[_P, _T]:
    """For what users call: pytest shows the line of theirs that an error came from, and nothing of ours."""

    @functools.wraps(method)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        __tracebackhide__ = True
        try:
            return method(*args, **kwargs)
        except ModelopsError as error:
            raise error.with_traceback(None) from None

    return called


class LiveCell:
    """One cell with its real scheduler and workers.

    Tests get it from the fixture `modelops_cell`. Functions travel into the cell as source and values as plain data;
    see `call`.
    """

    def __init__(
        self,
        cell: Cell,
        *,
        backend: Backend,
        checks: Sequence[Check],
        aggregation: AggregationSettings,
        runner: RunnerSettings,
        cluster_settings: ClusterSettings,
        deadlines: Mapping[str, float],
        progress: Progress,
        reproduce: Callable[[Cell, Check], str],
        keep: str = "never",
        unpacked: Path | None = None,
    ) -> None:
        """Starts nothing.

        Args:
            keep: when its cluster is left up: `never`, `failed` or `always`.
            unpacked: the directory for what bundles that are archives hold.
            deadlines: seconds by check, where they are not the check's own.
            reproduce: the command that runs one check of a cell.
        """
        self.cell = cell
        self.backend = backend
        self.aggregation = aggregation
        self.runner = runner
        self.progress = progress
        self.locks: MutableMapping[Versions, Lock] = {}
        self.environments: MutableMapping[Versions, Environment] = {}
        self.observed: Mapping[str, Any] = {}
        self.unpacked = unpacked
        self.locations: MutableMapping[Bundle, BundleLocation] = {}
        self._checks = {check.label: check for check in checks}
        self._cluster_settings = cluster_settings
        self._default_deadlines = {check.name: check.seconds for check in checks}
        self._deadlines = deadlines
        self._reproduce = reproduce
        self._keep = keep
        self._notes: list[str] = []
        self._late = False  # whether something timed out, so that a worker may still be on it
        self.unreported: list[str] = []
        """What came of closing it that no `report` has reported yet, in words."""
        self._results: dict[str, CheckResult] = {}
        self._cluster: Cluster | None = None
        self._sandbox: Sandbox | None = None
        self._logs: dict[str, str] = {}
        self._clients: list[Client] = []
        self._began: float | None = None
        self._seconds = 0.0

    def __repr__(self) -> str:
        return f"<cell {self.id}>"

    # What users call ------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The cell's id, for people: `py3.12-dask2024.10.0`."""
        return self.cell.id

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of the workers: `("worker-0", "worker-1")`."""
        return tuple(worker.name for worker in self.cluster.workers)

    @property
    def logs(self) -> Mapping[str, Path]:
        """Log of each process by its name (`scheduler`, `worker-0`, `agent`)."""
        return {name: Path(path) for name, path in self._logs.items()}

    @_without_our_frames
    def call(
        self, function: Callable[..., Any] | str, *args: Any, worker: str | None = None, deadline: float | None = None
    ) -> Any:
        """Run a function on one worker and return what it returned.

        Args:
            function: a function or lambda, or the source of a lambda. It travels as source, with the functions,
                modules and plain data that it uses.
            args: plain data.
            worker: name of the worker; any, when not given.
            deadline: seconds; by default those of the check `lambda`.

        Raises:
            NotShippable: the function or an argument cannot travel; names what.
            RemoteError: it raised there; holds the cell's traceback.
            TimedOut: it did not finish.
        """
        return self._call(function, args, [worker], deadline)[worker]

    @_without_our_frames
    def call_each(
        self, function: Callable[..., Any] | str, *args: Any, deadline: float | None = None
    ) -> dict[str, Any]:
        """Run a function on every worker, all at once; returns what it returned by worker name. See `call`."""
        return {str(name): value for name, value in self._call(function, args, self.workers, deadline).items()}

    @_without_our_frames
    def client(self) -> Client:
        """A real `distributed.Client` of this very process, closed together with the cell.

        Raises:
            CheckFailed: this pytest's Python or packages are not the cell's, or its scheduler cannot be reached from
                here; the message shows what differs.
        """
        self._prepare()
        cluster = self.cluster
        scheduler: Mapping[str, Any] = self.observed["scheduler"]
        host = {"Python": python_version(), **{name: _installed(name) for name in scheduler["packages"]}}
        cells = {"Python": scheduler["python"], **scheduler["packages"]}
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

        client = Client(address, set_as_default=False, timeout=self._seconds_for("lambda"))
        self._clients.append(client)
        return client

    # What markers and the checks call -------------------------------------------------------------------------------

    def run_check(self, label: str) -> CheckResult:
        """Perform a check, once, after those that it needs; never raises for what is wrong with the cell."""
        if label not in self._results:
            self._results[label] = self._perform(self._checks[label])
        return self._results[label]

    def require(self, label: str) -> None:
        """Perform a check; raises `CellBroken` unless it passed."""
        result = self.run_check(label)
        if not result.status.lets_through:
            root = self._results[result.blocked_by or label]
            words = f"cell {self.id}: {root.label} {root.status.value}: {root.message}"
            raise CellBroken(words, root.label)

    def add(self, result: CheckResult) -> None:
        """Add what a test of the user's found out about this cell."""
        self._results[result.label] = result

    def run_bundle(self, checks: Sequence[Check], *, seconds: float | None) -> None:
        """Run the checks that a bundle's marker asks for, in this order; they need not be among those of the run.

        Args:
            seconds: for the last of them, which is then performed even if it was before.

        Raises:
            CheckFailed, TimedOut: one of them did not pass; the message is its own.
            CellBroken: the cell itself is broken.
        """
        for check in checks:
            self._checks.setdefault(check.label, check)
        *before, last = checks
        labels = [check.label for check in checks]
        if seconds is not None:
            labels = [*(check.label for check in before), *last.needs]
        for label in labels:
            result = self.run_check(label)
            if result.status.lets_through:
                continue
            root = self._results[result.blocked_by or label]
            if root.bundle is None:
                self.require(root.label)
            late = root.status is Status.TIMED_OUT
            words = f"{root.label} {root.status.value}: {root.message}\n\nreproduce: {root.reproduce}"
            raise (TimedOut if late else CheckFailed)(words)
        if seconds is not None:
            deadline = Deadline(seconds)
            self._with_stacks(lambda: last.run(self, deadline))
        if last.bundle is not None and last.bundle.in_workers:  # the test's body shall find it there
            install_again(last.bundle, self, Deadline(self._seconds_for(last.name)))

    def run_lambda(
        self,
        function: Shipped,
        args: tuple[Any, ...],
        *,
        expect: Callable[[Any], bool],
        expected: str,
        seconds: float | None,
    ) -> None:
        """What `modelops_lambda` asks for; raises what the check would."""
        self._prepare()
        deadline = Deadline(seconds or self._seconds_for("lambda"))
        self._with_stacks(lambda: run_on_each(self, deadline, function, args, expect=expect, expected=expected))

    def run_aggregation(self, settings: AggregationSettings, *, seconds: float | None) -> None:
        """What `modelops_aggregation` asks for; raises what the check would."""
        self._prepare()
        deadline = Deadline(seconds or self._seconds_for("aggregation"))
        self._with_stacks(lambda: run_aggregation(settings, self, deadline))

    def report(self) -> CellReport:
        """Everything known about the cell by now."""
        self.unreported.clear()
        return CellReport(
            id=self.id,
            python=str(self.cell.base.python),
            dask=self.cell.base.dask_text,
            roles={
                role.value: {"python": str(self.cell[role].python), "dask": self.cell[role].dask_text} for role in Role
            },
            seconds=self._seconds + (time.monotonic() - self._began if self._began is not None else 0.0),
            checks=tuple(self._results.values()),
            observed=self.observed,
            lock=tuple(dict.fromkeys(line for lock in self.locks.values() for line in lock.lines)),
            environments=tuple(
                {
                    "python": str(environment.lock.python),
                    "dask": versions.dask_text,
                    "reused": environment.reused,
                    "seconds": round(environment.seconds, 3),
                    "location": environment.location,
                    **({"identity": environment.identity} if environment.identity else {}),
                }
                for versions, environment in self.environments.items()
            ),
            logs=self._logs,
            notes=tuple(
                dict.fromkeys(
                    [
                        *(note for environment in self.environments.values() for note in environment.warnings),
                        *self._notes,
                    ]
                )
            ),
        )

    @property
    def leftover(self) -> CheckResult | None:
        """A failed `stop`, if something was left when the cluster was stopped."""
        return self._results.get("stop")

    def close(self) -> None:
        """End the cluster, if there is one, and prove that nothing is left; see `leftover`."""
        clients, self._clients = self._clients, []
        with contextlib.ExitStack() as closing:  # the clients first; if one cannot be closed, all the rest is
            closing.callback(self._end)
            for client in clients:
                closing.callback(client.close, timeout=2)

    def _end(self) -> None:
        try:
            left = self._stop()
        finally:
            if self._began is not None:
                self._seconds += time.monotonic() - self._began
                self._began = None
        if not left:
            return
        message = f"after stopping the cell, this was left: {'; '.join(left)}"
        self._results["stop"] = CheckResult(name="stop", status=Status.FAILED, message=message)
        self.unreported.append(f"cell {self.id}: {message}")

    # What checks call -----------------------------------------------------------------------------------------------

    @property
    def cluster(self) -> Cluster:
        """The running cluster; `CellBroken` where it could not be started.

        After the cell was closed it is started again: with tests in an order of its own, pytest may come back to it.
        """
        self.require("start")
        if self._cluster is None:
            self._began = time.monotonic()
            deadline = Deadline(self._seconds_for("start"))
            cluster = self.open_cluster(deadline)
            cluster.await_ready(deadline)
            self.observed = cluster.facts(deadline)
            for check in self._leaving():
                if check.label in self._results and check.leaves is not None:
                    check.leaves(self, Deadline(self._seconds_for(check.name)))
        return self.open_cluster(Deadline(0))

    def open_cluster(self, deadline: Deadline) -> Cluster:
        """Start the cluster unless it runs, without waiting until it is up."""
        if self._cluster is None:
            self._sandbox = self.backend.sandbox(self.cell)
            self._cluster = Cluster(
                self._sandbox,
                {role: self.environments[self.cell[role]] for role in Role},
                self._cluster_settings,
                start_seconds=deadline.remaining,
            )
            self._take_logs(self._sandbox)
        return self._cluster

    def keep_log(self, name: str, content: bytes) -> Path:
        """Keep what a part of the cell wrote that has no log on the host; replaces an earlier one of that name."""
        sandbox = self.cluster.sandbox
        path = sandbox.log(name)
        path.write_bytes(content)
        self._take_logs(sandbox)
        return path

    def _take_logs(self, sandbox: Sandbox) -> None:
        self._logs.update({name: str(path) for name, path in sandbox.logs().items()})

    # ----------------------------------------------------------------------------------------------------------------

    def _leaving(self) -> list[Check]:
        """The checks that leave something in the cluster which what comes later is to find there."""
        return [check for check in self._checks.values() if check.leaves is not None]

    def _prepare(self) -> None:
        """Have the cluster as it will be in production, before a bundle or something of the user's runs in it.

        Whether that went well is the check's own business, and no reason not to go on.
        """
        self._free_workers()
        for check in self._leaving():
            self.run_check(check.label)

    def _free_workers(self) -> None:
        """Before something is run after what timed out: end the workers that are still on that.

        Not where the cell may have to be left up, since what they are on is what will be looked for.
        """
        late, self._late = self._late, False
        if not late or self._cluster is None or self._keep != "never":
            return
        self.progress("ending workers that are still on what timed out")
        try:
            if names := self._cluster.free_workers(Deadline(self._seconds_for("start"))):
                self._notes.append(f"{', '.join(names)}: restarted, since still on a task that had timed out")
        except ModelopsError as error:  # what comes next will tell as well
            self._notes.append(f"workers that are still on what timed out could not be restarted: {error}")

    def _perform(self, check: Check) -> CheckResult:
        performed = [self._results[label] for label in check.after if label in self._results]
        for before in (performed, map(self.run_check, check.needs)):
            for needed in list(before):  # no cluster is started for what is blocked already
                if not needed.status.lets_through:
                    return self._blocked(check, needed.blocked_by or needed.label)
        if check.bundle is not None and check.needs:
            self._prepare()
        self._free_workers()
        if self._began is None:
            self._began = time.monotonic()
        began = time.monotonic()
        try:
            deadline = Deadline(self._seconds_for(check.name))
            status, message, data = outcome_of(lambda: self._with_stacks(lambda: check.run(self, deadline)))
        except CellBroken as broken:  # it used what it does not say that it needs
            return self._blocked(check, broken.root)
        finally:
            self.progress("")
            if self._sandbox is not None:  # it may have started another process
                self._take_logs(self._sandbox)
        return CheckResult(
            name=check.name,
            bundle=check.bundle.name if check.bundle else None,
            status=status,
            seconds=time.monotonic() - began,
            message=message,
            reproduce=self._reproduce(self.cell, check),
            data=data,
        )

    def _blocked(self, check: Check, root: str) -> CheckResult:
        text = f"blocked by {root}: {self._results[root].message.partition(chr(10))[0]}"
        return CheckResult(
            name=check.name,
            bundle=check.bundle.name if check.bundle else None,
            status=Status.BLOCKED,
            message=text,
            blocked_by=root,
        )

    def _with_stacks(self, run: Callable[[], _T]) -> _T:
        """Perform something; when it times out, add where each process stands."""
        try:
            return run()
        except RunnerTimedOut:
            raise
        except TimedOut as error:
            if self._cluster is None:
                raise
            self._late = True
            raise TimedOut(f"{error}\n\nWhere each process stands:\n{self._cluster.stacks()}") from None

    def _call(
        self,
        function: Callable[..., Any] | str,
        args: tuple[Any, ...],
        workers: Sequence[str | None],
        seconds: float | None,
    ) -> dict[str | None, Any]:
        """By worker name, `None` for any worker: what the function returned."""
        oldest = self.cell.client.python.release
        shipped = ship(function, oldest=(oldest[0], oldest[1]))
        packed = [pack(arg, f"argument {number}") for number, arg in enumerate(args, start=1)]
        self._prepare()
        cluster = self.cluster  # before the deadline begins: it may have to be started
        deadline = Deadline(seconds or self._seconds_for("lambda"))
        where = f"{shipped.label} in cell {self.id}"
        return self._with_stacks(lambda: call_on(cluster, shipped, packed, workers, deadline, where=where))

    def _seconds_for(self, check_name: str) -> float:
        return self._deadlines.get(check_name, self._default_deadlines.get(check_name, Check.seconds))

    def _stop(self) -> Sequence[str]:
        cluster, self._cluster = self._cluster, None
        sandbox, self._sandbox = self._sandbox, None
        self.locations.clear()
        if cluster is not None:
            self.progress("stopping")
            try:
                self._keep_up(cluster)
                return cluster.stop()
            finally:
                self.progress("")
        return sandbox.close() if sandbox is not None else ()

    def _keep_up(self, cluster: Cluster) -> None:
        """Leave the cluster up where that was asked for."""
        broke = any(result.status.broke for result in self._results.values())
        if self._keep == "always" or (self._keep == "failed" and broke):
            try:
                note = cluster.keep()
            except ModelopsError as error:
                note = f"cell {self.id} was not left up: {error}"
            self._notes.append(note)
            self.unreported.append(note)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
