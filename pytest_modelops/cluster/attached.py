"""A deployment that runs already, as checks see a cluster: its client is ours, its scheduler and workers are not."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_modelops.backends.attach import AttachSandbox
from pytest_modelops.cluster.agent import Agent
from pytest_modelops.cluster.cluster import LATE, Cluster
from pytest_modelops.cluster.logs import tail
from pytest_modelops.cluster.parts import last_seen
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.config.types import EXEC
from pytest_modelops.config.variables import in_cell
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment
from pytest_modelops.errors import CheckFailed, ModelopsError, ProcessExited, TimedOut
from pytest_modelops.remote.shared.facts import Answer, ClusterFacts, LookQuestion, RegisteredWorker, ShippedModule
from pytest_modelops.report.paper import counted

_STEP_SECONDS = 0.2
_ASK_SECONDS = 10.0
_SCALE_SECONDS = 30.0
"""How long a worker may take to leave that was asked to."""
_WITHDRAW_SECONDS = 12.0


class AttachedCluster(Cluster):
    """A deployment. Nothing of it is started, restarted, killed or stopped.

    Of the settings, only `worker_variables`, which are compared with what its workers have, `client_variables` and
    `secrets` mean something here.

    Attributes:
        addresses: worker name by address, of the workers that were asked for their versions and are still there.
        scaled: which workers it has in place of others, after `one_more`; empty if none.
    """

    sandbox: AttachSandbox

    def __init__(
        self, sandbox: AttachSandbox, environment: Environment, settings: ClusterSettings, *, start_seconds: float
    ) -> None:
        """Start the client."""
        super().__init__(sandbox, settings)
        self._agent = Agent.start(
            sandbox,
            environment,
            seconds=start_seconds,
            variables=in_cell(settings.client_variables, sandbox.cell_directory()),
            module="attached",
            contact=sandbox.deployment(),
        )
        self._asked: Mapping[str, str] = {}
        """Worker name by address, of all that were asked."""
        self.scaled = ""
        self._seen: dict[str, str] | None = None
        """Worker name by address, of all that were registered at the last look."""
        self._left, self._joined = Counter[str](), Counter[str]()
        """How often workers left and joined between two looks, by name."""
        self._delivered = False
        """Whether anything was copied to workers."""

    @property
    def agent(self) -> Agent:
        return self._agent

    @property
    def names(self) -> Sequence[str]:
        return list(self.addresses.values())

    @property
    def started(self) -> Mapping[str, str]:
        return {self.agent.process.name: EXEC}

    @property
    def served(self) -> str:
        return str(self.agent.call("served", deadline=Deadline(_ASK_SECONDS)))

    def await_ready(self, deadline: Deadline) -> None:
        """Wait until the client is connected and the deployment has a worker."""

        def connected() -> bool:
            if (process := self.agent.process).ending is not None:
                raise ProcessExited(f"the client {process.ending}.{tail(process.log)}")
            seconds = min(_STEP_SECONDS, deadline.remaining)
            return bool(self.agent.call("connect", seconds=seconds, deadline=deadline)["connected"])

        if not deadline.until(connected, every=0):
            raise TimedOut(
                f"the client was not connected to the deployment within {deadline.seconds:g} s.\n"
                + last_seen([self.agent.process])
            )
        if not deadline.until(lambda: self._registered(deadline), every=_STEP_SECONDS):
            raise TimedOut(f"the deployment had no worker within {deadline.seconds:g} s")

    def _registered(self, deadline: Deadline) -> Mapping[str, RegisteredWorker]:
        found: Mapping[str, RegisteredWorker] = self.agent.call(
            "workers", seconds=max(_STEP_SECONDS, deadline.remaining), deadline=deadline
        )
        before, self._seen = self._seen, {address: worker["name"] for address, worker in found.items()}
        if before is not None:
            self._left.update(name for address, name in before.items() if address not in self._seen)
            self._joined.update(name for address, name in self._seen.items() if address not in before)
        return found

    def _changes(self) -> Sequence[str]:
        """Return which workers came and went without being asked to, for people."""
        again = self._left & self._joined
        left, joined = ({name: one[name] for name in one.keys() - again.keys()} for one in (self._left, self._joined))
        found: Mapping[str, Mapping[str, int]] = {"started again": again, "left": left, "joined": joined}
        parts = [f"{what}: {_times(names)}" for what, names in found.items() if names]
        return [f"while this ran, workers of the deployment came and went; {'; '.join(parts)}"] if parts else []

    def await_workers(self, deadline: Deadline, names: Sequence[str] | None = None) -> Mapping[str, str]:
        """Return the addresses of these workers by name, by default of all that are still there; waits for none."""
        registered = self._registered(deadline)
        self.addresses = {address: name for address, name in self._asked.items() if address in registered}
        there = {name: address for address, name in self.addresses.items()}
        gone = [name for name in names or () if name not in there]
        if gone or not there:
            raise CheckFailed(f"{', '.join(gone) or 'every worker'} left the deployment after it was asked")
        return {name: there[name] for name in names} if names is not None else there

    def last_words(self, name: str) -> str:
        return tail(self.agent.process.log, most=6) if name == self.agent.process.name else ""

    def death_of_worker(self, name: str) -> str:  # noqa: ARG002
        return ""

    def facts(self, deadline: Deadline) -> ClusterFacts:
        """Ask the scheduler and every worker for their versions; nothing that Dask would pickle is sent."""
        answer: ClusterFacts = self.agent.call("facts", variables=[], seconds=deadline.remaining, deadline=deadline)
        self._asked = {address: facts["settings"]["name"] for address, facts in answer["workers"].items()}
        self.addresses = dict(self._asked)
        return answer

    def look(self, question: LookQuestion, deadline: Deadline) -> Mapping[str, Answer]:
        """Ask the workers with the client's Python what they have; returns a `WorkerLook` by name."""
        answers: Mapping[str, Answer] = self.agent.call(
            "look", question=question, seconds=deadline.remaining, deadline=deadline
        )
        return {self.addresses.get(address, address): answer for address, answer in answers.items()}

    def directories(self, names: Sequence[str]) -> Mapping[str, str]:
        places = self.agent.call("places", seconds=_ASK_SECONDS, deadline=Deadline(_ASK_SECONDS))
        return {name: f"{places[one]}/bundles" for one, name in self.addresses.items() if name in names}

    def ask_workers(self, operation: str, arguments: Mapping[str, object], deadline: Deadline) -> Mapping[str, Any]:
        """As in a cell, after everything that it needs was copied to the workers that do not have it yet."""
        self.await_workers(deadline)
        self._delivered = True
        self.agent.call(
            "deliver",
            names=list(self.sandbox.files),
            workers=list(self.addresses),
            seconds=deadline.remaining,
            deadline=deadline,
        )
        return super().ask_workers(operation, arguments, deadline)

    @contextlib.contextmanager
    def one_more(self, deadline: Deadline) -> Iterator[tuple[str, str]]:
        """Scale the deployment up by one worker, and down again.

        Raises:
            RemoteError: it cannot be scaled.
            TimedOut: no worker joined.
            CheckFailed: afterwards it does not have as many workers as before.
        """
        try:
            yield LATE, self.agent.call("scale", up=True, seconds=deadline.remaining, deadline=deadline)
        finally:
            self._seen = None
            changed = self.agent.call("scale", up=False, seconds=_SCALE_SECONDS, deadline=Deadline(_SCALE_SECONDS + 5))
        missing, more = (", ".join(map(self.with_names, changed[name])) or "none" for name in ("missing", "more"))
        said = f"the deployment was scaled up by one worker and down again; {missing} left, and it has {more} more"
        if len(changed["missing"]) != len(changed["more"]):
            raise CheckFailed(said)
        self.scaled = said if changed["missing"] else ""

    def explained(self, error: TimedOut, kind: type[TimedOut] = TimedOut) -> TimedOut:
        """Return an error that says where the client stands; the deployment's processes are left in peace."""
        client = last_seen([self.agent.process])
        return kind(f"{error}\n\n{client}\nThe deployment's processes are not asked for their stacks.")

    def try_calls(
        self,
        modules: Mapping[str, ShippedModule],  # noqa: ARG002
        args: Sequence[Any],  # noqa: ARG002
        expected: object,  # noqa: ARG002
        deadline: Deadline,  # noqa: ARG002
    ) -> Mapping[str, str]:
        raise CheckFailed("the environment of the deployment's workers is not on this machine")

    def stop(self) -> Sequence[str]:
        """Close the client, whose tasks the scheduler then forgets, and prove that nothing of ours is left."""
        left: Sequence[str] = ()
        self.stop_notes = self._changes()
        try:
            left = self.agent.call("close", deadline=Deadline(_WITHDRAW_SECONDS if self._delivered else 2.0))
        except ModelopsError as error:  # frozen, dead or busy: closing its stdin ends it
            if self._delivered:
                left = [f"it is not known whether the workers have removed the files that were copied there: {error}"]
        self.agent.close()
        return [*left, *self.sandbox.close()]


def _times(names: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({counted(count, 'time')})" for name, count in sorted(names.items()))
