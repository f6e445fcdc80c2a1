"""What became of a test is reported alike by pytest's words, the matrix, the report and the exit code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.names import after

if TYPE_CHECKING:
    from tests.plugin.conftest import Once, Project, Ran

SYMBOLS = {"passed": "✓", "failed": "✗", "timed-out": "T", "unavailable": "?", "blocked": "!", "not-run": "·"}
BROKEN = '[tool.modelops.environment]\nworker-args = ["--memory-limit=nonsense"]\n'
"""Workers exit at once."""


def matrix_of(ran: Ran) -> str:
    """What the terminal shows of the matrix."""
    _, found, rest = ran.out.partition(" modelops matrix ")
    assert found
    shown = (line for line in rest.splitlines()[1:] if not line.startswith(("configuration: ", "report: ")))
    return "\n".join(shown).partition("\n===")[0]


# --- every end that a check can have --------------------------------------------------------------------------------


@pytest.fixture
def cells(project: Project) -> tuple[str, str, str]:
    cells = project.configure_quick()
    project.end(
        **{
            f"second[{cells[0]}]": "timed-out",
            f"first[{cells[1]}]": "unavailable",
            f"first[{cells[2]}]": "skipped",
            f"other[{cells[2]}]": "failed",
        }
    )
    return cells


@pytest.fixture
def ended(project: Project, cells: tuple[str, str, str], once: Once) -> Ran:
    def run_verbosely() -> Ran:
        return project.matrix()

    return once(run_verbosely)


@pytest.fixture
def ended_briefly(project: Project, cells: tuple[str, str, str], once: Once) -> Ran:
    def run_briefly() -> Ran:
        return project.run("--modelops-matrix")

    return once(run_briefly)


def test_every_end_has_its_word(ended: Ran, cells: tuple[str, str, str]) -> None:
    words = ["PASSED", "TIMED-OUT", "BLOCKED", "PASSED"]
    words += ["UNAVAILABLE", "BLOCKED", "BLOCKED", "PASSED"]
    words += ["SKIPPED", "PASSED", "PASSED", "FAILED"]
    lines = [line for line in ended.out.splitlines() if re.match(r"modelops::test_\w+\[", line)]
    assert [line.split()[1] for line in lines] == words


def test_every_end_has_its_letter(ended_briefly: Ran) -> None:
    assert re.search(r"^modelops \.Tb\.Ubb\.s\.\.F +\[100%\]$", ended_briefly.out, re.MULTILINE)


def test_pytest_counts_what_broke_as_failed_and_what_was_blocked_as_neither(ended: Ran) -> None:
    assert "3 failed, 5 passed, 1 skipped, 3 blocked" in ended.out.splitlines()[-1]
    assert ended.code == pytest.ExitCode.TESTS_FAILED


def test_the_report_has_every_end(ended: Ran, cells: tuple[str, str, str]) -> None:
    assert [cell["status"] for cell in ended.report["cells"]] == ["timed-out", "unavailable", "failed"]
    assert ended.checks(cells[0]) == {"first": "passed", "second": "timed-out", "third": "blocked", "other": "passed"}
    assert list(ended.checks(cells[1]).values()) == ["unavailable", "blocked", "blocked", "passed"]
    assert list(ended.checks(cells[2]).values()) == ["skipped", "passed", "passed", "failed"]


def test_a_blocked_check_names_what_blocked_it_and_is_not_a_failure(ended: Ran, cells: tuple[str, str, str]) -> None:
    (third,) = (check for check in ended.cell(cells[1])["checks"] if check["name"] == "third")
    assert third["blocked_by"] == "first"
    assert third["message"] == "blocked by first: first is unavailable on purpose"
    assert "_ test_third" not in ended.out


def test_the_terminal_says_what_the_report_says(ended: Ran) -> None:
    shown = matrix_of(ended)
    for cell in ended.report["cells"]:
        look = " ".join(filter(None, [SYMBOLS[cell["status"]], cell["first_broken"]]))
        assert re.search(rf"^{re.escape(cell['python'])} +{re.escape(look)}$", shown, re.MULTILINE)
        (broken,) = (check for check in cell["checks"] if check["name"] == cell["first_broken"])
        assert f"{cell['id']}: {broken['name']} {broken['status'].replace('-', ' ')}: {broken['message']}" in shown
        assert f"\n    {broken['reproduce']}\n" in shown
        assert broken["reproduce"] in ended.out.partition("modelops matrix")[0]
    assert "3 cells in " in shown
    assert "1 failed, 1 timed out, 1 unavailable" in shown


def test_the_command_that_reproduces_a_check_does(project: Project, cells: tuple[str, str, str], ended: Ran) -> None:
    (broken,) = (check for check in ended.cell(cells[0])["checks"] if check["name"] == "second")
    _, flag, *rest = broken["reproduce"].replace("'", "").split()
    again = project.run(flag, *rest, "-v")
    assert again.results == {f"modelops::test_second[{cells[0]}]": "TIMED-OUT"}


@pytest.mark.parametrize("exclude", ["", '[{ python = "3.13" }]'], ids=["", "excluded"])
def test_the_command_that_reproduces_a_cell_of_include_finds_it(project: Project, exclude: str) -> None:
    project.configure_quick()
    more = f"exclude = {exclude}\n" if exclude else ""
    project.configure(
        f'[tool.modelops.matrix]\npython = ["{project.series}"]\ndask = "installed"\n{more}'
        'include = [{ python = "3.13", dask = "installed" }]\n'
    )
    cell = f"py3.13-dask{project.dask}"
    project.end(**{f"first[{cell}]": "failed"})
    (broken,) = (check for check in project.matrix().cell(cell)["checks"] if check["name"] == "first")
    _, *words = shlex.split(broken["reproduce"])
    assert project.run(*words, "--collect-only", "-q").ids == [f"modelops::test_first[{cell}]"]


def test_a_quiet_run_has_the_matrix_all_the_same(project: Project, ended: Ran) -> None:
    quiet = project.run("--modelops-matrix", "-q")
    assert "modelops: 3 cells" not in quiet.out
    assert without_times(matrix_of(quiet)) == without_times(matrix_of(ended))


def without_times(text: str) -> str:
    return re.sub(r"in [\d.]+ s", "in … s", text)


def test_the_header_says_how_many_cells_which_backend_and_cache(project: Project, ended_briefly: Ran) -> None:
    (line,) = (line for line in ended_briefly.out.splitlines() if line.startswith("modelops: "))
    assert re.fullmatch(
        r"modelops: 3 cells; process backend, cache /.+/cache \(auto: no container engine answers\)", line
    )


def test_a_stdout_that_cannot_unicode_gets_an_ascii_matrix(project: Project, ended: Ran) -> None:
    project.environ(PYTHONIOENCODING="ascii")
    ran = project.run("--modelops-matrix")
    shown = matrix_of(ran)
    assert shown.isascii()
    assert "\\u" not in shown
    assert "X other" in shown
    assert "T second" in shown
    assert "? first" in shown


def test_colours_are_only_colours(project: Project, cells: tuple[str, str, str], ended: Ran) -> None:
    project.environ(PY_COLORS="1")
    ran = project.matrix()
    coloured = ran.out.partition(" modelops matrix ")[2].partition("configuration: ")[0]
    assert "\x1b[31m✗ other" in coloured
    plain = re.sub(r"\x1b\[[\d;]*m", "", ran.out)
    _, _, rest = plain.partition(" modelops matrix ")
    assert without_times(matrix_of(ended)).splitlines()[0] in rest


def test_no_color_is_honoured(project: Project) -> None:
    project.configure_quick()
    project.environ(NO_COLOR="1", PY_COLORS="")
    assert "\x1b" not in project.matrix().out


# --- the exit code ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["failed", "timed-out", "unavailable", "asserted", "raised"])
def test_a_single_check_that_broke_is_exit_code_1(project: Project, end: str) -> None:
    cells = project.configure_quick()
    project.end(**{f"other[{cells[1]}]": end})
    ran = project.matrix("-k", "other")
    assert ran.code == pytest.ExitCode.TESTS_FAILED
    assert "other is " in ran.out


def test_a_check_may_end_as_tests_do(project: Project) -> None:
    cell, *_ = project.configure_quick()
    project.end(**{f"first[{cell}]": "pytest-skipped", f"second[{cell}]": "pytest-failed"})
    ran = project.matrix("--modelops-cell", cell)
    ends = {check["name"]: (check["status"], check["message"].partition("\n")[0]) for check in ran.cell(cell)["checks"]}
    assert ends == {
        "first": ("skipped", "first is pytest-skipped on purpose"),
        "second": ("failed", "second is pytest-failed on purpose"),
        "third": ("blocked", "blocked by second: second is pytest-failed on purpose"),
        "other": ("passed", ""),
    }
    assert [*ran.results.values()] == ["SKIPPED", "FAILED", "BLOCKED", "PASSED"]
    assert f"'modelops::test_second[{cell}]'" in ran.out


def test_a_check_that_had_nothing_to_do_is_exit_code_0(project: Project) -> None:
    cells = project.configure_quick()
    project.end(**{f"other[{cells[1]}]": "skipped"})
    ran = project.matrix()
    assert ran.code == 0
    assert ran.cell(cells[1])["status"] == "passed"
    assert "✓" in matrix_of(ran)


def test_a_check_that_is_selected_alone_and_cannot_run_is_a_failure_that_says_why(project: Project) -> None:
    cells = project.configure_quick()
    project.end(**{f"first[{cells[1]}]": "failed"})
    ran = project.matrix("-k", f"third and {cells[1]}")
    assert ran.results == {f"modelops::test_third[{cells[1]}]": "FAILED"}
    assert f"cell {cells[1]}: first failed: first is failed on purpose" in ran.out
    assert f"'modelops::test_first[{cells[1]}]'" in matrix_of(ran)
    assert ran.checks(cells[1])["first"] == "failed"
    assert ran.code == pytest.ExitCode.TESTS_FAILED


SKIP_FIRST = """

