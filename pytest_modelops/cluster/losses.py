"""Worker processes that end although nobody ends them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pytest_modelops.backends.base import Process
from pytest_modelops.cluster.parts import Parts
from pytest_modelops.cluster.stacks import ELSEWHERE, GONE
from pytest_modelops.deadline import Deadline
from pytest_modelops.remote.shared.facts import ProcessFacts

_POLL_SECONDS = 0.02
_LOG_SECONDS = 0.5
"""How long a nanny has to log how its worker ended."""


class Losses:
    """Looks which worker processes have ended since the last look.

    Args:
        ended: pids of those that are ended on purpose; grows.
    """

    def __init__(self, parts: Parts[Any], ended: Collection[int]) -> None:
        self._parts = parts
        self._ended = ended
        self._running: dict[str, int] = {}
        """By worker, the pid that ran when it was looked at last."""

    def watch(self, reported: Mapping[str, ProcessFacts]) -> None:
        """Note which processes run that were started instead of others."""
        others = {name: facts for name, facts in reported.items() if name not in self._running}
        self._running |= self._seen_to_run(others)

    def look(self, reported: Mapping[str, ProcessFacts]) -> Mapping[str, str]:
        """Return how worker processes ended, by name: `its process exited with status 3`; empty if nobody says how.

        Args:
            reported: the last facts of each process by its name.
        """
        before, self._running = self._running, self._seen_to_run(reported)
        workers = {worker.name: worker for worker in self._parts.workers}
        others = [name for name, pid in before.items() if name in workers and self._running.get(name) != pid]
        lost = [name for name in others if not _runs(workers[name], before[name])]
        return {name: self._how(name) for name in lost if before[name] not in self._ended}

    def _seen_to_run(self, reported: Mapping[str, ProcessFacts]) -> dict[str, int]:
        pids = ((worker, reported[worker.name]["pid"]) for worker in self._parts.workers if worker.name in reported)
        return {worker.name: pid for worker, pid in pids if _runs(worker, pid)}

    def _how(self, name: str) -> str:
        return Deadline(_LOG_SECONDS).until(lambda: self._parts.death_of_worker(name), every=_POLL_SECONDS)


def _runs(worker: Process, pid: int) -> bool:
    """Return whether a process is seen to run; those on other machines are not."""
    return worker.state(pid=pid) not in {GONE, ELSEWHERE}
