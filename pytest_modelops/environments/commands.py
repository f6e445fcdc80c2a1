"""Processes on the host: started through a supervisor, so that none survives pytest, however pytest ends.

Holds a handle for each process, and commands that run to their end. The package starts processes on the host only here.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, TimedOut
from pytest_modelops.remote.shared.process_messages import ChildStack
from pytest_modelops.remote.shared.supervised import CouldNot, Supervised, SupervisorGone
from pytest_modelops.remote.supervisor import supervisor


class HostProcess:
    """A process that a supervisor started (see `base.Process`)."""

    def __init__(self, supervisor: Supervised, name: str, pid: int, log: Path) -> None:
        self._supervisor = supervisor
        self.name = name
        self.pid = pid
        self.log = log

    @property
    def ending(self) -> str | None:
        """`None` while it runs, else how it ended, in words."""
        return self._supervisor.ending(self.pid)

    @property
    def code(self) -> int | None:
        """Exit code, negative for a signal; `None` while it runs."""
        status = self._supervisor.status(self.pid)
        return None if status is None else os.waitstatus_to_exitcode(status)

    def wait(self, deadline: Deadline) -> str:
        """Wait for the end and return it in words; raises `TimedOut`."""
        ending = self._supervisor.wait(self.pid, deadline.remaining)
        if ending is None:
            raise TimedOut(f"{self.name} (pid {self.pid}) did not end within {deadline.seconds:g} s")
        return ending

    def signal(self, number: int, *, pid: int | None = None) -> bool:
        return self._supervisor.signal(pid or self.pid, number)

    def descendants(self) -> Sequence[int]:
        return self._supervisor.descendants(self.pid)

    def abort_children(self, *, pid: int | None = None) -> Sequence[ChildStack]:
        return self._supervisor.abort_children(pid or self.pid)

    def state(self, *, pid: int | None = None) -> str:
        try:
            status = psutil.Process(pid or self.pid).status()
        except psutil.NoSuchProcess:
            return "gone"
        return _STATES.get(status, str(status))


_STATES = {
    psutil.STATUS_DISK_SLEEP: "waiting for the disk",
    psutil.STATUS_STOPPED: "stopped (SIGSTOP)",
    psutil.STATUS_TRACING_STOP: "stopped (traced)",
    psutil.STATUS_IDLE: "sleeping",
    psutil.STATUS_ZOMBIE: "gone",
    psutil.STATUS_DEAD: "gone",
}


class HostProcesses:
    """A supervisor and what it started. Closing it, or the end of pytest, ends all of it.

    Args:
        directory: removed by the supervisor at its end.
        log: file for the supervisor's own output.

    Raises:
        CheckFailed: the supervisor could not be started.
    """

    def __init__(self, *, log: Path, directory: Path) -> None:
        with _translated():
            self._supervisor = Supervised(log=str(log), directory=str(directory), log_is_shown=True)
        self._directory = directory

    def start(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, template: int = 0
    ) -> HostProcess:
        """Start a process with no stdin, its output going to `log`.

        Args:
            template: pid of a process to fork it from, see `prepare`; `argv` is then what follows `python -m`.

        Raises:
            CheckFailed: it could not be started.
        """
        with _translated():
            pid = self._supervisor.start(argv, env=env, cwd=str(cwd), log=str(log), template=template)
        return HostProcess(self._supervisor, name, pid, log)

    def start_attached(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        template: int = 0,
        patience: float = 0.0,
    ) -> tuple[HostProcess, IO[bytes], IO[bytes]]:
        """Start a process as `start` does, but return its stdin and stdout; only stderr goes to `log`.

        Args:
            patience: for how many seconds it may run on when pytest is gone, to end by itself.
        """
        with _translated():
            pid, stdin, stdout = self._supervisor.start_attached(
                argv, env=env, cwd=str(cwd), log=str(log), template=template, patience=patience
            )
        return HostProcess(self._supervisor, name, pid, log), stdin, stdout

    def prepare(self, python: str, modules: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> int:
        """Start a process that imports modules and from which others can then be forked; return its pid.

        Raises:
            CheckFailed: it could not be started.
        """
        with _translated():
            return self._supervisor.prepare(python, modules, env=env, cwd=str(cwd), log=str(log))

    def obstacle(self, template: int, seconds: float) -> str:
        """Wait until others can be forked from that process; return why they cannot, or nothing."""
        return self._supervisor.obstacle(template, seconds)

    def signal(self, pid: int, number: int) -> bool:
        """Send a signal to one of these processes; return `False` if it is gone."""
        return self._supervisor.signal(pid, number)

    def left(self) -> Sequence[str]:
        """Describe everything of it that still runs."""
        try:
            return self._supervisor.left()
        except (SupervisorGone, CouldNot):
            return []

    def close(self) -> Sequence[str]:
        """End everything and prove it. Return what is left, in words; a second call does nothing."""
        left = self._supervisor.close()
        return self._clear_up() if left is None else left

    def _clear_up(self) -> Sequence[str]:
        """End and remove what a supervisor that was killed left.

        Processes that it started were killed with it (PR_SET_PDEATHSIG), but not those that they started.
        """
        Deadline(supervisor.SECONDS_TO_DIE).until(self._kill_the_rest, every=0.005)
        shutil.rmtree(self._directory, ignore_errors=True)
        left = [supervisor.describe(pid) for pid in supervisor.mentioning(str(self._directory))]
        return [*left, f"directory {self._directory}"] if self._directory.exists() else left

    def _kill_the_rest(self) -> bool:
        """Kill what still runs in the directory; return whether nothing did."""
        pids = supervisor.mentioning(str(self._directory))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        return not pids


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (SupervisorGone, CouldNot) as error:
        raise CheckFailed(str(error)) from error


_LAST_SECONDS = 5.0


class Commands:
    """Runs the host's own commands (uv, pip, interpreters) to their end (implements `uv.Runner`).

    Each runs under a supervisor, and those of several threads under one each.

    Args:
        directory: the supervisors have directories beside it, with numbers after its name, which hold the commands'
            output while they run. They remove them.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._free: list[_Supervised] = []
        self._busy: list[_Supervised] = []
        self._interrupted = False

    def __call__(
        self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, deadline: Deadline
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; when this returns or raises, nothing of it runs any more.

        A child that it leaves behind, and that holds its stdout, is ended at the deadline; the output of both is
        returned all the same.

        Raises:
            TimedOut: the deadline passed, and the command itself still ran; the message holds its last output.
        """
        supervised = self._take()
        name = Path(arguments[0]).name
        errors = supervised.directory / f"{next(self._numbers)}-{name}.stderr"
        output: list[bytes] = []
        reader: threading.Thread | None = None
        finished = False
        try:
            process, stdin, stdout = supervised.processes.start_attached(name, arguments, env=env, cwd=cwd, log=errors)
            stdin.close()

            def read() -> None:
                with stdout:
                    output.append(stdout.read())

            reader = threading.Thread(target=read, name=name, daemon=True)
            reader.start()
            process.wait(deadline)
            reader.join(deadline.remaining)  # a child that it left behind may still hold its stdout
            finished = not reader.is_alive()
            stderr = errors.read_text(errors="replace")
        except TimedOut as error:
            stderr = errors.read_text(errors="replace").strip()
            raise TimedOut(f"{error}. Its last output: {stderr[-2000:]}" if stderr else str(error)) from None
        finally:
            self._give_back(supervised, usable=finished)
            if not finished and reader is not None:
                reader.join(_LAST_SECONDS)  # no process holds its stdout any more
        code = process.code
        assert code is not None  # noqa: S101 - it was waited for
        return subprocess.CompletedProcess(arguments, code, b"".join(output).decode(errors="replace"), stderr)

    def _take(self) -> _Supervised:
        with self._lock:
            if self._interrupted:
                raise CheckFailed("the run is being ended")
            supervised = self._free.pop() if self._free else _Supervised(self._directory, next(self._numbers))
            self._busy.append(supervised)
            return supervised

    def _give_back(self, supervised: _Supervised, *, usable: bool) -> None:
        """Keep a supervisor for the next command, or end it: what a command that is too slow has started has to end."""
        with self._lock:
            self._busy.remove(supervised)
            if usable and not self._interrupted:
                self._free.append(supervised)
                return
        supervised.processes.close()

    def interrupt(self) -> None:
        """End what runs in other threads, and keep more from being started."""
        with self._lock:
            self._interrupted = True
            busy = [*self._busy]
        for supervised in busy:
            supervised.processes.close()

    def close(self) -> Sequence[str]:
        """End what runs. Return what is left, in words."""
        with self._lock:
            there = [*self._busy, *self._free]
            self._free.clear()
        return [left for supervised in there for left in supervised.processes.close()]


class _Supervised:
    """A supervisor of commands, and the directory that it removes at its end."""

    def __init__(self, directory: Path, number: int) -> None:
        self.directory = directory.with_name(f"{directory.name}-{number}")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.processes = HostProcesses(log=self.directory / "supervisor.log", directory=self.directory)
