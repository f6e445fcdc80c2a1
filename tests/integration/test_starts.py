"""Each way to start a cell's processes: it works, and hangs and deaths are reported all the same."""

from __future__ import annotations

import pytest

from tests.integration.conftest import Matrix

TESTS = """
import os
import signal

import psutil
import pytest

from pytest_modelops.deadline import Deadline

START = {start!r}


def hang():
    import time

    time.sleep(600)


def test_processes(modelops_cell):
    modelops_cell.require("aggregation")
    nannies = {{process.name: process.pid for process in modelops_cell.cluster.workers}}
    assert modelops_cell.call_each("lambda: __import__('os').getppid()") == nannies
    worker = psutil.Process(modelops_cell.call("lambda: __import__('os').getpid()", worker="worker-1"))
    assert ("spawn_main" in str(worker.cmdline())) == (START != "fork-workers")
    processes = {{process.name: psutil.Process(process.pid) for process in modelops_cell.cluster.processes}}
    assert "distributed.cli.dask_worker" in processes["worker-1"].cmdline()
    assert "modelops_remote.client.agent" in processes["agent"].cmdline()
    supervisor = processes["agent"].parent()
    assert {{child.pid for child in supervisor.children()}} == {{process.pid for process in processes.values()}}


def test_hang(modelops_cell):
    with pytest.raises(Exception, match="in hang"):
        modelops_cell.call(hang, worker="worker-0", deadline=1)
    assert modelops_cell.call_each("lambda: 1") == {{"worker-0": 1, "worker-1": 1}}


def test_deaths(modelops_cell):
    processes = {{process.name: process for process in modelops_cell.cluster.processes}}
    for name, number in (("worker-1", signal.SIGKILL), ("scheduler", signal.SIGSEGV), ("agent", signal.SIGKILL)):
        os.kill(processes[name].pid, number)
        assert processes[name].wait(Deadline(20)) == f"was killed by {{number.name}}"
        with pytest.raises(Exception, match="(worker-1|scheduler).* was killed by SIG(KILL|SEGV)"):
            modelops_cell.call("lambda: 1", worker="worker-1")
"""


@pytest.mark.parametrize("start", ["exec", "fork", "fork-workers"])
def test_healthy_hanging_and_dead(matrix: Matrix, start: str) -> None:
    matrix.configure(f'[tool.modelops]\nstart = "{start}"')
    matrix.write("test_it.py", TESTS.format(start=start))
    run = matrix.run("test_it.py").passed()
    assert set(run.cell().facts["started"].values()) == ({start, "fork"} if start == "fork-workers" else {start})
    log = (run.directory / run.cell().facts["id"] / "logs" / "scheduler.log").read_text()
    assert "Fatal Python error: Segmentation fault" in log


def test_what_cannot_be_forked_is_executed(matrix: Matrix) -> None:
    """Two processes with variables of their own, and two that have none in common with any other."""
    matrix.write("lib/sitecustomize.py", "import threading as t\nt.Thread(target=t.Event().wait, daemon=True).start()")
    matrix.configure(
        f"""
        [tool.modelops.environment]
        env = {{ PYTHONPATH = "{matrix.path / "lib"}" }}
        client-env = {{ LEDGER = "1" }}
        """
    )
    run = matrix.run("-k", "lambda").passed()
    started = run.cell().facts["started"]
    threads = "importing Dask's command line started threads"
    alone = "exec: no other process has its interpreter and variables"
    workers = dict.fromkeys(("worker-0", "worker-1"), f"exec: {threads}")
    assert started == {"scheduler": alone, **workers, "agent": alone}
    assert run.cell().facts["notes"] == [f"worker-0, worker-1: executed, not forked: {threads}"]
