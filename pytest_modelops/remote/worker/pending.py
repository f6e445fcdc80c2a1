"""What a scheduler and a worker say of tasks that are not done. Asked only after a deadline has passed.

Reads Dask's state and changes nothing. Python 3.9 and up.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..shared.diagnosis_messages import PendingTask, SchedulerView, TakenLock, WorkerEntry, WorkerView

_DONE = {"memory", "released", "forgotten", "erred", "error"}
_ASSIGNABLE_FIRST = {"no-worker": 0, "processing": 1, "queued": 2}
"""Order of states in which tasks are shown; the others wait for them."""
_TASKS = 40
_WAITS_FOR = 5
_STORIES = 5
"""How many tasks the story is asked of."""
_STORY_LINES = 60
_LINE = 400


def of_scheduler(scheduler: Any) -> SchedulerView:
    """Return what a scheduler knows of tasks that are not done."""
    tasks = list(scheduler.tasks.values())
    pending = [task for task in tasks if task.state not in _DONE]
    pending.sort(key=lambda task: _ASSIGNABLE_FIRST.get(task.state, len(_ASSIGNABLE_FIRST)))
    return {
        "counts": dict(Counter(task.state for task in tasks)),
        "pending": [_task(task) for task in pending[:_TASKS]],
        "locks": list(_locks(scheduler)),
        "workers": {address: _worker(worker) for address, worker in scheduler.workers.items()},
        "story": _story(scheduler, [task.key for task in pending[:_STORIES]]),
    }


def _task(task: Any) -> PendingTask:
    processing_on = getattr(task, "processing_on", None)
    places = [*(task.worker_restrictions or ()), *(task.host_restrictions or ())]
    return {
        "key": str(task.key),
        "state": task.state,
        "worker": processing_on.address if processing_on is not None else "",
        "waits_for": _keys(task.waiting_on or ()),
        "resources": dict(task.resource_restrictions or {}),
        "places": [str(place) for place in places],
        "deaths": int(getattr(task, "suspicious", 0)),
    }


def _worker(worker: Any) -> WorkerEntry:
    return {
        "name": str(worker.name),
        "memory": int(worker.metrics.get("memory") or 0),
        "memory_limit": int(worker.memory_limit or 0),
        "last_seen": round(time.time() - worker.last_seen, 2),
        "paused": getattr(worker.status, "name", "") == "paused",
        "resources": dict(worker.resources),
        "processing": _keys(worker.processing),
        "tasks": len(worker.processing),
    }


def _keys(tasks: Iterable[Any]) -> list[str]:
    return [str(task.key) for task in itertools.islice(tasks, _WAITS_FOR)]


def _locks(scheduler: Any) -> Iterator[TakenLock]:
    """Yield the locks that somebody waits for. Dask's `Lock` is a semaphore, and was an extension of its own before."""
    extensions: dict[str, Any] = getattr(scheduler, "extensions", {})
    semaphores: Any = extensions.get("semaphores")
    locks: Any = extensions.get("locks")
    for name, waiting in dict(getattr(semaphores, "metrics", {}).get("pending", {})).items():
        if waiting > 0:
            yield {"name": str(name), "taken": len(semaphores.leases.get(name, ())), "waiting": int(waiting)}
    for name, events in dict(getattr(locks, "events", {})).items():
        if events:
            yield {"name": str(name), "taken": int(name in getattr(locks, "ids", {})), "waiting": len(events)}


def of_worker(worker: Any) -> WorkerView:
    """Return what a worker knows of tasks that are not done."""
    import psutil  # which distributed needs, too

    state = getattr(worker, "state", worker)
    pending = [task for task in list(state.tasks.values()) if task.state not in _DONE][:_TASKS]
    return {
        "tasks": {str(task.key): str(task.state) for task in pending},
        "stacks": {str(key): [*map(str, frames)] for key, frames in worker.get_call_stack().items()},
        "memory": psutil.Process().memory_info().rss,
        "story": _story(state, [task.key for task in pending[:_STORIES]]),
    }


def _story(of: Any, keys: list[Any]) -> list[str]:
    with contextlib.suppress(AttributeError):  # this Dask has none
        return [str(row)[:_LINE] for row in (of.story(*keys) if keys else ())][-_STORY_LINES:]
    return []
