"""Whether tasks get the processes that were asked for: a new one each, or the same one again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_modelops.checks import runtime_tasks
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.checks.bundle_messages import Fault, counted, message
from pytest_modelops.checks.lambdas import in_words, whereabouts
from pytest_modelops.config.model import COLD, DIRECT, WARM, PluginSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, TimedOut
from pytest_modelops.remote.shared import plain
from pytest_modelops.shipping import ship

Answer = Mapping[str, Any]
"""What `runtime_tasks.run_task` returned."""


def run(
    plugin: PluginSettings, cell: CheckedCell, addresses: Mapping[str, str], deadline: Deadline
) -> dict[str, dict[str, Any]]:
    """Call each configured function on each of these workers, one task after the other, and judge the processes.

    Args:
        addresses: by worker name.

    Returns:
        By `cold`, `warm`, `direct` and worker name, of each task: `{"pids": […], "starts": […], "seconds": […]}`.

    Raises:
        CheckFailed: other processes did the tasks than was asked for, or a task failed.
        TimedOut: a task did not finish.
    """
    figures: dict[str, dict[str, Any]] = {}
    for kind, path in plugin.processes.items():
        cell.progress(f"looking which processes do tasks ({kind})")
        answers: dict[str, list[Answer]] = {name: [] for name in addresses}
        for _ in range(plugin.tasks):
            for name, answer in _run_once(path, kind, cell, addresses, deadline).items():
                answers[name].append(answer)
        faults = {name: found for name, of in answers.items() if (found := list(judge(kind, path, of)))}
        if faults:
            count = counted(len(faults), addresses, "workers")
            raise CheckFailed(message(f"worker plugin {plugin.path}, {count}", faults, named=True))
        figures[kind] = {
            name: {
                "pids": [pid for pid, _ in map(process_of, of)],
                "starts": [start for _, start in map(process_of, of)],
                "seconds": [round(answer["seconds"], 4) for answer in of],
            }
            for name, of in answers.items()
        }
    return figures


def _run_once(
    path: str, kind: str, cell: CheckedCell, addresses: Mapping[str, str], deadline: Deadline
) -> Mapping[str, Answer]:
    shipped = ship(runtime_tasks.run_task)
    outcomes: Mapping[str, Mapping[str, Any]] = cell.cluster.agent.call(
        "call_each",
        module={"source": shipped.source, "name": shipped.name},
        args=[path],
        workers=list(addresses.values()),
        seconds=deadline.remaining,
        deadline=deadline,
    )
    answers = {}
    for name, address in addresses.items():
        outcome = outcomes[address]
        where = f"`{path}`, which shows whether tasks run {kind}, on {name}"
        if "pending" in outcome:
            words = whereabouts(cell.cluster, outcome)
            raise TimedOut(f"{where}: not finished within {deadline.seconds:g} s, {words}")
        if "value" not in outcome:
            raise CheckFailed(f"{where}: {in_words(cell.cluster, name, outcome)}")
        answers[name] = plain.unpack(outcome["value"])
    return answers


def process_of(answer: Answer) -> tuple[int | None, Any]:
    """Pid and start of the process that did a task; no pid where the function returned something else.

    The start is the one that the function reported, or else the system, which knows it only of a process that
    still runs.
    """
    reply = answer["value"]
    pid, start = (reply.get("pid"), reply.get("start")) if isinstance(reply, Mapping) else (reply, None)
    start = answer["start"] if start is None else start
    return (pid, start) if isinstance(pid, int) and not isinstance(pid, bool) else (None, None)


def judge(kind: str, path: str, answers: Sequence[Answer]) -> Iterator[Fault]:
    """What is wrong with the processes that did a worker's tasks, in order."""
    for answer in answers:
        if process_of(answer)[0] is None:
            returned = f"`{path}` returned {answer['value']!r:.200}"
            yield Fault(head=f'{returned}; it has to return a pid, or {{"pid": …, "start": …}}')
            return
    processes = [process_of(answer) for answer in answers]
    pids = ", ".join(str(pid) for pid, _ in processes)
    own = answers[0]["worker"]
    distinct, count = len(set(processes)), len(processes)
    own_tasks = [pid for pid, _ in processes].count(own)
    wanted = f"asked for {kind}"
    if kind == COLD and distinct < count:
        pid = next(one[0] for one in processes if processes.count(one) > 1)
        whose = ", the worker's own" if pid == own else ""
        yield Fault(
            head=f"{wanted}, a new process for every task; {count} tasks had {distinct} (pid {pid}{whose}, was reused)"
            if whose
            else f"{wanted}, a new process for every task; {count} tasks had {distinct} (pid {pid} was reused)",
            details=(f"pids, in order: {pids}",),
        )
    elif kind == COLD and own_tasks:
        yield Fault(
            head=f"{wanted}, a new process for every task; the worker itself (pid {own}) did {own_tasks} of {count}",
            details=(f"pids, in order: {pids}",),
        )
    elif kind == WARM and distinct > 1:
        yield Fault(
            head=f"{wanted}, one process for all tasks of a worker; {count} tasks had {distinct}",
            details=(f"pids, in order: {pids}",),
        )
    elif kind == WARM and processes[0][0] == own:
        yield Fault(head=f"{wanted}, a process beside the worker; the worker itself (pid {own}) did the tasks")
    elif kind == DIRECT and {pid for pid, _ in processes} != {own}:
        yield Fault(
            head=f"{wanted}, the worker's own process (pid {own}); others did the tasks",
            details=(f"pids, in order: {pids}",),
        )
