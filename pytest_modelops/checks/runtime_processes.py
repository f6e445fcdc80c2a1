"""Whether tasks get the processes that were asked for: a new one each, or the same one again, and the right Python."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

from pytest_modelops.checks import executors
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.checks.bundle_messages import Fault, counted, message
from pytest_modelops.checks.lambdas import call_each, in_words, whereabouts
from pytest_modelops.config.model import COLD, DIRECT, WARM, PluginSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, TimedOut
from pytest_modelops.remote.shared import plain
from pytest_modelops.remote.shared.facts import Interpreter, NamedProcess
from pytest_modelops.shipping import ship


class TaskFacts(TypedDict):
    """What `run_task` returns."""

    value: Any  # what the function returned
    seconds: float  # how long it took
    worker: int  # pid of the worker itself
    # when the process whose pid the function returned was started, as the system says; `None` if it is gone
    start: float | None
    process: NamedProcess | None  # that process, unless it is the worker itself
    python: Interpreter  # of the worker


def run_task(path: str) -> dict[str, object]:
    """Call `module:function` on this worker. It travels into the cell as source, where it makes a `TaskFacts`."""
    import functools
    import importlib
    import os
    import sys
    import time

    import psutil  # which distributed needs, too

    processes: Any = importlib.import_module("modelops_remote.worker.processes")
    module, _, name = path.partition(":")
    function = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    with processes.Watch(os.getpid()) as watch:
        began = time.perf_counter()
        answer = function()  # type: ignore[operator]
        seconds = time.perf_counter() - began
    pid = answer.get("pid") if isinstance(answer, dict) else answer
    named = isinstance(pid, int) and not isinstance(pid, bool)
    try:
        start = psutil.Process(pid).create_time()
    except (psutil.Error, TypeError, ValueError, OverflowError):
        start = None
    return {
        "value": answer,
        "seconds": seconds,
        "worker": os.getpid(),
        "start": start,
        "process": watch.named(pid) if named and pid != os.getpid() else None,
        "python": processes.ask(os.path.realpath(sys.executable), sys.executable),
    }


def run(
    plugin: PluginSettings, cell: CheckedCell, addresses: Mapping[str, str], deadline: Deadline
) -> dict[str, dict[str, dict[str, object]]]:
    """Call each configured function on each of these workers, one task after the other, and judge the processes.

    Args:
        addresses: by worker name.

    Returns:
        By `cold`, `warm` or `direct` and worker name: lists of `pids`, `starts`, `seconds` and `pythons`, one
        entry a task.

    Raises:
        CheckFailed: the tasks ran in other processes than was asked for, or a task failed.
        TimedOut: a task did not finish.
    """
    figures: dict[str, dict[str, dict[str, object]]] = {}
    for kind, path in plugin.processes.items():
        cell.progress(f"looking which processes do tasks ({kind})")
        answers: dict[str, list[TaskFacts]] = {name: [] for name in addresses}
        for _ in range(plugin.tasks):
            for name, answer in _run_once(path, kind, cell, addresses, deadline).items():
                answers[name].append(answer)
        faults = {name: found for name, of in answers.items() if (found := list(judge(kind, path, of, plugin.python)))}
        if faults:
            count = counted(len(faults), addresses, "workers")
            raise CheckFailed(message(f"worker plugin {plugin.path}, {count}", faults, named=True))
        figures[kind] = {
            name: {
                "pids": [pid for pid, _ in map(process_of, of)],
                "starts": [start for _, start in map(process_of, of)],
                "seconds": [round(answer["seconds"], 4) for answer in of],
                "pythons": [one["process"]["runs"] if one["process"] else one["python"] for one in of],
            }
            for name, of in answers.items()
        }
    return figures


def _run_once(
    path: str, kind: str, cell: CheckedCell, addresses: Mapping[str, str], deadline: Deadline
) -> dict[str, TaskFacts]:
    outcomes = call_each(cell.cluster, ship(run_task), [path], list(addresses.values()), deadline)
    answers = {}
    for name, address in addresses.items():
        outcome = outcomes[address]
        where = f"`{path}`, which shows whether tasks run {kind}, on {name}"
        if "pending" in outcome:
            at = whereabouts(cell.cluster, outcome)
            raise TimedOut(f"{where}: not finished within {deadline.seconds:g} s, {at}")
        if "value" not in outcome:
            raise CheckFailed(f"{where}: {in_words(cell.cluster, name, outcome)}")
        answers[name] = plain.unpack(outcome["value"])
    return answers


def process_of(task: TaskFacts) -> tuple[int | None, Any]:
    """Return pid and start of the process that did a task; no pid if the function did not return one.

    The start is the one that the function returned, or else the system's, which knows it only while the process runs.
    """
    value = task["value"]
    pid, start = (value.get("pid"), value.get("start")) if isinstance(value, Mapping) else (value, None)
    start = task["start"] if start is None else start
    return (pid, start) if isinstance(pid, int) and not isinstance(pid, bool) else (None, None)


def judge(kind: str, path: str, tasks: Sequence[TaskFacts], python: str | None = None) -> Iterator[Fault]:
    """Yield what is wrong with the processes that did a worker's tasks, in order.

    Args:
        python: the Python that they should run, as configured.
    """
    processes = [process_of(task) for task in tasks]
    for task, (pid, _) in zip(tasks, processes, strict=True):
        if pid is None:
            returned = f"`{path}` returned {task['value']!r:.200}"
            yield Fault(head=f'{returned}; it has to return a pid, or {{"pid": …, "start": …}}')
            return
    pids = [pid for pid, _ in processes]
    own = tasks[0]["worker"]
    if wrong := _wrong(kind, processes, own):
        details = () if kind == WARM and pids[0] == own else (f"pids, in order: {', '.join(map(str, pids))}",)
        yield Fault(head=f"asked for {kind}, {wrong}", details=details)
        return
    named = [process for task in tasks if (process := task["process"])]
    if why := _not_its_own(kind, named):
        in_order = f"pids, in order: {', '.join(map(str, pids))}"
        yield Fault(head=f"`{path}` named {why}", details=(in_order, executors.STORED))
        return
    own_python, key = tasks[0]["python"], "[tool.modelops.worker-plugin] python"
    heads = [executors.other_python(one["runs"], own_python, python, key) for one in named if one["seen"]]
    yield from (Fault(head=f"asked for {kind}, {head}") for head in dict.fromkeys(itertools.chain(*heads)))


def _not_its_own(kind: str, named: Sequence[NamedProcess]) -> str:
    """Say why one of these processes cannot have done a task of the worker; empty if all can."""
    reasons = (executors.not_its_own(one, "the worker", lasting=kind == WARM) for one in named)
    if why := next(filter(None, reasons), ""):
        return why
    if named and not any(one["seen"] for one in named):  # all were too quick
        return f"pid {named[0]['pid']}, which was not seen below the worker (pid {named[0]['of']}), nor was any other"
    return ""


def _wrong(kind: str, processes: Sequence[tuple[int | None, Any]], own: int) -> str:
    """Say in which way these processes are not of this kind; empty if they are."""
    distinct, count = len(set(processes)), len(processes)
    pids = [pid for pid, _ in processes]
    if kind == COLD and distinct < count:
        pid = next(pid for pid, start in processes if processes.count((pid, start)) > 1)
        reused = f"pid {pid}, the worker's own, was reused" if pid == own else f"pid {pid} was reused"
        return f"a new process for every task; {count} tasks had {distinct} ({reused})"
    if kind == COLD and own in pids:
        return f"a new process for every task; the worker itself (pid {own}) did {pids.count(own)} of {count}"
    if kind == WARM and distinct > 1:
        return f"one process for all tasks of a worker; {count} tasks had {distinct}"
    if kind == WARM and pids[0] == own:
        return f"a process beside the worker; the worker itself (pid {own}) did the tasks"
    if kind == DIRECT and set(pids) != {own}:
        return f"the worker's own process (pid {own}); others did the tasks"
    return ""
