"""Which processes are seen below another one, and which Python they say that they run."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from pytest_modelops.remote.worker import processes

WAIT = "import sys; sys.stdin.read()"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", WAIT], stdin=subprocess.PIPE) as process:
        yield process


def test_a_process_below_is_seen_and_says_which_python_it_runs(child: subprocess.Popen[bytes]) -> None:
    found = processes.look_at(child.pid, os.getpid())
    assert (found["seen"], found["lives"]) == (True, True)
    assert found["runs"]["version"] == platform.python_version()
    assert found["runs"]["prefix"] == sys.prefix, "by the name under which it was started"


def test_a_process_elsewhere_is_not_below(child: subprocess.Popen[bytes]) -> None:
    found = processes.look_at(os.getpid(), child.pid)
    assert (found["seen"], found["lives"], found["runs"]) == (False, True, {})
    assert found["command"]


def test_a_process_that_ended_is_seen_only_by_who_has_watched() -> None:
    with processes.Watch(os.getpid()) as watch:
        done = subprocess.Popen([sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE)
        pid = int(done.communicate()[0])
    found = watch.named(pid)
    assert (found["seen"], found["lives"]) == (True, False)
    assert found["runs"]["executable"]
    late = processes.look_at(pid, os.getpid())
    assert (late["seen"], late["lives"], late["born"]) == (False, False, False)


def test_of_a_wrapper_the_python_that_it_has_started_counts() -> None:
    with processes.Watch(os.getpid()) as watch:
        wrapper = subprocess.Popen(["/bin/sh", "-c", f"'{sys.executable}' -c '{WAIT}'; exit 3"], stdin=subprocess.PIPE)
        time.sleep(0.5)
        wrapper.communicate()
    assert watch.named(wrapper.pid)["runs"]["version"] == platform.python_version()


def test_what_runs_no_python_is_said_to() -> None:
    with subprocess.Popen(["sleep", "5"]) as process:
        time.sleep(0.2)
        found = processes.look_at(process.pid, os.getpid())
        process.kill()
    assert "sleep, which is no Python and has started none" in found["runs"]["unknown"]


def test_what_is_no_pid_does_not_live() -> None:
    assert not any(map(processes.lives, (-1, 0x7FFFFFFF, 1 << 80)))


def test_another_user_s_process_is_there_all_the_same(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(process: psutil.Process) -> str:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "exe", refused)
    found = processes.look_at(child.pid, os.getpid())
    assert found["seen"]
    assert "may not be read" in found["runs"]["unknown"]
