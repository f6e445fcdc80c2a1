"""Wrong input is one line that names file, key and valid values; exit 4, nothing started, with and without xdist."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.names import CELL_CHECKS

if TYPE_CHECKING:
    from tests.plugin.conftest import Project, Ran

MATRIX = "pyproject.toml: [tool.modelops.matrix]"
OF_BUNDLES = ("bundle-aggregation", "bundle-install", "execute", "handshake", "preflight", "venv-reuse")
CHECKS = ", ".join(sorted([*CELL_CHECKS, *OF_BUNDLES, "rolling", "runtime"]))
TESTS = ", ".join(f"test_{name}" for name in CELL_CHECKS)
LAMBDA = "use modelops_lambda(function, *args, expect=<anything>, deadline=<seconds>)"
FAULT = "use modelops_fault(fault, at=0.5, seconds=2, fails=<pattern>)"
AGGREGATION = "use modelops_aggregation(params=20, replicates=20, deadline=<seconds>)"
CELLS = "use modelops_cells(*globs) with patterns of cell ids, such as 'py3.13-*'"

IN_THE_TABLE = {
    "unknown key": (
        "[tool.modelops]\nworker = 1",
        "pyproject.toml: [tool.modelops]: 'worker' is not a key; did you mean 'workers'? Valid: aggregation, attach, ",
    ),
    "unknown check in the table": (
        "[tool.modelops.deadlines]\nlamda = 1",
        f"pyproject.toml: [tool.modelops.deadlines]: 'lamda' is not a check; did you mean 'lambda'? Valid: {CHECKS}",
    ),
    "nothing left": (
        '[tool.modelops.matrix]\npython = "3.12"\nexclude = [{ python = "3.12" }]',
        f"{MATRIX} exclude: no cell is left of py3.12-dask",
    ),
}

ON_THE_COMMAND_LINE = {
    "a pattern that matches no cell": (
        ["--modelops-cell=py2.*"],
        "--modelops-cell: no cell's id matches 'py2.*'; there are {cell}",
    ),
    "a deadline of no check": (
        ["--modelops-deadline=strat=9"],
        f"--modelops-deadline: 'strat' is not a check; did you mean 'start'? Valid: {CHECKS}",
    ),
    "no Dask version": (
        ["--modelops-dask=newest"],
        "--modelops-dask: 'newest' is not a Dask version; write a release such as 2024.10.0, latest, ",
    ),
    "a distribution that splits cells": (
        ["--dist=each"],
        "--dist each: it runs every test in every xdist worker, so each cell would be started several times; ",
    ),
}

IDS = {
    "an unknown check": (
        "modelops::test_lamda",
        f"modelops::test_lamda: there is no such test; checks are {TESTS}; cells are {{cell}}",
    ),
    "an unknown cell": (
        "modelops::test_lambda[py3.9-dask1]",
        f"modelops::test_lambda[py3.9-dask1]: there is no such test; checks are {TESTS}; cells are {{cell}}",
    ),
}

MARKERS = {
    "a function that closes over something": (
        "modelops_lambda(closing(1), 1)",
        "'closing.<locals>.inner' (test_marked.py:5) closes over 'n': ",
        LAMBDA,
    ),
    "no function": ("modelops_lambda(3)", "'int' has no Python source: wrap it in a def or a lambda", LAMBDA),
    "no source": ("modelops_lambda('x +')", "'x +' is not valid Python", LAMBDA),
    "an argument that cannot travel": ("modelops_lambda('lambda x: x', object())", "argument 1 is ", LAMBDA),
    "no argument": ("modelops_lambda()", "wrong arguments ()", LAMBDA),
    "an unknown argument": (
        "modelops_lambda('lambda: 1', expects=1)",
        "wrong arguments ('lambda: 1', expects=1)",
        LAMBDA,
    ),
    "a deadline in the past": (
        "modelops_lambda('lambda: 1', deadline=-1)",
        "deadline=-1 is not a number of seconds above 0",
        LAMBDA,
    ),
    "nothing to aggregate": ("modelops_aggregation(params=0)", "params=0 is not a whole number above 0", AGGREGATION),
    "no fault": (
        "modelops_fault('memry')",
        "fault: 'memry' is not a fault; did you mean 'memory'? Valid: cut-off",
        FAULT,
    ),
    "two faults": ("modelops_fault('memory', 'cut-off')", "wrong arguments ('memory', 'cut-off')", FAULT),
    "all tasks": ("modelops_fault('memory', at=1.0)", "at: 1.0 is neither a share of the tasks", FAULT),
    "a fault that does not last": ("modelops_fault('memory', seconds=1)", "has seconds, and memory does not", FAULT),
    "a body that is to fail": ("modelops_fault('memory', fails='x')", "fails is for the test's modelops_agg", FAULT),
    "no pattern": ("modelops_cells()", "wrong arguments ()", CELLS),
    "no text as pattern": ("modelops_cells(3.12)", "wrong arguments (3.12)", CELLS),
    "a pattern that matches no cell": ("modelops_cells('py2.*')", "'py2.*' matches none of the cells ", "{cell}"),
}

alone_and_with_xdist = pytest.mark.parametrize("xdist", [[], ["-n", "2"]], ids=["alone", "xdist"])


def assert_one_line(ran: Ran, message: str) -> None:
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    for text in (ran.out, ran.err):
        assert "Traceback" not in text
        assert "INTERNALERROR" not in text
    (line,) = ran.err.strip().splitlines()
    assert line.startswith("ERROR: ")
    assert message in line


def assert_nothing_ran(project: Project, ran: Ran) -> None:
    assert ran.clusters == []
    assert ran.left == []
    assert list(project.cache.glob("runs/*")) == []
    assert not (project.path / "report.json").exists()


@alone_and_with_xdist
@pytest.mark.parametrize(("toml", "message"), IN_THE_TABLE.values(), ids=IN_THE_TABLE)
def test_in_the_table(project: Project, xdist: list[str], toml: str, message: str) -> None:
    project.configure(toml, small=False)
    ran, started = project.spied("--modelops-matrix", "--modelops-report=report.json", *xdist)
    assert_one_line(ran, message)
    assert_nothing_ran(project, ran)
    assert started == ""
    assert ran.out == ""


@alone_and_with_xdist
@pytest.mark.parametrize(("arguments", "message"), ON_THE_COMMAND_LINE.values(), ids=ON_THE_COMMAND_LINE)
def test_on_the_command_line(project: Project, xdist: list[str], arguments: list[str], message: str) -> None:
    ran, started = project.spied("--modelops-matrix", *arguments, *xdist)
    assert_one_line(ran, message.format(cell=project.cell))
    assert_nothing_ran(project, ran)
    assert started == ""
    assert ran.out == ""


@alone_and_with_xdist
def test_a_variable_that_there_is_not(project: Project, xdist: list[str]) -> None:
    project.environ(PYTEST_MODELOPS_FOO="1")
    ran = project.matrix(*xdist)
    assert_one_line(ran, "environment: 'PYTEST_MODELOPS_FOO' is not a variable of pytest-modelops; ")
    assert "PYTEST_MODELOPS_BACKEND, " in ran.err
    assert "PYTEST_MODELOPS_CACHE, " in ran.err
    assert_nothing_ran(project, ran)


@alone_and_with_xdist
def test_a_variable_with_a_wrong_value(project: Project, xdist: list[str]) -> None:
    project.environ(PYTEST_MODELOPS_FRESH="maybe")
    ran = project.matrix(*xdist)
    assert_one_line(ran, "PYTEST_MODELOPS_FRESH: 'maybe' is neither true nor false")
    assert_nothing_ran(project, ran)


@alone_and_with_xdist
def test_an_ini_setting_with_a_wrong_value(project: Project, xdist: list[str]) -> None:
    project.write("pytest.ini", "[pytest]\nmodelops_workers = 0\n")
    ran = project.matrix(*xdist)
    assert_one_line(ran, "pytest.ini: modelops_workers: 0 is not a whole number from 1 up")
    assert_nothing_ran(project, ran)


@alone_and_with_xdist
def test_no_toml_as_the_ini_file_is_for_pytest_to_say(project: Project, xdist: list[str]) -> None:
    project.configure("[tool.modelops\n", small=False)
    ran = project.matrix(*xdist)
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {project.path}/pyproject.toml: Expected ']' at the end of a table declaration" in ran.err
    assert_nothing_ran(project, ran)


@alone_and_with_xdist
def test_no_toml_beside_another_ini_file(project: Project, xdist: list[str]) -> None:
    project.write("pytest.ini", "[pytest]\n")
    project.configure("[tool.modelops\n", small=False)
    ran = project.matrix("-c", "pytest.ini", *xdist)  # newer pytests look into both, and say it themselves
    assert_one_line(ran, "pyproject.toml: not valid TOML: Expected ']' at the end of a table declaration")
    assert_nothing_ran(project, ran)


@alone_and_with_xdist
def test_a_dask_that_the_index_does_not_have(project: Project, xdist: list[str]) -> None:
    directory = project.path / "wheels"
    directory.mkdir()
    for version in ("2024.8.0", "2024.10.0"):
        make_wheel(directory, "dask", version)
        make_wheel(directory, "distributed", version)
    project.environ(PIP_FIND_LINKS=str(directory), PIP_NO_INDEX="1")
    ran = project.matrix("--modelops-dask=2024.9.0", *xdist)
    assert_one_line(ran, "--modelops-dask: the index has no Dask 2024.9.0; near it: 2024.8.0, 2024.10.0")
    assert_nothing_ran(project, ran)


def make_wheel(directory: Path, name: str, version: str) -> None:
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        info = f"{name}-{version}.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def test_a_plan_in_another_format(project: Project) -> None:
    ran = project.run("--modelops-plan=yaml")
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert "'yaml'" in ran.err
    assert all(form in ran.err for form in ("--modelops-plan=json", "--modelops-plan=github", "--modelops-plan=gitlab"))
    assert ran.out == ""


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("workers = 0", "[tool.modelops] workers: 0 is not a whole number"),
        ('backend = "process"\nkeep = "failed"', "--modelops-keep failed: the process backend cannot leave cells up"),
    ],
)
def test_the_plan_refuses_what_a_run_refuses(project: Project, key: str, message: str) -> None:
    project.configure(f"[tool.modelops]\n{key}", small=False)
    assert_one_line(project.run("--modelops-plan"), message)


@alone_and_with_xdist
@pytest.mark.parametrize(("test", "message"), IDS.values(), ids=IDS)
def test_an_id_of_the_checks_that_there_is_not(project: Project, xdist: list[str], test: str, message: str) -> None:
    ran = project.matrix(*xdist, test)
    assert_one_line(ran, message.format(cell=project.cell))
    assert_nothing_ran(project, ran)


@pytest.mark.parametrize(("marker", "message", "usage"), MARKERS.values(), ids=MARKERS)
def test_a_marker_with_wrong_arguments(project: Project, marker: str, message: str, usage: str) -> None:
    project.write("tests/test_marked.py", MARKED.format(marker=marker))
    ran, started = project.spied("--modelops-matrix", "--modelops-report=report.json")
    assert_one_line(ran, "ERROR: tests/test_marked.py::test_marked")
    assert f"marker {marker.partition('(')[0]}: {message}" in ran.err
    assert ran.err.rstrip().endswith(usage.format(cell=project.cell))
    assert_nothing_ran(project, ran)
    assert started == ""


@pytest.mark.parametrize("marker", ["modelops_lambda(3)", "modelops_aggregation(params=0)", "modelops_cells()"])
def test_a_marker_with_wrong_arguments_is_reported_by_the_controller_too(project: Project, marker: str) -> None:
    project.write("tests/test_marked.py", MARKED.format(marker=marker))
    ran = project.matrix("-n", "2")
    assert_one_line(ran, "ERROR: tests/test_marked.py::test_marked")
    assert f"marker {marker.partition('(')[0]}: " in ran.err
    assert_nothing_ran(project, ran)


MARKED = """
import pytest

