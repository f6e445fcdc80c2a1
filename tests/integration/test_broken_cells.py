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
