"""Waiting until the client is connected and the workers are registered, and until a worker is forgotten again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_modelops.backends.base import Process
from pytest_modelops.cluster.parts import Parts, last_seen
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import TimedOut

LOOK_SECONDS = 0.05
"""How often the agent is asked which workers are registered."""
_LAST_LOOK_SECONDS = 0.5
"""How long the scheduler has to answer when the deadline has passed; less than the agent's grace."""
_ANSWER_SECONDS = 2.0
"""How long nannies have to say that they watch their workers."""


class Registration:
    """Which workers the scheduler has registered."""

    def __init__(self, parts: Parts[Any], *, nannies: bool) -> None:
        self._parts = parts
        self._nannies = nannies
        self._watched: set[str] = set()
        """Names of the workers whose nannies are known to replace them when they die."""

    def await_client(self, deadline: Deadline) -> None:
        agent = self._parts.agent

        def connected() -> bool:
            # In short steps, so that a part which exits is noticed while the client still tries to reach it.
            seconds = min(LOOK_SECONDS * 2, deadline.remaining)
            if agent.call("connect", seconds=seconds, deadline=deadline)["connected"]:
                return True
            self._parts.raise_if_exited(self._parts.all)
            return False

        if not deadline.until(connected, every=0):
            raise TimedOut(
                f"the client was not connected to the scheduler within {deadline.seconds:g} s.\n"
                + last_seen([self._parts.scheduler, agent.process])
            )

    def now(self, deadline: Deadline) -> dict[str, str]:
        """Return the addresses of the registered workers by name; on a passed deadline, in a last short look."""
        seconds = max(deadline.remaining, _LAST_LOOK_SECONDS)
        workers = self._parts.agent.call("workers", seconds=seconds, deadline=deadline)
        self._parts.memory_limits.update({worker["name"]: worker["memory_limit"] for worker in workers.values()})
        return {worker["name"]: address for address, worker in workers.items()}

    def await_workers(self, wanted: Sequence[Process], deadline: Deadline) -> Mapping[str, str]:
        """Wait until these workers are registered and their nannies watch them.

        Returns:
            The addresses of all registered workers by name.
        """
        found: dict[str, str] = {}

        def registered() -> bool:
            self._parts.raise_if_exited([self._parts.scheduler, *wanted, self._parts.agent.process])
            found.clear()
            found.update(self.now(deadline))
            return all(worker.name in found for worker in wanted) and self._watch(wanted, found, deadline)

        if deadline.until(registered, every=LOOK_SECONDS):
            return found
        missing = [worker for worker in wanted if worker.name not in found]
        if not missing:
            raise TimedOut(
                "all workers registered with the scheduler, but not every nanny noticed that its worker runs"
                f" within {deadline.seconds:g} s.\n{last_seen(wanted)}"
            )
        raise TimedOut(
            f"{len(wanted) - len(missing)} of {len(wanted)} workers registered with the scheduler"
            f" within {deadline.seconds:g} s.\n{last_seen(missing)}"
        )

    def _watch(self, wanted: Sequence[Process], found: Mapping[str, str], deadline: Deadline) -> bool:
        """Return whether the nanny of each worker has noticed that it runs; before that, it would end with it."""
        asked = {worker.name: found[worker.name] for worker in wanted if worker.name not in self._watched}
        if not self._nannies or not asked:
            return True
        seconds = max(min(_ANSWER_SECONDS, deadline.remaining), _LAST_LOOK_SECONDS)
        addresses = list(asked.values())
        if not self._parts.agent.call("nannies_watch", workers=addresses, seconds=seconds, deadline=deadline):
            return False
        self._watched |= asked.keys()
        return True
