"""Child processes of one that hangs print their stacks, wherever their stderr goes, and what else runs goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_modelops.remote.supervisor import children, stacks

PARENT = r"""
import multiprocessing, os, signal, subprocess, sys, threading
signal.alarm(60)
waits = "import os, time\ndef deep_inside():\n    os.write(1, b'up\\n')\n    time.sleep(60)\ndeep_inside()"
floods = "import os, sys\nos.write(1, b'up\\n')\nwhile True: sys.stderr.write('x' * 9999)"
runs = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {waits!r}], stderr=subprocess.PIPE)"

def forked():
    os.write(1, b"up\n")
    threading.Event().wait(60)

fork = multiprocessing.get_context("fork").Process(target=forked)
fork.start()
inherits = subprocess.Popen([sys.executable, "-c", waits])
nobody_reads = subprocess.Popen([sys.executable, "-c", floods], stderr=subprocess.PIPE)
no_stderr = subprocess.Popen([sys.executable, "-c", waits], stderr=subprocess.DEVNULL)
no_python = subprocess.Popen(["sh", "-c", "echo up; exec sleep 60"])
below = subprocess.Popen([sys.executable, "-c", runs])
print("goes on:", subprocess.run([sys.executable, "-c", waits], stderr=subprocess.PIPE).returncode, flush=True)
no_python.wait()
"""
PROCESSES = 8


@pytest.mark.skipif(sys.platform != "linux", reason="without /proc, children are not seen")
def test_each_child_prints_its_stack_or_it_is_said_why_not(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", PARENT],
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},
            stdout=subprocess.PIPE,
            stderr=stderr,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            ups = [process.stdout.readline() for _ in range(PROCESSES - 1)]  # all but the one that only runs another
            assert ups == [b"up\n"] * (PROCESSES - 1)
            found = stacks.abort_children(process.pid)
            assert process.stdout.readline() == b"goes on: %d\n" % -signal.SIGABRT, "only after all have printed"
        finally:
            for pid in [*children.descendants(process.pid), process.pid]:
                with contextlib.suppress(ProcessLookupError):  # it has ended since
                    os.kill(pid, signal.SIGKILL)
    assert len(found) == PROCESSES
    in_log = [child for child in found if child["in_log"] and not child["obstacle"]]
    assert len(in_log) == 3, "forked, inherits, below"
    dumps = log.read_text().split("Fatal Python error: Aborted")[1:]
    for dump, function in zip(dumps, ("in forked", "in deep_inside", "in run"), strict=True):
        assert function in dump
    of_pipes = [child["dump"] for child in found if child["dump"]]
    assert sum("in deep_inside" in dump for dump in of_pipes) == 2, "of the parent, and of another child"
    assert sum("xxx" in dump and 'File "<string>", line 3 in <module>' in dump for dump in of_pipes) == 1
    obstacles = {child["obstacle"]: child for child in found if child["obstacle"]}
    assert obstacles.keys() == {"its stderr is /dev/null", "it is no Python with faulthandler"}
    assert obstacles["it is no Python with faulthandler"]["command"] == "sleep 60"
    assert {child["state"] for child in obstacles.values()} == {"sleeping"}
