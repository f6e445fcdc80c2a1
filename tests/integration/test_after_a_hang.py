"""A task that hangs costs its own test: what comes next in the cell finds its workers free."""

from __future__ import annotations

import pytest

from tests.integration.conftest import Matrix

TESTS = """
import os
import time

import pytest


def hang():
    print("here it hangs", flush=True)
    time.sleep(600)


def test_one_hangs(modelops_cell):
    modelops_cell.call(hang, worker="worker-0", deadline=1)


def test_two(modelops_cell):
    pids = modelops_cell.call_each("lambda: __import__('os').getpid()", deadline=3)
    assert set(pids) == {"worker-0", "worker-1"}
    logs = "".join(path.read_text() for path in modelops_cell.logs.values())
    assert logs.count("here it hangs") == 1  # nobody ran it again


@pytest.mark.modelops_lambda("lambda x: __import__('time').sleep(600)", 1, expect=0, deadline=1)
def test_three_hangs_everywhere(modelops_cell):
    pass


@pytest.mark.modelops_aggregation(params=2, replicates=2, deadline=20)
def test_four(modelops_cell):
    assert modelops_cell.workers == ("worker-0", "worker-1")
"""
CALLS = {
    "test_one_hangs": "timed-out",
    "test_two": "passed",
    "test_three_hangs_everywhere": "timed-out",
    "test_four": "passed",
}


@pytest.mark.parametrize("backend", ["matrix", "containers"])
def test_what_comes_after_a_task_that_hangs_finds_its_workers_free(
    backend: str, request: pytest.FixtureRequest
) -> None:
    matrix: Matrix = request.getfixturevalue(backend)
    matrix.configure('[tool.modelops.matrix]\npython = ["3.12"]\ndask = ["2024.10.0"]\n' * (backend == "containers"))
    matrix.write("test_mine.py", TESTS)
    run = matrix.run("test_mine.py")
    statuses = {name: run.check(f"test_mine.py::{name}").status for name in CALLS}
    assert statuses == CALLS, run.out
    run.check("test_mine.py::test_one_hangs").says(
        "hang in cell", "on worker-0 did not finish within 1 s", "processing on worker-0", "in hang"
    )
    notes = [note for note in run.cell().facts["notes"] if "restarted" in note]
    assert notes == [
        "worker-0: restarted, since still on a task that had timed out",
        "worker-0, worker-1: restarted, since still on a task that had timed out",
    ]
    assert "worker-0: restarted" in run.out


def test_without_nannies_a_worker_that_hangs_is_left_alone(matrix: Matrix) -> None:
    matrix.configure("[tool.modelops]\nnanny = false\n")
    matrix.write("test_mine.py", TESTS)
    run = matrix.run("test_mine.py::test_one_hangs", "test_mine.py::test_two")
    run.check("test_mine.py::test_two").says("on worker-0 did not finish within 3 s", "in hang")
    assert run.cell().facts["notes"] == []
