"""The init: the first program of a container. It starts the container's process and ends together with pytest.

Its stdin is a lifeline: when it closes, however pytest ended, everything in the container ends. Over it pytest also
asks to signal and to look at processes, whose ids count inside the container. Run as

    python -I -S init.py [--attached] COMMAND…

The command's output goes to stderr, unless attached: then its stdin and stdout travel through ours in frames. A frame
is one byte for its kind, four for its length (big endian), and its content:

    C   JSON. From pytest {"op": "signal", "id": n, "pid": p, "number": s} (pid 0: the command), {"op": "state", …},
        {"op": "descendants", …} and {"op": "keep", …}: the end of stdin shall not end us any more.
        To pytest {"id": n, …}; by itself {"started": pid}, {"failed": words} and {"exited": waitstatus}, with
        {"memory": bytes} beside it when the kernel killed the command at that limit.
    D   what the attached command reads, or has written;  E   the end of its stdin

Where the image's own entry point comes first, this is not process 1 but adopts orphans all the same. Single-threaded;
standard library only, Python 3.9 and up.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from typing import Any

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
LOOK_SECONDS = 0.2
"""How often the kernel's count of processes that it killed for memory is read."""
DRAIN_SECONDS = 2.0
"""How long the rest of an ended command's output is awaited, if something else holds its stdout."""
NOT_FOUND, NOT_STARTED = 127, 126  # as shells have it
WORDS = {
    "R": "running",
    "S": "sleeping",
    "I": "sleeping",
    "D": "waiting for the disk",
    "T": "stopped (SIGSTOP)",
    "t": "stopped (traced)",
}
CGROUPS = (
    ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory.max"),  # version 2
    ("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def stats() -> dict[int, tuple[int, str]]:
    """Parent and state of every process that /proc shows."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                stat = file.read()
        except OSError:  # it is gone by now
            continue
        # The command in parentheses may hold spaces and parentheses itself.
        state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
        found[int(name)] = (int(parent), state)
    return found


def descendants(root: int) -> list[int]:
    """Pids of all descendants of a process, parents before their children."""
    parents = stats()
    found: list[int] = []
    queue = [root]
    while queue:
        parent = queue.pop(0)
        below = [pid for pid, (its_parent, _) in parents.items() if its_parent == parent]
        found += below
        queue += below
    return found


def killed_for_memory() -> tuple[int, int]:
    """How many processes of this container the kernel has killed for memory, and the limit in bytes."""
    for events, limit in CGROUPS:
        with contextlib.suppress(OSError, ValueError, StopIteration):
            with open(events, encoding="ascii") as file:
                killed = next(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
            with open(limit, encoding="ascii") as file:
                return killed, int(file.read())
    return 0, 0


class Init:
    """Starts the command and serves; see the module's text for the frames."""

    def __init__(self, command: list[str], attached: bool) -> None:
        self.command = command
        self.attached = attached
        self.kept = False
        self.buffer = b""
        self.killed = killed_for_memory()[0]
        self.looked = 0.0
        self.readable: set[int] = set()
        self.process: subprocess.Popen[bytes] | None = None
        self.status: int | None = None
        self.unread = bytearray()
        """What the attached command has not read yet. It waits here, so that one which does not read blocks nothing."""
        self.complete = False

    def send(self, kind: bytes, content: bytes) -> None:
        """Write a frame; that pytest is gone is seen at the end of stdin."""
        frame = memoryview(kind + struct.pack(">I", len(content)) + content)
        with contextlib.suppress(OSError):
            while frame:
                frame = frame[os.write(1, frame) :]

    def tell(self, **message: Any) -> None:
        """Send a message."""
        self.send(b"C", json.dumps(message).encode())

    def run(self) -> int:
        """Start the command and serve until it ends, or until pytest is gone; returns the exit code."""
        try:
            process = self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE if self.attached else subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.attached else 2,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            self.tell(failed=f"{type(error).__name__}: {error}")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_STARTED
        self.tell(started=process.pid)
        woken = self.wake_up_when_a_child_ends()
        output = process.stdout.fileno() if process.stdout else -1
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
        self.readable = {0, woken, output} - {-1}
        while self.status is None:
            if not self.step(woken, output):
                return 1
        deadline = time.monotonic() + DRAIN_SECONDS
        while output in self.readable and time.monotonic() < deadline:
            self.step(woken, output)
        killed_by_kernel = self.look_at_memory() if os.WIFSIGNALED(self.status) else 0
        self.tell(exited=self.status, **({"memory": killed_by_kernel} if killed_by_kernel else {}))
        if os.WIFEXITED(self.status):
            return os.WEXITSTATUS(self.status)
        return 128 + os.WTERMSIG(self.status)

    @staticmethod
    def wake_up_when_a_child_ends() -> int:
        """A descriptor that becomes readable then."""
        woken, wake = os.pipe()
        for descriptor in (woken, wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        return woken

    def step(self, woken: int, output: int) -> bool:
        """Do what there is to do, and wait for it a moment; `False` when pytest is gone."""
        stdin = self.process.stdin if self.process is not None and self.unread else None
        ready, fed, _ = select.select(self.readable, [stdin] if stdin is not None else [], [], LOOK_SECONDS)
        if fed:
            self.feed()
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 4096)
        if output in ready:
            data = os.read(output, 1 << 16)
            if data:
                self.send(b"D", data)
            else:
                self.readable.discard(output)
        if 0 in ready and not self.serve():
            if not self.kept:
                return False
            self.readable.discard(0)
        ended = self.reap()
        self.status = ended if self.status is None else self.status
        if self.status is None and time.monotonic() - self.looked > LOOK_SECONDS:
            self.looked = time.monotonic()
            self.look_at_memory()
        return True

    def reap(self) -> int | None:
        """Collect who has ended, orphans too; returns the command's status if it is among them."""
        found = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if pid == 0:
                return found
            if self.process is not None and pid == self.process.pid:
                found = status
                self.process.returncode = 0  # Popen shall not wait for it

    def look_at_memory(self) -> int:
        """Write into the log when the kernel has killed something for memory; returns the limit if so."""
        killed, limit = killed_for_memory()
        if killed <= self.killed:
            return 0
        self.killed = killed
        words = f"was killed by the kernel for memory at {limit / 2**20:.0f} MiB, this container's limit"
        os.write(2, f"modelops: a process {words}\n".encode())
        return limit

    def serve(self) -> bool:
        """Read what has come and do it; `False` at the end of stdin."""
        data = os.read(0, 1 << 16)
        if not data:
            return False
        self.buffer += data
        while len(self.buffer) >= 5:  # noqa: PLR2004 - kind and length
            length = struct.unpack(">I", self.buffer[1:5])[0]
            if len(self.buffer) < 5 + length:
                break
            kind, content = self.buffer[:1], self.buffer[5 : 5 + length]
            self.buffer = self.buffer[5 + length :]
            if kind == b"C":
                message = json.loads(content)
                self.tell(id=message.pop("id"), **getattr(self, "do_" + message.pop("op"))(**message))
            elif kind == b"D":
                self.unread += content
                self.feed()
            else:
                self.complete = True
                self.feed()
        return True

    def feed(self) -> None:
        """Write what the attached command can read at once; behind all of it, the end of its stdin."""
        stdin = self.process.stdin if self.process is not None else None
        if stdin is None or stdin.closed:
            self.unread.clear()
            return
        try:
            while self.unread:
                del self.unread[: os.write(stdin.fileno(), self.unread[: 1 << 16])]
        except BlockingIOError:
            return
        except OSError:  # it does not read any more
            self.unread.clear()
        if self.complete:
            stdin.close()

    def _pid(self, pid: int) -> int:
        return pid or (self.process.pid if self.process is not None else 0)

    def do_signal(self, pid: int, number: int) -> dict[str, Any]:
        """Send a signal, if the process is one of ours and still there."""
        wanted = self._pid(pid)
        if wanted not in descendants(os.getpid()) or stats().get(wanted, (0, "Z"))[1] in "ZX":
            return {"sent": False}
        try:
            os.kill(wanted, number)
        except OSError:
            return {"sent": False}
        return {"sent": True}

    def do_descendants(self, pid: int) -> dict[str, Any]:
        """What a process has started, and what that has started."""
        return {"pids": descendants(self._pid(pid))}

    def do_state(self, pid: int) -> dict[str, Any]:
        """Where a process stands."""
        return {"state": WORDS.get(stats().get(self._pid(pid), (0, ""))[1], "gone")}

    def do_keep(self) -> dict[str, Any]:
        """Outlive pytest: the cell is to be looked at."""
        self.kept = True
        return {}

    def end(self) -> None:
        """Kill what is left. As process 1 we take it all with us; behind an entry point it has to be done by hand."""
        deadline = time.monotonic() + 5
        while os.getpid() != 1 and time.monotonic() < deadline:
            left = descendants(os.getpid())
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self.reap()
            if not left:
                break
            time.sleep(0.005)


def main() -> int:
    """Start, serve, end."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The engine's polite way; ours is the lifeline. Not SIG_IGN, which the command would inherit.
        signal.signal(number, lambda *_: None)
    for directory in (os.environ.get("HOME"), os.environ.get("TMPDIR"), "work"):
        if directory:
            with contextlib.suppress(OSError):
                os.makedirs(directory, exist_ok=True)
    with contextlib.suppress(OSError):
        os.chdir("work")
    command = sys.argv[1:]
    attached = command[0] == "--attached"
    init = Init(command[1:] if attached else command, attached)
    try:
        return init.run()
    finally:
        init.end()


if __name__ == "__main__":
    sys.exit(main())
