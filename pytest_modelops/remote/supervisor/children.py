"""The processes below this one: find, signal, reap and kill them.

`supervisor.py` and `init.py` load this file from beside them, since both are run by path (`python -I -S`). Standard
library only, Python 3.9 and up, no threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable

LINUX = sys.platform == "linux"
LIBC = ctypes.CDLL(None, use_errno=True) if LINUX else None
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
SECONDS_TO_DIE = 5.0
STATES = {
    "R": "running",
    "S": "sleeping",
    "I": "sleeping",
    "D": "waiting for the disk",
    "T": "stopped (SIGSTOP)",
    "t": "stopped (traced)",
}


def become_subreaper() -> None:
    """Adopt the orphans of our descendants (prctl(2), Linux 3.4)."""
    if LIBC is not None and LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def processes() -> dict[int, tuple[int, str]]:
    """Return parent and state (see proc(5)) of every process that /proc shows, zombies included."""
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if one := process(pid):
            found[pid] = one
    return found


def process(pid: int) -> tuple[int, str] | None:
    """Return parent and state (see proc(5)) of a process; `None` if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            stat = file.read()
    except OSError:  # it has ended
        return None
    # The command in parentheses may hold spaces and parentheses itself.
    state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
    return int(parent), state


def descendants(root: int) -> list[int]:
    """Return the pids of all descendants of a process, parents before their children; empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in processes().items() if LINUX else ():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def command(pid: int) -> str:
    """Return the command line of a process, for people; empty where it cannot be seen."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().replace(b"\0", b" ").decode(errors="replace").strip()[:200]
    return ""


class Children:
    """What this process has started, and on Linux everything below it.

    Args:
        on_exit: called with pid and waitpid(2)'s status for each process in `started` that has ended.

    Attributes:
        started: pids of the processes that were started here and have not ended.
    """

    def __init__(self, on_exit: Callable[[int, int], None]) -> None:
        self.started: set[int] = set()
        self._on_exit = on_exit

    def pids(self) -> list[int]:
        """Return the pids of all of them; without /proc, of those that were started here."""
        if not LINUX:
            return sorted(self.started)
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # without a child there is nothing below, and looking at all of /proc takes long
            return []
        return descendants(os.getpid())

    def signal(self, pid: int, number: int) -> bool:
        """Send a signal if the process is one of these and runs; raises `OSError` if the system refuses."""
        if not self._runs(pid):
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def _runs(self, pid: int) -> bool:
        """Return whether a process is one of these and has not ended."""
        if not LINUX:
            return pid in self.started
        one = process(pid)
        if one is None or one[1] in "ZX":
            return False
        while one is not None and one[0] != os.getpid():
            one = process(one[0])
        return one is not None

    def reap(self) -> bool:
        """Collect those that have ended, orphans too; return whether no child is left (ECHILD)."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid in self.started:
                self.started.discard(pid)
                self._on_exit(pid, status)

    def kill(self) -> list[int]:
        """Kill and reap all of them; without /proc, their process groups. Return the pids that are left."""
        end = time.monotonic() + SECONDS_TO_DIE
        while True:
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL) if LINUX else os.killpg(pid, signal.SIGKILL)
            if self.reap():
                return []
            if time.monotonic() > end:
                return self.pids()
            time.sleep(0.005)  # a killed process needs a moment; there is no event for grandchildren
