"""Supervisors are forked from one process, which is started again where it was killed or belongs to a parent."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_modelops.environments.commands import HostProcesses
from pytest_modelops.errors import CheckFailed
from pytest_modelops.remote.shared import supervised as module
from pytest_modelops.remote.shared.supervised import Supervised

SECONDS = 20.0


@contextlib.contextmanager
def supervised(tmp_path: Path) -> Iterator[tuple[Supervised, int]]:
    """Yield a supervisor and the pid of a process that would run for ever."""
    one = Supervised(log=str(tmp_path / "supervisor.log"))
    try:
        yield one, one.start(["sleep", "1000"], env=dict(os.environ), cwd=str(tmp_path), log=str(tmp_path / "log"))
    finally:
        one.close()


def is_gone(pid: int) -> bool:
    end = time.monotonic() + SECONDS
    while psutil.pid_exists(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_one_process_forks_all_and_forgets_none(tmp_path: Path) -> None:
    with supervised(tmp_path) as (first, _), supervised(tmp_path) as (second, sleeping):
        parents = {psutil.Process(one.pid).ppid() for one in (first, second)}
        assert len(parents) == 1
        assert psutil.Process(sleeping).ppid() == second.pid
        assert second.close() == []
        assert is_gone(sleeping)
        assert is_gone(second.pid)  # it is reaped
        assert second.close() == []
        assert first.left()
        assert psutil.Process(*parents).ppid() == os.getpid()


def test_one_that_finishes_before_the_host_goes_on_was_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_fds = socket.send_fds

    def send(connection: socket.socket, lines: list[bytes], descriptors: list[int]) -> int:
        sent = send_fds(connection, lines, descriptors)
        if b"finish" in lines[0]:
            hung_up = select.poll()
            hung_up.register(connection, 0)
            assert hung_up.poll(SECONDS * 1000)
        return sent

    with supervised(tmp_path) as (one, _):
        monkeypatch.setattr(socket, "send_fds", send)
        assert one.close() == []


def test_what_it_forked_ends_with_it_and_the_next_is_forked_from_another(tmp_path: Path) -> None:
    with supervised(tmp_path) as (first, sleeping):
        starter = psutil.Process(first.pid).ppid()
        os.kill(starter, signal.SIGKILL)
        assert is_gone(sleeping)
        assert is_gone(first.pid)
        with supervised(tmp_path) as (second, other):
            assert psutil.Process(second.pid).ppid() not in {starter, first.pid}
            assert psutil.pid_exists(other)
        assert first.close() is None  # nothing is proven


def test_a_stopped_one_is_replaced(tmp_path: Path) -> None:
    code = f"""
import os, signal
import psutil
from pytest_modelops.remote.shared import supervised
supervised.ANSWER_SECONDS = 1.0
first = supervised.Supervised(log={str(tmp_path / "log")!r})
starter = psutil.Process(first.pid).ppid()
os.kill(starter, signal.SIGSTOP)
second = supervised.Supervised(log={str(tmp_path / "log")!r})
assert psutil.Process(second.pid).ppid() != starter
assert second.close() == []
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_forked_process_has_its_own_and_its_end_ends_that_one_only(tmp_path: Path) -> None:
    with supervised(tmp_path) as (ours, sleeping):
        read, write = os.pipe()
        if not (child := os.fork()):
            try:
                theirs = Supervised(log=str(tmp_path / "theirs.log"))
                os.write(write, f"{theirs.pid} {psutil.Process(theirs.pid).ppid()}".encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(write)
        with os.fdopen(read) as said:
            pid, starter = map(int, said.read().split())
        assert is_gone(pid)
        assert is_gone(starter)
        assert starter != psutil.Process(ours.pid).ppid()
        assert psutil.pid_exists(sleeping)


def open_files() -> set[str]:
    return {file.name for file in Path("/proc/self/fd").iterdir()}


@pytest.fixture
def no_starter() -> Iterator[None]:
    """The next supervisor needs a new starter, as does the first after the test."""
    module._Starter.close()
    yield
    module._Starter.close()


@pytest.mark.usefixtures("no_starter")
def test_without_an_interpreter_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "scratch"
    directory.mkdir()
    files = open_files()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(CheckFailed, match=r"supervisor could not be started: FileNotFoundError: .*python"):
        HostProcesses(log=tmp_path / "log", directory=directory)
    assert not directory.exists()
    assert open_files() == files


@pytest.mark.usefixtures("no_starter")
def test_an_interpreter_that_does_not_start_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [OSError(errno.EAGAIN, "Resource temporarily unavailable")]
    real = subprocess.Popen

    def popen(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        if failures:
            raise failures.pop()
        return real(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    with supervised(tmp_path) as (one, sleeping):
        assert not failures
        assert psutil.pid_exists(sleeping)
        assert one.close() == []


def test_a_process_that_ends_when_it_has_ended_itself_prints_nothing() -> None:
    """Its stderr is pytest's."""
    code = """
import os, signal, socket
from pytest_modelops.remote.supervisor import starter
host, closed = socket.socketpair()
closed.close()
assert starter.serve(host) == 0
os.kill(os.getpid(), signal.SIGCHLD)
print("ended")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("ended\n", "")
