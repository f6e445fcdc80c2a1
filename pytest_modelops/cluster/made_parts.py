"""The processes of a cluster that a Dask cluster class makes: the maker, the agent, and workers that are not ours."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pytest_modelops.backends.base import Process
from pytest_modelops.backends.cluster import ClusterSandbox
from pytest_modelops.cluster.agent import Agent
from pytest_modelops.cluster.logs import last_lines, tail
from pytest_modelops.cluster.parts import Parts, logged_death
from pytest_modelops.cluster.stacks import ELSEWHERE
from pytest_modelops.cluster.starting import SCHEDULER, worker_names
from pytest_modelops.config.types import EXEC
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CannotScale, CheckFailed, ModelopsError, RemoteError, TimedOut
from pytest_modelops.matrix.cell import Role
from pytest_modelops.remote.shared.process_messages import ChildStack

_STEP_SECONDS = 0.2
LOG_SECONDS = 2.0
"""How long the cluster has to return its logs."""
_LOOK_SECONDS = 5.0
"""How long the cluster's engine has to say what it lists."""
_SIGNAL_SECONDS = 2.0
_TRACE_LINES = 12


class ClusterWorker:
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
        return self._maker.state(pid=pid) if self._is_here(pid) else ELSEWHERE

    def _is_here(self, pid: int) -> bool:
        return pid in self._maker.descendants()


class MadeParts(Parts[ClusterSandbox]):
    """The maker, the agent, and the workers that the cluster's class starts."""

    def _start(self, connect_seconds: float) -> tuple[Process, list[Process], Agent]:
        sandbox, settings = self._sandbox, self._settings
        question = sandbox.question(self.environments, settings.workers)
        # Workers of many classes inherit the maker's variables.
        variables = {**settings.worker_variables, **settings.scheduler_variables}
        self.maker = Agent(
            *sandbox.start_maker(SCHEDULER, self.environments[Role.SCHEDULER], variables),
            title="the maker (the process that makes the cluster)",
        )
        agent = Agent.start(
            sandbox,
            self.environments[Role.CLIENT],
            seconds=connect_seconds,
            variables=settings.client_variables,
            module="made",
            contact={"file": str(sandbox.contact)},
        )
        self.maker.call("make", question=question, deadline=Deadline(connect_seconds))
        return self.maker.process, [self._worker(name, agent) for name in worker_names(settings)], agent

    def _worker(self, name: str, agent: Agent) -> ClusterWorker:
        return ClusterWorker(name, self._sandbox.log(name), self.maker.process, agent)

    def start_worker(self, name: str) -> Process:
        """Return the worker that comes when the cluster is scaled up; raises `CannotScale` if it scales itself."""
        made = self._settings.made
        if made is not None and made.adaptive is not None:
            raise CannotScale("this cluster scales itself")
        return self._worker(name, self.agent)

    @property
    def cluster_workers(self) -> list[ClusterWorker]:
        """All workers, the late one too."""
        return [worker for worker in (*self.workers, self.late) if isinstance(worker, ClusterWorker)]

    def await_made(self, deadline: Deadline) -> None:
        """Wait until the class has made the cluster.

        Raises:
            CheckFailed: it raised, or is not there.
            TimedOut: the deadline passed.
        """

        def made() -> bool:
            is_made: bool = self.maker.call("made", seconds=min(_STEP_SECONDS, deadline.remaining), deadline=deadline)
            self.raise_if_exited([self.agent.process])  # it is ended to have everything fail at once
            return is_made

        try:
            if deadline.until(made, every=0):
                return
        except RemoteError as error:
            trace = [f"    {line}" for line in error.traceback.rstrip().splitlines()[-_TRACE_LINES:]]
            raise CheckFailed("\n".join([str(error), *trace])) from None
        stands = ""
        with contextlib.suppress(ModelopsError):  # it holds the GIL perhaps
            stands = "; it stands at\n" + self.maker.call("stands", deadline=Deadline(_STEP_SECONDS))
        raise TimedOut(f"the cluster was not made within {deadline.seconds:g} s: the class has not returned{stands}")

    @property
    def started(self) -> Mapping[str, str]:
        return {SCHEDULER: EXEC, self.agent.process.name: EXEC}

    def fetch_logs(self) -> None:
        """Add what the cluster itself returns as logs to the workers' logs."""
        found: dict[str, str] = {}
        with contextlib.suppress(ModelopsError):
            found = self.agent.call("worker_logs", seconds=LOG_SECONDS, deadline=Deadline(LOG_SECONDS))
        with contextlib.suppress(ModelopsError):
            found |= self.maker.call("logs", seconds=LOG_SECONDS, deadline=Deadline(LOG_SECONDS))
        for worker in self.cluster_workers:
            worker.add_to_log(found.get(worker.its_name) or found.get(worker.address) or "")

    def look(self) -> str:
        """Return what the cluster's engine lists, as the end of a message."""
        with contextlib.suppress(ModelopsError):
            lines: Sequence[str] = self.maker.call("look", seconds=_LOOK_SECONDS, deadline=Deadline(_LOOK_SECONDS))
            return "".join(f"\n{line}" for line in lines)
        return ""

    def last_words(self, name: str) -> str:
        worker = next((one for one in self.cluster_workers if one.name == name), None)
        if worker is None:
            return super().last_words(name)
        if found := self._death(worker):
            return tail(found[1], most=6)
        self.fetch_logs()
        return tail(worker.log, most=6)

    def death_of_worker(self, name: str) -> str:
        worker = next((one for one in self.cluster_workers if one.name == name), None)
        found = self._death(worker) if worker is not None else None
        return f"its process {found[0]}" if found else ""

    def deaths_of_worker(self, name: str, since: int, ended: Collection[int]) -> Sequence[str]:  # noqa: ARG002
        return ()  # which of them are new is not known

    def _death(self, worker: ClusterWorker) -> tuple[str, Path] | None:
        """Return how a worker's process ended, and the log that says so: the maker's, or one of the cluster's."""
        for log in (self.maker.process.log, *self._sandbox.cluster_logs()):
            lines = last_lines(log, most=400)
            for pid in reversed(worker.pids):
                of_it = [line for line in lines if re.search(rf"\b{pid}\b", line)]
                death, _ = logged_death(of_it, self._memory_limit(worker.name))
                if death:
                    return death, log
        return None
