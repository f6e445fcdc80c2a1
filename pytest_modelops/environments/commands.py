"""Processes started through a keeper, as pytest sees them: a handle on each, and commands that are run to their end.

Everything that this package starts on the host is started here, so nothing survives pytest, however it ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments import keeper
from pytest_modelops.errors import CheckFailed, ModelopsError, TimedOut

_ANSWER_SECONDS = 30.0
"""A keeper answers in milliseconds; on a machine under heavy load give it this long."""


def ending_in_words(status: int) -> str:
    """How a process ended, from what waitpid(2) said."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


class KeeperGone(ModelopsError):
    """The keeper itself ended, so what it kept is gone as well."""


class KeptProcess:
    """A process that a keeper started (see `base.Process`)."""

    def __init__(self, owner: KeptProcesses, name: str, pid: int, log: Path) -> None:
        self._owner = owner
        self.name = name
        self.pid = pid
        self.log = log

    @property
    def ending(self) -> str | None:
        """`None` while it runs, else how it ended, in words."""
        return self._owner.ending(self.pid)

    @property
    def code(self) -> int | None:
        """Exit code, negative for a signal; `None` while it runs."""
        status = self._owner.status(self.pid)
        return None if status is None else os.waitstatus_to_exitcode(status)

    def wait(self, deadline: Deadline) -> str:
        """Wait for the end and return it in words; raises `TimedOut`."""
        return self._owner.wait(self.pid, deadline, self.name)

    def signal(self, number: int, *, pid: int | None = None) -> bool:
        """Send a signal to it, or to one of its descendants; `False` when that is gone."""
        try:
            return bool(self._owner.ask(op="signal", pid=pid or self.pid, number=number)["sent"])
        except KeeperGone:
            return False

    def descendants(self) -> Sequence[int]:
        """Pids of what it has started, and what that has started, parents first."""
        try:
            return list(self._owner.ask(op="descendants", pid=self.pid)["pids"])
        except KeeperGone:
            return []

    def state(self, *, pid: int | None = None) -> str:
        """Where the operating system says it stands."""
        return process_state(pid or self.pid)


_STATES = {
    psutil.STATUS_DISK_SLEEP: "waiting for the disk",
    psutil.STATUS_STOPPED: "stopped (SIGSTOP)",
    psutil.STATUS_TRACING_STOP: "stopped (traced)",
    psutil.STATUS_IDLE: "sleeping",
    psutil.STATUS_ZOMBIE: "gone",
    psutil.STATUS_DEAD: "gone",
}


def process_state(pid: int) -> str:
    """State of a process in words; `gone` when there is none."""
    try:
        status = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return "gone"
    return _STATES.get(status, str(status))


