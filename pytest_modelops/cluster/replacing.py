"""Replacing the processes of a running cluster, one role at a time, as a rolling deployment does."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence

from pytest_modelops.backends.base import Process
from pytest_modelops.cluster.agent import Agent
from pytest_modelops.cluster.parts import terminate
from pytest_modelops.cluster.registration import LOOK_SECONDS, Registration
from pytest_modelops.cluster.started_parts import StartedParts
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment
from pytest_modelops.errors import CheckFailed, ModelopsError, ProcessExited, RemoteError, TimedOut
from pytest_modelops.matrix.cell import Role
from pytest_modelops.remote.shared.facts import ClientStatus

_JOIN_SECONDS = 60.0
"""How long a new worker has to register, and client and workers to find a new scheduler; Dask's client takes 30 s."""
_LEAVE_SECONDS = 20.0
"""How long the results of an old worker may take to be moved."""
_END_SECONDS = 5.0
"""How long a process has to end on SIGTERM."""
_CONNECT_SECONDS = 60.0
"""How long a client has to connect."""
_RENEW_SECONDS = 20.0
"""How long client and workers may take to find a scheduler that may not understand them."""
_MOST_STARTS = 2
"""How often a worker is started again that ends with its scheduler, or when it is started."""
_OVER = {"closed", "failed", "exited"}
"""What a client is that will not connect any more."""


