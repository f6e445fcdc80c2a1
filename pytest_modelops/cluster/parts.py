"""The processes of a cluster: which there are, and what is known of one that died or is slow."""

from __future__ import annotations

import abc
import contextlib
import re
import signal
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from pytest_modelops.backends.base import Process, Sandbox
from pytest_modelops.cluster.agent import Agent
from pytest_modelops.cluster.logs import last_line, last_lines, tail
from pytest_modelops.cluster.question import Question
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment
from pytest_modelops.errors import ProcessExited, TimedOut
from pytest_modelops.matrix.cell import Role

_S = TypeVar("_S", bound=Sandbox)
_POLL_SECONDS = 0.02
_KERNEL_SECONDS = 0.5
"""How long the supervisor has to report that the kernel killed a worker for its memory; it looks every 0.2 s."""
_DEATH = re.compile(r"(?:Worker process (?P<pid>\d+)|^modelops: a process) (?P<how>(?:was killed|exited|died).*)")
"""How a nanny or the supervisor logs the end of a worker."""
_MEMORY = re.compile(r"\(pid=(?P<pid>\d+)\) exceeded (?P<share>\d+% )memory budget")
"""How a nanny logs that it ends a worker for its memory."""


class Parts(abc.ABC, Generic[_S]):
    """Scheduler, workers and agent of one cell, from their start on.

    Attributes:
        environments: those that processes of each role are started with.
        scheduler, workers, agent: those that a rolling upgrade has started, once it has.
        late: the worker that joins after the others, while there is one.
        leaving: the worker that another one is just replacing, if one is.
        memory_limits: bytes by the worker's name, of those that have registered.
        with_ended_children: names of workers whose child processes were ended to see their stacks.
    """

    def __init__(
        self,
        sandbox: _S,
        environments: Mapping[Role, Environment],
        settings: ClusterSettings,
        *,
        connect_seconds: float,
    ) -> None:
        self._sandbox = sandbox
        self._settings = settings
        self.environments = dict(environments)
        self.late: Process | None = None
        self.leaving: Process | None = None
        self.memory_limits: dict[str, int] = {}
        self.with_ended_children: set[str] = set()
        self.scheduler, self.workers, self.agent = self._start(connect_seconds)

    @abc.abstractmethod
    def _start(self, connect_seconds: float) -> tuple[Process, list[Process], Agent]:
        """Start all processes at once: scheduler, workers and agent."""

    @abc.abstractmethod
    def start_worker(self, name: str) -> Process: ...

    def ask_worker_environment(self, name: str, module: str, content: object) -> Question:
        """Ask the workers' environment something, in a process with their variables; see `Question`."""
        environment, variables = self.environments[Role.WORKER], self._settings.worker_variables
        return Question(self._sandbox, environment, name, module, content, variables=variables)

    @property
    def names(self) -> Sequence[str]:
        """Names of the workers, whether they run or not."""
        return [worker.name for worker in self.workers]

    @property
    @abc.abstractmethod
    def started(self) -> Mapping[str, str]:
        """How each process was started, by its name: `exec`, `fork`, `fork-workers`, or `exec` and why."""

    @property
    def all(self) -> Sequence[Process]:
        others = [one for one in (self.leaving, self.late) if one is not None]
        return [self.scheduler, *self.workers, *others, self.agent.process]

    def named(self, name: str) -> Process:
        return next(process for process in self.all if process.name == name)

    def raise_if_exited(self, processes: Iterable[Process]) -> None:
        """Raise `ProcessExited` for the first process that has ended. Pass the scheduler first: others follow it."""
        for process in processes:
            if process.ending is not None:
                hint = self._hint_of(process)
                raise ProcessExited(
                    f"{process.name} {process.ending}{last_line(process.log)}.{hint}{tail(process.log)}"
                )

    def _hint_of(self, process: Process) -> str:
        """Return which variables Dask failed to read as its configuration, if that is what ended a process."""
        settings, ours = self._settings, {"scheduler": "scheduler-env", self.agent.process.name: "client-env"}
        of_role = {"scheduler-env": settings.scheduler_variables, "client-env": settings.client_variables}
        key = ours.get(process.name, "env")
        names = [name for name in of_role.get(key, settings.worker_variables) if name.startswith("DASK_")]
        if not names or not any(", in collect_env" in line for line in last_lines(process.log)):
            return ""
        return (
            f" Dask failed to read its configuration from variables: {', '.join(names)}. See `{key}` in "
            "[tool.modelops.environment]."
        )

    def last_words(self, name: str) -> str:
        """Return the most useful lines that a process printed, and the path of its log."""
        return tail(self.named(name).log, most=6)

    def death_of_worker(self, name: str) -> str:
        """Return how a worker's process ended, as its nanny or the sandbox logs it; empty if neither does."""
        part = self.named(name)
        if part.ending is not None:
            return f"it {part.ending}"

        def logged() -> tuple[str, bool]:
            return logged_death(last_lines(part.log, most=400), self._memory_limit(name))

        Deadline(_KERNEL_SECONDS).until(lambda: not logged()[1], every=_POLL_SECONDS)
        death, _ = logged()
        return f"its process {death}" + (f"\n    Log: {part.log}" if "\n" in death else "") if death else ""

    def deaths_of_worker(self, name: str, since: int, ended: Collection[int]) -> Sequence[str]:
        """Return how the processes of a worker ended that its nanny has replaced, as it logs them.

        Args:
            since: size of its log from which on to look.
            ended: pids that do not count.
        """
        log = self.named(name).log
        with log.open("rb") as file:
            file.seek(since)
            found = map(_DEATH.search, file.read().decode(errors="replace").splitlines())
            return [death["how"] for death in found if death and death["pid"] and int(death["pid"]) not in ended]

    def _memory_limit(self, name: str) -> str:
        """Return a worker's memory limit and where it comes from, for people."""
        limit = self.memory_limits.get(name)
        given = any(argument.partition("=")[0] == "--memory-limit" for argument in self._settings.worker_arguments)
        origin = "`--memory-limit` in `worker-args`" if given else "Dask's default; `--memory-limit` in `worker-args`"
        return (f"of {limit / 2**20:.0f} MiB " if limit else "") + f"({origin})"


