"""A task that hangs costs its own test: what comes next in the cell finds its workers free."""

from __future__ import annotations

from tests.integration.conftest import ContainerMatrix, Matrix, Run

TESTS = """
import os
import time

import pytest


WAITS = "def in_child(): __import__('time').sleep(600)\\nin_child()"


def hang():
    import subprocess
    import sys

    print("here it hangs", flush=True)
    streams = [None, subprocess.PIPE, subprocess.DEVNULL]
    children = [subprocess.Popen([sys.executable, "-c", WAITS], stderr=stderr) for stderr in streams]
    children.append(subprocess.Popen(["sleep", "600"]))
    children[1].communicate()
    time.sleep(600)


def test_one_hangs(modelops_cell):
    modelops_cell.call(hang, worker="worker-0", deadline=2)


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
SUBTASKS = """
import os
import signal
import time

import pytest


def busy(on):
    from distributed import worker_client

    def sleeps():
        import time

        time.sleep(600)

    with worker_client() as client:
        addresses = {worker["name"]: address for address, worker in client.scheduler_info()["workers"].items()}
        return client.submit(sleeps, workers=[addresses[on[1]]], pure=False).result()


def test_a_task_waits_for_its_subtask(modelops_cell):
    modelops_cell.call(busy, modelops_cell.workers, worker="worker-0", deadline=2)


def test_all_are_free(modelops_cell):
    assert set(modelops_cell.call_each("lambda: 1", deadline=3)) == {"worker-0", "worker-1"}


class Limit(BaseException):
    pass


def test_another_plugin_s_time_limit(modelops_cell):
    def late(*_):
        raise Limit

    signal.signal(signal.SIGALRM, late)
    signal.alarm(2)
    with pytest.raises(Limit):
        modelops_cell.call("lambda: __import__('time').sleep(600)", deadline=100)


def test_all_are_free_again(modelops_cell):
    modelops_cell.call_each("lambda: 1", deadline=3)


def test_of_the_user_s_own_client_tasks_run_on(modelops_cell):
    client = modelops_cell.client()
    addresses = {worker["name"]: address for address, worker in client.scheduler_info()["workers"].items()}
    pid = modelops_cell.call("lambda: __import__('os').getpid()", worker="worker-1")
    mine = client.submit(lambda: [time.sleep(6), os.getpid()][1], workers=[addresses["worker-1"]], pure=False)
    with pytest.raises(Exception, match="did not finish within 1 s"):
        modelops_cell.call("lambda: __import__('time').sleep(600)", worker="worker-0", deadline=1)
    modelops_cell.call("lambda: 1", worker="worker-0", deadline=3)
    assert mine.result(timeout=60) == pid, "it was run again elsewhere"
"""
CALLS = {
    "test_one_hangs": "timed-out",
    "test_two": "passed",
    "test_three_hangs_everywhere": "timed-out",
    "test_four": "passed",
}


FREEZES = """
def freezes_at_the_30th():
    import os, signal
    from distributed import get_worker
    from distributed.diagnostics.plugin import WorkerPlugin

    class AtThe30th(WorkerPlugin):
        done = 0

        def transition(self, key, start, finish, **kwargs):
            if str(key).startswith("sim-") and finish == "memory":
                self.done += 1
                if self.done == 30:
                    os.kill(os.getpid(), signal.SIGSTOP)

    worker = get_worker()
    worker.loop.add_callback(worker.plugin_add, plugin=AtThe30th(), name="at-the-30th")

def plugins():
    from distributed import get_worker
    return list(get_worker().plugins)

def test_it(modelops_cell):
    modelops_cell.require("lambda")
    modelops_cell.call(freezes_at_the_30th, worker="worker-1")
    assert "at-the-30th" in modelops_cell.call(plugins, worker="worker-1")
    modelops_cell.run_check("aggregation")
"""
"""The plugin comes with a function of the test's, since a preload would have to be in the image."""


def test_what_comes_after_a_task_that_hangs_finds_its_workers_free(matrix: Matrix) -> None:
    matrix.write("test_mine.py", TESTS)
    found_free(matrix.run("test_mine.py"))


def test_in_containers_workers_are_found_free_until_one_freezes_in_the_middle_of_the_aggregation(
    containers: ContainerMatrix,
) -> None:
    containers.configure(
        """
        [tool.modelops.matrix]
        python = ["3.12"]
        dask = ["2024.10.0"]
        [tool.modelops.deadlines]
        aggregation = 6
        """
    )
    containers.write("test_mine.py", TESTS)
    containers.write("test_then.py", FREEZES)
    run = containers.run("test_mine.py", "test_then.py")
    found_free(run)
    cell = run.cell()
    assert cell.checks["test_then.py::test_it"].status == "passed", cell.checks["test_then.py::test_it"].message
    check = cell.checks["aggregation"]
    check.broke("timed-out", "aggregating 20 × 20 tasks: not complete", within=6 + 2, cause="process-stopped")
    check.says("worker-1 (tcp://", ") holds ", " tasks", "Where each process stands:")
    check.says("worker-0 (pid ", "worker-1 (pid ", " is stopped (SIGSTOP)")
    assert containers.left_on_the_engine(run) == []


def found_free(run: Run) -> None:
    """Assert that tasks that hung are shown as they stood, and that their workers were restarted."""
    statuses = {name: run.check(f"test_mine.py::{name}").status for name in CALLS}
    assert statuses == CALLS, run.out
    run.check("test_mine.py::test_one_hangs").says(
        "hang in cell", "on worker-0 did not finish within 2 s", "processing on worker-0",
        *("in communicate", "in hang"), *["its child process ", "was sleeping", "in in_child"] * 2,
        *("its child process ", "is sleeping", "no stack, since its stderr is /dev/null"),
        *("its child process ", "(sleep 600) is sleeping", "no stack, since it is no Python with faulthandler"),
    )  # fmt: skip
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


def test_what_a_late_task_left_elsewhere_is_ended_too(matrix: Matrix) -> None:
    matrix.write("test_mine.py", SUBTASKS)
    run = matrix.run("test_mine.py")
    names = [line.split("(")[0][4:] for line in SUBTASKS.splitlines() if line.startswith("def test_")]
    statuses = {name: run.check(f"test_mine.py::{name}").status for name in names}
    assert statuses == {**dict.fromkeys(names, "passed"), "test_a_task_waits_for_its_subtask": "timed-out"}, run.out
    notes = [note.partition(":")[0] for note in run.cell().facts["notes"] if "restarted" in note]
    assert notes[0] == "worker-0, worker-1", notes
    assert notes[-1] == "worker-0", notes
