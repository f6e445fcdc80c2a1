"""The supervisor: a small program that starts processes for pytest and outlives none of them.

One runs for each cell, and one for the host's own commands. It holds one end of a socket whose other end is
pytest's. When that end closes, however pytest ended, the supervisor kills everything that it started and everything
that those have left behind, and goes. On Linux it is a *subreaper*: orphans of its children become its own
children, so `waitpid` answering ECHILD is the proof that nothing is left, also of processes in sessions of their
own. Elsewhere it kills the process groups that it made, which proves less.

Run as `python -I -S supervisor.py FD [DIRECTORY]`; DIRECTORY is removed at the end. Single-threaded, because
the parent-death
signal fires when the *thread* that started a process ends. Standard library only; imports nothing of this package.

Messages are JSON, one a line. From pytest:

    {"op": "start", "id": n, "argv": […], "env": {…}, "cwd": path, "log": path, "attached": bool}
        attached: the next two descriptors on the socket become stdin and stdout; only stderr goes to the log
    {"op": "signal", "id": n, "pid": p, "number": s}
    {"op": "descendants", "id": n, "pid": p}
    {"op": "left", "id": n}
    {"op": "finish", "id": n}

To pytest: `{"id": n, …}` answers each of them; `{"exited": pid, "status": waitstatus}` comes by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
SECONDS_TO_DIE = 5.0
LIBC = ctypes.CDLL(None, use_errno=True) if LINUX else None


def become_subreaper() -> None:
    """Adopt the orphans of our descendants (prctl(2), Linux 3.4)."""
    if LIBC is not None and LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def descendants(root: int) -> list[int]:
    """Pids of all descendants of a process, zombies included, as /proc shows them; parents before their children."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                stat = file.read()
        except OSError:  # it is gone by now
            continue
        # The command in parentheses may hold spaces and parentheses itself.
        parent = int(stat[stat.rindex(")") + 2 :].split()[1])
        children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def mentioning(directory: str) -> list[int]:
    """Pids of the processes whose environment variables mention a directory, as HOME does that of a cell."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")) if LINUX else ():
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
            if os.fsencode(directory) in file.read():
                found.append(int(name))
    return found


def describe(pid: int) -> str:
    """Pid and command line, for people."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        command = ""
    return f"{pid} {command[:200]}".strip()


class Supervisor:
    """Starts, signals and reaps; see the module's text for the messages."""

    def __init__(self, host: socket.socket, directory: str | None) -> None:
        self.host = host
        self.directory = directory
        self.parent = os.getppid()
        self.started: set[int] = set()
        self.descriptors: list[int] = []
        self.buffer = b""
        self.woken, wake = socket.socketpair()
        self.woken.setblocking(False)
        wake.setblocking(False)
        self.wake = wake
        signal.set_wakeup_fd(wake.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> int:
        """Serve until reported to finish, or until pytest is gone."""
        while True:
            ready, _, _ = select.select([self.host, self.woken], [], [], 1.0)
            if self.woken in ready:
                with contextlib.suppress(BlockingIOError):
                    self.woken.recv(4096)
            self.reap()
            # A process that pytest forked may hold our socket open for longer than pytest lives.
            if os.getppid() != self.parent:
                break
            if self.host in ready and not self.serve():
                break
        return 1 if self.end() else 0

    def serve(self) -> bool:
        """Read what has come and answer it; `False` when it is time to go."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.host, 1 << 16, 8)
        except ConnectionError:
            return False
        if not data:
            return False
        self.descriptors += descriptors
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            operation = message.pop("op")
            answer: dict[str, Any] = {"id": message.pop("id")}
            if operation == "finish":
                self.answer({**answer, "left": self.end()})
                return False
            try:
                answer.update(getattr(self, f"do_{operation}")(**message))
            except (OSError, subprocess.SubprocessError, ValueError) as error:
                answer["error"] = f"{type(error).__name__}: {error}"
            self.answer(answer)
        return True

    def answer(self, message: dict[str, Any]) -> None:
        """Send to pytest; that it may be gone is seen at the next read."""
        with contextlib.suppress(OSError):
            self.host.sendall(json.dumps(message).encode() + b"\n")

    def do_start(self, argv: list[str], env: dict[str, str], cwd: str, log: str, attached: bool) -> dict[str, Any]:
        """Start a process in a session of its own, which dies with this one."""
        streams = [self.descriptors.pop(0) for _ in range(2)] if attached else []
        supervisor = os.getpid()

        def die_with_supervisor() -> None:
            if LIBC is not None:
                LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != supervisor:
                    os._exit(1)

        try:
            with open(log, "ab") as output:
                process = subprocess.Popen(
                    argv,
                    env=env,
                    cwd=cwd,
                    stdin=streams[0] if attached else subprocess.DEVNULL,
                    stdout=streams[1] if attached else output,
                    stderr=output,
                    start_new_session=True,
                    preexec_fn=die_with_supervisor,  # noqa: PLW1509 - this program has one thread
                )
        finally:
            for stream in streams:
                os.close(stream)
        process.returncode = 0  # it is reaped here, by waitpid; Popen shall not try
        self.started.add(process.pid)
        return {"pid": process.pid}

    def do_signal(self, pid: int, number: int) -> dict[str, Any]:
        """Send a signal, if the process is one of ours and still there."""
        ours = descendants(os.getpid()) if LINUX else self.started
        if pid not in ours:
            return {"sent": False}
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return {"sent": False}
        return {"sent": True}

    def do_descendants(self, pid: int) -> dict[str, Any]:
        """What a process of ours has started, as far as that can be seen."""
        return {"pids": descendants(pid) if LINUX else []}

    def do_left(self) -> dict[str, Any]:
        """What runs of all that was started here, and of what that has started, in words."""
        self.reap()
        return {"left": [describe(pid) for pid in (descendants(os.getpid()) if LINUX else self.started)]}

    def reap(self) -> bool:
        """Collect who has ended; `True` when no child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid in self.started:
                self.started.discard(pid)
                self.answer({"exited": pid, "status": status})

    def end(self) -> list[str]:
        """Kill all, prove that nothing is left, remove the directory. Returns what is left."""
        end = time.monotonic() + SECONDS_TO_DIE
        while True:
            for pid in descendants(os.getpid()) if LINUX else list(self.started):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL) if LINUX else os.killpg(pid, signal.SIGKILL)
            if self.reap() or time.monotonic() > end:
                break
            time.sleep(0.005)  # a killed process needs a moment; there is no event for grandchildren
        left = [] if self.reap() else [describe(pid) for pid in (descendants(os.getpid()) if LINUX else self.started)]
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            if os.path.lexists(self.directory):
                left.append(f"directory {self.directory}")
        return left


def main() -> int:
    """Take the socket and serve."""
    become_subreaper()
    # Ctrl-C is pytest's to handle; we go when it does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    host = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(host.fileno(), False)
    return Supervisor(host, sys.argv[2] if len(sys.argv) > 2 else None).run()  # noqa: PLR2004


if __name__ == "__main__":
    sys.exit(main())
