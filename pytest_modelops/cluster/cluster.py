"""A cluster, as checks see it: one real scheduler, N real workers and the agent, whoever has started them."""

from __future__ import annotations

import abc
import contextlib
import signal
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pytest_modelops.backends.base import Process, Sandbox
from pytest_modelops.cluster.agent import Agent
from pytest_modelops.cluster.faults import DuringJob
from pytest_modelops.cluster.replacing import Replacing
from pytest_modelops.config.faults import Fault
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, ModelopsError, NothingToDo, TimedOut
from pytest_modelops.remote.shared import plain
from pytest_modelops.remote.shared.facts import Answer, ClusterFacts, PreloadSetup, ShippedModule
from pytest_modelops.remote.worker.serving import HANDLER

LATE = "worker-late"
"""Name of the worker that joins late; see `Cluster.one_more`."""


class Cluster(abc.ABC):
    """Scheduler, workers and agent of one cell, as started; `await_ready` waits until they are up.

    Attributes:
        addresses: worker name by address, in the order of names, once ready.
        stop_notes: what `stop` has to say, for the report.
    """

    starter = "the deployment"
    """Who starts scheduler and workers, for people."""

    def __init__(self, sandbox: Sandbox, settings: ClusterSettings) -> None:
        self.sandbox = sandbox
        self.settings = settings
        self.addresses: Mapping[str, str] = {}
        self.stop_notes: Sequence[str] = ()

    @property
    @abc.abstractmethod
    def agent(self) -> Agent: ...

    @property
    def names(self) -> Sequence[str]:
        """Names of the workers, whether they run or not."""
        return [worker.name for worker in self.workers]

    @property
    @abc.abstractmethod
    def started(self) -> Mapping[str, str]:
        """How each process was started; see `Parts.started`."""

    @property
    def start_notes(self) -> Sequence[str]:
        return ()

    @property
    def workers(self) -> Sequence[Process]:
        return ()

    @property
    def processes(self) -> Sequence[Process]:
        return [self.agent.process]

    @property
    def late(self) -> Process | None:
        """The worker that joined late, while there is one and its log is known; see `one_more`."""
        return None

    @property
    def served(self) -> str:
        """The attribute of a worker that has its bundles; see `BundleLocation`."""
        return HANDLER

    @property
    def replacing(self) -> Replacing:
        """Replaces its processes, for a rolling upgrade; raises `NothingToDo` where this is up to others."""
        raise NothingToDo(f"{self.starter} starts the processes; rolling upgrades are for backends that start them")

    @property
    def diagnosis_files(self) -> Mapping[str, Path]:
        """The text of each diagnosis of something that timed out, by a name for the report."""
        return {}

    @abc.abstractmethod
    def last_words(self, name: str) -> str:
        """Return the most useful lines that a process printed, and the path of its log."""

    @abc.abstractmethod
    def death_of_worker(self, name: str) -> str:
        """Return how a worker's process ended; empty if nobody says so."""

    @abc.abstractmethod
    def await_ready(self, deadline: Deadline) -> None:
        """Wait until the client is connected and the workers are registered.

        Raises:
            CheckFailed: `dask worker` does not understand an argument, or the class cannot make the cluster.
            ProcessExited: a process ended.
            RemoteError: the client could not connect; the message is Dask's.
            TimedOut: the deadline passed; the message names the processes that were missing.
        """

    @abc.abstractmethod
    def await_workers(self, deadline: Deadline, names: Sequence[str] | None = None) -> Mapping[str, str]:
        """Wait until workers are registered, also again: a nanny restarts a dead worker at another address.

        Args:
            names: of the workers to wait for; by default all.

        Returns:
            Their addresses by name. `addresses` is up to date, too.

        Raises:
            ProcessExited, TimedOut: as `await_ready`.
        """

    def preloads(self, deadline: Deadline) -> Mapping[str, Sequence[PreloadSetup]]:  # noqa: ARG002
        """Return how the preloads of each process went, by the process's name; waits until all have ended.

        Those that others have started log it themselves.

        Raises:
            TimedOut: one has not ended by the deadline.
        """
        return {}

    @abc.abstractmethod
    def facts(self, deadline: Deadline) -> ClusterFacts: ...

    def ask_workers(self, operation: str, arguments: Mapping[str, object], deadline: Deadline) -> Mapping[str, Any]:
        """Have every worker do something with a bundle (`remote/worker/bundles.py`), all at once and not as tasks.

        Returns:
            What each worker answered, by its name.

        Raises:
            CheckFailed: a worker died of it, or is gone.
            TimedOut: a worker did not answer.
        """
        self.await_workers(deadline)
        answers: Mapping[str, Answer] = self.agent.call(
            "ask_workers",
            operation=operation,
            arguments=dict(arguments),
            workers=list(self.addresses),
            seconds=deadline.remaining,
            deadline=deadline,
        )
        values = {}
        for address, name in self.addresses.items():
            answer = answers[address]
            if "silent" in answer:
                raise TimedOut(f"{name} was asked to {operation} the bundle: {answer['silent']}")
            if "error" in answer:
                why = self.death_of_worker(name) or self.with_names(answer["error"])
                raise CheckFailed(f"{name} was asked to {operation} the bundle: {why}{self.last_words(name)}")
            values[name] = plain.unpack(answer["value"])
        return values

    @abc.abstractmethod
    def directories(self, names: Sequence[str]) -> Mapping[str, str]:
        """Return the directory that each of these processes has for bundles, by its name."""

    @abc.abstractmethod
    def one_more(self, deadline: Deadline) -> AbstractContextManager[tuple[str, str]]:
        """Return a context with one more worker, which joins late, and is ended afterwards. It is not one of `workers`.

        It enters with its name and its address, as soon as it is registered.

        Raises:
            CannotScale: there cannot be one more.
            ProcessExited: it ended.
            RunnerTimedOut: it was not registered in time, or the body timed out; with all stacks.
            CheckFailed: the scheduler did not forget it.
        """

    def lost_workers(self) -> Mapping[str, str]:
        """Return which workers have ended since this was last asked, and how, by name.

        Without those that were ended on purpose, or whose processes cannot be seen. The client knows their successors.
        """
        return {}

    def note_begin(self) -> None:  # noqa: B027 - there is nothing to note where no diagnosis is made
        """Note that something begins that may time out; see `Diagnoses.begin`."""

    @abc.abstractmethod
    def explained(self, error: TimedOut, kind: type[TimedOut] = TimedOut) -> TimedOut:
        """Return an error that says what hangs and where each process stands."""

    def free_workers(self, deadline: Deadline, *, spared: Sequence[str] = ()) -> Sequence[str]:  # noqa: ARG002
        """Kill the workers that are still on a task or subtask of something that timed out; wait for their nannies.

        A thread cannot be stopped, and later tasks would wait behind it. Dask may give a killed worker's subtask to
        another worker before it forgets the client that wanted it, so all are asked again. Without nannies nothing is
        done.

        Args:
            spared: ids of clients whose tasks may run on.

        Returns:
            Their names.

        Raises:
            ProcessExited, TimedOut: as `await_ready`.
        """
        return ()

    def during_job(self, fault: Fault, tasks: int | None = None) -> DuringJob:  # noqa: ARG002
        """Return a context in which a job is to run, and in the middle of it a fault happens; see `DuringJob`."""
        raise NothingToDo(f"{fault.name}: {self.starter} starts the processes; faults are for backends that start them")

    @abc.abstractmethod
    def try_calls(
        self, modules: Mapping[str, ShippedModule], args: Sequence[Any], expected: object, deadline: Deadline
    ) -> Mapping[str, str]:
        """Call functions of the client's in processes of the workers' environment, which may die of them.

        Args:
            args: packed.
            expected: what each returns.

        Returns:
            How it broke, by the name of each function that did.
        """

    def with_names(self, text: str) -> str:
        """Put each worker's name beside its address in a text of Dask's."""
        for address, name in self.addresses.items():
            text = text.replace(address, f"{name} ({address})")
        return text

    def keep(self) -> str:
        """Have scheduler and workers outlive `stop`; return how to get in and how to remove them."""
        return self.sandbox.keep()

    def kill_agent(self) -> None:
        """Have whatever is asked of the cluster, in any thread, fail at once."""
        for process in self._clients():
            with contextlib.suppress(ModelopsError):  # it is gone
                process.signal(signal.SIGKILL)

    def _clients(self) -> Sequence[Process]:
        return [self.agent.process]

    @abc.abstractmethod
    def stop(self) -> Sequence[str]:
        """End the cluster, prove that nothing is left of it, and return what is left, for people."""
