"""The supervisor: starts processes for pytest, reaps them, and ends them all when pytest ends.

One runs for each cell, and one for the host's own commands. It holds one end of a socket; pytest holds the other. When
pytest's end closes, however pytest ended, the supervisor kills everything that it started, everything that those
processes left behind, and exits. On Linux it is a *subreaper*: orphans of its children become its own children, so
`waitpid` answering ECHILD proves that nothing is left, including processes in sessions of their own. Elsewhere it kills
the process groups that it made, which proves less.

It is forked by `starter.py`. It has one thread, because the parent-death signal is sent when the *thread* that started
a process ends. Standard library only.

Messages are JSON, one per line (see `shared/process_messages.py`). Each `Request` gets an `Answer`; `Exited` is sent
without a request.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..shared.process_messages import Answer, CanFork, Exited, Forked, ForkRequest, Prepared, Request
    from . import children, stacks
elif __package__:
    from . import children, stacks
else:  # run by its path
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    children, stacks = importlib.import_module("children"), importlib.import_module("stacks")

PR_SET_PDEATHSIG = 1  # linux/prctl.h
TEMPLATE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "template.py")
RUN_TEMPLATE = "import sys; exec(compile(open(sys.argv[1]).read(), sys.argv.pop(1), 'exec'), {'__name__': 'template'})"
SPACE = "-" * 4096
"""An argument that makes room for the command lines of forked processes."""
FORK_SECONDS = 10.0
"""A fork takes milliseconds; this is for machines under heavy load."""
SECONDS_TO_DIE = children.SECONDS_TO_DIE


def mentioning(directory: str) -> list[int]:
    """Return the pids of processes whose variables mention a directory, as HOME does that of a cell."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")) if children.LINUX else ():
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
            if os.fsencode(directory) in file.read():
                found.append(int(name))
    return found


def describe(pid: int) -> str:
    """Return pid and command line, for people."""
    return f"{pid} {children.command(pid)}".strip()


def line_of(connection: socket.socket) -> bytes:
    """Read one line; empty or incomplete at the end."""
    line = b""
    while not line.endswith(b"\n") and (data := connection.recv(1 << 16)):
        line += data
    return line


