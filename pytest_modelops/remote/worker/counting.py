"""Counts on the scheduler how many tasks of a job are done, so that a fault can happen in the middle of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed import SchedulerPlugin

if TYPE_CHECKING:
    from ..shared.facts import TaskCount

_DONE = ("memory", "erred")


class Counter(SchedulerPlugin):
    """Counts the tasks that are submitted after it was added, also those that Dask has forgotten since."""

    name = "modelops-counter"

    def __init__(self) -> None:
        self._known: set[Any] = set()
        self._done: set[Any] = set()

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:  # noqa: ARG002
        self._known.add(key)
        if finish in _DONE:
            self._done.add(key)

    def counts(self) -> TaskCount:
        return {"done": len(self._done), "known": len(self._known)}


def count(scheduler: Any, operation: str) -> TaskCount:
    """Begin to count, look, or end; return the counts."""
    if operation == "begin":
        if Counter.name in scheduler.plugins:
            scheduler.remove_plugin(Counter.name)
        scheduler.add_plugin(Counter(), name=Counter.name)
    counter: Counter = scheduler.plugins[Counter.name]
    if operation == "end":
        scheduler.remove_plugin(Counter.name)
    return counter.counts()
