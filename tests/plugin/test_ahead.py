"""Checks of later cells run ahead of their tests, and what users see is as if they did not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

MEETING = """
import os, signal, threading, time
from pathlib import Path
import pytest
from pytest_modelops.checks.base import Check
from pytest_modelops.errors import CheckFailed

HERE = Path(__file__).parent

def note(*words):
    with (HERE / "noted").open("a") as file:
        print(*words, file=file)

def until(number, word):
    for _ in range(4000):
        if (HERE / "noted").read_text().split().count(word) >= number:
            return
        time.sleep(0.01)
    raise AssertionError(f"no {number} times {word}")

def main():
    return threading.current_thread() is threading.main_thread()
"""
"""The start of a `conftest.py` whose checks wait for each other."""


def set_up(project: Project, conftest: str, *, parallel: int = 2) -> tuple[str, str, str]:
    cells = project.configure_quick()
    project.write("conftest.py", MEETING + conftest)
    project.write("noted", "")
    project.environ(PYTEST_MODELOPS_PARALLEL=str(parallel))
    return cells


def noted(project: Project) -> list[str]:
    return (project.path / "noted").read_text().splitlines()


def test_cells_overlap_without_xdist_and_no_check_runs_beside_a_test_or_twice(project: Project) -> None:
    cells = set_up(
        project,
        """
def first(cell, deadline):
    note("begins", cell.id, main())
    if not cell.id.startswith("py3.14"):
        until(2, "begins")
    note("ends", cell.id)

def mine(cell, deadline):
    note("mine", cell.id, main())

def pytest_modelops_checks(checks, config):
    checks[:] = [
        Check(name="first", run=first, main_thread=False),
        Check(name="mine", run=mine),
        Check(name="skipped", run=first, main_thread=False),
    ]

def pytest_collection_modifyitems(items):
    for item in items:
        if "test_skipped[" in item.nodeid:
            item.add_marker(pytest.mark.skip(reason="somebody skips it"))
""",
    )
    project.write(
        "test_mine.py",
        """
from conftest import HERE
def test_mine(modelops_cell):
    words = (HERE / "noted").read_text().split()
    assert words.count("begins") == words.count("ends")
""",
    )
    ran = project.matrix()
    assert [*ran.results.values()] == ["PASSED", "PASSED", "SKIPPED", "PASSED"] * 3
    lines = noted(project)
    assert sorted(line for line in lines if line.startswith("begins")) == [f"begins {cell} False" for cell in cells]
    assert [line for line in lines if line.startswith("mine")] == [f"mine {cell} True" for cell in cells]
    assert [*ran.results] == [
        f"{test}[{cell}]"
        for cell in cells
        for test in ("modelops::test_first", "modelops::test_mine", "modelops::test_skipped", "test_mine.py::test_mine")
    ]


ONE_BREAKS = """
def first(cell, deadline):
    note("begins", cell.id)
    if cell.id.startswith("py3.12"):
        until(1, "ends")
        {breaks}
    note("ends", cell.id)

def second(cell, deadline):
    pass

def pytest_modelops_checks(checks, config):
    checks[:] = [Check(name="first", run=first, main_thread=False), Check(name="second", run=second, main_thread=False)]
"""


@pytest.mark.parametrize(
    ("breaks", "arguments", "code"),
    [
        ('raise CheckFailed("on purpose")', ["-x"], pytest.ExitCode.TESTS_FAILED),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(1)", [], pytest.ExitCode.INTERRUPTED),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(1)", [], pytest.ExitCode.INTERRUPTED),
    ],
    ids=["-x", "Ctrl-C", "SIGTERM"],
)
def test_nothing_that_ran_ahead_is_reported_if_the_run_ends_before(
    project: Project, breaks: str, arguments: list[str], code: int
) -> None:
    first, second, third = set_up(project, ONE_BREAKS.format(breaks=breaks))
    ran = project.matrix(*arguments)
    assert ran.code == code
    assert f"ends {second}" in noted(project)
    assert ran.checks(first) == {"first": "failed" if arguments else "not-run", "second": "not-run"}
    for cell in (second, third):
        assert ran.cell(cell)["status"] == "not-run"
        assert set(ran.checks(cell).values()) == {"not-run"}
    assert ran.results == ({f"modelops::test_first[{first}]": "FAILED"} if arguments else {})


def test_with_xdist_no_check_runs_twice(project: Project) -> None:
    cells = set_up(
        project,
        """
def first(cell, deadline):
    note("begins", cell.id)

def pytest_modelops_checks(checks, config):
    checks[:] = [Check(name=name, run=first, main_thread=False) for name in ("first", "second", "third")]
""",
    )
    ran = project.matrix("-n", "2")
    assert (ran.code, {*ran.results.values()}, len(ran.results)) == (0, {"PASSED"}, 9)
    assert sorted(noted(project)) == sorted(f"begins {cell}" for cell in cells * 3)
