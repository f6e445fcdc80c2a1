"""A cluster that a Dask cluster class makes, as checks see a cluster: its workers are where the class starts them."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from pytest_modelops.backends.base import Process
from pytest_modelops.backends.cluster import ClusterSandbox
from pytest_modelops.cluster.agent import Agent
from pytest_modelops.cluster.cluster import LATE, Cluster, in_cell_of
from pytest_modelops.cluster.diagnosing import Diagnoses
from pytest_modelops.cluster.logs import last_lines, tail
from pytest_modelops.cluster.parts import Parts, last_seen, logged_death
from pytest_modelops.cluster.registration import LOOK_SECONDS, Registration
from pytest_modelops.cluster.starting import SCHEDULER, worker_names
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.config.types import EXEC
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment
from pytest_modelops.errors import CannotScale, CheckFailed, ModelopsError, RemoteError, RunnerTimedOut, TimedOut
from pytest_modelops.matrix.cell import Role
from pytest_modelops.remote.shared.cluster_messages import CloseReport, ClusterLogs, MadeState, WorkerName
from pytest_modelops.remote.shared.facts import ClusterFacts, PreloadSetup
from pytest_modelops.remote.shared.process_messages import ChildStack

_STEP_SECONDS = 0.2
_LOG_SECONDS = 2.0
"""How long the cluster has to return its logs."""
_LOOK_SECONDS = 5.0
"""How long the cluster's engine has to say what it lists."""
_SIGNAL_SECONDS = 2.0
_CLOSE_SECONDS = 40.0
_LATE_SECONDS = 10.0
"""How long the late worker has to leave."""
_LEFT_SECONDS = 2.0
"""How long processes of this machine have to end when the cluster is closed."""
_TRACE_LINES = 12


class Elsewhere:
    """A worker that the cluster's class has started, on this machine or on another (see `backends.base.Process`).

    Attributes:
        pids: those that it has had, as it said itself; the last is that of its process now.
        address: where it is registered; empty if it is not.
        its_name: what the class calls it.
    """

    def __init__(self, name: str, log: Path, maker: Process, agent: Agent) -> None:
        log.touch()
        self.name, self.log = name, log
        self._maker, self._agent = maker, agent
        self.pids: list[int] = []
        self.address = self.its_name = ""
        self._logged: set[str] = set()

    @property
    def pid(self) -> int:
        return self.pids[-1] if self.pids else 0

    @property
    def ending(self) -> str | None:
        return None  # that is known of its jobs or pods only, by the class

    def add_to_log(self, text: str) -> None:
        """Add those lines that were not added before."""
        lines = [line for line in text.splitlines() if line not in self._logged]
        self._logged.update(lines)
        with self.log.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)

    def wait(self, deadline: Deadline) -> str:
        raise TimedOut(f"{self.name} did not end within {deadline.seconds:g} s")

    def signal(self, number: int, *, pid: int | None = None) -> bool:
        pid = pid or self.pid
        if self._is_here(pid):
            return self._maker.signal(number, pid=pid)
        if pid not in self.pids or not self.address:
            return False
        with contextlib.suppress(ModelopsError):
            return bool(
                self._agent.call(
                    "signal_worker",
                    address=self.address,
                    pid=pid,
                    number=number,
                    seconds=_SIGNAL_SECONDS,
                    deadline=Deadline(_SIGNAL_SECONDS),
                )
            )
        return False

    def descendants(self) -> Sequence[int]:
        return ()

    def abort_children(self, *, pid: int | None = None) -> Sequence[ChildStack]:
        pid = pid or self.pid
        return self._maker.abort_children(pid=pid) if self._is_here(pid) else ()

    def state(self, *, pid: int | None = None) -> str:
        pid = pid or self.pid
        return self._maker.state(pid=pid) if self._is_here(pid) else "not on this machine"

    def _is_here(self, pid: int) -> bool:
        return pid in self._maker.descendants()