class Supervisor:
    """Serves the messages of one pytest process (see the module's docstring)."""

    def __init__(self, host: socket.socket, directory: str) -> None:
        self.host = host
        self.directory = directory
        self.parent = os.getppid()
        self.children = children.Children(lambda pid, status: self.send({"exited": pid, "status": status}))
        self.descriptors: list[int] = []
        self.templates: dict[int, socket.socket] = {}
        """By pid, the processes that others are forked from."""
        self.importing: dict[socket.socket, int] = {}
        """Pids of those that have not reported yet that they are prepared."""
        self.patience: dict[int, float] = {}
        """By pid, the processes that may end by themselves once pytest is gone, and their seconds."""
        self.buffer = b""
        self.woken, self.wake = socket.socketpair()
        self.woken.setblocking(False)
        self.wake.setblocking(False)
        signal.set_wakeup_fd(self.wake.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> int:
        """Serve until pytest asks to finish or is gone; return the exit code."""
        while True:
            ready, _, _ = select.select([self.host, self.woken, *self.importing], [], [], 1.0)
            if self.woken in ready:
                with contextlib.suppress(BlockingIOError):
                    self.woken.recv(4096)
            self.children.reap()
            for connection in self.importing.keys() & ready:
                self.note_prepared(connection)
            # A process that pytest forked may hold our socket open for longer than pytest lives.
            if os.getppid() != self.parent:
                break
            if self.host in ready and not self.serve():
                break
        self.wait_for_patient()
        left = self.end()
        signal.set_wakeup_fd(-1)  # its socket is closed with this object
        return 1 if left else 0

    def wait_for_patient(self) -> None:
        """Have those end by themselves that may."""
        waited = {pid: seconds for pid, seconds in self.patience.items() if pid in self.children.started}
        for pid in waited:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + max(waited.values(), default=0)
        while waited.keys() & self.children.started and time.monotonic() < end:
            self.children.reap()
            time.sleep(0.02)

    def serve(self) -> bool:
        """Read and answer what has arrived; return `False` when it is time to end."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.host, 1 << 16, 8)
        except ConnectionError:
            return False
        if not data:
            return False
        self.descriptors += descriptors
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            request: Request = json.loads(line)
            try:
                answer = self.answer(request)
            except (OSError, subprocess.SubprocessError, ValueError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            answer["id"] = request["id"]
            self.send(answer)
            if request["op"] == "finish":
                return False
        return True

    def answer(self, request: Request) -> Answer:
        """Do what a request asks."""
        operation = request["op"]
        if operation == "start":
            return {"pid": self.fork(request) if request.get("template") else self.start(request)}
        if operation == "prepare":
            return {"pid": self.prepare(request)}
        if operation == "signal":
            return {"sent": self.children.signal(request["pid"], request["number"])}
        if operation == "descendants":
            return {"pids": children.descendants(request["pid"])}
        if operation == "abort_children":
            return {"children": stacks.abort_children(request["pid"])}
        if operation == "left":
            self.children.reap()
            return {"left": [describe(pid) for pid in self.children.pids()]}
        if operation == "finish":
            return {"left": self.end()}
        raise ValueError(f"unknown operation {operation!r}")

    def send(self, message: Answer | Exited | CanFork) -> None:
        """Send to pytest; the next read notices if pytest is gone."""
        with contextlib.suppress(OSError):
            self.host.sendall(json.dumps(message).encode() + b"\n")

    def start(self, request: Request, *, inherited: Sequence[int] = ()) -> int:
        """Start a process in its own session, which dies with this one; return its pid."""
        attached = request["attached"]
        streams = [self.descriptors.pop(0) for _ in range(2)] if attached else []
        supervisor = os.getpid()

        def die_with_supervisor() -> None:
            if children.LIBC is not None:
                children.LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != supervisor:
                    os._exit(1)

        try:
            with open(request["log"], "ab") as output:
                process = subprocess.Popen(
                    request["argv"],
                    env=request["env"],
                    cwd=request["cwd"],
                    stdin=streams[0] if attached else subprocess.DEVNULL,
                    stdout=streams[1] if attached else output,
                    stderr=output,
                    start_new_session=True,
                    pass_fds=inherited,
                    preexec_fn=die_with_supervisor,  # noqa: PLW1509 - this program has one thread
                )
        finally:
            for stream in streams:
                os.close(stream)
        process.returncode = 0  # `reap` collects it, Popen must not
        self.children.started.add(process.pid)
        if patience := request.get("patience"):
            self.patience[process.pid] = patience
        return process.pid

    def prepare(self, request: Request) -> int:
        """Start a process that others can be forked from, once it has imported its modules; return its pid."""
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = [TEMPLATE, str(theirs.fileno()), str(os.getpid()), ",".join(request["modules"]), SPACE]
            request["argv"] += ["-c", RUN_TEMPLATE, *arguments]
            pid = self.start(request, inherited=[theirs.fileno()])
        ours.settimeout(FORK_SECONDS)
        self.templates[pid] = ours
        self.importing[ours] = pid
        return pid

    def note_prepared(self, connection: socket.socket) -> None:
        """Pass on that a process has imported its modules; if it has ended, that is reported as of any other."""
        pid = self.importing.pop(connection)
        with contextlib.suppress(OSError, ValueError):
            prepared: Prepared = json.loads(line_of(connection))
            self.send({"prepared": pid, "cannot": prepared["cannot"]})

    def fork(self, request: Request) -> int:
        """Fork a process as `start` starts one; return its pid. Nothing is reaped until then, so no end is missed."""
        streams = [self.descriptors.pop(0) for _ in range(2)] if request["attached"] else []
        template = request["template"]
        asked: ForkRequest = {"argv": request["argv"], "env": request["env"], "cwd": request["cwd"]}
        line = json.dumps(asked).encode() + b"\n"
        try:
            connection = self.templates[template]
            with open(request["log"], "ab") as log:
                sent = socket.send_fds(connection, [line], [*streams, log.fileno()])
            connection.sendall(line[sent:])
            forked: Forked = json.loads(line_of(connection))
        except (OSError, ValueError, KeyError) as error:
            # It may still be on its way to fork something that nobody would know of.
            self.children.signal(template, signal.SIGKILL)
            raise OSError(f"the process {template} to fork from did not answer ({error!r})") from error
        finally:
            for stream in streams:
                os.close(stream)
        if "error" in forked:
            raise OSError(forked["error"])
        self.children.started.add(forked["pid"])
        return forked["pid"]

    def end(self) -> list[str]:
        """Kill all processes, prove that none is left, remove the directory. Return what is left, for people."""
        left = [describe(pid) for pid in self.children.kill()]
        if self.directory:
            import shutil  # most have none

            shutil.rmtree(self.directory, ignore_errors=True)
            if os.path.lexists(self.directory):
                left.append(f"directory {self.directory}")
        return left


def serve(descriptor: int, directory: str) -> int:
    """Serve the socket with this descriptor in this process; return the exit code.

    Args:
        directory: removed at the end, unless it is empty.
    """
    children.become_subreaper()
    # pytest handles Ctrl-C; this process ends when pytest does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    host = socket.socket(fileno=descriptor)
    os.set_inheritable(host.fileno(), False)
    return Supervisor(host, directory).run()
