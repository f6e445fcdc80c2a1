"""Bundles on the checks: which checks there are, what blocks what, and what markers and flags make of them.

The checks keep names, order and needs and do nothing (`CHECKS`), so that no cluster starts; preflight is the real one
where a test says so.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.names import CELL_CHECKS

if TYPE_CHECKING:
    from tests.plugin.conftest import Project, Ran

CHECKS = """
import dataclasses, json
from pathlib import Path
from pytest_modelops import errors

ENDS = {{"failed": errors.CheckFailed, "timed-out": errors.TimedOut}}

def quick(check):
    def run(cell, deadline):
        end = json.loads(Path(__file__).with_name("ends.json").read_text()).get(f"{{check.label}} {{cell.id}}")
        if end is not None:
            raise ENDS[end](f"{{check.label}} is {{end}} on purpose")
    return dataclasses.replace(check, run=run)

def pytest_modelops_checks(checks, config):
    checks[:] = [check if check.name in {real!r} else quick(check) for check in checks]
"""
BUNDLES = """
bundles = ["bundles/plain", { path = "bundles/seir", entrypoint = "wire/base", target = "wire:loss" },
  { path = "bundles/runs", entrypoint = "wire/base" }]
""".replace("\n  ", " ")
WIRE = """
def wire(entrypoint, params, seed):
    return {"a": b"1"}

def loss(sim_returns, target_data):
    return {"loss": 1.0}
"""
MARKED = """
import pytest

@pytest.mark.{marker}
def test_marked(modelops_cell):
    print("the body ran")
"""
NAMES = ("plain", "seir", "runs")
USES = {
    "modelops_bundle": "use modelops_bundle(path, deadline=<seconds>)",
    "modelops_handshake": "use modelops_handshake(path, deadline=<seconds>)",
}


def set_up(project: Project, *real: str, bundles: str = BUNDLES, pythons: int = 1) -> tuple[str, ...]:
    """A project with three bundles, of whose checks only those named do something; returns its cells' ids."""
    python = [project.series, project.patch][-pythons:]
    project.configure(f"{bundles}\n[tool.modelops.matrix]\npython = {json.dumps(python)}\n", small=False)
    table = (project.path / "pyproject.toml").read_text()
    project.write("pyproject.toml", f"[tool.pytest.ini_options]\n[tool.modelops]\n{table}")
    for name in NAMES:
        project.write(f"bundles/{name}/wire.py", WIRE)
        project.write(f"bundles/{name}/requirements.txt", "")
    project.write("conftest.py", CHECKS.format(real=real))
    project.end()
    return tuple(f"py{version}-dask{project.dask}" for version in python)


def broken(project: Project, name: str) -> None:
    """Make a bundle's preflight fail."""
    project.write(
        f"bundles/{name}/pyproject.toml", f'[project]\nname = "{name}"\nversion = "1"\nrequires-python = ">=3.99"\n'
    )


def mark(project: Project, marker: str, *, file: str = "test_marked.py") -> None:
    """Write a test with a marker."""
    project.write(f"tests/{file}", MARKED.format(marker=marker))


def check_names(cell: str) -> list[str]:
    """Node ids of all that the three bundles' checks has in a cell, in order."""
    ids = [f"modelops::test_preflight[{cell}-{name}]" for name in NAMES]
    ids += [f"modelops::test_{check_name}[{cell}]" for check_name in CELL_CHECKS]
    ids += [
        f"modelops::test_{check_name}[{cell}-{name}]"
        for check_name in ("bundle_install", "handshake")
        for name in NAMES
    ]
    ids += [f"modelops::test_execute[{cell}-{name}]" for name in ("seir", "runs")]
    return [*ids, f"modelops::test_bundle_aggregation[{cell}-seir]"]


def checks(ran: Ran, cell: str) -> dict[str, dict[str, Any]]:
    """The checks of a cell in the report, by their label."""
    found = {}
    for check in ran.cell(cell)["checks"]:
        found[f"{check['name']}[{check['bundle']}]" if check["bundle"] else check["name"]] = check
    return found


def statuses(ran: Ran, cell: str) -> dict[str, str]:
    return {label: check["status"] for label, check in checks(ran, cell).items()}


# --- what there is -----------------------------------------------------------------------------------------------


def test_each_bundle_has_the_checks_that_it_has_an_object_for(project: Project) -> None:
    cells = set_up(project, pythons=2)
    ran, started = project.spied("--modelops-matrix", "--collect-only", "-q")
    assert ran.ids == [test for cell in cells for test in check_names(cell)]
    assert started == ""


