"""Start processes through a supervisor (see `supervisor/supervisor.py`), and follow how they end.

pytest uses it for everything that it starts on the host, and a worker for the runners of bundles, so that no process of
either survives it. Standard library only, Python 3.9 and up.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING

from .waiting import wait_until

if TYPE_CHECKING:
    from .process_messages import Answer, CanFork, ChildStack, Exited, Request

_OPEN: weakref.WeakSet[Supervised] = weakref.WeakSet()
ANSWER_SECONDS = 30.0
"""A supervisor answers in milliseconds; this is for machines under heavy load."""


def ending_in_words(status: int) -> str:
    """Describe how a process ended, from the status that waitpid(2) returned."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


class SupervisorGone(Exception):
    """The supervisor itself ended, and its processes with it."""


class CouldNot(Exception):
    """The supervisor could not do what it was asked to."""


class _Starter:
    """What forks the supervisors of this process (see `supervisor/starter.py`). It ends with this process."""

    _lock = threading.Lock()
    _current: _Starter | None = None

    def __init__(self) -> None:
        self.owner = os.getpid()
        ours, theirs = socket.socketpair()
        program = os.path.join(os.path.dirname(__file__), os.pardir, "supervisor", "starter.py")
        try:
            with theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-I", "-S", program, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        ours.settimeout(ANSWER_SECONDS)
        self._socket = ours
        atexit.register(self.end)

    def end(self) -> None:
        """End it, and its supervisors; a process that was forked from this one does nothing."""
        if self.owner == os.getpid():
            self._socket.close()
            self.process.wait()

    @classmethod
    def close(cls) -> None:
        """End that of this process, if there is one."""
        with cls._lock:
            if cls._current is not None:
                cls._current.end()
                cls._current = None

    @classmethod
    def fork(cls, theirs: socket.socket, log: str, directory: str) -> int:
        """Fork a supervisor, by a new starter if that of this process was killed or is its parent's; return its pid.

        Raises:
            SupervisorGone: it was killed, or no starter could be started.
        """
        with cls._lock, open(log, "ab") as output:
            starter, why = cls._current, "it does not answer"
            for _ in range(2):
                try:
                    if starter is None or starter.owner != os.getpid() or starter.process.poll() is not None:
                        starter = cls._current = cls()
                except OSError as error:  # memory or processes may be short for a moment
                    starter, why = None, f"{type(error).__name__}: {error}"
                    continue
                if pid := starter.forked([theirs.fileno(), output.fileno()], directory):
                    return pid
                starter.process.kill()
                starter.end()
        raise SupervisorGone(f"a supervisor could not be started: {why}")

    def forked(self, descriptors: Sequence[int], directory: str) -> int:
        """Return the pid of a forked supervisor, 0 if this starter does not answer."""
        try:
            socket.send_fds(self._socket, [os.fsencode(directory) + b"\n"], list(descriptors))
            answer = b""
            while not answer.endswith(b"\n") and (data := self._socket.recv(64)):
                answer += data
        except OSError:
            return 0
        return int(answer or b"0")


