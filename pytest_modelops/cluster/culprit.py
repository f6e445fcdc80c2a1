"""Naming what hangs, and why, from what was seen when a deadline had passed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

from pytest_modelops.cluster.stacks import Standing, busy_threads, called_at, place_in, threads_of
from pytest_modelops.remote.shared.diagnosis_messages import Diagnosed, PendingTask, SchedulerView, WorkerView
from pytest_modelops.remote.shared.tracebacks import are_of_user
from pytest_modelops.report.paper import counted

_SHOWN = 3
_MOST_OF_KEY = 80
_LOOP = "/asyncio/"
"""In the path of the files whose frames run an event loop."""
_RUNS_LOOP = " in run_forever"
_LOCKS = ("/distributed/lock.py", "/distributed/semaphore.py")
"""In the paths of the files whose frames wait for a lock of Dask's."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What was seen.

    Attributes:
        processes: those of the cell, nannies too.
        asked: what scheduler and workers said.
        addresses: name by address of the workers that were asked.
        deaths: how the processes of each worker ended since the check began, by the worker's name; without those that
            were ended on purpose.
    """

    processes: Sequence[Standing]
    asked: Diagnosed
    addresses: Mapping[str, str]
    deaths: Mapping[str, Sequence[str]]

    @property
    def scheduler(self) -> SchedulerView | None:
        return self.asked.get("scheduler")

    @functools.cached_property
    def names(self) -> Mapping[str, str]:
        """Name of each worker by address."""
        registered = self.scheduler["workers"] if self.scheduler else {}
        return {**{address: worker["name"] for address, worker in registered.items()}, **self.addresses}

    @property
    def registered(self) -> set[str]:
        """Names of the workers that the scheduler has."""
        return {worker["name"] for worker in self.scheduler["workers"].values()} if self.scheduler else set()

    @property
    def workers(self) -> Mapping[str, WorkerView]:
        """What each worker said that answered, by name."""
        answers = self.asked.get("workers", {})
        return {self.names[one]: answer["value"] for one, answer in answers.items() if "value" in answer}

    @property
    def silent(self) -> Sequence[str]:
        """Names of the workers that did not answer although the scheduler did."""
        answers = self.asked.get("workers", {}) if self.scheduler else {}
        return [self.names[one] for one, answer in answers.items() if "silent" in answer]

    def process(self, name: str) -> Standing | None:
        return next((one for one in self.processes if one.name == name), None)

    def tasks_of(self, name: str) -> str:
        """Return which tasks a worker has, for people; empty if it has none or the scheduler does not say."""
        entries = self.scheduler["workers"].values() if self.scheduler else ()
        entry = next((one for one in entries if one["name"] == name), None)
        return f"{_listed(entry['processing'], entry['tasks'])} on it" if entry and entry["tasks"] else ""


def culprit(evidence: Evidence) -> str:
    """Return what hangs and why, in a sentence or two; what says most about the cause comes first."""
    finders: tuple[Callable[[Evidence], str], ...] = (
        _stopped,
        _restarted,
        _unregistered,
        _silent_worker,
        _silent_scheduler,
        _without_worker,
        _waits_for_lock,
        _runs,
        _between,
    )
    found = (finder(evidence) for finder in finders)
    return next(filter(None, found), "what hangs is unknown: scheduler and workers answer, and no task is pending.")


def _stopped(evidence: Evidence) -> str:
    """A process that the operating system does not run."""
    stopped = [one for one in evidence.processes if one.stopped]
    lines = []
    for one in stopped:
        tasks = evidence.tasks_of(one.name)
        lines.append(f"{one.name} (pid {one.pid}) is {one.state} and does nothing{f'; {tasks}' if tasks else ''}")
    return f"{'; '.join(lines)}." if lines else ""


def _restarted(evidence: Evidence) -> str:
    """Workers that die again and again, with the tasks of which they do."""
    pending = evidence.scheduler["pending"] if evidence.scheduler else []
    registered = evidence.registered
    fatal = [task for task in pending if task["deaths"]]
    again = {
        name: deaths
        for name, deaths in evidence.deaths.items()
        if len(deaths) > 1 or (deaths and (fatal or name not in registered))
    }
    if not again:
        return ""
    workers = [
        f"{name} died {_times(len(deaths))} since the check began and was restarted (last: its process {deaths[-1]})"
        for name, deaths in again.items()
    ]
    text = f"{'; '.join(workers)}."
    if fatal:
        of_all = max(fatal, key=lambda task: task["deaths"])
        text += f" Task {_key(of_all['key'])} was on {counted(of_all['deaths'], 'worker')} that died."
    return text


def _unregistered(evidence: Evidence) -> str:
    """Workers that the scheduler does not have."""
    if evidence.scheduler is None:
        return ""
    workers = [one for one in evidence.processes if one.name.startswith("worker-")]
    missing = [one for one in workers if one.name not in evidence.registered]
    lines = [f"{one.name} (pid {one.pid}) is not registered with the scheduler{_at(_place(one))}" for one in missing]
    return f"{'; '.join(lines)}." if lines else ""


def _silent_worker(evidence: Evidence) -> str:
    """A worker whose event loop is blocked, or whose interpreter another thread holds."""
    lines = []
    for name in evidence.silent:
        process, tasks = evidence.process(name), evidence.tasks_of(name)
        why = _why_silent(process.dump if process else "")
        pid = f" (pid {process.pid})" if process else ""
        lines.append(f"{name}{pid} does not answer: {why}{f' ({tasks})' if tasks else ''}")
    return f"{'; '.join(lines)}." if lines else ""


def _why_silent(dump: str) -> str:
    loop, inner = _loop(dump)
    if blocked := _users(inner):
        return f"its event loop is blocked{_at(blocked)}"
    called = [thread for thread in busy_threads(dump) if thread is not loop and called_at(thread) is not None]
    if called:
        return (
            "a task probably holds Python's GIL and keeps its event loop from running"
            f"{_at(place_in(called[0]))}; code in C that runs long has to release the GIL"
        )
    return f"its event loop does not run{_at(place_in(loop))}" if loop else "it printed no stack of its event loop"


def _loop(dump: str) -> tuple[list[str], list[str]]:
    """Return the thread that runs an event loop, and its frames inside of the loop; both empty if there is none."""
    loop = next((one for one in threads_of(dump) if any(line.endswith(_RUNS_LOOP) for line in one)), [])
    inner = [line.strip() for line in loop[1:]]
    return loop, inner[: next((number for number, line in enumerate(inner) if _LOOP in line), len(inner))]


def _users(frames: Sequence[str]) -> str:
    """Return the innermost frame if any is of the user's code, else nothing."""
    files = [frame.partition('"')[2].partition('"')[0] for frame in frames]
    return place_in(["", *frames]) if any(are_of_user(files[::-1])) else ""


