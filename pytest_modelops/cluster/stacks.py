"""Where processes stand: their Python stacks, as `faulthandler` prints them into the log on a signal."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pytest_modelops.backends.base import Process
from pytest_modelops.cluster.children import described, stacks_of_children
from pytest_modelops.cluster.parts import Parts
from pytest_modelops.deadline import Deadline
from pytest_modelops.remote.shared.facts import ProcessFacts
from pytest_modelops.remote.shared.tracebacks import are_of_user
from pytest_modelops.report.paper import counted

_POLL_SECONDS = 0.02
_DUMP_SECONDS = 0.8
"""How long processes have to print their stacks; they need milliseconds."""
_UNFORCED_SECONDS = 0.25
"""How long of this their Pythons have until `faulthandler` is to do it."""
_WRITING_SECONDS = 0.2
"""How long a dump may take from its first to its last line."""
_FRAMES = 6
"""Innermost frames shown of each thread that is not idle."""
ELSEWHERE = "not on this machine"
"""The state of a process that can be signalled, but not looked at."""
_ALIVE = {"running", "sleeping", ELSEWHERE}
"""States in which a process acts on a signal."""
GONE = "gone"
_PRINTING = re.compile(r"^  File .* in modelops_stacks\n", re.MULTILINE)
"""The frame of what prints the stacks."""
_IDLE = re.compile(
    r"line \d+ in (?:select|wait|get|_watch|_recv|_worker|read_message|_read_header|epoll|accept)$"
    r"|multiprocessing/(?:popen_fork|popen_spawn_posix|resource_tracker)\.py\""  # of nannies
)
"""The innermost frame of a thread that waits for work, as faulthandler prints it."""
_WAITS_FOR_CHILD = re.compile(r"/subprocess\.py\", line \d+ in ")
"""A frame of a thread that waits for a child process, also if it does so while a module is imported."""
_CALLS = re.compile(r"/distributed/\w+\.py\", line \d+,? in (?:apply_function\w*|_run_task\w*|plugin_add)$")
"""A frame of Dask's that calls code of the user's: a task, a plugin's setup."""


@dataclasses.dataclass(frozen=True)
class Standing:
    """Where a process stands.

    Attributes:
        name: `scheduler`, `worker-0`, `nanny of worker-0`, `agent`.
        state: in the operating system.
        dump: its stacks as faulthandler prints them; empty if it printed none.
        children: where its child processes stand, for people, if code of the user's may wait for them.
    """

    name: str
    pid: int
    state: str
    log: Path
    dump: str
    children: Sequence[str] = ()

    @property
    def stopped(self) -> bool:
        """Whether the operating system does not run it until somebody continues it."""
        return self.state.startswith("stopped")

    @property
    def shown(self) -> list[str]:
        """Its lines in a message."""
        lines = [f"    {line}" for line in innermost(self.dump)] or ["    it printed no stack"]
        lines += [f"    {line}" for line in self.children]
        return [f"{self.name} (pid {self.pid}) is {self.state}; whole stacks in {self.log}", *lines]

    @property
    def idle(self) -> bool:
        """Whether it runs and each of its threads waits for work."""
        return self.state in _ALIVE and bool(self.dump) and not busy_threads(self.dump)


def standings(parts: Parts[Any], reported: Mapping[str, ProcessFacts]) -> list[Standing]:
    """Return where each process stands, without nannies.

    A process that has reported its facts and is not stopped prints its stacks and continues. If none has, the cluster
    never came up and is given up: each process gets SIGABRT and ends with its stacks. So does a late worker.

    Args:
        reported: the last facts of each process by its name.
    """
    deadline = Deadline(_DUMP_SECONDS)
    asked, beside = [], dict[str, Sequence[str]]()
    for process in parts.all:
        facts = reported.get(process.name)
        pid = facts["pid"] if facts else process.pid  # with a nanny, the worker is not the process that was started
        asked.append(one := _Asked.now(process, pid, facts))
        if facts:
            one.signal("stacks_signal")
        elif not reported or process is parts.late:
            beside[process.name] = _abort(process, deadline)
    printing = Deadline(_DUMP_SECONDS) if reported else deadline  # a signal to another machine takes its time
    return [
        Standing(one.process.name, one.pid, one.state, one.process.log, dump, beside.get(one.process.name, ()))
        for one, dump in zip(asked, _dumps(asked, printing), strict=True)
    ]