class MadeParts(Parts):
    """The maker, the agent, and the workers that the cluster's class starts."""

    def __init__(
        self,
        sandbox: ClusterSandbox,
        environments: Mapping[Role, Environment],
        settings: ClusterSettings,
        *,
        connect_seconds: float,
    ) -> None:
        self._sandbox: ClusterSandbox = sandbox
        self._settings = settings
        self._environments = environments
        self._options = None
        question = sandbox.question(environments, settings.workers)
        # Workers of many classes inherit the maker's variables.
        variables = {**settings.worker_variables, **settings.scheduler_variables}
        self.maker = Agent(
            *sandbox.start_maker(SCHEDULER, environments[Role.SCHEDULER], variables),
            title="the maker (the process that makes the cluster)",
        )
        self.scheduler = self.maker.process
        self.agent = Agent.start(
            sandbox,
            environments[Role.CLIENT],
            seconds=connect_seconds,
            variables=settings.client_variables,
            module="made",
            contact={"file": str(sandbox.contact)},
        )
        self.maker.call("make", question=question, deadline=Deadline(connect_seconds))
        self.workers: list[Elsewhere] = [self._elsewhere(name) for name in worker_names(settings)]  # type: ignore[assignment]
        self.late: Process | None = None
        self.memory_limits: dict[str, int] = {}
        self.with_ended_children: set[str] = set()

    def _elsewhere(self, name: str) -> Elsewhere:
        return Elsewhere(name, self._sandbox.log(name), self.maker.process, self.agent)

    def start_worker(self, name: str) -> Process:
        """Return the worker that comes when the cluster is scaled up."""
        return self._elsewhere(name)

    @property
    def elsewhere(self) -> list[Elsewhere]:
        """All workers, the late one too."""
        return [*self.workers, *([self.late] if isinstance(self.late, Elsewhere) else [])]

    def await_made(self, deadline: Deadline) -> None:
        """Wait until the class has made the cluster.

        Raises:
            CheckFailed: it raised, or is not there.
            TimedOut: the deadline passed.
        """

        def made() -> bool:
            state: MadeState = self.maker.call(
                "made", seconds=min(_STEP_SECONDS, deadline.remaining), deadline=deadline
            )
            self.raise_if_exited([self.agent.process])  # it is ended to have everything fail at once
            return state["made"]

        try:
            if deadline.until(made, every=0):
                return
        except RemoteError as error:
            trace = [f"    {line}" for line in error.traceback.rstrip().splitlines()[-_TRACE_LINES:]]
            raise CheckFailed("\n".join([str(error), *trace])) from None
        raise TimedOut(f"the cluster was not made within {deadline.seconds:g} s: the class has not returned")

    @property
    def started(self) -> Mapping[str, str]:
        return {SCHEDULER: EXEC, self.agent.process.name: EXEC}

    @property
    def start_notes(self) -> Sequence[str]:
        return ()

    def fetch_logs(self) -> None:
        """Add what the cluster itself returns as logs to the workers' logs."""
        found: dict[str, str] = {}
        with contextlib.suppress(ModelopsError):
            found = self.agent.call("worker_logs", seconds=_LOG_SECONDS, deadline=Deadline(_LOG_SECONDS))
        with contextlib.suppress(ModelopsError):
            of_class: ClusterLogs = self.maker.call("logs", seconds=_LOG_SECONDS, deadline=Deadline(_LOG_SECONDS))
            found = {**found, **of_class["logs"]}
        for worker in self.elsewhere:
            worker.add_to_log(found.get(worker.its_name) or found.get(worker.address) or "")

    def look(self) -> str:
        """Return what the cluster's engine lists, as the end of a message."""
        with contextlib.suppress(ModelopsError):
            lines: Sequence[str] = self.maker.call("look", seconds=_LOOK_SECONDS, deadline=Deadline(_LOOK_SECONDS))
            return "".join(f"\n{line}" for line in lines)
        return ""

    def last_words(self, name: str) -> str:
        worker = next((one for one in self.elsewhere if one.name == name), None)
        if worker is None:
            return super().last_words(name)
        if found := self._death(worker):
            return tail(found[1], most=6)
        self.fetch_logs()
        return tail(worker.log, most=6)

    def death_of_worker(self, name: str) -> str:
        worker = next((one for one in self.elsewhere if one.name == name), None)
        found = self._death(worker) if worker is not None else None
        return f"its process {found[0]}" if found else ""

    def deaths_of_worker(self, name: str, since: int, ended: Collection[int]) -> Sequence[str]:  # noqa: ARG002
        return ()  # which of them are new is not known

    def _death(self, worker: Elsewhere) -> tuple[str, Path] | None:
        """Return how a worker's process ended, and the log that says so: the maker's, or one of the cluster's."""
        for log in (self.maker.process.log, *self._sandbox.cluster_logs()):
            lines = last_lines(log, most=400)
            for pid in reversed(worker.pids):
                of_it = [line for line in lines if re.search(rf"\b{pid}\b", line)]
                death, _ = logged_death(of_it, self._memory_limit(worker.name))
                if death:
                    return death, log
        return None