import pytest

def pytest_collection_modifyitems(items):
    for item in items:
        if "test_{check_name}[" in item.nodeid:
            item.add_marker(pytest.mark.skip(reason="somebody skips it"))
"""


@pytest.mark.parametrize(("check_name", "status"), [("first", "failed"), ("other", "not-run")])
def test_a_cell_that_did_not_pass_is_never_exit_code_0_though_no_test_failed(
    project: Project, check_name: str, status: str
) -> None:
    """A check that is skipped from outside breaks only when another one needs it, or did not run at all."""
    cells = project.configure_quick()
    project.end(**{f"first[{cells[0]}]": "failed"} if check_name == "first" else {})
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + SKIP_FIRST.format(check_name=check_name))
    ran = project.matrix()
    assert "FAILED" not in ran.results.values()
    assert ran.cell(cells[0])["status"] == status
    assert ran.code == pytest.ExitCode.TESTS_FAILED


def test_nothing_selected_is_pytests_own_exit_code(project: Project) -> None:
    project.configure_quick()
    ran = project.matrix("-k", "nothing-of-the-kind")
    assert ran.code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "modelops matrix" not in ran.out


# --- the user's own tests --------------------------------------------------------------------------------------------

MINE = """
import pytest

@pytest.fixture
def breaks_at_setup(modelops_cell):
    raise RuntimeError("no setup")

