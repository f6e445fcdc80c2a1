"""The processes of a cluster: how each is started and ended, and what is known of one that died or is slow.

They are the modules behind Dask's own command line. All start at once and find each other.
"""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterable, Mapping, Sequence

from pytest_modelops.backends.base import Process, Sandbox
from pytest_modelops.cluster.agent import Agent
from pytest_modelops.cluster.logs import last_line, last_lines, tail
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment
from pytest_modelops.errors import ProcessExited, TimedOut
from pytest_modelops.matrix.cell import Role

_POLL_SECONDS = 0.02
_KERNEL_SECONDS = 0.5
"""How long the supervisor has to report that the kernel killed a worker for its memory; it looks every 0.2 s."""
_DEATH = re.compile(r"(?:Worker process \d+|^modelops: a process) ((?:was killed|exited|died).*)")
"""How a nanny or the supervisor logs the end of a worker."""


class Parts:
    """Scheduler, workers and agent of one cell, from their start on.

    Attributes:
        late: the worker that joins after the others, while there is one.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        environments: Mapping[Role, Environment],
        settings: ClusterSettings,
        *,
        connect_seconds: float,
    ) -> None:
        self._sandbox = sandbox
        self._settings = settings
        self._environments = environments
        self._preload = f"{sandbox.remote}/modelops_remote/worker/modelops_preload.py"
        self.scheduler = sandbox.start(
            "scheduler",
            environments[Role.SCHEDULER],
            [
                *("-m", "distributed.cli.dask_scheduler"),
                *sandbox.scheduler_arguments(),
                *("--dashboard-address", "127.0.0.1:0", "--preload", self._preload),
            ],
            variables={},
        )
        self.workers = [self.start_worker(f"worker-{number}") for number in range(settings.workers)]
        self.agent = Agent.start(sandbox, environments[Role.CLIENT], seconds=connect_seconds)
        self.late: Process | None = None

    def start_worker(self, name: str) -> Process:
        return self._sandbox.start(
            name,
            self._environments[Role.WORKER],
            [
                *("-m", "distributed.cli.dask_worker"),
                *self._sandbox.worker_arguments(),
                *("--name", name, "--nthreads", str(self._settings.threads)),
                "--nanny" if self._settings.nanny else "--no-nanny",
                *("--local-directory", self._sandbox.directory(name)),
                *("--dashboard-address", "127.0.0.1:0", "--preload", self._preload),
                *self._settings.worker_arguments,
            ],
            variables={**self._settings.worker_variables, "PYTEST_MODELOPS_REMOTE": self._sandbox.remote},
        )

    @property
    def all(self) -> Sequence[Process]:
        late = [self.late] if self.late is not None else []
        return [self.scheduler, *self.workers, *late, self.agent.process]

    def named(self, name: str) -> Process:
        return next(process for process in self.all if process.name == name)

    def last_words(self, name: str) -> str:
        """Return the most useful lines that a process printed, and the path of its log."""
        return tail(self.named(name).log, most=6)

    def death_of_worker(self, name: str) -> str:
        """Return how a worker's process ended, as its nanny or the sandbox logs it; empty if neither does."""
        part = self.named(name)
        if part.ending is not None:
            return f"it {part.ending}"

        Deadline(_KERNEL_SECONDS).until(lambda: not _logged_death(part)[1], every=_POLL_SECONDS)
        death, _ = _logged_death(part)
        return f"its process {death}" if death else ""


def _logged_death(worker: Process) -> tuple[str, bool]:
    """Return the last death that a worker's log holds, and whether a line with its cause may follow."""
    deaths = [match[1] for line in last_lines(worker.log, most=400) if (match := _DEATH.search(line))]
    # The nanny sees only a signal. If the supervisor knows why the kernel sent it, it logs that too.
    causes = [death for death in deaths[-2:] if "by the kernel" in death]
    death = (causes or deaths or [""])[-1]
    return death, not causes and death.endswith(" signal 9")


def raise_if_exited(processes: Iterable[Process]) -> None:
    """Raise `ProcessExited` for the first process that has ended. Pass the scheduler first: others follow it."""
    for process in processes:
        if process.ending is not None:
            raise ProcessExited(f"{process.name} {process.ending}{last_line(process.log)}.{tail(process.log)}")


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
