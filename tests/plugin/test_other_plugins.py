"""The user's own pytest is around the user's own tests, and never around checks: plugins, fixtures, mocks, limits."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from tests.plugin.conftest import DASK

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

CELLS = (f"py3.12-dask{DASK}", f"py3.13-dask{DASK}")
NOTHING = ""

SENSITIVE = """
import socket, subprocess, sys, time, warnings
from pathlib import Path
from pytest_modelops.checks.base import Check

HERE = Path(__file__).parent

def sensitive(cell, deadline):
    with open(HERE / "calls.txt", "a") as file:
        print("sensitive", file=file)
    with socket.socket():
        pass
    subprocess.run([sys.executable, "-S", "-c", ""], check=True)
    time.sleep(0.3)
    assert time.time() > 1
    warnings.warn("of a check", stacklevel=1)

def fails_once(cell, deadline):
    with open(HERE / "calls.txt", "a") as file:
        print("fails-once", file=file)
    if not (HERE / cell.id).exists():
        (HERE / cell.id).touch()
        raise AssertionError("for the first time")

def pytest_modelops_checks(checks, config):
    checks[:] = [Check(name="sensitive", run=sensitive)]
    if (HERE / "flaky").exists():
        checks.append(Check(name="fails-once", run=fails_once))
"""

LIMIT = """
import time

def test_mine(modelops_cell):
    time.sleep(60)
"""
SOCKET = """
import socket

def test_mine(modelops_cell):
    socket.socket()
"""
REPEATED = """
def test_mine(modelops_cell):
    pass
"""
ASYNC = """
import asyncio

async def test_mine(modelops_cell):
    await asyncio.sleep(0)
    assert modelops_cell.id
"""
AUTOUSE = """
import pytest

@pytest.fixture(scope="session", autouse=True)
def database():
    raise RuntimeError("no container engine answers")
"""
SWITCH = """
import pytest

@pytest.fixture(autouse=True, params=["one", "two"])
def backend(request):
    return request.param
"""
MOCKS = """
from unittest import mock
import pytest

@pytest.fixture(scope="session", autouse=True)
def no_processes():
    with mock.patch("subprocess.run", side_effect=RuntimeError("mocked")), mock.patch("time.time", return_value=0):
        yield
"""
MOCKED = """
import subprocess, time

def test_mine(modelops_cell):
    assert time.time() == 0
    subprocess.run(["true"])
"""
HOOKS = """
import pytest

def pytest_runtest_setup(item):
    pytest.skip("for want of a database")

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    if "mine" not in item.name:
        return True  # it does not run at all
"""
GREEN = """
import pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    report.outcome = "failed" if report.when == "call" else report.outcome
    return report
"""
WARNS = """
import warnings