@pytest.fixture
def breaks_at_teardown(modelops_cell):
    yield
    raise RuntimeError("no teardown")

@pytest.mark.modelops_cells("py3.12-*")
def test_red(modelops_cell):
    assert modelops_cell.id == "another one"

@pytest.mark.modelops_cells("py3.13-*")
def test_setup(breaks_at_setup):
    pass

@pytest.mark.modelops_cells("py3.14-*")
def test_teardown(breaks_at_teardown):
    pass

def test_green(modelops_cell):
    pass

def test_skipped(modelops_cell):
    pytest.skip("not today")

@pytest.mark.xfail(strict=True)
def test_expected_to_fail(modelops_cell):
    raise AssertionError
"""


@pytest.fixture
def mine(project: Project, once: Once) -> Ran:
    def run_mine() -> Ran:
        project.configure_quick()
        project.write("test_mine.py", MINE)
        return project.matrix()

    return once(run_mine)


@pytest.mark.parametrize(
    ("number", "test", "words"),
    [(0, "test_red", "another one"), (1, "test_setup", "no setup"), (2, "test_teardown", "no teardown")],
)
def test_a_test_of_the_users_that_breaks_makes_its_cell_red(mine: Ran, number: int, test: str, words: str) -> None:
    cell = mine.report["cells"][number]
    assert cell["status"] == "failed"
    assert cell["first_broken"] == f"test_mine.py::{test}"
    (broken,) = (check for check in cell["checks"] if check["status"] == "failed")
    assert words in broken["message"]
    assert broken["reproduce"] == f"pytest --modelops-matrix 'test_mine.py::{test}[{cell['id']}]'"
    assert f"✗ {test}" in matrix_of(mine)
    assert broken["reproduce"] in matrix_of(mine)


def test_tests_of_the_users_are_among_the_checks(mine: Ran) -> None:
    checks = mine.checks(mine.report["cells"][0]["id"])
    assert checks["test_mine.py::test_green"] == "passed"
    assert checks["test_mine.py::test_skipped"] == "skipped"
    assert checks["test_mine.py::test_expected_to_fail"] == "skipped"


def test_a_green_test_of_the_users_alone_is_a_cell_that_passed_in_part(project: Project) -> None:
    cells = project.configure_quick()
    project.write("test_mine.py", "def test_mine(modelops_cell): pass\n")
    ran = project.matrix("test_mine.py", "-k", cells[0])
    assert ran.code == 0
    assert ran.checks(cells[0])["first"] == "not-run"
    assert ran.checks(cells[0])["test_mine.py::test_mine"] == "passed"
    assert "✓ 1/5" in matrix_of(ran)


# --- a cluster that does not start -----------------------------------------------------------------------------------

ON_A_BROKEN_CELL = """
import pytest

