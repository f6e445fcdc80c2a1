"""Who does not read what is sent to it blocks nobody else."""

from __future__ import annotations

import json
import os
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

MUCH = 1 << 20
"""More than a pipe takes."""


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


@pytest.fixture
def inited(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """an init whose command does not read its stdin."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", init.__file__, "--attached", "sleep", "1000"],
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
