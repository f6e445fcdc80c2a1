"""A cluster of the cell's own: it is started and stopped with the cell, and the logs of its processes are known."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from pytest_modelops.backends.base import Process, Sandbox
from pytest_modelops.cluster.agent import Agent
from pytest_modelops.cluster.cluster import LATE, Cluster
from pytest_modelops.cluster.diagnosing import Diagnoses
from pytest_modelops.cluster.losses import Losses
from pytest_modelops.cluster.parts import Parts, last_seen
from pytest_modelops.cluster.registration import LOOK_SECONDS, Registration
from pytest_modelops.cluster.stacks import GONE
from pytest_modelops.config import argument_paths
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.config.variables import CELL_DIRECTORY, in_cell
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, ModelopsError, RunnerTimedOut, TimedOut
from pytest_modelops.remote.shared.facts import ClusterFacts, ProcessFacts, ShippedModule, TrialQuestion

_P = TypeVar("_P", bound=Parts[Any])
_R = TypeVar("_R", bound=Registration)
LATE_SECONDS = 6.0
"""How long the late worker has to leave."""
_POLL_SECONDS = 0.02
_ANSWER_SECONDS = 2.0
"""How long restarted workers have to report their facts, and workers to say which tasks they are on."""
_LAST_SECONDS = 0.3
"""How long scheduler and workers have to answer before a diagnosis, if a worker was started again."""
_FREE_SECONDS = 6.0
"""How long it takes at most to ask all workers twice which tasks they are on."""
_MOST_RESTARTS = 4
"""How often workers are restarted at most because of one thing that timed out."""


class OwnCluster(Cluster, Generic[_P, _R]):
    """What is common to clusters that we start, and to those that a Dask cluster class makes for us."""

    def __init__(
        self, sandbox: Sandbox, settings: ClusterSettings, parts: _P, registration: _R, diagnoses: Diagnoses
    ) -> None:
        super().__init__(sandbox, settings)
        self._parts = parts
        self._registration = registration
        self._diagnoses = diagnoses
        self._losses = Losses(parts, diagnoses.ended)
        self._reported: dict[str, ProcessFacts] = {}
        """The last facts of each process by its name."""

    @property
    def agent(self) -> Agent:
        return self._parts.agent

    @property
    def workers(self) -> Sequence[Process]:
        return self._parts.workers

    @property
    def processes(self) -> Sequence[Process]:
        return self._parts.all

    @property
    def started(self) -> Mapping[str, str]:
        return self._parts.started

    @property
    def late(self) -> Process | None:
        return self._parts.late

    @property
    def diagnosis_files(self) -> Mapping[str, Path]:
        return self._diagnoses.files

    def last_words(self, name: str) -> str:
        return self._parts.last_words(name)

    def death_of_worker(self, name: str) -> str:
        return self._parts.death_of_worker(name)

    def await_workers(self, deadline: Deadline, names: Sequence[str] | None = None) -> Mapping[str, str]:
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

    def facts(self, deadline: Deadline) -> ClusterFacts:
        answer: ClusterFacts = self.agent.call(
            "facts", variables=list(self.settings.worker_variables), seconds=deadline.remaining, deadline=deadline
        )
        workers = {self.addresses.get(address, address): facts for address, facts in answer["workers"].items()}
        by_name = {self.agent.process.name: answer["client"], "scheduler": answer["scheduler"], **workers}
        # A process that does not answer now may have reported its pid before.
        self._reported.update({name: facts for name, facts in by_name.items() if "pid" in facts})
        return answer

    def directories(self, names: Sequence[str]) -> Mapping[str, str]:
        return {name: f"{self.sandbox.directory(name)}/bundles" for name in names}

    @contextlib.contextmanager
    def one_more(self, deadline: Deadline) -> Iterator[tuple[str, str]]:
        late = self._parts.late = self._parts.start_worker(LATE)
        try:
            yield LATE, self._await_late(late, deadline)
        except TimedOut as error:
            raise self.explained(error, RunnerTimedOut) from None
        finally:
            forgotten = self._end_late(late)
            self._parts.late = None
        if not forgotten:
            raise CheckFailed(f"{LATE} was ended, and the scheduler has not forgotten it after {LATE_SECONDS:g} s")

    @abc.abstractmethod
    def _end_late(self, late: Process) -> bool:
        """End the late worker and return whether the scheduler has forgotten it."""

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

    def lost_workers(self) -> Mapping[str, str]:
        return self._losses.look(self._reported)

    def note_begin(self) -> None:
        self._know_successors(Deadline(_ANSWER_SECONDS))
        self._losses.watch(self._reported)
        self._diagnoses.begin()

    def _know_successors(self, deadline: Deadline) -> None:
        """Have the addresses and facts of workers that their nannies have started again."""
        known = [worker for worker in self.workers if worker.name in self._reported]
        if any(worker.state(pid=self._reported[worker.name]["pid"]) == GONE for worker in known):
            with contextlib.suppress(ModelopsError):  # what comes next reports it
                self.await_workers(deadline)

    def explained(self, error: TimedOut, kind: type[TimedOut] = TimedOut) -> TimedOut:
        self._know_successors(Deadline(_LAST_SECONDS))
        text, figures = self._diagnoses.explained(error, self._reported, self.addresses)
        found = kind(text)
        found.figures = figures
        return found

    def free_workers(self, deadline: Deadline, *, spared: Sequence[str] = ()) -> Sequence[str]:
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

    def try_calls(
        self, modules: Mapping[str, ShippedModule], args: Sequence[Any], expected: object, deadline: Deadline
    ) -> Mapping[str, str]:
        calls = self.agent.call("pickled", modules=dict(modules), args=list(args), deadline=deadline)
        question: TrialQuestion = {"calls": calls, "expected": expected}
        broken: Mapping[str, str] = self._parts.ask_worker_environment("trial", "worker.trial", question).answer(
            deadline
        )
        return broken


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
