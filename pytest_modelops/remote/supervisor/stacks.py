"""Where the child processes of a process that hangs stand: Python's faulthandler prints it on SIGABRT, and they end.

`supervisor.py` and `init.py` load this file from beside them, as `children.py`. Linux only, since it needs /proc.
Standard library only, Python 3.9 and up, no threads.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import stat
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..shared.process_messages import ChildStack
    from . import children
elif __package__:
    from . import children
else:
    children = importlib.import_module("children")

MOST = 8
"""How many child processes are asked; each has `SECONDS`."""
SECONDS = 0.4
"""How long a process has to print its stacks and to end; it needs milliseconds."""
POLL_SECONDS = 0.005
BYTES = 1 << 16
OURS = os.path.join("modelops_remote", "supervisor") + os.sep


def abort_children(root: int) -> list[ChildStack]:
    """End the descendants of a process that print their stacks then; the others are only described.

    Meanwhile all of them and the process itself are stopped, so that none reads what is printed, and none goes on
    because another has ended.

    Returns:
        One for each, parents before their children, without supervisors of ours.
    """
    pids = [pid for pid in children.descendants(root) if OURS not in children.command(pid)][:MOST]
    found: list[ChildStack] = []
    if not pids:
        return found
    log, waits = target_of(root), {pid: waits_in(pid) for pid in pids}
    with stopped([root, *children.descendants(root)]) as states:
        for pid in pids:
            child: ChildStack = {
                "pid": pid, "command": children.command(pid), "state": children.STATES.get(states.get(pid, ""), "gone"),
                "waits_in": waits[pid] if states.get(pid) in ("S", "D") else "",
                "obstacle": "", "in_log": target_of(pid) == log, "dump": "",
            }  # fmt: skip
            if child["state"] != "gone":
                fill_in(child)
                found.append(child)
    return found


@contextlib.contextmanager
def stopped(pids: Sequence[int]) -> Iterator[dict[int, str]]:
    """Stop processes for a while; yields the state that each was in, see proc(5)."""
    states = {pid: state for pid, (_, state) in children.processes().items() if pid in pids}
    ours = [pid for pid, state in states.items() if state not in "TtZX"]
    send(ours, signal.SIGSTOP)
    try:
        yield states
    finally:
        send(ours, signal.SIGCONT)


def send(pids: Sequence[int], number: int) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def target_of(pid: int) -> str:
    """Return what the stderr of a process is: a path, `pipe:[…]`, …; empty where that cannot be seen."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/fd/2")
    return ""


def waits_in(pid: int) -> str:
    """Return the function of the kernel in which a process waits; empty where the kernel does not show it."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/wchan", encoding="ascii") as file:
        function = file.read().strip()
        return "" if function == "0" else function
    return ""


def catches(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        caught = next((line for line in file if line.startswith("SigCgt:")), "SigCgt: 0")
        return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
    return False


def fill_in(child: ChildStack) -> None:
    """End a process with its stacks if it prints any, where they can be read; else say why not."""
    pid = child["pid"]
    if child["state"].startswith("stopped"):
        child["obstacle"] = "it is stopped"
    elif not catches(pid, signal.SIGABRT):
        child["obstacle"] = "it is no Python with faulthandler"
    elif child["in_log"]:
        abort(pid, None)
    else:
        try:
            # A pipe gets a second reader, from which the first, which is stopped, takes nothing.
            descriptor = os.open(f"/proc/{pid}/fd/2", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # such as a socket
            descriptor = -1
        try:
            kind = os.fstat(descriptor).st_mode if descriptor >= 0 else 0
            if stat.S_ISFIFO(kind) or stat.S_ISREG(kind):
                if stat.S_ISREG(kind):
                    os.lseek(descriptor, 0, os.SEEK_END)
                child["dump"] = abort(pid, descriptor)
            else:
                child["obstacle"] = f"its stderr is {target_of(pid) or 'closed'}"
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def abort(pid: int, descriptor: int | None) -> str:
    """End a process that is stopped; return what it prints last."""
    printed = bytearray()
    end = time.monotonic() + SECONDS
    send([pid], signal.SIGABRT)
    send([pid], signal.SIGCONT)  # it runs its handler before anything else
    while True:
        last = time.monotonic() > end or children.processes().get(pid, (0, "Z"))[1] in "ZX"
        while descriptor is not None and select.select([descriptor], [], [], 0)[0]:
            with contextlib.suppress(BlockingIOError):
                if data := os.read(descriptor, BYTES):
                    printed += data
                    continue
            break
        if last:
            return printed.decode(errors="replace")[-BYTES:]
        time.sleep(POLL_SECONDS)