def test_without_bundles_there_is_no_check_of_theirs(project: Project) -> None:
    assert project.collect().ids == project.checks_of(project.cell)


@pytest.mark.parametrize("xdist", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_the_report_has_every_check_with_its_bundle(project: Project, xdist: list[str]) -> None:
    cells = set_up(project, "preflight", pythons=2)
    ran = project.matrix(*xdist)
    assert ran.code == 0
    assert sorted(ran.results) == sorted(test for cell in cells for test in check_names(cell))
    assert set(ran.results.values()) == {"PASSED"}
    for cell in cells:
        labels = [test.partition("test_")[2].replace("_", "-") for test in check_names(cell)]
        expected = [label.replace(f"[{cell}-", "[").replace(f"[{cell}]", "") for label in labels]
        assert statuses(ran, cell) == dict.fromkeys(expected, "passed")
        assert len({ran.workers[test] for test in check_names(cell)}) == 1, "a cell is never split"


def test_the_plan_is_the_same_with_bundles_and_starts_nothing(project: Project) -> None:
    cells = set_up(project, pythons=2)
    ran, started = project.spied("--modelops-plan=json")
    assert (ran.code, started) == (0, "")
    assert [cell["id"] for cell in json.loads(ran.out)["cells"]] == list(cells)


# --- choosing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (["-k", "handshake"], ["handshake[{}-plain]", "handshake[{}-seir]", "handshake[{}-runs]"]),
        (["-k", "handshake and seir"], ["handshake[{}-seir]"]),
        (["-k", "seir and not bundle_"], ["preflight[{}-seir]", "handshake[{}-seir]", "execute[{}-seir]"]),
        (["modelops::test_execute"], ["execute[{}-seir]", "execute[{}-runs]"]),
        (["modelops::test_execute[{}-runs]"], ["execute[{}-runs]"]),
        (["modelops::test_execute[{}-runs]", "modelops::test_lambda"], ["lambda[{}]", "execute[{}-runs]"]),
    ],
    ids=["name", "name and bundle", "bundle", "check", "id", "ids"],
)
def test_bundles_checks_are_chosen_as_any_test(project: Project, arguments: list[str], chosen: list[str]) -> None:
    (cell,) = set_up(project)
    ids = project.collect(*(argument.format(cell) for argument in arguments)).ids
    assert ids == [f"modelops::test_{check_name.format(cell)}" for check_name in chosen]


@pytest.mark.parametrize("test", ["test_execute[{}-plain]", "test_execute[{}]", "test_handshake[{}-gone]"])
def test_an_id_of_a_check_that_a_bundle_does_not_have_is_wrong_input(project: Project, test: str) -> None:
    (cell,) = set_up(project)
    xdist = ["-n", "2"] if "gone" in test else []
    ran = project.matrix(*xdist, f"modelops::{test.format(cell)}")
    assert ran.refusal.startswith(
        f"ERROR: modelops::{test.format(cell)}: there is no such test; checks are test_preflight, "
    )


def test_what_a_chosen_check_needs_is_performed_and_a_preflight_that_is_not_chosen_is_not(project: Project) -> None:
    (cell,) = set_up(project, "preflight")
    broken(project, "seir")
    ran = project.matrix(f"modelops::test_execute[{cell}-seir]")
    assert ran.results == {f"modelops::test_execute[{cell}-seir]": "PASSED"}
    needed = ["resolve", "install", "start", "bundle-install[seir]", "handshake[seir]", "execute[seir]"]
    assert [label for label, status in statuses(ran, cell).items() if status == "passed"] == needed
    others = {label: status for label, status in statuses(ran, cell).items() if label not in needed}
    assert others.pop("versions") == "not-run"
    assert {"preflight[seir]", "handshake[plain]", "execute[runs]"} < set(others)
    assert set(others.values()) == {"not-run"}


# --- what blocks what --------------------------------------------------------------------------------------------


def test_a_failed_preflight_blocks_the_other_checks_of_its_bundle_and_nothing_else(project: Project) -> None:
    (cell,) = set_up(project, "preflight")
    broken(project, "seir")
    ran = project.matrix()
    assert ran.code == pytest.ExitCode.TESTS_FAILED
    of_seir = ["bundle-install[seir]", "handshake[seir]", "execute[seir]", "bundle-aggregation[seir]"]
    reported = statuses(ran, cell)
    assert reported.pop("preflight[seir]") == "failed"
    assert [reported.pop(label) for label in of_seir] == ["blocked"] * 4
    assert set(reported.values()) == {"passed"}
    assert len(reported) == len(check_names(cell)) - 5
    for label in of_seir:
        assert checks(ran, cell)[label]["blocked_by"] == "preflight[seir]"
        assert checks(ran, cell)[label]["message"].startswith("blocked by preflight[seir]: bundle 'seir' requires")
    assert ran.cell(cell)["first_broken"].startswith("preflight")
    ending = "preflight[seir] failed; probable cause: the bundle does not allow the workers' Python"
    assert f"{ending} bundle 'seir' requires Python >=3.99" in " ".join(ran.out.split())
    assert f"'modelops::test_preflight[{cell}-seir]'" in ran.out


