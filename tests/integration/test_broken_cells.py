"""Cells that are really broken: each breaks at the right rung, with the right status, in words that say why, in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Matrix


@pytest.mark.parametrize("nanny", ["true", "false"])
def test_a_worker_that_never_registers(matrix: Matrix, nanny: str) -> None:
    hang = matrix.write(
        "hang.py",
        """
        import multiprocessing, os, time

        if os.path.basename(os.getcwd()) == "worker-1" and multiprocessing.parent_process():
            time.sleep(1000)  # as a licence server that never answers
        """,
    )
    matrix.configure(
        f"""
        [tool.modelops]
        nanny = {nanny}
        [tool.modelops.environment]
        worker-args = ["--preload", "{hang}"]
        [tool.modelops.deadlines]
        start = 6
        """
    )
    run = matrix.run()
    check = run.cell().broke("start", "timed-out", deadline=6)
    print(check)
    print(check.message)
    check.says("1 of 2 workers registered with the scheduler within 6 s", "worker-1 (pid ", f'File "{hang}", line 5')


@pytest.mark.parametrize("nanny", ["true", "false"])
def test_a_worker_that_dies_at_start(matrix: Matrix, nanny: str) -> None:
    dies = matrix.write(
        "dies.py",
        """
        import os, sys

        if os.path.basename(os.getcwd()) == "worker-1":
            print("no licence for this host", file=sys.stderr, flush=True)
            os._exit(4)
        """,
    )
    matrix.configure(
        f"""
        [tool.modelops]
        nanny = {nanny}
        [tool.modelops.environment]
        worker-args = ["--preload", "{dies}"]
        """
    )
    check = matrix.run().cell().broke("start", "failed", deadline=20)
    print(check)
    print(check.message)
    check.says("the worker-1 exited with code", "no licence for this host")


AT_THE_30TH = """
    import os, signal, sys
    from distributed.diagnostics.plugin import WorkerPlugin

    class AtThe30th(WorkerPlugin):
        def __init__(self):
            self.done = 0

        def transition(self, key, start, finish, **kwargs):
            if str(key).startswith("sim-") and finish == "memory":
                self.done += 1
                if self.done == 30:
                    {action}

    async def dask_setup(worker):
        if str(worker.name) == "worker-1":
            await worker.plugin_add(plugin=AtThe30th(), name="at-the-30th")
