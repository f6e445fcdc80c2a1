"""Where processes stand: their Python stacks, as `faulthandler` prints them into the log on a signal."""

from __future__ import annotations

import functools
import itertools
import re
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_modelops.backends.base import Process
from pytest_modelops.cluster.children import described, stacks_of_children
from pytest_modelops.cluster.parts import Parts
from pytest_modelops.deadline import Deadline
from pytest_modelops.remote.shared.facts import ProcessFacts
from pytest_modelops.remote.shared.tracebacks import are_of_user

_POLL_SECONDS = 0.02
_DUMP_SECONDS = 0.8
"""How long processes have to print their stacks; they need milliseconds."""
_FRAMES = 6
"""Innermost frames shown of each thread that is not idle."""
_ALIVE = {"running", "sleeping"}
"""States in which a process acts on a signal."""
_IDLE = re.compile(
    r"line \d+ in (?:select|wait|get|_watch|_recv|_worker|read_message|epoll|accept)$"
    r"|multiprocessing/(?:popen_fork|popen_spawn_posix|resource_tracker)\.py\""  # of nannies
)
"""The innermost frame of a thread that waits for work, as faulthandler prints it."""
_WAITS_FOR_CHILD = re.compile(r"/subprocess\.py\", line \d+ in ")
"""A frame of a thread that waits for a child process, also if it does so while a module is imported."""
_CALLS = re.compile(r"/distributed/\w+\.py\", line \d+ in (?:apply_function\w*|_run_task\w*|plugin_add)$")
"""A frame of Dask's that calls code of the user's: a task, a plugin's setup."""


def stacks_of(parts: Parts, reported: Mapping[str, ProcessFacts]) -> str:
    """Return the stacks of each process, or why it has none to show.

    A process that has reported its facts prints its stacks and continues. If none has, the cluster never came up and
    is given up: each process gets SIGABRT and ends with its stacks. So does a late worker, and so do child processes of
    workers that are in code of the user's.

    Args:
        reported: the last facts of each process by its name.
    """
    deadline = Deadline(_DUMP_SECONDS)
    asked = []
    for process in parts.all:
        facts = reported.get(process.name)
        pid = facts["pid"] if facts else process.pid  # with a nanny, the worker is not the process that was started
        state = process.state(pid=pid)
        size = process.log.stat().st_size
        beside: Sequence[str] = ()
        if facts:
            process.signal(facts["stacks_signal"], pid=pid)
        elif not reported or process is parts.late:
            beside = _abort(process, deadline)
        asked.append((process, pid, state, size, beside))
    for process, _, state, size, _ in asked:
        if state in _ALIVE:
            deadline.until(functools.partial(_has_grown, process.log, size), every=_POLL_SECONDS)
    time.sleep(_POLL_SECONDS)  # a dump is written line by line
    lines = []
    for process, pid, state, size, beside in asked:
        dump = process.log.read_bytes()[size:].decode(errors="replace")
        lines.append(f"{process.name} (pid {pid}) is {state}; whole stacks in {process.log}")
        lines += [f"    {line}" for line in innermost(dump)] or ["    it printed no stack"]
        lines += [f"    {line}" for line in beside]
        if any(called_at(thread) is not None for thread in threads_of(dump)):
            children, ended = stacks_of_children(process, pid, _INNERMOST_OF_CHILD)
            lines += [f"    {line}" for line in children]
            if ended:
                parts.with_ended_children.add(process.name)
    return "\n".join(lines)


def _has_grown(log: Path, size: int) -> bool:
    return log.stat().st_size > size


def _abort(process: Process, deadline: Deadline) -> Sequence[str]:
    """End a process with its stacks. Its children go first: a nanny's worker would end with it, without a stack.

    Returns:
        Where those stand whose stacks are not in its log, for people.
    """
    beside = [
        line
        for child in process.abort_children()
        if not child["in_log"] or child["obstacle"]
        for line in described(child, _INNERMOST_OF_CHILD(child["dump"]))
    ]
    children = process.descendants()
    for pid in reversed(children):
        process.signal(signal.SIGABRT, pid=pid)
    deadline.until(lambda: all(process.state(pid=pid) not in _ALIVE for pid in children), every=_POLL_SECONDS)
    process.signal(signal.SIGABRT)
    return beside


def innermost(dump: str, *, of_child: bool = False) -> list[str]:
    """Return the innermost frames of each busy thread in a faulthandler dump, and how many threads are idle.

    A thread in which Dask has called code of the user's is busy, also if that code waits, as for a process of its own.
    So is a thread that waits for a child process, and of such a process the main thread.
    """
    threads = threads_of(dump)
    busy = [
        thread
        for thread in threads
        if any(line.startswith("  File") for line in thread)
        and (
            called_at(thread) is not None
            or (of_child and thread[0].startswith("Current"))
            or any(map(_WAITS_FOR_CHILD.search, thread))
            or not _IDLE.search(thread[1])
        )
    ]
    lines = [line for thread in busy for line in _shown(thread, called_at(thread) or (len(thread) if of_child else 0))]
    idle = len(threads) - len(busy)
    if idle:
        lines.append(f"{idle} idle thread{'' if idle == 1 else 's'}")
    return lines


def threads_of(dump: str) -> list[list[str]]:
    """Return the lines of each thread in a faulthandler dump."""
    threads: list[list[str]] = []
    for line in dump.splitlines():
        if "most recent call first" in line:
            threads.append([line])
        elif threads and line.startswith("  "):
            threads[-1].append(line)
    return threads


_INNERMOST_OF_CHILD = functools.partial(innermost, of_child=True)


def called_at(thread: Sequence[str]) -> int | None:
    """Return at which line of a thread Dask calls code of the user's."""
    return next((number for number, line in enumerate(thread) if _CALLS.search(line)), None)


def _shown(thread: Sequence[str], called: int) -> list[str]:
    """Return a thread's innermost frames, and the user's further out up to a line of it."""
    shown = list(thread[: _FRAMES + 1])
    further = thread[_FRAMES + 1 : called]
    files = [line.partition('"')[2].partition('"')[0] for line in thread[1:called]]
    of_user = are_of_user(files[::-1])[::-1][_FRAMES:]
    return [*shown, *[*itertools.compress(further, of_user)][:_FRAMES]]