class Replacing:
    """What has been replaced of one cluster.

    Attributes:
        replaced: the roles, in the order in which they were.
        sound: whether the cluster works as far as is known: everything that was checked of this state is true.
        former: the old client, until `end_former`, which knows what becomes of its job.
        client: what became of the client when the scheduler was replaced: `reconnected`, or `started again`.
        started_again: names of the workers that were started again then, since the old ones had ended.
    """

    def __init__(self, parts: StartedParts, registration: Registration) -> None:
        self._parts = parts
        self._registration = registration
        self._numbers: dict[str, int] = {}
        self._port = ""
        self._given_up = False
        self.replaced: tuple[Role, ...] = ()
        self.sound = True
        self.former: Agent | None = None
        self.client = ""
        self.started_again: list[str] = []

    def replace(self, role: Role, environment: Environment, deadline: Deadline) -> None:
        """Replace the processes of a role. Whatever happens, no old one is left afterwards, except `former`.

        Raises:
            CheckFailed: an old worker could not be retired, or the client did not connect again.
            ProcessExited: a process ended.
            RemoteError: the new client could not connect; the message is Dask's.
            TimedOut: a worker did not register, or a client did not connect.
        """
        if not self._port:
            address = self._parts.agent.call("connect", seconds=1, deadline=deadline)["scheduler"]
            self._port = address.rpartition(":")[2]
        self._parts.environments[role] = environment
        self.replaced = (*self.replaced, role)
        replace = {
            Role.WORKER: self._replace_workers,
            Role.SCHEDULER: self._replace_scheduler,
            Role.CLIENT: self._replace_client,
        }
        replace[role](deadline)

    def raise_if_exited(self) -> None:
        """Raise `ProcessExited` if scheduler or a worker has ended."""
        self._parts.raise_if_exited([self._parts.scheduler, *self._parts.workers])

    def renew(self, deadline: Deadline) -> None:
        """Start client and workers again, with the versions that they have, after something broke."""
        parts = self._parts
        self.end_former()
        parts.agent.close()
        self._end([*parts.workers, parts.agent.process])
        if parts.scheduler.ending is not None:
            parts.scheduler = parts.start_scheduler(*(["--port", self._port] if self._port else []))
        parts.workers = [parts.start_worker(self._next(worker.name)) for worker in parts.workers]
        parts.agent = self._start_agent()
        finding = deadline.at_most(_RENEW_SECONDS)
        with contextlib.suppress(ModelopsError):  # the next replacement may mend it
            self._registration.await_client(finding)
            self._registration.await_workers(parts.workers, finding)

    def given_up(self) -> Sequence[Process]:
        """Return all clients, and start no more of them; called from another thread."""
        self._given_up = True
        return [agent.process for agent in (self.former, self._parts.agent) if agent is not None]

    def end_former(self) -> None:
        """End the old client, if there is one."""
        former, self.former = self.former, None
        if former is not None:
            with contextlib.suppress(ModelopsError):
                former.call("close", deadline=Deadline(2.0))
            former.close()
            self._end([former.process])

    def _next(self, name: str) -> str:
        """Return the name of the process that replaces this one: `worker-0.2`, then `worker-0.3`."""
        base = name.partition(".")[0]
        self._numbers[base] = self._numbers.get(base, 1) + 1
        return f"{base}.{self._numbers[base]}"

    def _start_agent(self) -> Agent:
        if self._given_up:
            raise ProcessExited("the cell is given up, so its client is not started again")
        return self._parts.start_agent(self._next(self._parts.agent.process.name), _CONNECT_SECONDS / 2)

    @staticmethod
    def _end(processes: Sequence[Process]) -> None:
        deadline = Deadline(_END_SECONDS)
        terminate(processes, deadline)
        for process in processes:
            if process.ending is None:
                for pid in [process.pid, *process.descendants()]:  # a nanny first, which would start another worker
                    process.signal(signal.SIGKILL, pid=pid)
        with contextlib.suppress(TimedOut):
            for process in processes:
                process.wait(Deadline(_END_SECONDS))

    # Workers --------------------------------------------------------------------------------------------------------

    def _replace_workers(self, deadline: Deadline) -> None:
        """Replace one after the other: start the new one, wait until it is registered, retire the old one."""
        parts, olds = self._parts, list(self._parts.workers)
        try:
            for index, old in enumerate(olds):
                new = parts.workers[index] = parts.start_worker(self._next(old.name))
                parts.leaving = old
                self._await_worker(new, old, deadline)
                self._retire(old, deadline)
        except ModelopsError:
            left = [index for index, worker in enumerate(parts.workers) if worker in olds]
            self._end([*(parts.workers[index] for index in left), *([parts.leaving] if parts.leaving else [])])
            for index in left:
                parts.workers[index] = parts.start_worker(self._next(parts.workers[index].name))
            raise
        finally:
            parts.leaving = None

    def _await_worker(self, new: Process, old: Process, deadline: Deadline) -> None:
        try:
            self._registration.await_workers([new], deadline.at_most(_JOIN_SECONDS))
        except TimedOut as error:
            raise TimedOut(f"{new.name}, which was to replace {old.name}, did not join: {error}") from None

    def _retire(self, old: Process, deadline: Deadline) -> None:
        leaving = deadline.at_most(_LEAVE_SECONDS)
        if address := self._registration.now(leaving).get(old.name):
            try:
                self._parts.agent.call("retire", worker=address, seconds=leaving.remaining, deadline=leaving)
            except ModelopsError as error:
                raise CheckFailed(f"{old.name} could not be retired: {error}") from None
            with contextlib.suppress(TimedOut):  # a worker that is retired closes itself
                old.wait(leaving)
        self._end([old])
        forgetting = deadline.at_most(_LEAVE_SECONDS)
        if not forgetting.until(lambda: old.name not in self._registration.now(deadline), every=LOOK_SECONDS):
            raise TimedOut(f"{old.name} has ended, and the scheduler has not forgotten it")

    # Scheduler ------------------------------------------------------------------------------------------------------

    def _replace_scheduler(self, deadline: Deadline) -> None:
        """End it, and start the new one at the same address. What ends with it is started again, as deployments do.

        Dask's workers end when they lose their scheduler, and its client connects again.
        """
        parts, before, starts = self._parts, self._client_status(deadline), [0] * len(self._parts.workers)
        self.client, self.started_again = "reconnected", []
        self._end([parts.scheduler])
        parts.scheduler = parts.start_scheduler("--port", self._port)
        coming_back, seen = deadline.at_most(_JOIN_SECONDS), before

        def back() -> bool:
            nonlocal seen
            parts.raise_if_exited([parts.scheduler])
            seen = self._client_status(coming_back)
            if seen["status"] in _OVER:
                self._start_client_again(seen)
            for index, worker in enumerate(parts.workers):
                if worker.ending is not None:
                    if starts[index] == _MOST_STARTS:
                        parts.raise_if_exited([worker])
                    starts[index] += 1
                    parts.workers[index] = parts.start_worker(self._next(worker.name))
                    self.started_again.append(parts.workers[index].name)
            return seen["status"] == "running" and seen["connection"] != before["connection"] and self._all_registered()

        if not coming_back.until(back, every=LOOK_SECONDS) and seen["status"] != "running":
            raise TimedOut(
                f"the client was not connected to the new scheduler within {coming_back.seconds:g} s; "
                f"it is {seen['status']}"
            )
        self._registration.await_workers(parts.workers, coming_back)

    def _start_client_again(self, seen: ClientStatus) -> None:
        """Start the client again that has given up; raise if that was done already."""
        if self.client != "reconnected":
            raise CheckFailed(f"the client, which was started again, could not connect: {seen['error']}")
        self.client = "started again"
        self.former, self._parts.agent = self._parts.agent, self._start_agent()

    def _all_registered(self) -> bool:
        try:
            present = self._registration.now(Deadline(2.0))
        except (RemoteError, TimedOut):  # it may not listen yet
            return False
        return all(worker.name in present for worker in self._parts.workers)

    def _client_status(self, deadline: Deadline) -> ClientStatus:
        agent = self._parts.agent
        try:
            found: ClientStatus = agent.call("status", deadline=deadline)
        except ProcessExited as error:
            return {"status": "exited", "connection": 0, "error": str(error)}
        return found

    # Client ---------------------------------------------------------------------------------------------------------

    def _replace_client(self, deadline: Deadline) -> None:
        """Start the new one beside the old one, whose job goes on."""
        parts = self._parts
        self.former, parts.agent = parts.agent, self._start_agent()
        try:
            self._registration.await_client(deadline.at_most(_CONNECT_SECONDS))
        except RemoteError as error:
            raise RemoteError(f"it could not connect to the scheduler: {error}", error.traceback) from None