class Supervised:
    """A supervisor and the processes that it started. Closing it, or the end of this process, ends them all.

    Args:
        log: file for the supervisor's own output.
        log_is_shown: whether a message may point to that file.
        directory: removed by the supervisor at its end, and at once if there can be none.

    Raises:
        SupervisorGone: it could not be started.

    Attributes:
        pid: of the supervisor, below which all that it started runs.
    """

    def __init__(self, *, log: str, directory: str | None = None, log_is_shown: bool = False) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self.pid = _Starter.fork(theirs, log, directory or "")
        except BaseException:
            ours.close()
            if directory:
                shutil.rmtree(directory, ignore_errors=True)
            raise
        self._left: list[str] | None = None
        self._closed = False
        self._see = f"; see {log}" if log_is_shown else ""
        self._socket = ours
        self.log = log
        self._ids = itertools.count()
        self._changed = threading.Condition()
        self._answers: dict[int, Answer] = {}
        self._statuses: dict[int, int] = {}
        self._prepared: dict[int, str] = {}
        self._gone = False
        _OPEN.add(self)
        threading.Thread(target=self._read, name="supervisor", daemon=True).start()

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines, contextlib.suppress(OSError):
            for line in lines:
                message: Answer | Exited | CanFork = json.loads(line)
                with self._changed:
                    if "exited" in message:
                        self._statuses[message["exited"]] = message["status"]
                    elif "prepared" in message:
                        self._prepared[message["prepared"]] = message["cannot"]
                    else:
                        self._answers[message["id"]] = message
                    self._changed.notify_all()
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def ask(self, request: Request, *, descriptors: Sequence[int] = ()) -> Answer:
        """Send one request and wait for its answer.

        Raises:
            SupervisorGone: the supervisor ended.
            CouldNot: it could not do what it was asked to.
        """
        number = next(self._ids)
        line = json.dumps({**request, "id": number}).encode() + b"\n"
        try:
            sent = socket.send_fds(self._socket, [line], list(descriptors))
            if sent < len(line):  # a supervisor that has done `finish` is gone, and sending nothing would raise
                self._socket.sendall(line[sent:])
        except OSError as error:
            raise SupervisorGone(f"the supervisor is gone ({error}); see {self.log}") from error
        with self._changed:
            wait_until(self._changed, lambda: number in self._answers or self._gone, ANSWER_SECONDS)
            if number not in self._answers:
                raise SupervisorGone(f"the supervisor did not answer {request['op']!r}; see {self.log}")
            answer = self._answers.pop(number)
        if "error" in answer:
            raise CouldNot(f"could not {request['op']} {request.get('argv', [''])[0]}: {answer['error']}")
        return answer

    def start(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, log: str, template: int = 0) -> int:
        """Start a process without stdin, with its output in `log`; return its pid.

        Args:
            template: pid of a process to fork it from, see `prepare`; `argv` is then what follows `python -m`.
        """
        return self._start(argv, (), env=env, cwd=cwd, log=log, template=template)["pid"]

    def start_attached(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        log: str,
        template: int = 0,
        patience: float = 0.0,
    ) -> tuple[int, IO[bytes], IO[bytes]]:
        """Start a process; return pid, stdin and stdout. Only stderr goes to `log`.

        Args:
            patience: for how many seconds it may run on when this process is gone, to end by itself.
        """
        their_in, our_out = os.pipe()
        our_in, their_out = os.pipe()
        try:
            answer = self._start(
                argv, (their_in, their_out), env=env, cwd=cwd, log=log, template=template, patience=patience
            )
        except BaseException:
            os.close(our_out)
            os.close(our_in)
            raise
        finally:
            os.close(their_in)
            os.close(their_out)
        return answer["pid"], os.fdopen(our_out, "wb"), os.fdopen(our_in, "rb")

    def _start(
        self,
        argv: Sequence[str],
        descriptors: Sequence[int],
        *,
        env: Mapping[str, str],
        cwd: str,
        log: str,
        template: int,
        patience: float = 0.0,
    ) -> Answer:
        request: Request = {
            "op": "start", "argv": list(argv), "env": dict(env), "cwd": cwd, "log": log, "template": template,
            "attached": bool(descriptors), "patience": patience,
        }  # fmt: skip
        return self.ask(request, descriptors=descriptors)

    def prepare(self, python: str, modules: Sequence[str], *, env: Mapping[str, str], cwd: str, log: str) -> int:
        """Start a process that imports modules and from which others can then be forked; return its pid. Linux only."""
        request: Request = {
            "op": "prepare", "argv": [python], "modules": list(modules), "env": dict(env), "cwd": cwd, "log": log,
            "attached": False,
        }  # fmt: skip
        return self.ask(request)["pid"]

    def obstacle(self, template: int, seconds: float) -> str:
        """Wait until others can be forked from a process; return why they cannot, or nothing."""
        with self._changed:
            wait_until(
                self._changed, lambda: template in self._prepared or template in self._statuses or self._gone, seconds
            )
        if ending := self.ending(template):
            return f"the process to fork it from {ending}"
        return self._prepared.get(template, f"importing Dask's command line took more than {seconds:.0f} s")

    def signal(self, pid: int, number: int) -> bool:
        """Send a signal to a started process or to a descendant of one; return `False` if that is gone."""
        try:
            return self.ask({"op": "signal", "pid": pid, "number": number})["sent"]
        except SupervisorGone:
            return False

    def descendants(self, pid: int) -> list[int]:
        """Return the pids of a process's descendants, parents first."""
        try:
            return self.ask({"op": "descendants", "pid": pid})["pids"]
        except SupervisorGone:
            return []

    def abort_children(self, pid: int) -> list[ChildStack]:
        """End the descendants of a process with their stacks; see `supervisor/stacks.py`."""
        try:
            return self.ask({"op": "abort_children", "pid": pid})["children"]
        except (SupervisorGone, CouldNot):
            return []

    def left(self) -> list[str]:
        """Describe everything that still runs below the supervisor."""
        return self.ask({"op": "left"})["left"]

    def status(self, pid: int) -> int | None:
        """Return the status that waitpid(2) returned for a process; `None` while it runs."""
        with self._changed:
            if pid not in self._statuses and self._gone:
                return signal.SIGKILL  # it went with its supervisor
            return self._statuses.get(pid)

    def ending(self, pid: int) -> str | None:
        """Describe how a process ended; `None` while it runs."""
        with self._changed:
            if pid in self._statuses:
                return ending_in_words(self._statuses[pid])
            return f"was lost together with its supervisor, which was killed{self._see}" if self._gone else None

    def wait(self, pid: int, seconds: float) -> str | None:
        """Wait for the end of a process and describe it; `None` if it still runs after so many seconds."""
        with self._changed:
            wait_until(self._changed, lambda: pid in self._statuses or self._gone, seconds)
        return self.ending(pid)

    def close(self) -> list[str] | None:
        """End everything and prove it; a second call does nothing.

        Returns:
            What is left, for people; `None` if the supervisor was killed, so that nothing is proven.
        """
        if self._closed:
            return self._left
        self._closed = True
        _OPEN.discard(self)
        try:
            self._left = self.ask({"op": "finish"})["left"]
        except SupervisorGone:
            pass  # it was killed
        finally:
            with self._changed:
                wait_until(self._changed, lambda: self._gone, ANSWER_SECONDS)
            if not self._gone:
                with contextlib.suppress(OSError):
                    os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
        return self._left


def close_all() -> None:
    """Close all that this process has open, and end what forks supervisors for it."""
    for one in list(_OPEN):
        with contextlib.suppress(CouldNot):
            one.close()
    _Starter.close()