class MadeRegistration(Registration):
    """Which workers are registered, under our names: a class has its own."""

    def __init__(self, parts: MadeParts, *, nannies: bool) -> None:
        super().__init__(parts, nannies=nannies)
        self._parts: MadeParts = parts
        self._names: dict[str, str] = {}
        """Our names, by those of the class."""
        self._named: set[str] = set()
        """Addresses of workers that have answered to their name."""

    def now(self, deadline: Deadline) -> dict[str, str]:
        found = super().now(deadline)
        for name in sorted(found, key=_natural):
            if name not in self._names:
                taken = {self._names[one] for one in found if one in self._names}
                free = next((one.name for one in self._parts.elsewhere if one.name not in taken), "")
                self._names = {theirs: ours for theirs, ours in self._names.items() if ours != free}
                if free:
                    self._names[name] = free
        ours = {self._names[name]: address for name, address in found.items() if name in self._names}
        its_names = {one: name for name, one in self._names.items()}
        for worker in self._parts.elsewhere:
            worker.address = ours.get(worker.name, "")
            worker.its_name = its_names.get(worker.name, "")
        return ours

    def _watch(self, wanted: Sequence[Process], found: Mapping[str, str], deadline: Deadline) -> bool:
        return self.await_named([worker.name for worker in wanted], found, deadline) and super()._watch(
            wanted, found, deadline
        )

    def await_named(self, names: Sequence[str], found: Mapping[str, str], deadline: Deadline) -> bool:
        """Return whether these workers have what answers checks, and know their names."""
        logs = {worker.name: str(worker.log) for worker in self._parts.elsewhere}
        asked: dict[str, WorkerName] = {
            found[name]: {"name": name, "log": logs[name]} for name in names if found[name] not in self._named
        }
        if asked:
            seconds = max(min(_LOG_SECONDS, deadline.remaining), _STEP_SECONDS)
            self._named.update(self._parts.agent.call("name_workers", names=asked, seconds=seconds, deadline=deadline))
        return all(address in self._named for address in asked)