def _silent_scheduler(evidence: Evidence) -> str:
    if evidence.scheduler is not None:
        return ""
    agent, scheduler = evidence.process("agent"), evidence.process("scheduler")
    why = evidence.asked.get("silent", "it was not asked")
    who = "the agent (the cell's client) could not ask the scheduler"
    places = [f"{one.name} (pid {one.pid}) is {one.state}{_at(_place(one))}" for one in (scheduler, agent) if one]
    return f"{who}: {why}; {'; '.join(places)}."


def _without_worker(evidence: Evidence) -> str:
    """A task that no worker may run."""
    view = evidence.scheduler
    task = next((one for one in view["pending"] if one["state"] == "no-worker"), None) if view else None
    if view is None or task is None:
        return ""
    waiting = [_key(one["key"]) for one in view["pending"] if task["key"] in one["waits_for"]]
    after = f" {', '.join(waiting[:_SHOWN])} wait{'s' * (len(waiting) == 1)} for it." if waiting else ""
    return f"no worker can run task {_key(task['key'])}: {_why_nowhere(task, view)}.{after}"


def _why_nowhere(task: PendingTask, view: SchedulerView) -> str:
    if not view["workers"]:
        return "no worker is registered"
    lacking = {
        name: amount
        for name, amount in task["resources"].items()
        if not any(worker["resources"].get(name, 0) >= amount for worker in view["workers"].values())
    }
    if lacking:
        needs = ", ".join(f"{name}={amount:g}" for name, amount in lacking.items())
        has = (f"{worker['name']} {_resources(worker['resources'])}" for worker in view["workers"].values())
        return f"it needs the resource {needs}, which no worker has ({'; '.join(has)})"
    eligible = [one for address, one in view["workers"].items() if address in task["places"] or not task["places"]]
    if eligible and all(worker["paused"] for worker in eligible):
        names = ", ".join(worker["name"] for worker in eligible[:_SHOWN])
        return f"{names} {'is' if len(eligible) == 1 else 'are'} paused, as Dask does where memory is short"
    if task["places"]:
        return f"it may only run on {', '.join(task['places'][:_SHOWN])}, and no such worker is registered"
    return "none that is registered meets what it needs"