def test_mine(modelops_cell):
    warnings.warn("of a test")
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One way in which people's own pytest is set up.

    Attributes:
        plugin: that has to be installed for it.
        ini: settings of `[tool.pytest.ini_options]`.
        conftest: what follows in `conftest.py`.
        test: the user's test on the cells.
        words: how its tests in one cell end.
        code: of the run.
    """

    plugin: str = ""
    ini: str = ""
    conftest: str = ""
    test: str = REPEATED
    words: tuple[str, ...]
    code: int = 1


ROWS = {
    "pytest-timeout": Row(plugin="timeout", ini="timeout = 0.2", test=LIMIT, words=("FAILED",)),
    "pytest-timeout, func_only": Row(
        plugin="timeout", ini="timeout = 0.2\ntimeout_func_only = true", test=LIMIT, words=("FAILED",)
    ),
    "pytest-socket": Row(plugin="socket", ini='addopts = "--disable-socket"', test=SOCKET, words=("FAILED",)),
    "pytest-repeat": Row(plugin="repeat", ini='addopts = "--count=3"', words=("PASSED",) * 3, code=0),
    "pytest-asyncio": Row(plugin="asyncio", ini='asyncio_mode = "auto"', test=ASYNC, words=("PASSED",), code=0),
    "a session's fixture that fails": Row(conftest=AUTOUSE, words=("ERROR",)),
    "a fixture with parameters": Row(conftest=SWITCH, words=("PASSED",) * 2, code=0),
    "mocks for the session": Row(conftest=MOCKS, test=MOCKED, words=("FAILED",)),
    "hooks around tests": Row(conftest=HOOKS, words=("SKIPPED",), code=0),
    "a hook that rewrites outcomes": Row(conftest=GREEN, words=("FAILED",)),
    "warnings are errors": Row(ini='filterwarnings = "error"', test=WARNS, words=("FAILED",)),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_checks_run_once_as_they_are_and_the_users_tests_keep_all_of_it(project: Project, row: Row) -> None:
    if row.plugin:
        pytest.importorskip(f"pytest_{row.plugin}")
    project.configure(f'{row.ini}\n[tool.modelops.matrix]\npython = ["3.12", "3.13"]\n', small=False)
    project.write("pyproject.toml", f"[tool.pytest.ini_options]\n{(project.path / 'pyproject.toml').read_text()}")
    project.write("conftest.py", SENSITIVE + row.conftest)
    project.write("test_mine.py", row.test)
    ran = project.matrix(using=row.plugin)
    assert ran.code == row.code
    ends = list(ran.results.items())
    assert [test for test, _ in ends if "sensitive" in test] == project.checks_of(*CELLS, check_names=("sensitive",))
    assert [word for test, word in ends if "sensitive" in test] == ["PASSED", "PASSED"]
    assert [word for test, word in ends if "mine" in test] == [*row.words] * 2
    assert [ran.checks(cell)["sensitive"] for cell in CELLS] == ["passed", "passed"]
    assert (project.path / "calls.txt").read_text().splitlines() == ["sensitive", "sensitive"]


FAILS_ONCE = """
from pathlib import Path

def test_mine(modelops_cell):
    there = Path(__file__).with_name(f"test-{modelops_cell.id}")
    if not there.exists():
        there.touch()
        raise AssertionError("for the first time")
"""


def test_a_check_that_fails_is_not_run_again_until_it_passes(project: Project) -> None:
    pytest.importorskip("pytest_rerunfailures")
    project.configure('[tool.modelops.matrix]\npython = ["3.12", "3.13"]\n')
    project.write("conftest.py", SENSITIVE)
    project.write("flaky", "")
    project.write("test_mine.py", FAILS_ONCE)
    ran = project.matrix("--reruns=2", using="rerunfailures")
    for cell in CELLS:
        assert ran.results[f"modelops::test_fails_once[{cell}]"] == "FAILED"
        assert ran.results[f"test_mine.py::test_mine[{cell}]"] == "PASSED"
        assert ran.checks(cell) == {"sensitive": "passed", "fails-once": "failed", "test_mine.py::test_mine": "passed"}
    assert (project.path / "calls.txt").read_text().split().count("fails-once") == 2
    assert ran.code == 1


@pytest.mark.parametrize("flag", ["--setup-plan", "--setup-only"])
def test_a_run_that_only_sets_up_checks_nothing_and_says_so(project: Project, flag: str) -> None:
    project.configure_quick()
    ran = project.matrix(flag)
    assert ran.code == 0
    assert "nothing was checked" in ran.out
    assert "modelops matrix" not in ran.out
    assert ran.report == {}


EVERYTHING = """
import time
from unittest import mock
import pytest

@pytest.fixture(scope="session", autouse=True)
def database():
    with mock.patch("subprocess.Popen", side_effect=RuntimeError("mocked")), mock.patch("socket.socket"):
        yield
"""


def test_a_real_cell_starts_under_all_of_it_at_once(project: Project) -> None:
    for plugin in ("timeout", "repeat", "socket"):
        pytest.importorskip(f"pytest_{plugin}")
    project.configure()
    project.write("conftest.py", EVERYTHING)
    project.write("test_mine.py", "def test_mine(modelops_cell):\n    assert modelops_cell.call('lambda: 1') == 1\n")
    ran = project.matrix("-o", "timeout=0.5", "--disable-socket", "-o", "filterwarnings=error", using="socket")
    assert {check for check, status in ran.checks(project.cell).items() if status == "passed"} >= {*project.check_names}
    assert len(ran.clusters) == 1
    assert ran.left == []