def closing(n):
    def inner(x):
        return x + n
    return inner

@pytest.mark.{marker}
def test_marked():
    pass
"""
CHECK = """
from pytest_modelops.checks.base import Check

def pytest_modelops_checks(checks, config):
    checks.append({check})
"""


@alone_and_with_xdist
@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("Check(name='mine', run=print, needs=('lamda',))", "'mine' needs 'lamda', which is not a check; there are "),
        ("Check(name='mine', run=print, needs=('mine',))", "needs go in a circle: mine → mine"),
        ("Check(name='lambda', run=print)", f"a name is used twice among {', '.join(CELL_CHECKS)}"),
    ],
    ids=["unknown need", "circle", "twice"],
)
def test_a_check_of_the_users_that_cannot_be(project: Project, xdist: list[str], check: str, message: str) -> None:
    project.write("conftest.py", CHECK.format(check=check))
    ran = project.matrix(*xdist)
    assert_one_line(ran, "pytest_modelops_checks: ")
    assert message in ran.err
    assert_nothing_ran(project, ran)


FULL = """
import os

class Full:
    f_blocks, f_bavail = 1000, 0

os.statvfs = lambda path: Full
"""


@alone_and_with_xdist
@pytest.mark.parametrize("mode", ["--modelops-matrix", "--modelops-plan"])
def test_a_full_disk_under_the_cache(project: Project, xdist: list[str], mode: str) -> None:
    project.write("conftest.py", FULL)
    ran = project.run(mode, *xdist)
    assert_one_line(ran, f"the cache {project.cache}: no space left on its disk; ")
    assert_nothing_ran(project, ran)


def test_a_report_for_which_there_is_no_space_is_named_and_the_run_fails(project: Project) -> None:
    project.configure_quick()
    conftest = (project.path / "conftest.py").read_text(encoding="utf-8")
    full = "raise OSError(28, 'No space left on device')"
    hook = f"import pathlib\n\ndef pytest_sessionfinish():\n    def full(*_, **__):\n        {full}\n"
    project.write("conftest.py", f"{conftest}\n{hook}    pathlib.Path.write_text = full\n")
    ran = project.matrix()
    assert ran.code == 1
    assert f"report could not be written: {project.path}/report.json: No space left on device" in ran.out