def with_children(parts: Parts[Any], processes: Sequence[Standing]) -> list[Standing]:
    """End the child processes of workers that are in code of the user's, and return where they stand, too."""
    found = []
    for one in processes:
        if any(called_at(thread) is not None for thread in threads_of(one.dump)):
            lines, ended = stacks_of_children(parts.named(one.name), one.pid, _INNERMOST_OF_CHILD)
            if ended:
                parts.with_ended_children.add(one.name)
            found.append(dataclasses.replace(one, children=[*one.children, *lines]))
        else:
            found.append(one)
    return found


def standings_of_nannies(workers: Sequence[Process], reported: Mapping[str, ProcessFacts]) -> list[Standing]:
    """Return where the nannies of workers that have reported stand; a nanny and its worker have one log."""
    deadline = Deadline(_DUMP_SECONDS / 2)
    asked = []
    for worker in workers:
        if worker.name in reported and worker.ending is None:
            asked.append(one := _Asked.now(worker, worker.pid, reported[worker.name]))
            one.signal("stacks_signal")
    return [
        Standing(f"nanny of {one.process.name}", one.pid, one.state, one.process.log, dump)
        for one, dump in zip(asked, _dumps(asked, deadline), strict=True)
    ]


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A process that is to print its stacks.

    Attributes:
        size: of its log, in bytes, before.
    """

    process: Process
    pid: int
    state: str
    size: int
    facts: ProcessFacts | None

    @classmethod
    def now(cls, process: Process, pid: int, facts: ProcessFacts | None) -> _Asked:
        return cls(process, pid, process.state(pid=pid), process.log.stat().st_size, facts)

    @property
    def acts(self) -> bool:
        return self.state in _ALIVE

    @property
    def has_printed(self) -> bool:
        return self.process.log.stat().st_size > self.size

    def signal(self, name: Literal["stacks_signal", "forced_stacks_signal"]) -> None:
        """Send it a signal, unless that would only arrive later, or it has none of that kind."""
        if self.facts and self.acts and (number := self.facts[name]):
            self.process.signal(number, pid=self.pid)


def _dumps(asked: Sequence[_Asked], deadline: Deadline) -> list[str]:
    """Wait until those that can have printed their stacks, and return what they printed."""
    waiting = [one for one in asked if one.acts]
    deadline.at_most(_UNFORCED_SECONDS).until(lambda: all(one.has_printed for one in waiting), every=_POLL_SECONDS)
    for one in waiting:
        if not one.has_printed:
            one.signal("forced_stacks_signal")
    deadline.until(lambda: all(one.has_printed for one in waiting), every=_POLL_SECONDS)
    sizes: list[int] = []

    def all_written() -> bool:  # a dump is written line by line
        before, sizes[:] = list(sizes), [one.process.log.stat().st_size for one in asked]
        return sizes == before

    deadline.at_most(_WRITING_SECONDS).until(all_written, every=_POLL_SECONDS)
    printed = (one.process.log.read_bytes()[one.size :].decode(errors="replace") for one in asked)
    return [_PRINTING.sub("", text) for text in printed]


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


def threads_of(dump: str) -> list[list[str]]:
    """Return the threads of a faulthandler dump: a heading and its frames, the innermost first."""
    threads: list[list[str]] = []
    for line in dump.splitlines():
        if "most recent call first" in line:
            threads.append([line])
        elif threads and line.startswith("  "):
            threads[-1].append(line)
    return threads


def busy_threads(dump: str, *, of_child: bool = False) -> list[list[str]]:
    """Return the threads that do not wait for work.

    A thread in which Dask has called code of the user's is busy, also if that code waits, as for a process of its own.
    So is a thread that waits for a child process, and of such a process the main thread.
    """
    return [
        thread
        for thread in threads_of(dump)
        if any(line.startswith("  File") for line in thread)
        and (
            called_at(thread) is not None
            or (of_child and thread[0].startswith("Current"))
            or any(map(_WAITS_FOR_CHILD.search, thread))
            or not _IDLE.search(thread[1])
        )
    ]


def innermost(dump: str, *, of_child: bool = False) -> list[str]:
    """Return the innermost frames of each busy thread in a faulthandler dump, and how many threads are idle."""
    busy = busy_threads(dump, of_child=of_child)
    lines = [line for thread in busy for line in _shown(thread, called_at(thread) or (len(thread) if of_child else 0))]
    idle = len(threads_of(dump)) - len(busy)
    if idle:
        lines.append(counted(idle, "idle thread"))
    return lines


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


def place_in(thread: Sequence[str]) -> str:
    """Return the user's innermost frame of a thread, else the innermost frame, as faulthandler prints it."""
    frames = [line.strip() for line in thread[1 : called_at(thread)]]
    files = [frame.partition('"')[2].partition('"')[0] for frame in frames]
    of_user = are_of_user(files[::-1])[::-1]
    return next(itertools.compress(frames, of_user), frames[0] if frames else "")
