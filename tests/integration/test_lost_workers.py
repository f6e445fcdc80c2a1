"""A worker that ends although nobody ended it: the check in which it did is red, and nobody else is accused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.integration.conftest import Check

if TYPE_CHECKING:
    from tests.integration.conftest import Matrix

IN_TIME = 20
"""Seconds; the deadline is 120."""
LEAVES_LATER = """
import os
import threading

def wire(entrypoint, params, seed):
    threading.Timer({seconds}, os._exit, [3]).start()
    return {{"answer.txt": b"42"}}
"""
WAITS = """
import time
from pytest_modelops.checks.base import Check

def waits(cell, deadline):
    time.sleep(8)

def pytest_modelops_checks(checks):
    checks.append(Check(name="waits", run=waits, needs=("start",), main_thread=False))
"""
"""It runs as those of our own do."""
CHECKS = """
import time
from pytest_modelops.checks.base import Check

def ends_one(cell, deadline):
    worker = next(process for process in cell.cluster.processes if process.name == "worker-0")
    worker.signal(9, pid=worker.descendants()[0])
    time.sleep(1)

def pytest_modelops_checks(checks):
    checks.append(Check(name="ends-one", run=ends_one, needs=("start",), summary="ends a worker on purpose"))
"""
TESTS = """
import time

def leave_later(seconds):
    import os, threading

    threading.Timer(seconds, os._exit, [4]).start()

def test_it_leaves_soon(modelops_cell):
    modelops_cell.call(leave_later, 0.2, worker="worker-0")
    time.sleep(1)

def test_another_then_hangs(modelops_cell):
    modelops_cell.call(leave_later, 0.2, worker="worker-0")
    time.sleep(2)
    modelops_cell.call("lambda: __import__('time').sleep(600)", worker="worker-0", deadline=2)
"""


def of_one_bundle(matrix: Matrix, seconds: float) -> dict[str, Check]:
    """Run a bundle whose tasks end their worker after so many seconds."""
    matrix.write("leaves/wire.py", LEAVES_LATER.format(seconds=seconds))
    matrix.configure(
        '[tool.modelops]\nstart = "fork-workers"\n'
        'bundles = [{ path = "leaves", install = "workers", entrypoint = "wire/run" }]\n'
    )
    matrix.write("conftest.py", WAITS)
    run = matrix.run("-k", "preflight or bundle_install or execute or waits")
    return {one["name"]: Check(**one) for one in run.cell().facts["checks"] if one["status"] != "not-run"}


def test_a_worker_that_ends_at_once_after_a_bundles_task(matrix: Matrix) -> None:
    check = of_one_bundle(matrix, 0)["execute"]
    check.broke("failed", "its process exited with status 3", within=IN_TIME)


def test_a_worker_that_ends_later_fails_the_check_that_runs_then(matrix: Matrix) -> None:
    checks = of_one_bundle(matrix, 4)
    assert [name for name, check in checks.items() if check.status != "passed"] == ["waits"]
    checks["waits"].broke(
        "failed",
        "a worker ended that nobody had asked to: worker-",
        "its process exited with status 3",
        "`execute[leaves]` ran on it before and may have ended it with a delay",
        "Everything else was right.",
        within=IN_TIME,
    )


def test_checks_and_tests_of_the_users_may_end_workers(matrix: Matrix) -> None:
    """That is noted, and what hangs later is looked for on the worker that was started instead."""
    matrix.configure('[tool.modelops]\nstart = "fork-workers"\n')
    matrix.write("conftest.py", CHECKS)
    matrix.write("test_mine.py", TESTS)
    run = matrix.run("-k", "start or ends_one or lambda or test_mine")
    cell = run.cell()
    assert {name: cell.checks[name].status for name in ("start", "lambda", "ends-one")} == {
        **dict.fromkeys(("start", "lambda", "ends-one"), "passed")
    }
    check = run.check("test_mine.py::test_another_then_hangs")
    assert check.status == "timed-out"
    check.says("Diagnosis: task ", "on worker-0 has not ended", "Where each process stands:")
    log = (run.directory / cell.facts["id"] / "logs/worker-0.log").read_text(encoding="utf-8")
    dead = re.findall(r"Worker process (\d+) ", log)
    standing = re.search(r"worker-0 \(pid (\d+)\)", check.message)
    assert standing is not None
    assert len(dead) >= 3, log
    assert standing[1] not in dead[:3]
    assert cell.facts["notes"] == [
        "during ends-one, worker-0: its process was killed by signal 9",
        "before the end, worker-0: its process exited with status 4",
    ]
