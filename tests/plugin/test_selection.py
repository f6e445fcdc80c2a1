"""Choosing what runs, by everything that pytest has for it; and each cell stays one piece."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from tests.names import CELL_CHECKS, NEEDED_BY_UPGRADES
from tests.plugin.conftest import QUICK

if TYPE_CHECKING:
    from tests.plugin.conftest import Project, Ran

USER_TESTS = """
import pytest

def test_on_a_cell(modelops_cell):
    assert modelops_cell.id

@pytest.mark.modelops_cells("py3.13-*")
@pytest.mark.parametrize("letter", ["a", "b"])
def test_narrowed(modelops_cell, letter):
    pass

def test_of_something_else():
    pass
"""


def of(test: str, *cells: str) -> list[str]:
    return [f"{test}[{cell}]" for cell in cells]


# --- collecting --------------------------------------------------------------------------------------------------


def test_collecting_lists_the_checks_of_each_cell_and_starts_nothing(project: Project) -> None:
    cells = project.configure_two()
    ran, started = project.spied("--modelops-matrix", "--collect-only", "-q")
    assert ran.code == 0
    assert ran.ids == project.checks_of(*cells)
    assert started == ""
    assert not list(project.cache.glob("runs/*"))
    assert "modelops matrix" not in ran.out


def test_an_upgrade_has_a_check_for_each_state_and_none_of_the_users_tests(project: Project) -> None:
    old, new, order = project.series, project.patch, ["worker", "scheduler", "client"]
    start, end = f'{{ python = "{old}", dask = "installed" }}', f'{{ python = "{new}" }}'
    project.configure(f"[tool.modelops.matrix]\nrolling = [{{ from = {start}, to = {end}, order = {order} }}]")
    project.write("tests/test_mine.py", "def test_on_a_cell(modelops_cell): pass")
    upgrade = f"py{old}..{new}-dask{project.dask}-worker-scheduler-client"
    states = ["worker", "worker+scheduler", "worker+scheduler+client"]
    ran = project.collect()
    assert [one for one in ran.ids if upgrade in one] == [
        *project.checks_of(upgrade, check_names=NEEDED_BY_UPGRADES),
        *(f"modelops::test_rolling[{upgrade}-{state}]" for state in states),
    ]
    assert [one for one in ran.ids if "test_mine" in one] == of("tests/test_mine.py::test_on_a_cell", project.cell)
    assert project.collect(f"modelops::test_rolling[{upgrade}-worker]").ids == [
        f"modelops::test_rolling[{upgrade}-worker]"
    ]
    attached = project.run("--modelops-matrix", "--modelops-plan", "--modelops-attach=tcp://127.0.0.1:1")
    assert f"{upgrade}  a deployment's scheduler and workers are not replaced" in attached.out
    assert "rolling" not in attached.out.partition("each runs")[2]


def test_the_users_tests_for_cells_come_with_the_checks_and_others_do_not(project: Project) -> None:
    cells = project.configure_quick()
    project.write("tests/test_mine.py", USER_TESTS)
    ran = project.collect()
    all_checks = project.checks_of(*cells, check_names=project.quick_checks)
    mine = of("tests/test_mine.py::test_on_a_cell", *cells)
    narrowed = [f"tests/test_mine.py::test_narrowed[{cells[1]}-{letter}]" for letter in "ab"]
    assert sorted(ran.ids) == sorted([*all_checks, *mine, *narrowed])
    assert "1 deselected" in ran.out
    # Within a cell, pytest before 9.1 moves narrowed tests; the cells stay together and in order all the same.
    assert [next(cell for cell in cells if cell in test) for test in ran.ids] == [
        *([cells[0]] * 5),
        *([cells[1]] * 7),
        *([cells[2]] * 5),
    ]
    assert [test for test in ran.ids if test in all_checks] == all_checks


@pytest.mark.parametrize(
    ("arguments", "all_checks", "mine", "other"),
    [
        (["tests"], True, True, False),
        (["."], True, True, False),
        (["tests/test_mine.py"], False, True, True),
        (["tests/test_mine.py::test_on_a_cell"], False, True, False),
        (["tests/test_mine.py::test_of_something_else"], False, False, True),
        (["modelops"], True, False, False),
        (["modelops", "tests/test_mine.py"], True, True, True),
        (["-m", "modelops_cells"], False, False, False),
        (["-k", "something_else"], False, False, False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_directories_keep_the_checks_and_files_and_ids_are_just_those(
    project: Project, arguments: list[str], all_checks: bool, mine: bool, other: bool
) -> None:
    project.configure_quick()
    project.write("tests/test_mine.py", USER_TESTS)
    text = " ".join(project.collect(*arguments).ids)
    assert ("modelops::test_first" in text) == all_checks
    assert ("::test_on_a_cell" in text) == mine
    assert ("::test_of_something_else" in text) == other


def test_testpaths_keep_the_checks(project: Project) -> None:
    cells = project.configure_quick()
    project.write("pytest.ini", "[pytest]\ntestpaths = tests\n")
    project.write("tests/test_mine.py", USER_TESTS)
    project.write("elsewhere/test_more.py", USER_TESTS)
    ids = project.collect().ids
    assert set(project.checks_of(*cells, check_names=project.quick_checks)) < set(ids)
    assert "tests/test_mine.py" in str(ids)
    assert "elsewhere" not in str(ids)


def test_a_directory_that_is_named_like_the_checks_is_a_directory(project: Project) -> None:
    project.configure_quick()
    project.write("modelops/test_mine.py", USER_TESTS)
    text = " ".join(project.collect("modelops").ids)
    assert "modelops/test_mine.py::test_on_a_cell" in text
    assert "modelops::test_first" in text


@pytest.mark.parametrize(
    "settings",
    [
        "python_functions = check_*\npython_files = check_*.py\npython_classes = Check\nnorecursedirs = *",
        "addopts = --import-mode=importlib --strict-markers --ignore-glob=*modelops*",
        "addopts = --import-mode=append -p no:cacheprovider",
    ],
    ids=["names", "importlib", "append"],
)
def test_nothing_that_is_set_for_the_users_tests_hides_the_checks(project: Project, settings: str) -> None:
    project.write("pytest.ini", f"[pytest]\n{settings}\n")
    assert project.collect().ids == project.checks_of(project.cell)


@pytest.mark.parametrize("mode", ["importlib", "prepend"])
def test_functions_of_a_test_module_travel_however_it_was_imported(project: Project, mode: str) -> None:
    project.write("tests/helping.py", "def twice(x):\n    return 2 * x\n")
    importing = "" if mode == "importlib" else "from helping import twice\n"
    own = "def twice(x):\n    return 2 * x\n" if mode == "importlib" else ""
    project.write(
        "tests/test_mine.py",
        f"{importing}{own}def test_mine(modelops_cell):\n    assert modelops_cell.call(twice, 21) == 42\n",
    )
    ran = project.matrix(f"--import-mode={mode}", "tests/test_mine.py")
    assert ran.results == {f"tests/test_mine.py::test_mine[{project.cell}]": "PASSED"}
    assert ran.code == 0


# --- choosing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-k", "lambda"], ["lambda[0]", "lambda[1]"]),
        (["-k", "lambda or start"], ["start[0]", "lambda[0]", "start[1]", "lambda[1]"]),
        (["-k", "{1} and versions"], ["versions[1]"]),
        (["modelops::test_lambda[{1}]"], ["lambda[1]"]),
        (["modelops::test_lambda"], ["lambda[0]", "lambda[1]"]),
        (["modelops::test_lambda[{1}]", "modelops::test_start[{0}]"], ["start[0]", "lambda[1]"]),
        (["modelops::test_lambda", "-k", "{0}"], ["lambda[0]"]),
        (["modelops::test_start", "--modelops-cell={0}"], ["start[0]"]),
        (
            ["modelops::test_start", "modelops::test_lambda", "--deselect=modelops::test_start[{0}]"],
            ["lambda[0]", "start[1]", "lambda[1]"],
        ),
        (
            [f"--deselect=modelops::test_{check_name}" for check_name in CELL_CHECKS[: CELL_CHECKS.index("lambda")]],
            ["lambda[0]", "aggregation[0]", "lambda[1]", "aggregation[1]"],
        ),
    ],
    ids=" ".join,
)
def test_expressions_ids_and_deselection_choose_checks(
    project: Project, arguments: list[str], expected: list[str]
) -> None:
    cells = project.configure_two()
    ids = project.collect(*(argument.format(*cells) for argument in arguments)).ids
    assert ids == [f"modelops::test_{test[:-3]}[{cells[int(test[-2])]}]" for test in expected]


def test_ids_as_printed_can_be_passed_back_from_a_subdirectory(project: Project) -> None:
    cells = project.configure_quick()
    project.write("tests/deep/test_mine.py", USER_TESTS)
    project.enter("tests/deep")
    printed = project.collect("-k", "second").ids
    assert printed == of("modelops::test_second", *cells)
    assert project.collect(*printed).ids == printed


def test_a_subdirectory_has_the_checks_and_its_own_tests(project: Project) -> None:
    project.configure_quick()
    project.write("tests/deep/test_mine.py", USER_TESTS)
    project.write("tests/test_more.py", USER_TESTS)
    project.enter("tests/deep")
    text = " ".join(project.collect().ids)
    assert "modelops::test_first" in text
    assert "test_mine.py::test_on_a_cell" in text
    assert "test_more.py" not in text


def test_what_a_selected_check_needs_runs_and_its_cell_does_not_look_as_if_it_had_passed(project: Project) -> None:
    ran, cell = project.matrix("-k", "lambda"), project.cell
    assert ran.results == {f"modelops::test_lambda[{cell}]": "PASSED"}
    needed = ("resolve", "install", "start", "lambda")
    assert ran.checks(cell) == {name: "passed" if name in needed else "not-run" for name in CELL_CHECKS}
    assert ran.code == 0
    assert f"✓ 4/{len(CELL_CHECKS)}" in ran.out
    assert "1 passed in part" in ran.out
    assert len(ran.clusters) == 1
    assert ran.left == []


# --- what failed before --------------------------------------------------------------------------------------------


@pytest.fixture
def failed(project: Project) -> tuple[str, str, str]:
    """A project of three cells, in the second of which `second` failed in the last run."""
    cells = project.configure_quick()
    project.end(**{f"second[{cells[1]}]": "failed"})
    ran = project.matrix()
    assert ran.code == 1
    assert [test for test, word in ran.results.items() if word == "FAILED"] == of("modelops::test_second", cells[1])
    return cells


def test_lf_runs_what_failed(project: Project, failed: tuple[str, str, str]) -> None:
    assert list(project.matrix("--lf").results) == of("modelops::test_second", failed[1])
    project.end()
    ran = project.matrix("--lf")
    assert ran.results == {f"modelops::test_second[{failed[1]}]": "PASSED"}
    assert ran.code == 0


def test_ff_runs_the_cell_that_failed_first_and_keeps_cells_together(
    project: Project, failed: tuple[str, str, str]
) -> None:
    order = list(project.matrix("--ff").results)
    assert order[0] == f"modelops::test_second[{failed[1]}]"
    assert [test.partition("[")[2][:-1] for test in order] == [
        cell for cell in (failed[1], failed[0], failed[2]) for _ in project.quick_checks
    ]


def test_sw_goes_on_where_it_stopped(project: Project, failed: tuple[str, str, str]) -> None:
    stopped = project.matrix("--sw")
    assert list(stopped.results)[-1] == f"modelops::test_second[{failed[1]}]"
    project.end()
    ran = project.matrix("--sw")
    expected = project.checks_of(*failed, check_names=project.quick_checks)
    assert list(ran.results) == expected[expected.index(f"modelops::test_second[{failed[1]}]") :]
    assert ran.code == 0


def test_x_stops_and_what_did_not_run_is_told(project: Project) -> None:
    cells = project.configure_quick()
    project.end(**{f"second[{cells[1]}]": "failed"})
    ran = project.matrix("-x")
    assert ran.code == 1
    assert list(ran.results)[-1] == f"modelops::test_second[{cells[1]}]"
    assert [cell["status"] for cell in ran.report["cells"]] == ["passed", "failed", "not-run"]
    assert ran.checks(cells[1]) == {"first": "passed", "second": "failed", "third": "not-run", "other": "not-run"}
    assert f"not run, the run ended before it came to this: {cells[2]}" in ran.out


# --- order, and xdist ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", ["1", "2"])
def test_in_random_order_cells_stay_together(project: Project, seed: str) -> None:
    pytest.importorskip("pytest_randomly")
    cells = project.configure_quick()
    project.write("test_mine.py", USER_TESTS)
    ran = project.matrix(f"--randomly-seed={seed}", order="randomly")
    assert ran.code == 0
    assert len(ran.results) == 4 * 3 + 3 + 2
    order = [next(cell for cell in cells if cell in test) for test in ran.results]
    assert len([cell for cell, before in zip(order, ["", *order], strict=False) if cell != before]) == 3
    straight = project.checks_of(*cells, check_names=project.quick_checks)
    assert [test for test in ran.results if test in straight] != straight


def test_in_random_order_each_cluster_starts_once(project: Project) -> None:
    pytest.importorskip("pytest_randomly")
    cells = project.configure_two()
    project.write("test_mine.py", "def test_mine(modelops_cell):\n    assert modelops_cell.call('lambda: 1') == 1\n")
    ran = project.matrix("--randomly-seed=3", order="randomly")
    assert ran.code == 0
    assert set(ran.results) == {*project.checks_of(*cells), *of("test_mine.py::test_mine", *cells)}
    assert ran.clusters == sorted(cells)
    assert ran.left == []


def assert_no_cell_is_split(ran: Ran, cells: tuple[str, ...]) -> None:
    assert len(ran.report["cells"]) == len(cells)
    for cell in cells:
        workers = {worker for test, worker in ran.workers.items() if cell in test}
        assert len(workers) == 1, workers
        assert workers <= {"gw0", "gw1"}


@pytest.mark.parametrize("dist", ["load", "loadfile", "loadgroup", "loadscope", "worksteal"])
def test_with_xdist_no_cell_is_split(project: Project, dist: str) -> None:
    cells = project.configure_quick()
    project.write("test_mine.py", USER_TESTS)
    ran = project.matrix("-n", "2", "--dist", dist)
    assert ran.code == 0
    assert_no_cell_is_split(ran, cells)
    assert len(set(ran.workers.values())) == 2
    assert len(ran.results) == 4 * 3 + 3 + 2
    assert not [test for test in ran.results if "@" in test]


def test_with_xdist_as_a_module_no_cell_is_split(project: Project) -> None:
    """pytest then registers it as `xdist.plugin`, not as `xdist`."""
    cells = project.configure_quick()
    project.environ(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    ran = project.matrix("-p", "pytest_modelops.plugin", "-p", "xdist.plugin", "-n", "2")
    assert ran.code == 0
    assert_no_cell_is_split(ran, cells)
    assert len(ran.results) == 4 * 3


def test_a_test_that_kills_its_xdist_worker_makes_its_cell_red_and_the_rest_goes_on(project: Project) -> None:
    cells = project.configure_quick()
    project.write(
        "test_mine.py",
        "import os\n\n@__import__('pytest').mark.modelops_cells('py3.13-*')\n"
        "def test_crash(modelops_cell): os._exit(3)\n\ndef test_after(modelops_cell): pass\n",
    )
    ran = project.matrix("-n", "2")
    assert ran.code == 1
    assert [cell["status"] for cell in ran.report["cells"]] == ["passed", "failed", "passed"]
    assert ran.checks(cells[1]) == {
        **dict.fromkeys(project.quick_checks, "passed"),
        "test_mine.py::test_after": "passed",
        "test_mine.py::test_crash": "failed",
    }
    assert "✗ test_crash" in ran.out


def test_with_xdist_cells_run_in_parallel_and_the_controller_reports_all_of_them_once(project: Project) -> None:
    cells = project.configure_two()
    project.write(
        "test_mine.py",
        "def test_mine(modelops_cell):\n    assert modelops_cell.call('lambda: 42') == 42\n\n"
        "def test_red(modelops_cell):\n    assert modelops_cell.id == 'red'\n",
    )
    ran = project.matrix("-n", "2")
    assert_no_cell_is_split(ran, cells)
    assert len(set(ran.workers.values())) == 2
    assert ran.clusters == sorted(cells)
    assert ran.left == []
    assert ran.out.count("modelops matrix") == 1
    assert ran.out.count("✗ test_red") == 2
    for cell in cells:
        assert ran.checks(cell) == {
            **dict.fromkeys(project.check_names, "passed"),
            "test_mine.py::test_mine": "passed",
            "test_mine.py::test_red": "failed",
        }
        assert set(ran.cell(cell)["logs"]) == {"scheduler", "worker-0", "agent"}
        assert ran.cell(cell)["observed"]["scheduler"]["python"] == project.patch
        assert f"distributed=={project.dask}" in ran.cell(cell)["lock"]
    assert ran.code == 1


# --- other plugins ---------------------------------------------------------------------------------------------------


def test_junit_xml_holds_the_checks_and_what_became_of_it(project: Project) -> None:
    cells = project.configure_quick()
    project.end(**{f"second[{cells[1]}]": "failed", f"other[{cells[2]}]": "timed-out"})
    project.matrix("--junitxml=junit.xml")
    suite = ElementTree.parse(project.path / "junit.xml").getroot()[0]
    cases = {f"{case.get('classname')}::{case.get('name')}": case for case in suite}
    assert list(cases) == project.checks_of(*cells, check_names=project.quick_checks)
    assert suite.get("failures") == "2"
    assert suite.get("skipped") == "1"
    of_case = {
        test: [(end.tag, end.get("message") or "") for end in case if end.tag != "properties"]
        for test, case in cases.items()
    }
    ends = {test: found for test, found in of_case.items() if found}
    assert list(ends) == [
        f"modelops::test_second[{cells[1]}]",
        f"modelops::test_third[{cells[1]}]",
        f"modelops::test_other[{cells[2]}]",
    ]
    (broken,), (blocked,), (late,) = ends.values()
    assert broken[0] == "failure"
    assert "second is failed on purpose" in broken[1]
    assert "reproduce: pytest --modelops-matrix" in broken[1]
    assert blocked == ("skipped", "blocked by second: second is failed on purpose")
    assert late[0] == "failure"
    assert "other is timed-out on purpose" in late[1]


NOTES_PLACES = """

