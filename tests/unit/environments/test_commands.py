"""The host's own commands, run to their end."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.commands import Commands


def test_a_child_that_holds_stdout_is_ended_at_the_deadline_and_nothing_printed_is_lost(tmp_path: Path) -> None:
    run = Commands(tmp_path / "commands")
    code = "sleep 1000 & echo $! >pid; echo printed"
    done = run(["/bin/sh", "-c", code], env=dict(os.environ), cwd=tmp_path, deadline=Deadline(1))
    assert (done.returncode, done.stdout) == (0, "printed\n")
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
    run.close()