@pytest.fixture
def data(modelops_cell):
    return modelops_cell.call("lambda: 1")

def test_in_the_body(modelops_cell):
    modelops_cell.call("lambda: 1")

def test_in_a_fixture(data):
    pass

@pytest.mark.modelops_lambda("lambda: 1")
def test_by_marker():
    pass

def test_that_needs_no_cluster(modelops_cell):
    assert modelops_cell.id
"""
MINE_BLOCKED = ("test_in_the_body", "test_in_a_fixture", "test_by_marker")


@pytest.fixture
def broken_start(project: Project, once: Once) -> Ran:
    def run_broken() -> Ran:
        project.configure(BROKEN)
        project.write("test_mine.py", ON_A_BROKEN_CELL)
        return project.matrix()

    return once(run_broken)


def test_a_worker_that_exits_is_reported_with_its_last_words_and_its_log(broken_start: Ran) -> None:
    (start,) = (check for check in broken_start.report["cells"][0]["checks"] if check["name"] == "start")
    assert start["status"] == "failed"
    assert "worker-0 exited with code 1" in start["message"].splitlines()[0]
    assert "Could not interpret 'nonsense' as a byte unit" in start["message"]
    assert start["message"] in broken_start.out
    log = Path(re.findall(r"^Full log: (.+)$", start["message"], re.MULTILINE)[0])
    assert "Could not interpret 'nonsense'" in log.read_text(encoding="utf-8")


def test_what_needs_the_cluster_is_blocked_and_what_does_not_is_not(broken_start: Ran) -> None:
    words = {test.partition("[")[0]: word for test, word in broken_start.results.items()}
    assert words == {
        "modelops::test_resolve": "PASSED",
        "modelops::test_install": "PASSED",
        "modelops::test_start": "FAILED",
        **{f"modelops::test_{check}": "BLOCKED" for check in after("start")},
        **{f"test_mine.py::{test}": "BLOCKED" for test in MINE_BLOCKED},
        "test_mine.py::test_that_needs_no_cluster": "PASSED",
    }


def test_the_cause_is_reported_once_and_nothing_is_left(broken_start: Ran) -> None:
    failures, _, _ = broken_start.out.partition("modelops matrix")
    assert failures.count("worker-0 exited with code 1") == 1
    assert failures.count("Full log: ") == 1
    assert "✗ start" in matrix_of(broken_start)
    assert broken_start.left == []
    assert len(broken_start.clusters) == 1


def test_tests_that_are_selected_alone_on_a_broken_cell_fail_with_its_cause_and_no_traceback(project: Project) -> None:
    project.configure(BROKEN)
    project.write("test_mine.py", ON_A_BROKEN_CELL)
    ran = project.matrix("modelops::test_lambda", "test_mine.py")
    words = {test.partition("[")[0]: word for test, word in ran.results.items()}
    assert words == {
        "modelops::test_lambda": "FAILED",
        **{f"test_mine.py::{test}": "FAILED" for test in MINE_BLOCKED},
        "test_mine.py::test_in_a_fixture": "ERROR",
        "test_mine.py::test_that_needs_no_cluster": "PASSED",
    }
    failures, _, _ = ran.out.partition("modelops matrix")
    assert failures.count(f"cell {project.cell}: start failed: ") == 4
    assert failures.count("worker-0 exited with code 1") == 4
    assert failures.count(f"\nreproduce: pytest --modelops-matrix 'modelops::test_start[{project.cell}]'") == 4
    assert "CellBroken" not in failures
    assert "pytest_modelops/" not in failures
    assert f"pytest --modelops-matrix 'modelops::test_start[{project.cell}]'" in matrix_of(ran)
    assert ran.cell(project.cell)["first_broken"] == "start"
    assert ran.code == pytest.ExitCode.TESTS_FAILED


LEAVING = """
from pytest_modelops.backends.process import ProcessSandbox

close = ProcessSandbox.close

def leaving(self):
    return [*close(self), "process 4711 (of a test)"]