"""


def test_a_worker_that_freezes_in_the_middle_of_the_aggregation(matrix: Matrix) -> None:
    preload = matrix.write("freezes.py", AT_THE_30TH.format(action="os.kill(os.getpid(), signal.SIGSTOP)"))
    matrix.configure(
        f"""
        [tool.modelops.environment]
        worker-args = ["--preload", "{preload}"]
        [tool.modelops.deadlines]
        aggregation = 6
        """
    )
    cell = matrix.run().cell()
    check = cell.broke("aggregation", "timed-out", deadline=6)
    print(check.message)
    check.says("aggregating 20 × 20 tasks: not complete within 6 s; ", " of 20 aggregates were complete, ", "worker-1 (")


@pytest.mark.parametrize("rung", ["versions", "lambda"])
def test_a_frozen_scheduler(matrix: Matrix, rung: str) -> None:
    matrix.write(
        "test_it.py",
        f"""
        import os, signal

        def test_it(modelops_cell):
            modelops_cell.require("start")
            os.kill(modelops_cell.observed["scheduler"]["pid"], signal.SIGSTOP)
            modelops_cell.climb("{rung}")
        """,
    )
    matrix.configure("[tool.modelops.deadlines]\nversions = 4\nlambda = 4")
    check = matrix.run("test_it.py").check(rung)
    print(check.status, check.seconds)
    print(check.message)
    assert 0


def test_a_worker_that_answers_no_versions(matrix: Matrix) -> None:
    matrix.write(
        "test_it.py",
        """
        import os, signal

        def test_it(modelops_cell):
            modelops_cell.require("start")
            for facts in modelops_cell.observed["workers"].values():
                if facts["settings"]["name"] == "worker-1":
                    os.kill(facts["pid"], signal.SIGSTOP)
            modelops_cell.climb("versions")
        """,
    )
    matrix.configure("[tool.modelops.deadlines]\nversions = 4\nlambda = 4")
    check = matrix.run("test_it.py").check("versions")
    print(check.status, check.seconds)
    print(check.message)
    assert 0


def test_what_runs_is_not_what_was_asked_for(matrix: Matrix) -> None:
    import cloudpickle, shutil
    from pathlib import Path
    stray = matrix.path / "stray" / "cloudpickle"
    shutil.copytree(Path(cloudpickle.__file__).parent, stray)
    text = (stray / "__init__.py").read_text()
    (stray / "__init__.py").write_text(text.replace(cloudpickle.__version__, "0.0.1"))
    preload = matrix.write(
        "meddles.py",
        """
        import os, dask
        os.environ["MODELOPS_EXECUTOR_TYPE"] = "warm"
        dask.config.set({"distributed.worker.memory.target": 0.9})
        """,
    )
    matrix.configure(
        f"""
        [tool.modelops.environment]
        env = {{ MODELOPS_EXECUTOR_TYPE = "cold", PYTHONPATH = "{stray.parent}", DASK_DISTRIBUTED__WORKER__MEMORY__TARGET = "0.5" }}
        worker-args = ["--preload", "{preload}"]
        """
    )
    run = matrix.run()
    print(run.check("versions").message)
    print(run.cell().statuses)
    assert 0


def test_the_agent_is_killed(matrix: Matrix) -> None:
    matrix.write(
        "test_it.py",
        """
        import os, signal, threading, time

        def test_it(modelops_cell):
            modelops_cell.require("start")
            def kill():
                time.sleep(1)
                os.kill(modelops_cell.observed["client"]["pid"], signal.SIGKILL)
            threading.Thread(target=kill).start()
            modelops_cell.climb("aggregation")
            began = time.monotonic()
            modelops_cell.climb("versions")
            modelops_cell.call("lambda: 1")
        """,
    )
    matrix.configure("[tool.modelops.aggregation]\nparams=100")
    run = matrix.run("test_it.py")
    print(run.cell().statuses)
    for c in run.cell().checks.values(): print(c)
    print(run.out)
    assert 0


def test_the_keeper_is_killed(matrix: Matrix) -> None:
    matrix.write(
        "test_it.py",
        """
        import os, signal, threading, time
        import psutil

        def test_it(modelops_cell):
            modelops_cell.require("start")
            def kill():
                time.sleep(1)
                keeper = psutil.Process(modelops_cell.observed["scheduler"]["pid"]).ppid()
                os.kill(keeper, signal.SIGKILL)
            threading.Thread(target=kill).start()
            modelops_cell.climb("aggregation")
            modelops_cell.call("lambda: 1")
        """,
    )
    matrix.configure("[tool.modelops.aggregation]\nparams=100")
    run = matrix.run("test_it.py")
    print(run.cell().statuses)
    for c in run.cell().checks.values(): print(c)
    print(run.out)
    assert 0


def test_workers_die(matrix: Matrix) -> None:
    matrix.write(
        "test_it.py",
        """
        import os, pytest

        def exits(code):
            import os
            os._exit(code)

        def test_call(modelops_cell):
            modelops_cell.call_each(exits, 7)

        @pytest.mark.modelops_lambda(exits, 8)
        def test_marker(modelops_cell):
            pass

        @pytest.mark.modelops_lambda("lambda x: 1 / x", 0)
        def test_raises(modelops_cell):
            pass

        @pytest.mark.modelops_lambda("lambda x: x", 41, expect=42)
        def test_wrong(modelops_cell):
            pass
        """,
    )
    run = matrix.run("test_it.py")
    print(run.cell().statuses)
    for c in run.cell().checks.values(): print(c.name,c.status,c.seconds,c.message)
    print(run.out)
    assert 0


def test_lost_files(matrix: Matrix) -> None:
    preload = matrix.write("purges.py", AT_THE_30TH.format(action="import shutil; shutil.rmtree(os.getcwd())"))
    matrix.configure(
        f"""
        [tool.modelops.environment]
        worker-args = ["--preload", "{preload}"]
        """
    )
    run = matrix.run()
    print(run.cell().statuses)
    for c in run.cell().checks.values(): print(c.name,c.status,c.seconds,c.message)
    assert 0