def _resources(resources: Mapping[str, float]) -> str:
    return "has " + (", ".join(f"{name}={amount:g}" for name, amount in resources.items()) or "none")


def _running(evidence: Evidence) -> list[tuple[str, str, Sequence[str]]]:
    """Return worker, key and frames (the innermost first) of each task that a thread is on."""
    return [
        (name, key, [frame.partition("\n")[0].strip() for frame in reversed(frames)])
        for name, view in evidence.workers.items()
        for key, frames in view["stacks"].items()
    ]


def _waits_for_lock(evidence: Evidence) -> str:
    """A task that waits for a lock of Dask's."""
    locks = evidence.scheduler["locks"] if evidence.scheduler else []
    waiting = [one for one in _running(evidence) if any(path in line for line in one[2] for path in _LOCKS)]
    if not locks or not waiting:
        return ""
    worker, key, frames = waiting[0]
    names = ", ".join(f"{lock['name']!r} (taken {_times(lock['taken'])}, {lock['waiting']} waiting)" for lock in locks)
    return (
        f"task {_key(key)} on {worker} waits for Dask's lock {names}, which nobody has released"
        f"{_at(place_in(['', *frames]))}."
    )


def _runs(evidence: Evidence) -> str:
    """Tasks that have not ended."""
    tasks = [
        f"task {_key(key)} on {name} has not ended{_at(place_in(['', *frames]))}"
        for name, key, frames in _running(evidence)
    ]
    more = f"; and {len(tasks) - _SHOWN} more" if len(tasks) > _SHOWN else ""
    return f"{'; '.join(tasks[:_SHOWN])}{more}." if tasks else ""


def _between(evidence: Evidence) -> str:
    """Tasks that are pending although no thread is on one."""
    view = evidence.scheduler
    if view is None or not view["pending"]:
        return ""
    task = view["pending"][0]
    on = evidence.names.get(task["worker"], task["worker"])
    states = [f"the scheduler has it as {task['state']!r}" + (f" on {on}" if on else "")]
    for name, worker in evidence.workers.items():
        if state := worker["tasks"].get(task["key"]):
            states.append(f"{name} as {state!r}")
    count = sum(number for state, number in view["counts"].items() if state not in {"memory", "released", "erred"})
    pending = f"{counted(count, 'task')} {'is' if count == 1 else 'are'} pending and no worker runs any of them"
    return f"{pending}. Task {_key(task['key'])}: {', '.join(states)}."


def _place(process: Standing) -> str:
    threads = busy_threads(process.dump)
    threads.sort(key=lambda thread: called_at(thread) is None)
    return _users(_loop(process.dump)[1]) or (place_in(threads[0]) if threads else "")


def _at(place: str) -> str:
    return f", at {place}" if place else ""


def _listed(keys: Sequence[str], count: int) -> str:
    shown = ", ".join(map(_key, keys[:_SHOWN]))
    more = f" and {count - len(keys[:_SHOWN])} more" if count > len(keys[:_SHOWN]) else ""
    return f"{'task' if count == 1 else 'tasks'} {shown}{more} {'is' if count == 1 else 'are'}"


def _key(key: str) -> str:
    return key if len(key) <= _MOST_OF_KEY else f"{key[:_MOST_OF_KEY]}…"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