def pytest_runtest_logreport(report):
    if report.failed:
        crash = report.longrepr.reprcrash
        with Path(__file__).with_name("places.txt").open("a") as file:
            print(Path(crash.path).name, crash.lineno, *report.location[:2], file=file)
"""


@pytest.mark.parametrize("xdist", [[], ["-n", "1"]], ids=["alone", "xdist"])
def test_a_failure_points_to_where_people_can_act(project: Project, xdist: list[str]) -> None:
    """As an annotation of a CI, an editor or junit's `file=` and `line=` show it; never to a file of the plugin."""
    cells = project.configure_quick()
    project.write("conftest.py", QUICK + NOTES_PLACES)
    project.write("test_mine.py", "\n\ndef test_mine(modelops_cell):\n    modelops_cell.require('second')\n")
    project.end(**{f"second[{cells[1]}]": "failed"})
    settings = (project.path / "pyproject.toml").read_text("utf-8").splitlines()
    line = next(number for number, text in enumerate(settings, start=1) if "3.13" in text)
    project.matrix("modelops::test_second", *xdist)
    project.matrix("test_mine.py", *xdist)
    places = (project.path / "places.txt").read_text("utf-8").splitlines()
    assert list(dict.fromkeys(places)) == [  # with xdist, of the worker and of the controller
        f"pyproject.toml {line} pyproject.toml {line - 1}",
        "test_mine.py 3 test_mine.py 2",
    ]


