"""What the scheduler and the workers say of tasks that are not done, when a deadline has passed.

All of it is plain data. Copied into cells: standard library only, Python 3.9 and up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from .facts import Answer


class PendingTask(TypedDict):
    """A task that the scheduler has not got the result of."""

    key: str
    state: str  # as the scheduler calls it: `waiting`, `queued`, `no-worker`, `processing`
    worker: str  # address of the worker that has it; empty without one
    waits_for: list[str]  # keys of the first few tasks whose results it needs and that are not done
    resources: dict[str, float]  # amount by name that a worker must have for it
    places: list[str]  # addresses and hosts of the only workers that may run it; empty if all may
    deaths: int  # how many workers died while they had it


class TakenLock(TypedDict):
    """A lock or semaphore of Dask's that somebody waits for."""

    name: str
    taken: int  # how often it is taken now
    waiting: int  # how many wait for it


class WorkerEntry(TypedDict):
    """What the scheduler knows of a worker that is registered."""

    name: str
    memory: int  # bytes that its process used at its last heartbeat
    memory_limit: int  # bytes; 0 without a limit
    last_seen: float  # seconds since its last heartbeat
    paused: bool  # whether it takes no tasks, because of its memory
    resources: dict[str, float]  # amount by name
    processing: list[str]  # keys of the first few tasks that it has
    tasks: int  # how many it has


class SchedulerView(TypedDict):
    """What the scheduler says."""

    counts: dict[str, int]  # how many tasks are in each state
    pending: list[PendingTask]  # the first ones; those that wait for no other task come first
    locks: list[TakenLock]
    workers: dict[str, WorkerEntry]  # by address
    story: list[str]  # Dask's own record of what happened to the first pending tasks, the latest last


class WorkerView(TypedDict):
    """What a worker says."""

    tasks: dict[str, str]  # state by key, of the first tasks that it has not done
    stacks: dict[str, list[str]]  # by key of a task that a thread is on, that thread's frames, the outermost first
    memory: int  # bytes that its process uses
    story: list[str]  # as in `SchedulerView`


class Diagnosed(TypedDict, total=False):
    """What the agent found out; without `scheduler`, `silent` says why."""

    scheduler: SchedulerView
    silent: str
    workers: dict[str, Answer]  # by address; the value is a `WorkerView`
