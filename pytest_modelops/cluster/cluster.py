"""A cluster: one real scheduler, N real workers and the agent, on any sandbox. What checks ask of it, and its end."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_modelops.backends.base import Process, Sandbox
from pytest_modelops.cluster import preloading
from pytest_modelops.cluster.agent import Agent
from pytest_modelops.cluster.diagnosing import Diagnoses
from pytest_modelops.cluster.faults import DuringJob
from pytest_modelops.cluster.parts import Parts, last_seen, terminate
from pytest_modelops.cluster.registration import LOOK_SECONDS, Registration
from pytest_modelops.cluster.replacing import Replacing
from pytest_modelops.config import argument_paths
from pytest_modelops.config.faults import Fault
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.config.variables import CELL_DIRECTORY, in_cell
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment
from pytest_modelops.errors import CheckFailed, ModelopsError, RunnerTimedOut, TimedOut
from pytest_modelops.matrix.cell import Role
from pytest_modelops.remote.shared import plain
from pytest_modelops.remote.shared.facts import (
    Answer,
    ClusterFacts,
    PreloadSetup,
    ProcessFacts,
    ShippedModule,
    TrialQuestion,
)
from pytest_modelops.remote.worker.serving import HANDLER

LATE = "worker-late"
"""Name of the worker that joins late; see `Cluster.one_more`."""
_LATE_SECONDS = 6.0
"""How long the late worker has to leave."""
_POLL_SECONDS = 0.02
_ANSWER_SECONDS = 2.0
"""How long restarted workers have to report their facts, and workers to say which tasks they are on."""
_FREE_SECONDS = 6.0
"""How long it takes at most to ask all workers twice which tasks they are on."""
_MOST_RESTARTS = 4
"""How often workers are restarted at most because of one thing that timed out."""


class Cluster:
    """Scheduler, workers and agent of one cell, as started; `await_ready` waits until they are up.

    Attributes:
        addresses: worker name by address, in the order of names, once ready.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        environments: Mapping[Role, Environment],
        settings: ClusterSettings,
        *,
        start_seconds: float,
    ) -> None:
        """Start everything at once.

        Args:
            start_seconds: how long the client tries to connect.
        """
        self.sandbox = sandbox
        self.settings = settings = in_cell_of(settings, sandbox)
        self._parts = Parts(sandbox, environments, settings, connect_seconds=start_seconds)
        self._registration = Registration(self._parts, nannies=settings.nanny)
        self._diagnoses = Diagnoses(self._parts, settings)
        self._replacing = Replacing(self._parts, self._registration)
        self.last_words = self._parts.last_words
        self.death_of_worker = self._parts.death_of_worker
        self.addresses: Mapping[str, str] = {}
        self._left_up = False
        self._reported: dict[str, ProcessFacts] = {}
        """The last facts of each process by its name."""

    @property
    def workers(self) -> Sequence[Process]:
        return self._parts.workers

    @property
    def agent(self) -> Agent:
        return self._parts.agent

    @property
    def replacing(self) -> Replacing:
        """Replaces its processes, for a rolling upgrade; raises `NothingToDo` where this is up to others."""
        return self._replacing

    @property
    def processes(self) -> Sequence[Process]:
        return self._parts.all

    @property
    def names(self) -> Sequence[str]:
        """Names of the workers, whether they run or not."""
        return self._parts.names

    @property
    def served(self) -> str:
        """The attribute of a worker that has its bundles; see `BundleLocation`."""
        return HANDLER

    @property
    def started(self) -> Mapping[str, str]:
        """How each process was started; see `Parts.started`."""
        return self._parts.started

    @property
    def start_notes(self) -> Sequence[str]:
        return self._parts.start_notes

    @property
    def late(self) -> Process | None:
        """The worker that joined late, while there is one; see `one_more`."""
        return self._parts.late

    stop_notes: Sequence[str] = ()
    """What `stop` has to say, for the report."""

    def await_ready(self, deadline: Deadline) -> None:
        """Wait until the client is connected and all workers are registered.

        Raises:
            CheckFailed: `dask worker` does not understand an argument.
            ProcessExited: a process ended.
            RemoteError: the client could not connect; the message is Dask's.
            TimedOut: the deadline passed; the message names the processes that were missing.
        """
        self._parts.raise_if_misunderstood(deadline)
        self._registration.await_client(deadline)
        self.await_workers(deadline)

    def await_workers(self, deadline: Deadline, names: Sequence[str] | None = None) -> Mapping[str, str]:
        """Wait until workers are registered, also again: a nanny restarts a dead worker at another address.

        Args:
            names: of the workers to wait for; by default all.

        Returns:
            Their addresses by name. `addresses` is up to date, too.

        Raises:
            ProcessExited, TimedOut: as `await_ready`.
        """
        wanted = [worker for worker in self.workers if names is None or worker.name in names]
        found = self._registration.await_workers(wanted, deadline)
        before = {name: address for address, name in self.addresses.items()}
        last = {**before, **found}
        self.addresses = {last[part.name]: part.name for part in self.workers if part.name in last}
        restarted = [name for name in found if before.get(name, found[name]) != found[name]]
        if restarted:
            for name in restarted:  # its facts are those of the process before
                self._reported.pop(name, None)
            self.facts(deadline.at_most(_ANSWER_SECONDS))
        return {worker.name: found[worker.name] for worker in wanted}

    def preloads(self, deadline: Deadline) -> Mapping[str, Sequence[PreloadSetup]]:
        """Return how the preloads of each process went, by the process's name; waits until all have ended.

        Raises:
            TimedOut: one has not ended by the deadline.
        """
        return preloading.await_ended(self.agent, named=self.with_names, nannies=self.settings.nanny, deadline=deadline)

    def facts(self, deadline: Deadline) -> ClusterFacts:
        answer: ClusterFacts = self.agent.call(
            "facts", variables=list(self.settings.worker_variables), seconds=deadline.remaining, deadline=deadline
        )
        workers = {self.addresses.get(address, address): facts for address, facts in answer["workers"].items()}
        by_name = {self.agent.process.name: answer["client"], "scheduler": answer["scheduler"], **workers}
        # A process that does not answer now may have reported its pid before.
        self._reported.update({name: facts for name, facts in by_name.items() if "pid" in facts})
        return answer

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

    def directories(self, names: Sequence[str]) -> Mapping[str, str]:
        """Return the directory that each of these processes has for bundles, by its name."""
        return {name: f"{self.sandbox.directory(name)}/bundles" for name in names}

    @contextlib.contextmanager
    def one_more(self, deadline: Deadline) -> Iterator[tuple[str, str]]:
        """Start one more worker, which joins late, and end it afterwards. It is not one of `workers`.

        Yields:
            Its name and its address, as soon as it is registered.

        Raises:
            ProcessExited: it ended.
            RunnerTimedOut: it was not registered in time, or the body timed out; with all stacks.
            CheckFailed: the scheduler did not forget it.
        """
        late = self._parts.late = self._parts.start_worker(LATE)
        try:
            yield LATE, self._await_late(late, deadline)
        except TimedOut as error:
            raise self.explained(error, RunnerTimedOut) from None
        finally:
            forgotten = self._end_late(late)
            self._parts.late = None
        if not forgotten:
            raise CheckFailed(f"{LATE} was ended, and the scheduler has not forgotten it after {_LATE_SECONDS:g} s")

    def _await_late(self, late: Process, deadline: Deadline) -> str:
        def address() -> str | None:
            self._parts.raise_if_exited([self._parts.scheduler, late, self.agent.process])
            return self._registration.now(deadline).get(late.name)

        if found := deadline.until(address, every=LOOK_SECONDS):
            return found
        raise TimedOut(
            f"{late.name}, started when the others were up, was not registered with the scheduler within "
            f"{deadline.seconds:g} s.\n{last_seen([late])}"
        )

    def _end_late(self, late: Process) -> bool:
        """End the late worker and return whether the scheduler has forgotten it."""
        deadline = Deadline(_LATE_SECONDS)
        terminate([late], deadline)
        if late.ending is None:
            for pid in [late.pid, *late.descendants()]:  # the nanny first, which would start another worker
                late.signal(signal.SIGKILL, pid=pid)
        with contextlib.suppress(ModelopsError):  # another process's fault, which shows elsewhere
            return deadline.until(lambda: LATE not in self._registration.now(Deadline(1)), every=_POLL_SECONDS)
        return True

    @property
    def diagnosis_files(self) -> Mapping[str, Path]:
        """The text of each diagnosis of something that timed out, by a name for the report."""
        return self._diagnoses.files

    def note_begin(self) -> None:
        """Note that something begins that may time out; see `Diagnoses.begin`."""
        self._diagnoses.begin()

    def explained(self, error: TimedOut, kind: type[TimedOut] = TimedOut) -> TimedOut:
        """Return an error that says what hangs and where each process stands; see `Diagnoses.explained`."""
        text, figures = self._diagnoses.explained(error, self._reported, self.addresses)
        found = kind(text)
        found.figures = figures
        return found

    def free_workers(self, deadline: Deadline, *, spared: Sequence[str] = ()) -> Sequence[str]:
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
        freed: dict[str, None] = {}
        for _ in range(_MOST_RESTARTS if self.settings.nanny else 0):
            names = self._restart_stuck(deadline, spared)
            if not names:
                break
            freed.update(dict.fromkeys(names))
        return [worker.name for worker in self.workers if worker.name in freed]

    def _restart_stuck(self, deadline: Deadline, spared: Sequence[str]) -> Sequence[str]:
        asking = deadline.at_most(_FREE_SECONDS)
        stuck: Sequence[str] = self.agent.call("stuck", seconds=_ANSWER_SECONDS, spared=spared, deadline=asking)
        ended, self._parts.with_ended_children = self._parts.with_ended_children, set()
        names = {name: address for address, name in self.addresses.items() if address in stuck or name in ended}
        killed = [process for process in self.workers if process.name in names and process.name in self._reported]
        for process in killed:
            pid = self._reported[process.name]["pid"]
            self._diagnoses.ended.add(pid)
            process.signal(signal.SIGKILL, pid=pid)
        addresses = {names[process.name] for process in killed}
        deadline.until(
            lambda: not addresses.intersection(self._registration.now(Deadline(1)).values()), every=_POLL_SECONDS
        )
        if killed:
            self.await_workers(deadline, [process.name for process in killed])
        return [process.name for process in killed]

    def during_job(self, fault: Fault, tasks: int | None = None) -> DuringJob:
        """Return a context in which a job is to run, and in the middle of it a fault happens; see `DuringJob`."""
        self.await_workers(Deadline(_LATE_SECONDS))  # one may have been restarted
        pids = {name: facts["pid"] for name, facts in self._reported.items()}
        return DuringJob(
            fault, self.sandbox, self._parts, self._registration, pids=pids, addresses=self.addresses, tasks=tasks
        )

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
        calls = self.agent.call("pickled", modules=dict(modules), args=list(args), deadline=deadline)
        question: TrialQuestion = {"calls": calls, "expected": expected}
        broken: Mapping[str, str] = self._parts.ask_worker_environment("trial", "worker.trial", question).answer(
            deadline
        )
        return broken

    def with_names(self, text: str) -> str:
        """Put each worker's name beside its address in a text of Dask's."""
        for address, name in self.addresses.items():
            text = text.replace(address, f"{name} ({address})")
        return text

    def keep(self) -> str:
        """Have scheduler and workers outlive `stop`; return how to get in and how to remove them."""
        how_to = self.sandbox.keep()
        self._left_up = True
        return how_to

    def kill_agent(self) -> None:
        """Have whatever is asked of the cluster, in any thread, fail at once."""
        for process in self._clients():
            with contextlib.suppress(ModelopsError):  # it is gone
                process.signal(signal.SIGKILL)

    def _clients(self) -> Sequence[Process]:
        return self.replacing.given_up()

    def stop(self) -> Sequence[str]:
        """End the cluster quickly, prove that nothing is left, and return what is left, for people.

        Nannies go first, then the scheduler: 0.4 s. With SIGTERM to all at once each waits for the others: 8 s. A busy
        worker ignores SIGTERM, so the sandbox's SIGKILL follows.
        """
        with contextlib.suppress(ModelopsError):  # frozen, dead or busy: closing its stdin ends it
            self.agent.call("close", deadline=Deadline(0.5))
        self.agent.close()
        if not self._left_up:
            if self.settings.nanny:
                terminate(self.workers, Deadline(2.0))
            terminate([self._parts.scheduler], Deadline(1.0 if self.settings.nanny else 1.5))
        return self.sandbox.close()


def in_cell_of(settings: ClusterSettings, sandbox: Sandbox) -> ClusterSettings:
    """Fill the cell's directory in, and copy into the cell what arguments name; see `config.argument_paths`."""
    directory = sandbox.cell_directory()
    arguments = argument_paths.placed(settings.worker_arguments, settings.rootdir, sandbox.put)
    return dataclasses.replace(
        settings,
        worker_variables=in_cell(settings.worker_variables, directory),
        scheduler_variables=in_cell(settings.scheduler_variables, directory),
        client_variables=in_cell(settings.client_variables, directory),
        worker_arguments=[argument.replace(CELL_DIRECTORY, directory) for argument in arguments],
    )