def test_a_failed_handshake_blocks_what_needs_it_of_its_bundle_alone(project: Project) -> None:
    (cell,) = set_up(project)
    project.end(**{f"handshake[seir] {cell}": "timed-out"})
    ran = project.matrix()
    reported = statuses(ran, cell)
    assert reported["handshake[seir]"] == "timed-out"
    assert [label for label, status in reported.items() if status == "blocked"] == [
        "execute[seir]",
        "bundle-aggregation[seir]",
    ]
    assert ran.results[f"modelops::test_execute[{cell}-seir]"] == "BLOCKED"
    assert ran.results[f"modelops::test_execute[{cell}-runs]"] == "PASSED"


def test_a_cell_that_does_not_start_blocks_all_bundles_but_their_preflights(project: Project) -> None:
    (cell,) = set_up(project)
    project.end(**{f"start {cell}": "failed"})
    reported = statuses(project.matrix(), cell)
    blocked = {label for label, status in reported.items() if status == "blocked"}
    assert {label for label in reported if "[" in label} - blocked == {f"preflight[{name}]" for name in NAMES}


def test_the_command_that_reproduces_a_bundles_check_does(project: Project) -> None:
    (cell,) = set_up(project)
    project.end(**{f"handshake[seir] {cell}": "failed"})
    reproduce = checks(project.matrix(), cell)["handshake[seir]"]["reproduce"]
    assert reproduce == f"pytest --modelops-matrix 'modelops::test_handshake[{cell}-seir]'"
    again = project.run(*reproduce.replace("'", "").split()[1:], "-v")
    assert again.results == {f"modelops::test_handshake[{cell}-seir]": "FAILED"}


# --- --modelops-bundle -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["seir", "bundles/seir"])
def test_the_flag_replaces_the_configured_bundles_and_keeps_the_settings_of_one(project: Project, given: str) -> None:
    (cell,) = set_up(project)
    ids = project.collect(f"--modelops-bundle={given}").ids
    assert ids == [test for test in check_names(cell) if "plain" not in test and "runs" not in test]


def test_the_flag_takes_a_bundle_that_is_not_configured(project: Project) -> None:
    (cell,) = set_up(project, "preflight")
    project.write("other/mine/wire.py", WIRE)
    project.write("other/mine/requirements.txt", "")
    ran = project.matrix("--modelops-bundle=other/mine", "-k", "mine")
    assert list(ran.results) == [
        f"modelops::test_{check_name}[{cell}-mine]" for check_name in ("preflight", "bundle_install", "handshake")
    ]
    assert ran.code == 0


@pytest.mark.parametrize("xdist", [[], ["-n", "2"]], ids=["alone", "xdist"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["gone"], "--modelops-bundle: 'gone' is neither a bundle's directory nor an archive ("),
        (["seir", "other/seir"], "--modelops-bundle: 'seir' is the name of two bundles, "),
    ],
    ids=["no directory", "two of a name"],
)
def test_a_flag_that_cannot_be_meant_is_wrong_input(
    project: Project, xdist: list[str], given: list[str], message: str
) -> None:
    set_up(project)
    project.write("other/seir/wire.py", WIRE)
    ran = project.matrix(*(f"--modelops-bundle={one}" for one in given), *xdist)
    assert ran.refusal.startswith(f"ERROR: {message}")


# --- markers -----------------------------------------------------------------------------------------------------


WRONG_MARKERS = {
    "modelops_bundle()": "wrong arguments ()",
    "modelops_handshake('seir', 'more')": "wrong arguments ('seir', 'more')",
    "modelops_bundle('seir', seconds=1)": "wrong arguments ('seir', seconds=1)",
    "modelops_bundle(3)": "3 is not the path of a bundle",
    "modelops_handshake('')": "'' is not the path of a bundle",
    "modelops_handshake('gone')": "'gone' is neither a bundle's directory nor an archive (",
    "modelops_handshake('seir', deadline=0)": "deadline=0 is not a number of seconds above 0",
    "modelops_bundle('seir', deadline='1')": "deadline='1' is not a number of seconds above 0",
    "modelops_bundle('other/seir')": "'other/seir' is named as another bundle, ",
    "modelops_bundle('with space')": "'with space' cannot be a bundle's name",
}
WITH_XDIST = ("modelops_bundle()", "modelops_handshake('gone')")
"""Those with a wrong argument, and those with a path of no bundle, are reported by the controller in the same way."""