class KeptProcesses:
    """A keeper and what it started. Closing it, or the end of pytest, ends them all.

    Args:
        folder: removed by the keeper at its end.
        log: file for the keeper's own words.
    """

    def __init__(self, *, log: Path, folder: Path | None = None) -> None:
        ours, theirs = socket.socketpair()
        arguments = [sys.executable, "-I", "-S", keeper.__file__, str(theirs.fileno())]
        with theirs, log.open("ab") as output:
            self._keeper = subprocess.Popen(
                [*arguments, str(folder)] if folder else arguments,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C at the terminal is not for the keeper
            )
        self._socket = ours
        self._log = log
        self._folder = folder
        self._ids = itertools.count()
        self._changed = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._statuses: dict[int, int] = {}
        self._gone = False
        threading.Thread(target=self._read, name="keeper", daemon=True).start()

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
            KeeperGone: the keeper ended.
            CheckFailed: it could not do what it was asked.
        """
        number = next(self._ids)
        line = json.dumps({**message, "id": number}).encode() + b"\n"
        try:
            sent = socket.send_fds(self._socket, [line], list(descriptors))
            self._socket.sendall(line[sent:])
        except OSError as error:
            raise KeeperGone(f"the keeper is gone ({error}); see {self._log}") from error
        deadline = Deadline(_ANSWER_SECONDS)
        with self._changed:
            self._changed.wait_for(lambda: number in self._answers or self._gone, deadline.remaining)
            if number not in self._answers:
                raise KeeperGone(f"the keeper did not answer {message['op']!r}; see {self._log}")
            answer = self._answers.pop(number)
        if "error" in answer:
            raise CheckFailed(f"could not {message['op']} {message.get('argv', [''])[0]}: {answer['error']}")
        return answer

    def start(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
    ) -> KeptProcess:
        """Start a process with no stdin, its output going to `log`."""
        answer = self.ask(
            op="start", argv=list(argv), env=dict(env), cwd=str(cwd), log=str(log), attached=False
        )
        return KeptProcess(self, name, answer["pid"], log)

    def start_attached(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
    ) -> tuple[KeptProcess, IO[bytes], IO[bytes]]:
        """As `start`, with stdin and stdout as streams of ours; only stderr goes to `log`."""
        their_in, our_out = os.pipe()
        our_in, their_out = os.pipe()
        try:
            answer = self.ask(
                op="start",
                argv=list(argv),
                env=dict(env),
                cwd=str(cwd),
                log=str(log),
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
        process = KeptProcess(self, name, answer["pid"], log)
        return process, os.fdopen(our_out, "wb"), os.fdopen(our_in, "rb")

    def status(self, pid: int) -> int | None:
        """What waitpid(2) said of a process, or `None` while it runs."""
        with self._changed:
            if pid not in self._statuses and self._gone:
                return signal.SIGKILL  # it went with its keeper
            return self._statuses.get(pid)

    def ending(self, pid: int) -> str | None:
        """How a process ended, in words, or `None` while it runs."""
        with self._changed:
            if pid in self._statuses:
                return ending_in_words(self._statuses[pid])
            return (
                f"was lost together with its keeper, which is gone; see {self._log}" if self._gone else None
            )

    def wait(self, pid: int, deadline: Deadline, name: str) -> str:
        """Wait for the end of a process and return it in words; raises `TimedOut`."""
        with self._changed:
            if not self._changed.wait_for(lambda: pid in self._statuses or self._gone, deadline.remaining):
                raise TimedOut(f"{name} (pid {pid}) did not end within {deadline.seconds:g} s")
        ending = self.ending(pid)
        assert ending is not None  # noqa: S101 - the condition above
        return ending

    def close(self) -> Sequence[str]:
        """End everything and prove it. Returns what is left, in words; a second call does nothing."""
        left: Sequence[str] = []
        try:
            left = self.ask(op="finish")["left"]
        except KeeperGone:
            pass  # it ended everything by itself, unless it was killed
        finally:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            try:
                self._keeper.wait(_ANSWER_SECONDS)
            except subprocess.TimeoutExpired:
                self._keeper.kill()
                self._keeper.wait()
        return self._clear_up() if self._keeper.returncode < 0 else left

    def _clear_up(self) -> Sequence[str]:
        """Do what a keeper that was killed could not do any more.

        What it started went with it (PR_SET_PDEATHSIG), but not what those had started in their turn.
        """
        if self._folder is None:
            return []
        deadline = Deadline(keeper.SECONDS_TO_DIE)
        while (pids := keeper.mentioning(str(self._folder))) and not deadline.passed:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        shutil.rmtree(self._folder, ignore_errors=True)
        left = [keeper.describe(pid) for pid in pids]
        return [*left, f"folder {self._folder}"] if self._folder.exists() else left


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finished:
    """A command that came to its end."""

    returncode: int
    stdout: str
    stderr: str


class Commands:
    """Runs the host's own commands (uv, interpreters) to their end, each under a keeper's eyes.

    Args:
        folder: holds what the commands print while they run; the keeper removes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._processes: KeptProcesses | None = None

    def __call__(
        self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, deadline: Deadline
    ) -> Finished:
        """Run a command; when this returns or raises, nothing of it runs any more.

        Raises:
            TimedOut: the deadline passed; the message holds the command's last words.
        """
        if self._processes is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._processes = KeptProcesses(log=self._folder / "keeper.log", folder=self._folder)
        name = Path(arguments[0]).name
        errors = self._folder / f"{next(self._numbers)}-{name}.stderr"
        process, stdin, stdout = self._processes.start_attached(name, arguments, env=env, cwd=cwd, log=errors)
        stdin.close()
        output: list[bytes] = []

        def read() -> None:
            with stdout:
                output.append(stdout.read())

        reader = threading.Thread(target=read, name=name, daemon=True)
        reader.start()
        finished = False
        try:
            process.wait(deadline)
            reader.join(deadline.remaining)  # a child that it left behind may still hold its stdout
            finished = not reader.is_alive()
            words = errors.read_text(errors="replace")
        except TimedOut as error:
            words = errors.read_text(errors="replace").strip()
            raise TimedOut(f"{error}. Its last words: {words[-2000:]}" if words else str(error)) from None
        finally:
            if not finished:  # too slow, or Ctrl-C: what it started has to go too, so the keeper goes
                self.close()
        code = process.code
        assert code is not None  # noqa: S101 - it was waited for
        return Finished(returncode=code, stdout=b"".join(output).decode(errors="replace"), stderr=words)

    def close(self) -> Sequence[str]:
        """End what runs; returns what is left, in words."""
        processes, self._processes = self._processes, None
        return processes.close() if processes is not None else []
