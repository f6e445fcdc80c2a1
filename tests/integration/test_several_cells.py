"""Several real clusters at once, in one process of pytest."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.conftest import Matrix

MEETS = """
import os, time
from pathlib import Path
from pytest_modelops.checks.base import Check

HERE = Path(__file__).parent

def meets(cell, deadline):
    cell.call("lambda: 42")
    (HERE / f"{cell.id}.met").touch()
    while len(list(HERE.glob("*.met"))) < 2:
        deadline.check("the other cell")
        time.sleep(0.05)

def stays(cell, deadline):
    if "STAY" in os.environ:
        (HERE / f"{cell.id}.stays").touch()
        cell.call("lambda: __import__('time').sleep(1000)", deadline=600)

def pytest_modelops_checks(checks, config):
    checks[:] = [check for check in checks if check.name in {"resolve", "install", "start"}]
    for run in (meets, stays):
        checks.append(Check(name=run.__name__, run=run, needs=("start",), main_thread=False, seconds=600))
"""


def test_two_clusters_run_at_once_and_ctrl_c_ends_both(matrix: Matrix) -> None:
    pythons = [f"{sys.version_info.major}.{sys.version_info.minor}", platform.python_version()]
    matrix.configure(f"[tool.modelops]\nworkers = 1\nmatrix.python = {pythons}".replace("'", '"'))
    matrix.write("conftest.py", MEETS)
    variables = {"PYTEST_MODELOPS_PARALLEL": "2"}
    for cell in matrix.run(env=variables).passed().cells:
        assert set(cell.statuses.values()) == {"passed"}
    running = matrix.start(env={**variables, "STAY": "1"})
    running.until(lambda: len(list(matrix.path.glob("*.stays"))) == 2, "both cells stayed")
    running.until(lambda: "test_stays[" in running.out, "the test of the first one began")
    run = running.interrupt()
    assert run.code == 2, run.out
    first, second = run.cells
    assert list(first.statuses.values()) == ["passed"] * 4 + ["not-run"]
    assert set(second.statuses.values()) == {"not-run"}
    assert len(list(run.directory.glob("*/logs/agent.log"))) == 2
