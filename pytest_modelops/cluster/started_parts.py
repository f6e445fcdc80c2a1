"""Scheduler, workers and agent as we start them: the modules behind Dask's own command line.

All start at once and find each other.
"""

from __future__ import annotations

import shlex
import signal
from collections.abc import Mapping, Sequence

from pytest_modelops.backends.base import Process, Sandbox
from pytest_modelops.cluster.agent import Agent
from pytest_modelops.cluster.parts import Parts
from pytest_modelops.cluster.starting import (
    AGENT,
    OPTIONS,
    SCHEDULER,
    faults,
    prepare_to_fork,
    started,
    with_forking_nannies,
    worker_names,
)
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed
from pytest_modelops.matrix.cell import Role
from pytest_modelops.remote.shared.facts import WorkerOptions


class StartedParts(Parts[Sandbox]):
    """Scheduler, workers and agent that we have started, and start again."""

    def _start(self, connect_seconds: float) -> tuple[Process, list[Process], Agent]:
        self._settings = settings = with_forking_nannies(self._settings, self._sandbox)
        self._preload = f"{self._sandbox.remote}/modelops_remote/worker/modelops_preload.py"
        prepare_to_fork(self._sandbox, self.environments, settings, seconds=connect_seconds / 2)
        self._options = (
            self.ask_worker_environment(OPTIONS, "worker.options", list(settings.worker_arguments))
            if settings.worker_arguments
            else None
        )
        scheduler = self.start_scheduler()
        workers = [self.start_worker(name) for name in worker_names(settings)]
        return scheduler, workers, self.start_agent(AGENT, connect_seconds)

    def start_scheduler(self, *arguments: str) -> Process:
        return self._sandbox.start(
            SCHEDULER,
            self.environments[Role.SCHEDULER],
            [
                *("-m", "distributed.cli.dask_scheduler"),
                *self._sandbox.scheduler_arguments(),
                *arguments,
                *("--dashboard-address", "127.0.0.1:0", "--preload", self._preload),
            ],
            variables={**self._settings.scheduler_variables, "PYTEST_MODELOPS_REMOTE": self._sandbox.remote},
        )

    def restart_scheduler(self, deadline: Deadline) -> None:
        """Kill the scheduler and start another one at its address, which knows nothing of the first."""
        address = self.agent.call("connect", seconds=1, deadline=deadline)["scheduler"]
        self.scheduler.signal(signal.SIGKILL)
        self.scheduler.wait(deadline)
        self.scheduler = self.start_scheduler("--port", address.rpartition(":")[2])

    def restart_ended_workers(self) -> None:
        for number, worker in enumerate(self.workers):
            if worker.ending is not None:
                self.workers[number] = self.start_worker(worker.name)

    def start_agent(self, name: str, seconds: float) -> Agent:
        environment, variables = self.environments[Role.CLIENT], self._settings.client_variables
        return Agent.start(self._sandbox, environment, seconds=seconds, variables=variables, name=name)

    def start_worker(self, name: str) -> Process:
        return self._sandbox.start(
            name,
            self.environments[Role.WORKER],
            [
                *("-m", "distributed.cli.dask_worker"),
                *self._sandbox.worker_arguments(),
                *("--name", name, "--nthreads", str(self._settings.threads)),
                "--nanny" if self._settings.nanny else "--no-nanny",
                *("--local-directory", self._sandbox.directory(name)),
                *("--dashboard-address", "127.0.0.1:0", "--preload", self._preload),
                *(("--preload-nanny", self._preload) if self._settings.nanny else ()),
                *self._settings.worker_arguments,
            ],
            variables={**self._settings.worker_variables, "PYTEST_MODELOPS_REMOTE": self._sandbox.remote},
        )

    def raise_if_misunderstood(self, deadline: Deadline) -> None:
        """Raise `CheckFailed` if `dask worker` does not understand an argument of the user's."""
        if self._options is not None and (problem := misunderstood(self._options.answer(deadline))):
            raise CheckFailed(problem)

    @property
    def nannies(self) -> bool:
        return self._settings.nanny

    @property
    def started(self) -> Mapping[str, str]:
        """How each process was started, by its name: `exec`, `fork`, `fork-workers`, or `exec` and why."""
        return dict(started(self._sandbox, self._settings))

    @property
    def start_notes(self) -> Sequence[str]:
        """Why processes were not forked although they were to be, for people."""
        return list(faults(self._sandbox))


def misunderstood(options: WorkerOptions) -> str:
    """Return what is wrong with the arguments of `dask worker`, for people; empty if nothing is."""
    where = "`worker-args` in [tool.modelops.environment]"
    if options["error"]:
        return f"`dask worker` of Dask {options['dask']} refuses its arguments: {options['error']}\nCorrect {where}."
    if not (ignored := options["ignored"]):
        return ""
    shown = shlex.join(ignored)
    is_option = ignored[0].startswith("-")
    lines = [
        f"No such option: {shown}. `dask worker` of Dask {options['dask']} would ignore it."
        if is_option
        else f"No option takes {shown}. `dask worker` of Dask {options['dask']} would ignore or misread it."
    ]
    lines += [f"Instead of `{name}`, that Dask has `{near}`." for name, near in options["nearest"].items()]
    return "\n".join([*lines, f"Correct or remove it: {where}."])