class MadeCluster(Cluster):
    """A cluster of a Dask cluster class.

    Attributes:
        stop_notes: what had to be ended by force, for the report.
    """

    def __init__(
        self,
        sandbox: ClusterSandbox,
        environments: Mapping[Role, Environment],
        settings: ClusterSettings,
        *,
        start_seconds: float,
    ) -> None:
        """Have the cluster made, and start the client."""
        self.sandbox: ClusterSandbox = sandbox
        self.settings = settings = in_cell_of(settings, sandbox)
        self._parts: MadeParts = MadeParts(sandbox, environments, settings, connect_seconds=start_seconds)
        self._registration: MadeRegistration = MadeRegistration(self._parts, nannies=settings.nanny)
        self._diagnoses = Diagnoses(self._parts, settings)
        self.workers = self._parts.workers
        self.agent = self._parts.agent
        self.last_words = self._parts.last_words
        self.death_of_worker = self._parts.death_of_worker
        self.addresses: Mapping[str, str] = {}
        self._left_up = False
        self._reported = {}
        self.stop_notes: Sequence[str] = ()

    def await_ready(self, deadline: Deadline) -> None:
        self._parts.await_made(deadline)
        self._registration.await_client(deadline)
        self.agent.call("join", seconds=deadline.remaining, deadline=deadline)
        try:
            self.await_workers(deadline)
        except TimedOut as error:
            head, _, _ = str(error).partition("\n")  # that they are elsewhere is all that is known of those missing
            raise TimedOut(f"{head}{self._parts.look()}") from None

    def preloads(self, deadline: Deadline) -> Mapping[str, Sequence[PreloadSetup]]:  # noqa: ARG002 - as the base class
        return {}  # they are up to the class's options, and Dask logs how they went

    def facts(self, deadline: Deadline) -> ClusterFacts:
        answer = super().facts(deadline)
        for worker in self._parts.elsewhere:
            pid = self._reported.get(worker.name, {}).get("pid")
            if pid and pid not in worker.pids:
                worker.pids.append(pid)
        if self._reported.get(SCHEDULER, {}).get("pid") != self._parts.scheduler.pid:
            self._reported.pop(SCHEDULER, None)  # it runs elsewhere
        nannies = [one["settings"]["nanny"] for one in answer["workers"].values() if "settings" in one]
        if nannies:
            self.settings = dataclasses.replace(self.settings, nanny=all(nannies))
        return answer

    @contextlib.contextmanager
    def one_more(self, deadline: Deadline) -> Iterator[tuple[str, str]]:
        """Scale the cluster up by one, and down again afterwards.

        Raises:
            CannotScale: the cluster cannot have one more.
        """
        made = self.settings.made
        if made is not None and made.adaptive is not None:
            raise CannotScale("this cluster scales itself")
        count = len(self.workers)
        late = self._parts.late = self._parts.start_worker(LATE)
        try:
            self._scale(count + 1, deadline)
            yield LATE, self._await_late(late, deadline)
        except TimedOut as error:
            raise self.explained(error, RunnerTimedOut) from None
        finally:
            ending = Deadline(_LATE_SECONDS)
            with contextlib.suppress(ModelopsError):
                self._scale(count, ending)
                ending.until(lambda: LATE not in self._registration.now(ending), every=LOOK_SECONDS)
            self._parts.late = None

    def _scale(self, workers: int, deadline: Deadline) -> None:
        try:
            self._parts.maker.call("scale", workers=workers, seconds=deadline.remaining, deadline=deadline)
        except RemoteError as error:
            raise CannotScale(f"the cluster could not be scaled to {workers} workers: {error}") from None

    def _await_late(self, late: Process, deadline: Deadline) -> str:
        address = super()._await_late(late, deadline)
        deadline.until(
            lambda: self._registration.await_named([late.name], {late.name: address}, deadline), every=LOOK_SECONDS
        )
        self.facts(deadline.at_most(_LOG_SECONDS))
        return address

    def explained(self, error: TimedOut, kind: type[TimedOut] = TimedOut) -> TimedOut:
        if not self._reported:  # it never came up; its maker is not ended, since that has to close it
            return kind(f"{error}\n\n{last_seen([self._parts.maker.process, self.agent.process])}")
        return super().explained(error, kind)

    def stop(self) -> Sequence[str]:
        """Close the cluster, and prove that nothing is left of it, by what its engine lists and on this machine."""
        self._parts.fetch_logs()
        with contextlib.suppress(ModelopsError):  # frozen, dead or busy: closing its stdin ends it
            self.agent.call("close", deadline=Deadline(0.5))
        self.agent.close()
        maker, left = self._parts.maker, list[str]()
        try:
            report: CloseReport = maker.call("close", seconds=_CLOSE_SECONDS, deadline=Deadline(_CLOSE_SECONDS))
            left += report["left"]
            self.stop_notes = report["notes"]
        except ModelopsError as error:
            left.append(f"the cluster, which could not be closed: {error}")
        maker.close()
        with contextlib.suppress(TimedOut):
            maker.process.wait(Deadline(_LEFT_SECONDS))
        if maker.process.ending is None:
            maker.process.signal(signal.SIGKILL)
        Deadline(_LEFT_SECONDS).until(lambda: not self.sandbox.left(), every=_STEP_SECONDS / 4)
        left += [f"process {one}" for one in self.sandbox.left()]
        return [*left, *self.sandbox.close()]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort `worker-10` after `worker-9`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
