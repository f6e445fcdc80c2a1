"""Asking an environment: an answer, none, and one that does not come. Each question is a process of this Python."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.cluster.question import Question
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import ProcessExited, TimedOut

ANSWERS = "import json, sys; print(json.dumps({'asked': json.load(sys.stdin)}))"
ENDS = "import sys; sys.exit('no licence')"
HANGS = "import time; time.sleep(60)"


class Started:
    """A process, as a sandbox starts it."""

    name = "question"

    def __init__(self, code: str, log: Path) -> None:
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            )

    @property
    def ending(self) -> str | None:
        code = self.process.poll()
        return None if code is None else f"exited with code {code}"

    def wait(self, deadline: Deadline) -> str:
        self.process.wait(deadline.remaining)
        return str(self.ending)


class Sandbox:
    remote = "/remote"

    def __init__(self, code: str, directory: Path) -> None:
        self.started = Started(code, directory / "question.log")
        self.variables: dict[str, str] = {}

    def start_attached(self, *_: Any, variables: dict[str, str]) -> Any:
        self.variables = variables
        return self.started, self.started.process.stdin, self.started.process.stdout


MakeSandbox = Callable[[str], Any]


@pytest.fixture
def sandbox_with(tmp_path: Path) -> Iterator[MakeSandbox]:
    """Makes a sandbox whose process runs this code; the process is ended with the test."""
    with contextlib.ExitStack() as ending:

        def make(code: str) -> Sandbox:
            made = Sandbox(code, tmp_path)
            ending.callback(made.started.process.wait)
            ending.callback(made.started.process.kill)
            return made

        yield make


def ask(sandbox: Any) -> Question:
    environment: Any = None
    return Question(sandbox, environment, "question", "worker.options", ["a"], variables={"A": "1", "PYTHONPATH": "/b"})


def test_an_answer(sandbox_with: MakeSandbox) -> None:
    sandbox = sandbox_with(ANSWERS)
    assert ask(sandbox).answer(Deadline(30)) == {"asked": ["a"]}
    assert sandbox.variables == {"A": "1", "PYTHONPATH": "/remote:/b"}


def test_a_process_that_ends_without_an_answer(sandbox_with: MakeSandbox) -> None:
    with pytest.raises(ProcessExited, match=r"(?s)exited with code 1.*no licence"):
        ask(sandbox_with(ENDS)).answer(Deadline(30))


def test_a_process_that_does_not_answer(sandbox_with: MakeSandbox) -> None:
    with pytest.raises(TimedOut, match=r"did not answer within 0.3 s"):
        ask(sandbox_with(HANGS)).answer(Deadline(0.3))
