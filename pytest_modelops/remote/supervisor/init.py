"""The init: the first process of a container. It starts the container's command and ends together with pytest.

Its stdin is a lifeline: when it closes, however pytest ended, everything in the container ends. pytest also uses it to
signal and inspect processes; pids count inside the container. Run as

    python -I -S init.py [--attached] COMMAND…

The command's output goes to stderr. With `--attached`, its stdin and stdout travel through this process's own in
frames. A frame is one byte for its kind, four for its length (big endian), and its content:

    C   JSON (see `shared/process_messages.py`): a `Request` from pytest; an `Answer` or `InitEvents` to pytest
    D   what the attached command reads, or has written
    E   the end of its stdin

If the image has an entry point, this is not process 1, but still adopts orphans. One thread; standard library only,
Python 3.9 and up.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..shared.process_messages import Answer, InitEvents, Request
    from . import children, stacks
elif __package__:
    from . import children, stacks
else:  # run by its path
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    children, stacks = importlib.import_module("children"), importlib.import_module("stacks")

LOOK_SECONDS = 0.2
"""How often to read how many processes the kernel has killed for memory."""
DRAIN_SECONDS = 2.0
"""How long to wait for the rest of an ended command's output, if another process holds its stdout."""
NOT_FOUND, NOT_STARTED = 127, 126  # as shells have it
CGROUPS = (
    ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory.max"),  # version 2
    ("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def killed_for_memory() -> tuple[int, int]:
    """Return how many processes of this container the kernel has killed for memory, and the limit in bytes."""
    for events, limit in CGROUPS:
        with contextlib.suppress(OSError, ValueError, StopIteration):
            with open(events, encoding="ascii") as file:
                killed = next(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
            with open(limit, encoding="ascii") as file:
                return killed, int(file.read())
    return 0, 0


class Init:
    """Starts the command and serves pytest's requests (see the module's docstring for the frames)."""

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
        self.children = children.Children(self.on_exit)
        self.unread = bytearray()
        """What the attached command has not read yet, so that a command that does not read blocks nothing else."""
        self.complete = False

    def send(self, kind: bytes, content: bytes) -> None:
        """Write a frame; the end of stdin shows if pytest is gone."""
        frame = memoryview(kind + struct.pack(">I", len(content)) + content)
        with contextlib.suppress(OSError):
            while frame:
                frame = frame[os.write(1, frame) :]

    def send_message(self, message: Answer | InitEvents) -> None:
        self.send(b"C", json.dumps(message).encode())

    def on_exit(self, _: int, status: int) -> None:
        """Note how the command ended."""
        self.status = status
        if self.process is not None:
            self.process.returncode = 0  # it is reaped, Popen must not wait for it

    def run(self) -> int:
        """Start the command and serve until it ends or pytest is gone; return the exit code."""
        try:
            process = self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE if self.attached else subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.attached else 2,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            self.send_message({"failed": f"{type(error).__name__}: {error}"})
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_STARTED
        self.children.started.add(process.pid)
        self.send_message({"started": process.pid})
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
        ended: InitEvents = {"exited": self.status}
        if killed_by_kernel:
            ended["memory"] = killed_by_kernel
        self.send_message(ended)
        if os.WIFEXITED(self.status):
            return os.WEXITSTATUS(self.status)
        return 128 + os.WTERMSIG(self.status)

    @staticmethod
    def wake_up_when_a_child_ends() -> int:
        """Return a descriptor that becomes readable when a child ends."""
        woken, wake = os.pipe()
        for descriptor in (woken, wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        return woken

    def step(self, woken: int, output: int) -> bool:
        """Wait a moment for events and handle them; return `False` when pytest is gone."""
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
        self.children.reap()
        if self.status is None and time.monotonic() - self.looked > LOOK_SECONDS:
            self.looked = time.monotonic()
            self.look_at_memory()
        return True

    def look_at_memory(self) -> int:
        """Log that the kernel has killed a process for memory, if it has; return the limit then, else 0."""
        killed, limit = killed_for_memory()
        if killed <= self.killed:
            return 0
        self.killed = killed
        text = f"was killed by the kernel for memory at {limit / 2**20:.0f} MiB, this container's limit"
        os.write(2, f"modelops: a process {text}\n".encode())
        return limit

    def serve(self) -> bool:
        """Read what has arrived and handle it; return `False` at the end of stdin."""
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
                request: Request = json.loads(content)
                answer = self.answer(request)
                answer["id"] = request["id"]
                self.send_message(answer)
            elif kind == b"D":
                self.unread += content
                self.feed()
            else:
                self.complete = True
                self.feed()
        return True

    def feed(self) -> None:
        """Write as much as the attached command can read now; when all is written, pass on the end of its stdin."""
        stdin = self.process.stdin if self.process is not None else None
        if stdin is None or stdin.closed:
            self.unread.clear()
            return
        try:
            while self.unread:
                del self.unread[: os.write(stdin.fileno(), self.unread[: 1 << 16])]
        except BlockingIOError:
            return
        except OSError:  # it has closed its stdin
            self.unread.clear()
        if self.complete:
            stdin.close()

    def answer(self, request: Request) -> Answer:
        """Do what a request asks."""
        operation = request["op"]
        pid = request.get("pid") or (self.process.pid if self.process is not None else 0)
        if operation == "signal":
            try:
                return {"sent": self.children.signal(pid, request["number"])}
            except OSError:
                return {"sent": False}
        if operation == "descendants":
            return {"pids": children.descendants(pid)}
        if operation == "abort_children":
            return {"children": stacks.abort_children(pid)}
        if operation == "state":
            return {"state": children.STATES.get(children.processes().get(pid, (0, ""))[1], "gone")}
        if operation == "keep":
            self.kept = True
            return {}
        return {"error": f"unknown operation {operation!r}"}

    def end(self) -> None:
        """Kill what is left. The end of process 1 ends the whole container; behind an entry point it does not."""
        if os.getpid() != 1:
            self.children.kill()


def main() -> int:
    """Prepare the container's directories, then start, serve and end."""
    with contextlib.suppress(OSError):
        children.become_subreaper()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The engine asks to stop with these; only the lifeline counts. Not SIG_IGN, which the command would inherit.
        signal.signal(number, lambda *_: None)
    for directory in (os.environ.get("HOME"), os.environ.get("TMPDIR"), "work", "cell"):
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
