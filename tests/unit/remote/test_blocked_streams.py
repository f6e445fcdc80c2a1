"""A process that does not read its input blocks no other."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.cluster.agent import Agent
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import ProcessExited, TimedOut
from pytest_modelops.remote.supervisor import init

REMOTE = Path(init.__file__).parents[1]

MUCH = 1 << 20
"""More than a pipe holds."""


class Stuck:
    """The process of an agent that neither reads nor ends."""

    def __init__(self, log: Path) -> None:
        self.log = log
        log.touch()

    def wait(self, deadline: Deadline) -> str:
        raise TimedOut(f"it did not end within {deadline.seconds:g} s")


def within(seconds: float, function: Any, *args: Any, **kwargs: Any) -> BaseException | None:
    """Call it in a thread, since it may hang; what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"{function} hangs"
    return raised[0] if raised else None


def test_a_call_to_an_agent_that_does_not_read_ends_at_its_deadline(tmp_path: Path) -> None:
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    stuck: Any = Stuck(tmp_path / "log")
    agent = Agent(stuck, os.fdopen(our_out, "wb"), os.fdopen(our_in, "rb"))
    for _ in range(2):
        error = within(20, agent.call, "facts", deadline=Deadline(0.2), much="x" * MUCH)
        assert str(error) == "the agent did not answer 'facts' within 0.2 s"
    assert within(20, agent.close) is None
    os.close(their_in)  # as at its end
    error = within(20, agent.call, "facts", deadline=Deadline(20))
    assert isinstance(error, ProcessExited)
    os.close(their_out)


def copied(directory: Path) -> Path:
    """The directory `remote`, under the name that it has in a cell."""
    return Path(shutil.copytree(REMOTE, directory / "modelops_remote", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture
def inited(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An init as it is in a cell, whose command does not read its stdin."""
    program = copied(tmp_path) / "supervisor" / "init.py"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", program, "--attached", "sleep", "1000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        bufsize=0,
    ) as process:
        yield process
        process.kill()


def frame(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack(">I", len(content)) + content


def answer(process: subprocess.Popen[bytes]) -> Any:
    assert process.stdout is not None
    head = process.stdout.read(5)
    return json.loads(process.stdout.read(struct.unpack(">I", head[1:])[0]))


@pytest.mark.skipif(sys.platform != "linux", reason="runs in containers alone")
def test_an_init_serves_and_ends_though_its_command_does_not_read(inited: subprocess.Popen[bytes]) -> None:
    assert inited.stdin is not None
    pid = answer(inited)["started"]
    reported: list[Any] = []

    def ask() -> None:
        assert inited.stdin is not None
        view = memoryview(frame(b"D", b"x" * MUCH) + frame(b"C", b'{"op": "state", "id": 1, "pid": 0}'))
        while view:
            view = view[inited.stdin.write(view) :]
        reported.append(answer(inited))

    assert within(20, ask) is None
    assert reported == [{"id": 1, "state": "sleeping"}]
    inited.stdin.close()
    assert inited.wait(20) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_supervisor_runs_without_this_package(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from modelops_remote.shared.supervised import Supervised\n"
        f"supervised = Supervised(log={str(tmp_path / 'log')!r})\n"
        "command = ['sh', '-c', 'sleep 1000 & sleep 0.5; exit 3']\n"  # until the first one is no shell any more
        f"pid = supervised.start(command, env={{}}, cwd={str(tmp_path)!r}, log={str(tmp_path / 'output')!r})\n"
        "ending, left = supervised.wait(pid, 20), [text.split(maxsplit=1)[1] for text in supervised.left()]\n"
        "print(ending, left, supervised.close())\n"
    )
    copied(tmp_path)
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "exited with code 3 ['sleep 1000'] []\n", done.stderr + (tmp_path / "log").read_text()
