"""A deadline that passes says what hangs and why, before anything is ended. One cell hangs in all ways, one by one."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from tests.forking import Template
from tests.integration.conftest import Check, Matrix, Run, own_cache

TESTS = """
import os
import signal

DEADLINE = 3


def frozen(cell, role, call):
    pid = cell.call("lambda: __import__('os').getpid()", worker="worker-1")
    if role == "scheduler":
        pid = cell.observed["scheduler"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        call()
    finally:
        os.kill(pid, signal.SIGCONT)


def test_worker(modelops_cell):
    frozen(modelops_cell, "worker", lambda: modelops_cell.call("lambda: 1", worker="worker-1", deadline=DEADLINE))


def test_scheduler(modelops_cell):
    frozen(modelops_cell, "scheduler", lambda: modelops_cell.call("lambda: 1", deadline=DEADLINE))


def holds_the_gil():
    import collections, itertools

    collections.deque(itertools.repeat(0), maxlen=0)


def test_gil(modelops_cell):
    modelops_cell.call(holds_the_gil, worker="worker-0", deadline=DEADLINE)


def blocks_the_loop():
    import time
    from distributed import get_worker

    get_worker().loop.add_callback(lambda: time.sleep(600))
    time.sleep(600)


def test_loop(modelops_cell):
    modelops_cell.call(blocks_the_loop, worker="worker-0", deadline=DEADLINE)


def locks_twice():
    from distributed import Lock

    Lock("ledger").acquire()
    Lock("ledger").acquire()


def test_lock(modelops_cell):
    modelops_cell.call(locks_twice, worker="worker-0", deadline=DEADLINE)


def locks_a_thread():
    import threading

    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def test_thread(modelops_cell):
    modelops_cell.call(locks_a_thread, worker="worker-0", deadline=DEADLINE)


def needs_a_gpu():
    from distributed import worker_client

    with worker_client() as client:
        return client.submit(str, 1, key="on-a-gpu", resources={"GPU": 1}).result()


def test_resource(modelops_cell):
    modelops_cell.call(needs_a_gpu, worker="worker-0", deadline=DEADLINE)


def exits():
    import os

    os._exit(3)


def test_restarts(modelops_cell):
    modelops_cell.call(exits, deadline=DEADLINE)


def pauses():
    import time

    from distributed import get_worker
    from distributed.core import Status

    worker = get_worker()
    worker.memory_manager.memory_pause_fraction = 1e-9
    while worker.status != Status.paused:
        time.sleep(0.01)


def test_paused(modelops_cell):
    modelops_cell.call(pauses, worker="worker-0", deadline=20)
    modelops_cell.call("lambda: 1", worker="worker-0", deadline=DEADLINE)
"""
LIMIT = 5
"""Seconds after which a diagnosis itself hangs."""
CONFIGURATION = """
[tool.modelops.environment]
worker-args = ["--resources", "tokens=2"]
scheduler-env = { DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES = "1000" }
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Run:
    directory = tmp_path_factory.mktemp("diagnoses")
    with contextlib.closing(
        Matrix(directory / "project", own_cache(directory / "cache", tmp_path_factory), template=template)
    ) as matrix:
        matrix.configure(CONFIGURATION)
        matrix.write("test_mine.py", TESTS)
        return matrix.run("test_mine.py")


def diagnosed(run: Run, name: str) -> Check:
    check = run.check(f"test_mine.py::test_{name}")
    assert check.status == "timed-out", check
    return check


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("worker", ["worker-1 (pid ", " is stopped (SIGSTOP) and does nothing; task ", " on it."]),
        ("scheduler", ["scheduler (pid ", " is stopped (SIGSTOP) and does nothing."]),
        (
            "gil",
            [
                "worker-0 (pid ",
                "does not answer: a task probably holds Python's GIL",
                "in holds_the_gil",
                "holds_the_gil-",
            ],
        ),
        ("loop", ["worker-0 (pid ", "does not answer: its event loop is blocked, at ", "in <lambda>"]),
        (
            "lock",
            ["task locks_twice-", " on worker-0 waits for Dask's lock 'ledger' (taken once, 1 waiting)", "line 6"],
        ),
        ("thread", ["task locks_a_thread-", " on worker-0 has not ended, at ", "in locks_a_thread"]),
        (
            "resource",
            [
                "no worker can run task on-a-gpu: it needs the resource GPU=1, which no worker has",
                "worker-0 has tokens=2",
            ],
        ),
        (
            "restarts",
            [
                "died ",
                " since the check began and was restarted (last: its process exited with status 3)",
                "Task exits-",
            ],
        ),
        ("paused", ["no worker can run task lambda-", ": worker-0 is paused, as Dask does where memory is short."]),
    ],
)
def test_what_hangs_is_named(run: Run, name: str, parts: list[str]) -> None:
    check = diagnosed(run, name)
    check.says("Diagnosis: ", *parts, "Where each process stands:", "Whole diagnosis: ")
    paragraph = check.message.partition("Diagnosis: ")[2].partition("\n")[0]
    assert all(part in paragraph for part in parts), paragraph
    assert ("paused, since they are short of memory: worker-0 (tcp://" in check.message) is (name == "paused")
    written = json.loads(Path(check.data["diagnosis"]["directory"], "diagnosis.json").read_text())
    assert written["seconds"] <= LIMIT


def test_what_was_seen_is_written_beside_the_logs(run: Run) -> None:
    check = diagnosed(run, "lock")
    found = check.data["diagnosis"]
    assert f"Diagnosis: {found['cause']}" in check.message
    directory = Path(found["directory"])
    assert str(directory / "diagnosis.txt") in run.cell().facts["logs"].values()
    written = json.loads((directory / "diagnosis.json").read_text())
    asked, names = written["asked"], written["asked"]["names"]
    [task] = asked["scheduler"]["pending"]
    assert (task["state"], names[task["worker"]]) == ("processing", "worker-0")
    assert any(task["key"] in row and "'processing'" in row for row in asked["scheduler"]["story"])
    of_worker = asked["workers"][task["worker"]]["value"]
    assert of_worker["tasks"] == {task["key"]: "executing"}
    assert of_worker["memory"] > 10 << 20
    assert any(task["key"] in row for row in of_worker["story"])
    assert "in locks_twice" in "".join(of_worker["stacks"][task["key"]])
    assert written["calls"][-1]["method"] == "call_each"
    stacks = {path.stem: path.read_text() for path in (directory / "stacks").iterdir()}
    nannies = {"nanny of worker-0", "nanny of worker-1"}
    assert stacks.keys() == {"scheduler", "worker-0", "worker-1", "agent"} | nannies
    assert all("most recent call first" in dump for dump in stacks.values())
    assert "in locks_twice" in stacks["worker-0"]
    assert task["key"] in (directory / "diagnosis.txt").read_text()