def logged_death(lines: Sequence[str], memory_limit: str) -> tuple[str, bool]:
    """Return the last death that a worker's log holds, and whether a line with its cause may follow."""
    found = [match for line in lines if (match := _DEATH.search(line))]
    deaths = [match["how"] for match in found]
    ended = [(line, match) for line in lines if (match := _MEMORY.search(line))]
    if ended:
        line, memory = ended[-1]
        of_it = [match["how"] for match in found if match["pid"] == memory["pid"]]
        if not of_it or found[-1]["pid"] == memory["pid"]:
            how = f" ({of_it[-1]})" if of_it else ""
            why = f"because it exceeded {memory['share']}of its memory limit {memory_limit}"
            return f"was ended by its nanny{how}, {why}\n    {line.strip()}", False
    # The nanny sees only a signal. If the supervisor knows why the kernel sent it, it logs that too.
    causes = [death for death in deaths[-2:] if "by the kernel" in death]
    death = (causes or deaths or [""])[-1]
    return death, not causes and death.endswith(" signal 9")


def last_seen(processes: Iterable[Process]) -> str:
    return "\n".join(
        f"{process.name} (pid {process.pid}) is {process.state()}.{tail(process.log)}" for process in processes
    )


def terminate(processes: Sequence[Process], deadline: Deadline) -> None:
    """Send SIGTERM to each and wait; the sandbox kills what remains."""
    for process in processes:
        process.signal(signal.SIGTERM)
    with contextlib.suppress(TimedOut):
        for process in processes:
            process.wait(deadline)