@pytest.mark.parametrize(
    ("marker", "xdist"),
    [*((marker, []) for marker in WRONG_MARKERS), *((marker, ["-n", "2"]) for marker in WITH_XDIST)],
)
def test_a_marker_with_wrong_arguments_is_wrong_input(project: Project, marker: str, xdist: list[str]) -> None:
    (cell,) = set_up(project)
    project.write("other/seir/wire.py", WIRE)
    project.write("with space/wire.py", WIRE)
    mark(project, marker)
    ran = project.matrix(*xdist)
    name = marker.partition("(")[0]
    assert ran.refusal.startswith(
        f"ERROR: tests/test_marked.py::test_marked[{cell}]: marker {name}: {WRONG_MARKERS[marker]}"
    )
    assert ran.refusal.endswith(USES[name])
    assert ran.results == {}


def test_markers_with_two_bundles_of_one_name_are_wrong_input(project: Project) -> None:
    set_up(project)
    for directory in ("one", "two"):
        project.write(f"{directory}/mine/wire.py", WIRE)
        mark(project, f"modelops_bundle('{directory}/mine')", file=f"test_{directory}.py")
    ran = project.matrix("tests")
    assert f"'two/mine' is named as another bundle, {project.path}/one/mine; rename one of them" in ran.refusal


@pytest.mark.parametrize("path", ["seir", "bundles/seir", "./bundles/plain/../seir", "{absolute}/bundles/seir"])
def test_a_marker_that_names_a_configured_bundle_shares_its_checks(project: Project, path: str) -> None:
    (cell,) = set_up(project)
    mark(project, f"modelops_handshake('{path.format(absolute=project.path)}')")
    project.end(**{f"bundle-install[seir] {cell}": "failed"})
    ran = project.matrix("tests/test_marked.py")
    assert ran.results == {f"tests/test_marked.py::test_marked[{cell}]": "FAILED"}
    assert "bundle-install[seir] failed: bundle-install[seir] is failed on purpose" in ran.out
    assert "the body ran" not in ran.out
    reproduce = checks(ran, cell)["bundle-install[seir]"]["reproduce"]
    assert reproduce == f"pytest --modelops-matrix 'modelops::test_bundle_install[{cell}-seir]'"


@pytest.mark.parametrize("marker", ["modelops_bundle('seir')", "modelops_handshake('seir')"])
def test_a_marker_whose_checks_pass_lets_the_body_run(project: Project, marker: str) -> None:
    (cell,) = set_up(project)
    mark(project, marker)
    ran = project.matrix("tests/test_marked.py", "-rP")
    assert ran.results == {f"tests/test_marked.py::test_marked[{cell}]": "PASSED"}
    assert "the body ran" in ran.out
    expected = {"preflight[seir]", "resolve", "install", "start", "bundle-install[seir]"}
    if "handshake" in marker:
        expected.add("handshake[seir]")
    reported = statuses(ran, cell)
    assert {label for label, status in reported.items() if status == "passed" and "test_" not in label} == expected


def test_a_bundle_that_only_a_marker_names_is_reproduced_with_the_flag(project: Project) -> None:
    (cell,) = set_up(project, "preflight")
    project.write("other/mine/wire.py", WIRE)
    project.write("other/mine/pyproject.toml", '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.99"\n')
    mark(project, "modelops_handshake('other/mine')")
    ran = project.matrix("tests/test_marked.py")
    assert ran.results == {f"tests/test_marked.py::test_marked[{cell}]": "FAILED"}
    check = checks(ran, cell)["preflight[mine]"]
    assert check["status"] == "failed"
    assert check["reproduce"] == (
        f"pytest --modelops-matrix --modelops-bundle=~/other/mine 'modelops::test_preflight[{cell}-mine]'"
    ), "a report shows the home directory as ~, which our flags understand"
    again = project.run(*check["reproduce"].replace("'", "").split()[1:], "-v")
    assert again.results == {f"modelops::test_preflight[{cell}-mine]": "FAILED"}


def test_without_the_flag_tests_with_the_markers_are_skipped(project: Project) -> None:
    mark(project, "modelops_handshake('gone')")
    ran = project.run("-rs", "tests")
    assert ran.results == {"tests/test_marked.py::test_marked": "SKIPPED"}
    assert ran.code == 0
