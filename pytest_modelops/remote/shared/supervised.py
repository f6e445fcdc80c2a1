"""Start processes through a supervisor (see `supervisor/supervisor.py`), and follow what becomes of them.

pytest uses it for all that it starts on the host, and a worker for the runners of bundles, so that nothing of either
survives, however it ends. Standard library only, Python 3.9 and up.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any

ANSWER_SECONDS = 30.0
"""A supervisor answers in milliseconds; on a machine under heavy load give it this long."""


def ending_in_words(status: int) -> str:
    """How a process ended, from what waitpid(2) said."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


class SupervisorGone(Exception):
    """The supervisor itself ended, so what it kept is gone as well."""


class CouldNot(Exception):
    """The supervisor could not do what it was asked."""


class Supervised:
    """A supervisor and what it started. Closing it, or the end of this process, ends them all.

    Args:
        log: file for the supervisor's own words.
        log_is_shown: whether a message may point to that file.
        directory: removed by the supervisor at its end.
    """

    def __init__(self, *, log: str, directory: str | None = None, log_is_shown: bool = False) -> None:
        ours, theirs = socket.socketpair()
        program = os.path.join(os.path.dirname(__file__), os.pardir, "supervisor", "supervisor.py")
        arguments = [sys.executable, "-I", "-S", program, str(theirs.fileno())]
        with theirs, open(log, "ab") as output:
            self._supervisor = subprocess.Popen(
                [*arguments, directory] if directory else arguments,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C at the terminal is not for the supervisor
            )
        self._see = f"; see {log}" if log_is_shown else ""
        self._socket = ours
        self.log = log
        self._ids = itertools.count()
        self._changed = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._statuses: dict[int, int] = {}
        self._gone = False
        threading.Thread(target=self._read, name="supervisor", daemon=True).start()

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines, contextlib.suppress(OSError):
            for line in lines:
                message = json.loads(line)
                with self._changed:
                    if "exited" in message:
                        self._statuses[message["exited"]] = message["status"]
                    else:
                        self._answers[message["id"]] = message
                    self._changed.notify_all()
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def ask(self, *, descriptors: Sequence[int] = (), **message: Any) -> dict[str, Any]:
        """Send one message and wait for its answer.

        Raises:
            SupervisorGone: the supervisor ended.
            CouldNot: it could not do what it was asked.
        """
        number = next(self._ids)
        line = json.dumps({**message, "id": number}).encode() + b"\n"
        try:
            sent = socket.send_fds(self._socket, [line], list(descriptors))
            self._socket.sendall(line[sent:])
        except OSError as error:
            raise SupervisorGone(f"the supervisor is gone ({error}); see {self.log}") from error
        with self._changed:
            self._changed.wait_for(lambda: number in self._answers or self._gone, ANSWER_SECONDS)
            if number not in self._answers:
                raise SupervisorGone(f"the supervisor did not answer {message['op']!r}; see {self.log}")
            answer = self._answers.pop(number)
        if "error" in answer:
            raise CouldNot(f"could not {message['op']} {message.get('argv', [''])[0]}: {answer['error']}")
        return answer

    def start(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, log: str) -> int:
        """Start a process with no stdin, its output going to `log`; returns its pid."""
        pid: int = self.ask(op="start", argv=list(argv), env=dict(env), cwd=cwd, log=log, attached=False)["pid"]
        return pid

    def start_attached(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, log: str
    ) -> tuple[int, IO[bytes], IO[bytes]]:
        """As `start`, with stdin and stdout as streams of ours; only stderr goes to `log`."""
        their_in, our_out = os.pipe()
        our_in, their_out = os.pipe()
        try:
            answer = self.ask(
                op="start",
                argv=list(argv),
                env=dict(env),
                cwd=cwd,
                log=log,
                attached=True,
                descriptors=[their_in, their_out],
            )
        except BaseException:
            os.close(our_out)
            os.close(our_in)
            raise
        finally:
            os.close(their_in)
            os.close(their_out)
        return answer["pid"], os.fdopen(our_out, "wb"), os.fdopen(our_in, "rb")

    def signal(self, pid: int, number: int) -> bool:
        """Send a signal to what was started, or to a descendant of it; `False` when that is gone."""
        try:
            return bool(self.ask(op="signal", pid=pid, number=number)["sent"])
        except SupervisorGone:
            return False

    def descendants(self, pid: int) -> list[int]:
        """Pids of what a process has started, and what that has started, parents first."""
        try:
            return list(self.ask(op="descendants", pid=pid)["pids"])
        except SupervisorGone:
            return []

    def status(self, pid: int) -> int | None:
        """What waitpid(2) said of a process, or `None` while it runs."""
        with self._changed:
            if pid not in self._statuses and self._gone:
                return signal.SIGKILL  # it went with its supervisor
            return self._statuses.get(pid)

    def ending(self, pid: int) -> str | None:
        """How a process ended, in words, or `None` while it runs."""
        with self._changed:
            if pid in self._statuses:
                return ending_in_words(self._statuses[pid])
            return f"was lost together with its supervisor, which was killed{self._see}" if self._gone else None

    def wait(self, pid: int, seconds: float) -> str | None:
        """Wait for the end of a process and return it in words; `None` when it still runs after these seconds."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self._statuses or self._gone, seconds)
        return self.ending(pid)

    def close(self) -> list[str] | None:
        """End everything and prove it; a second call does nothing.

        Returns:
            What is left, in words; `None` when the supervisor was killed and nothing is proven.
        """
        left: list[str] = []
        try:
            left = self.ask(op="finish")["left"]
        except SupervisorGone:
            pass  # it ended everything by itself, unless it was killed
        finally:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            try:
                self._supervisor.wait(ANSWER_SECONDS)
            except subprocess.TimeoutExpired:
                self._supervisor.kill()
                self._supervisor.wait()
        return None if self._supervisor.returncode < 0 else left
