"""Waiting for the preloads of a cluster's processes, whose end Dask does not wait for and only logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pytest_modelops.cluster.agent import Agent
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import TimedOut
from pytest_modelops.remote.shared.facts import PreloadSetup

_POLL_SECONDS = 0.02


def await_ended(
    agent: Agent, *, named: Callable[[str], str], nannies: bool, deadline: Deadline
) -> Mapping[str, Sequence[PreloadSetup]]:
    """Return how the preloads of each process went, by the process's name; waits until all have ended.

    Args:
        named: puts workers' names beside their addresses in a text.

    Raises:
        TimedOut: one has not ended by the deadline.
    """
    found: dict[str, Sequence[PreloadSetup]] = {}

    def ended() -> bool:
        seconds = max(deadline.remaining, _POLL_SECONDS)
        answers = agent.call("preloads", nannies=nannies, seconds=seconds, deadline=deadline)
        found.update({named(process): setups for process, setups in answers.items()})
        return all(setup["done"] for setups in found.values() for setup in setups)

    if not deadline.until(ended, every=_POLL_SECONDS):
        late = [
            f"preload {setup['name']} of the {process}"
            for process, setups in found.items()
            for setup in setups
            if not setup["done"]
        ]
        raise TimedOut(f"{', '.join(late)}: its setup had not ended within {deadline.seconds:g} s")
    return found
