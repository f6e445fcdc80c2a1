"""Which configuration is in use is never a guess: what a run says of it, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project


def with_services(project: Project) -> None:
    """A monorepo whose services have tables of their own, one cell each, with checks that start nothing."""
    project.configure_quick()
    for service, python in {"sim": "3.12", "fit": "3.13"}.items():
        table = f'[tool.modelops]\nreport = "out/report.json"\n[tool.modelops.matrix]\npython = "{python}"\n'
        project.write(f"services/{service}/pyproject.toml", table)
        project.write(f"services/{service}/tests/test_none.py", "")


@pytest.mark.parametrize("xdist", [[], ["-n", "1"]], ids=["alone", "xdist"])
def test_called_in_a_service_of_a_monorepo_its_own_file_is_used_and_said(project: Project, xdist: list[str]) -> None:
    with_services(project)
    project.enter("services/sim/tests")
    ran = project.run("--modelops-matrix", *xdist)
    file = project.path / "services/sim/pyproject.toml"
    assert ran.code == 0, ran.err
    assert {test.partition("[")[2] for test in ran.results} == {f"py3.12-dask{project.dask}]"}
    assert f"modelops configuration: {file}" in ran.out
    *_, summary = ran.out.partition("modelops matrix")
    assert f"configuration: {file}" in summary
    report = json.loads((file.parent / "out/report.json").read_text(encoding="utf-8"))
    assert report["configuration"] == f"~/{file.relative_to(Path.home())}", "others may see it"


def test_a_file_can_be_named_and_the_command_that_reproduces_names_it_too(project: Project) -> None:
    with_services(project)
    cell = f"py3.13-dask{project.dask}"
    project.end(**{f"first[{cell}]": "failed"})
    ran = project.run("--modelops-matrix", "--modelops-config=services/fit/pyproject.toml")
    assert ran.code == 1
    [command] = [line for line in ran.out.splitlines() if line.startswith("reproduce: ")]
    assert " --modelops-config=services/fit/pyproject.toml " in command
    assert command.endswith(f" 'modelops::test_first[{cell}]'")
    plan = json.loads(project.run("--modelops-plan=json", "--modelops-config=services/sim/pyproject.toml").out)
    assert plan["configuration"] == str(project.path / "services/sim/pyproject.toml")
    assert [one["python"] for one in plan["cells"]] == ["3.12"]


def test_without_configuration_header_plan_report_and_summary_say_so(project: Project) -> None:
    project.configure_quick()
    project.configure("[tool.pytest.ini_options]\n", small=False)
    ran = project.matrix()
    assert ran.code == 0, ran.err
    header, _, summary = ran.out.partition("modelops matrix")
    for text in (header, summary, project.run("--modelops-plan").out):
        assert f"configuration: none; no pyproject.toml from {project.path} upwards has [tool.modelops]" in text
    assert ran.report["configuration"] is None


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
@pytest.mark.parametrize("end", ["failed", "timed-out", "skipped"])
def test_without_configuration_what_breaks_and_is_blocked_or_skipped_is_reported(
    project: Project, end: str, workers: tuple[str, ...]
) -> None:
    project.configure_quick()
    project.configure("[tool.pytest.ini_options]\n", small=False)
    ran = project.matrix(*workers)
    [cell] = ran.report["cells"]
    project.end(**{f"second[{cell['id']}]": end})
    ran = project.matrix(*workers, "-rs")
    assert "INTERNALERROR" not in ran.out + ran.err
    statuses = ran.checks(cell["id"])
    assert (statuses["first"], statuses["second"], statuses["other"]) == ("passed", end, "passed")
    assert statuses["third"] == ("passed" if end == "skipped" else "blocked")
    assert ran.code == (0 if end == "skipped" else 1)


@pytest.mark.parametrize("flag", ["--modelops-cache", "--modelops-report", "--their-output"])
@pytest.mark.parametrize("mode", ["--modelops-matrix", "--modelops-plan"])
def test_a_path_that_moves_the_rootdir_is_refused(project: Project, flag: str, mode: str) -> None:
    project.write("sub/pyproject.toml", "[tool.pytest.ini_options]\n[tool.modelops]\n")
    project.write("theirs.py", "def pytest_addoption(parser):\n    parser.addoption('--their-output')\n")
    project.environ(PYTHONPATH=f"{os.environ['PYTHONPATH']}:{project.path}", PYTEST_PLUGINS="theirs")
    value = project.write("elsewhere/out.json", "").parent if flag == "--modelops-cache" else "../elsewhere/out.json"
    project.write("elsewhere/out.json", "{}")
    project.enter("sub")
    ran = project.run(mode, flag, str(value))
    assert f"{flag} {value}: pytest takes {value} for a path of tests" in ran.refusal
    assert f"instead of {project.path}/sub; write {flag}={value}" in ran.refusal
    assert project.run("--modelops-plan", f"{flag}={value}").code == 0


def test_a_path_that_moves_nothing_is_taken(project: Project) -> None:
    project.configure_quick()
    for _ in range(2):  # the second time, the file exists
        ran = project.run("--modelops-matrix", "--modelops-report", "out/report.json", "--modelops-cell", "py3.12-*")
        assert ran.code == 0, ran.err
        assert f"modelops configuration: {project.path}/pyproject.toml" in ran.out


def test_the_project_of_a_package_that_is_named_is_not_guessed(project: Project) -> None:
    project.configure("[tool.pytest.ini_options]\n", small=False)
    project.write("elsewhere/none.txt", "")
    project.write("app/pyproject.toml", '[tool.modelops]\n[tool.modelops.matrix]\npython = "3.13"\n')
    project.write("app/src/of_app/__init__.py", "")
    project.write("app/src/of_app/deep/__init__.py", "")
    project.write("app/src/of_app/deep/test_it.py", "def test_it(modelops_cell):\n    pass\n")
    project.environ(PYTHONPATH=f"{os.environ['PYTHONPATH']}:{project.path}/app/src")
    project.enter("elsewhere")
    file = project.path / "app/pyproject.toml"
    for name in ("of_app", "of_app.deep.test_it::test_it"):
        ran = project.run("--modelops-matrix", "--pyargs", name)
        assert f"{file} has [tool.modelops], but pytest was called in {project.path}/elsewhere" in ran.refusal
        assert ran.refusal.endswith("or add --modelops-config=../app/pyproject.toml")
    plan = project.run("--modelops-plan", "--pyargs", "of_app", "--modelops-config=../app/pyproject.toml")
    assert f"configuration: {project.path}/elsewhere/../app/pyproject.toml" in plan.out
    installed = project.run("--modelops-plan", "--pyargs", "distributed.deploy")
    assert "configuration: none; no pyproject.toml from " in installed.out
    project.write("elsewhere/pyproject.toml", '[tool.modelops]\n[tool.modelops.matrix]\npython = "3.12"\n')
    nearest = project.run("--modelops-plan", "--pyargs", "of_app")
    assert f"configuration: {project.path}/elsewhere/pyproject.toml" in nearest.out