ProcessSandbox.close = leaving
"""


def test_what_a_cell_leaves_behind_is_an_error_of_its_last_test_and_red_in_the_matrix(project: Project) -> None:
    """Nothing can be left behind for real where the supervisor works, so here the sandbox only says so."""
    cells = project.configure_two()
    project.write("conftest.py", LEAVING)
    ran = project.matrix("modelops::test_start", "modelops::test_install")
    assert list(ran.results.items()) == [
        (f"modelops::test_install[{cells[0]}]", "PASSED"),
        (f"modelops::test_start[{cells[0]}]", "ERROR"),
        (f"modelops::test_install[{cells[1]}]", "PASSED"),
        (f"modelops::test_start[{cells[1]}]", "ERROR"),
    ]
    assert matrix_of(ran).count("✗ stop") == 2
    for cell in cells:
        assert f"cell {cell}: after stopping the cell, this was left: process 4711 (of a test)\n" in ran.out
        assert ran.checks(cell)["start"] == "passed"
        assert ran.checks(cell)["stop"] == "failed"
    assert ran.code == pytest.ExitCode.TESTS_FAILED


INTERRUPTED = """
import os, signal

def test_interrupted(modelops_cell):
    modelops_cell.call("lambda: 1")
    os.kill(os.getpid(), signal.SIGINT)
    modelops_cell.call("lambda: 1")
"""
LEFT_UP = """
from pytest_modelops.cell.lifecycle import Lifecycle

def leave_up(self, cluster, *, broke):
    note = f"cell {self._cell.id} was left up"
    self.notes.append(note)
    self.unreported.append(note)

Lifecycle._leave_up = leave_up
"""
"""Cells in processes cannot be left up."""


@pytest.mark.parametrize("xdist", [[], ["-n", "1"]], ids=["alone", "xdist"])
def test_what_an_interrupted_cell_leaves_behind_and_how_to_get_in_is_reported(
    project: Project, xdist: list[str]
) -> None:
    project.write("conftest.py", f"{LEAVING}{LEFT_UP}")
    project.write("test_upgrade.py", INTERRUPTED)
    ran = project.matrix("test_upgrade.py", *xdist)
    left = f"cell {project.cell}: after stopping the cell, this was left: process 4711 (of a test)"
    if xdist:  # its process is ended before it can report
        reported = ran.err
        assert f"modelops: {left}" in reported
        assert f"modelops: cell {project.cell} was left up" in reported
        return
    assert ran.code == pytest.ExitCode.INTERRUPTED
    assert f"{project.cell}: stop failed: after stopping the cell, this was left" in matrix_of(ran)
    assert ran.checks(project.cell)["stop"] == "failed"
    assert ran.checks(project.cell)["start"] == "passed"
    assert f"note: cell {project.cell} was left up" in matrix_of(ran)
    assert ran.cell(project.cell)["notes"] == [f"cell {project.cell} was left up"]
    assert "modelops: cell" not in ran.err, "reported once"


# --- the report ------------------------------------------------------------------------------------------------------


def test_a_relative_path_of_a_report_is_relative_to_where_it_was_written(project: Project) -> None:
    project.configure_quick()
    (project.path / "deep").mkdir()
    project.write("pytest.ini", "[pytest]\nmodelops_report = by/ini.json\n")
    project.enter("deep")
    ran = project.run("--modelops-matrix", "..")
    assert ran.code == 0
    assert f"report: {project.path / 'by' / 'ini.json'}" in ran.out
    ran = project.run("--modelops-matrix", "..", "--modelops-report=flag.json", "--modelops-report=../two.json")
    assert ran.code == 0
    reports = [project.path / "by/ini.json", project.path / "deep/flag.json", project.path / "two.json"]
    assert all(report.is_file() for report in reports)


def test_a_report_that_cannot_be_written_is_reported_and_is_exit_code_1(project: Project) -> None:
    project.configure_quick()
    project.write("file", "")
    ran = project.run("--modelops-matrix", "--modelops-report=file/report.json")
    assert ran.code == pytest.ExitCode.TESTS_FAILED
    assert "report could not be written: " in ran.out
    assert "modelops matrix" in ran.out
    assert "INTERNALERROR" not in ran.out + ran.err


def test_what_was_left_out_is_in_matrix_and_report(project: Project) -> None:
    cells = project.configure_quick()
    ran = project.matrix("--modelops-cell=py3.13-*")
    left: list[dict[str, Any]] = ran.report["left_out"]
    assert [one["id"] for one in left] == [cells[0], cells[2]]
    assert {one["reason"] for one in left} == {"not selected by --modelops-cell py3.13-*"}
    assert "left out: 2 cells: not selected by --modelops-cell py3.13-*" in matrix_of(ran)
    assert "modelops: 1 cell, 2 left out; " in ran.out
