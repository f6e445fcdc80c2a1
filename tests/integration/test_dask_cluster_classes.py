"""Cells on clusters that a Dask cluster class makes: healthy ones, broken ones, and runs that are killed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.conftest import AT_ONCE, BUNDLE_CHECKS
from tests.names import CELL_CHECKS

if TYPE_CHECKING:
    from tests.integration.conftest import Matrix, Run

REPOSITORY = Path(__file__).parents[2]
CLUSTERS = REPOSITORY / "fixtures" / "clusters" / "clusters.py"
LOCAL = '{ n_workers = 0, threads_per_worker = 1, dashboard_address = "127.0.0.1:0" }'
JOBS = '{ python = "{python}", log_directory = "{log-directory}" }'
PLUGIN = '[tool.modelops.worker-plugin]\nclass = "distributed:WorkerPlugin"\nprobe = "state.nthreads"\n'
SMALL = "[tool.modelops.aggregation]\nparams = 3\nreplicates = 3\n"
TEST = """
    import pytest


    def test_every_worker_of_the_cluster_is_called(modelops_cell):
        assert set(modelops_cell.workers) == {"worker-0", "worker-1"}
        assert set(modelops_cell.call_each(lambda: __import__("os").environ["COLOUR"]).values()) == {"blue"}


    @pytest.mark.modelops_fault("kill-worker")
    def test_its_workers_are_not_killed(modelops_cell):
        raise AssertionError("it is skipped")