@pytest.mark.parametrize("plugin", ["cacheprovider", "xdist"])
def test_without_one_of_pytests_plugins_everything_else_works(project: Project, plugin: str) -> None:
    project.configure_quick()
    ran = project.matrix("-p", f"no:{plugin}")
    assert ran.code == 0
    assert len(ran.results) == 12


def test_without_a_terminal_the_report_is_still_written(project: Project) -> None:
    cells = project.configure_quick()
    ran = project.run("--modelops-matrix", "--modelops-report=report.json", "-p", "no:terminal")
    assert ran.code == 0
    assert ran.out == ""
    assert [cell["id"] for cell in ran.report["cells"]] == list(cells)


HANGING = """
import time
import pytest

def test_before(modelops_cell):
    modelops_cell.call("lambda: 1")

@pytest.mark.timeout(1)
def test_hangs(modelops_cell):
    time.sleep(600)

@pytest.mark.timeout(1)
def test_waits_for_a_worker(modelops_cell):
    modelops_cell.call("lambda: __import__('time').sleep(3)")

def test_after(modelops_cell):
    assert modelops_cell.call("lambda: 42") == 42
"""


def test_a_test_that_hangs_is_ended_by_pytest_timeout_and_the_run_goes_on(project: Project) -> None:
    pytest.importorskip("pytest_timeout")
    project.write("test_mine.py", HANGING)
    ran = project.matrix("test_mine.py")
    cell = project.cell
    assert ran.results == {
        f"test_mine.py::test_before[{cell}]": "PASSED",
        f"test_mine.py::test_hangs[{cell}]": "FAILED",
        f"test_mine.py::test_waits_for_a_worker[{cell}]": "FAILED",
        f"test_mine.py::test_after[{cell}]": "PASSED",
    }
    assert ran.checks(cell)["test_mine.py::test_hangs"] == "failed"
    assert "Timeout (>1.0s) from pytest-timeout" in ran.out
    assert ran.clusters == [cell]
    assert ran.left == []
    assert ran.code == 1