"""


def configure(matrix: Matrix, path: str, options: str, more: str = "", keys: str = "") -> None:
    """Write a project whose cells run on clusters of a class."""
    shutil.copy(CLUSTERS, matrix.path)
    matrix.configure(
        f'[tool.modelops]\nbackend = "cluster"\n{keys}\n{SMALL}{more}[tool.modelops.cluster]\nclass = "{path}"\n'
        f"options = {options}\n"
    )


def broke_at_start(run: Run, status: str, *parts: str) -> None:
    check = run.cell().broke("start", status, deadline=AT_ONCE)
    check.says(*parts)


def test_everything_runs_on_a_cluster_of_dasks_own_class(matrix: Matrix) -> None:
    bundle = (
        f'{{ path = "{REPOSITORY / "fixtures/bundles/numbers"}", entrypoint = "wire/run", target = "targets:mean" }}'
    )
    environment = '[tool.modelops.environment]\nenv = { COLOUR = "blue" }\n'
    configure(matrix, "distributed:LocalCluster", LOCAL, PLUGIN + environment, f"bundles = [{bundle}]")
    matrix.write("test_users.py", TEST)
    cell = matrix.run().passed().cell()
    assert cell.statuses == {
        **dict.fromkeys((*CELL_CHECKS, "runtime", *BUNDLE_CHECKS), "passed"),
        "test_users.py::test_every_worker_of_the_cluster_is_called": "passed",
        "test_users.py::test_its_workers_are_not_killed": "skipped",
    }
    assert cell.checks["runtime"].data["workers"].keys() == {"worker-0", "worker-1", "worker-late"}
    logs = cell.facts["logs"]
    assert {"scheduler", "agent", "worker-0", "worker-1"} <= logs.keys()
    assert "Registered to" in Path(logs["worker-0"]).read_text()
    assert {facts["settings"]["nanny"] for facts in cell.facts["observed"]["workers"].values()} == {True}


def test_workers_of_another_python_are_found_out_with_the_log_of_their_job(building_matrix: Matrix) -> None:
    versions = (
        '[tool.modelops.matrix]\npython = ["3.12"]\ndask = ["2024.10.0"]\ninclude = [\n'
        '  { python = "3.12", dask = "2024.10.0", worker = { python = "3.13" } },\n]\n'
    )
    configure(building_matrix, "clusters:queue", JOBS, versions, "workers = 1")
    run = building_matrix.run().unavailable_is_no_failure()
    same, skew = run.cells
    assert set(same.statuses.values()) == {"passed"}, run.out
    assert "cluster-job-0.out" in same.facts["logs"]
    check = skew.broke("lambda", "failed", deadline=30, cause="roles-of-different-pythons")
    check.says("failed on 1 of 1 workers. The roles differ in Python: client 3.12", "killed by signal 11", "job-")


@pytest.mark.parametrize(
    ("path", "options", "said"),
    [
        (
            "clusters:raises",
            '{ partition = "gpu" }',
            ("clusters:raises could not make a cluster: ValueError: there is no partition 'gpu'", "in raises"),
        ),
        (
            "dask_jobcue:SLURMCluster",
            "{}",
            ("dask_jobcue:SLURMCluster: there is no module dask_jobcue", "dask-jobcue", "requirements"),
        ),
    ],
    ids=["raises", "not installed"],
)
def test_a_class_that_makes_no_cluster(matrix: Matrix, path: str, options: str, said: tuple[str, ...]) -> None:
    configure(matrix, path, options)
    broke_at_start(matrix.run(), "failed", *said)


def test_workers_that_never_come_and_a_class_that_never_returns(matrix: Matrix) -> None:
    configure(matrix, "clusters:NoWorkers", LOCAL, keys="deadlines.start = 9")
    broke_at_start(matrix.run(), "timed-out", "0 of 2 workers registered", "the queue is full, 2 jobs are pending")
    configure(matrix, "clusters:NeverReturns", LOCAL, keys="deadlines.start = 6")
    broke_at_start(matrix.run(), "timed-out", "the class has not returned; it stands at", "in __init__")


def test_a_cluster_that_scales_itself_and_is_left_open(matrix: Matrix) -> None:
    configure(matrix, "clusters:StaysOpen", f"{LOCAL}\nadaptive = {{ minimum = 1, maximum = 2 }}", PLUGIN)
    run = matrix.run("-k", "test_runtime")
    assert run.check("runtime").status == "passed", run.out
    [note] = run.cell().facts["notes"]
    assert note == "runtime: no worker that joins late was probed, since this cluster scales itself"
    assert run.code == 1, run.out
    assert "after stopping the cell, this was left: the scheduler at tcp://" in run.out


HANGS = """
    import os
    import pathlib
    import time


    def waits_for_ever():
        time.sleep(600)


    def dies():
        os.kill(os.getpid(), 11)


    def what_is_said(modelops_cell, name, *args, **more):
        try:
            modelops_cell.call(*args, **more)
        except Exception as error:
            pathlib.Path(__file__).with_name(name).write_text(f"{type(error).__name__}: {error}")


    def test_a_task_hangs(modelops_cell):
        what_is_said(modelops_cell, "hangs.txt", waits_for_ever, worker="worker-0", deadline=3)


    def test_its_worker_is_free_again(modelops_cell):
        assert modelops_cell.call_each("lambda: 1", deadline=20) == {"worker-0": 1, "worker-1": 1}


    def test_a_worker_dies(modelops_cell):
        what_is_said(modelops_cell, "dies.txt", dies, worker="worker-1", deadline=20)


    def test_waits(modelops_cell):
        modelops_cell.call(waits_for_ever, deadline=100)
"""


def test_jobs_hang_and_die_and_nothing_is_left_of_a_run_that_is_killed(matrix: Matrix) -> None:
    """The workers are no processes of ours, so all is done through their nannies."""
    configure(matrix, "clusters:queue", JOBS)
    matrix.write("test_users.py", HANGS)
    running = matrix.start("-k", "lambda or users")
    running.until(lambda: "test_waits" in running.out, "the last test", seconds=120)
    assert "FAILED" not in running.out, running.out
    hangs, dies = ((matrix.path / f"{name}.txt").read_text() for name in ("hangs", "dies"))
    assert hangs.startswith("TimedOut: "), hangs
    assert re.search(r"Diagnosis: task .* on worker-0 has not ended", hangs), hangs
    where = hangs.partition("Where each process stands:")[2]
    assert re.search(r"worker-0 \(pid \d+\) is not on this machine[\s\S]*line \d+ in waits_for_ever", where), hangs
    assert "the worker left the cluster while the task was on it; its process was killed by signal 11" in dies, dies
    running.process.kill()
    running.ended(seconds_to_vanish=60)  # the cluster is closed while a worker is busy
