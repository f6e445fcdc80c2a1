"""A user's own tests on the cells: markers, the fixture, and checks of one's own.

One project has a test for each promise, so that one cluster serves them all; each test here asks what became of one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.names import CELL_CHECKS

if TYPE_CHECKING:
    from tests.plugin.conftest import Once, Project, Ran

CONFTEST = """
import json
from pathlib import Path

import pytest
from pytest_modelops.checks.base import Check

kept = []

@pytest.fixture(scope="session")
def table(modelops_cell):
    modelops_cell.call("lambda: __import__('builtins').__dict__.setdefault('table', [])")
    yield modelops_cell
    cluster = modelops_cell.call("lambda: __import__('distributed').get_worker().scheduler.address")
    Path(__file__).with_name("finalised.txt").write_text(cluster)

def twice(cell, deadline):
    assert cell.call("lambda x: 2 * x", 21) == 42
    return {"answer": 42}

def wrong(cell, deadline):
    answer = cell.call("lambda x: 2 * x", 21)
    assert answer == 43, "two times twenty-one"

def pytest_modelops_checks(checks, config):
    checks.insert(0, Check(name="twice", run=twice, needs=("lambda",), summary="twice is twice"))
    checks.append(Check(name="wrong", run=wrong, needs=("start",)))
    checks.append(Check(name="after-wrong", run=twice, needs=("wrong",)))
    checks.append(Check(name="returns", run=lambda cell, deadline: 42))

def pytest_unconfigure(config):
    statuses = [client.status for client in kept]
    if statuses:
        Path(__file__).with_name("clients.json").write_text(json.dumps(statuses))
"""

TESTS = """
import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FACTOR = 2


def double(x):
    return times(x)


def times(x):
    return FACTOR * x


def pid():
    return os.getpid()


def touch(directory):
    Path(directory, f"pid-{os.getpid()}").touch()


def deep_trouble(n):
    if n:
        return deep_trouble(n - 1)
    raise LookupError("nothing down here")


def log(name):
    import time
    with open(HERE_TEXT + "/order.txt", "a") as file:
        file.write(name + "\\n")


HERE_TEXT = str(HERE)
outside = object()


def uses_an_object():
    return outside


def closing(n):
    return lambda x: x + n


# Markers

@pytest.mark.modelops_lambda("lambda x: x + 1", 41, expect=42)
def test_marker_source():
    pass


@pytest.mark.modelops_lambda(lambda x: x + 1, 41, expect=42)
def test_marker_lambda(modelops_cell):
    pass


@pytest.mark.modelops_lambda(double, 21, expect=42)
def test_marker_function():
    pass


@pytest.mark.modelops_lambda(touch, HERE_TEXT)
def test_marker_on_each_worker(modelops_cell):
    pids = {path.name.removeprefix("pid-") for path in HERE.glob("pid-*")}
    assert pids == set(map(str, modelops_cell.call_each(pid).values()))
    assert len(pids) == 2


@pytest.mark.modelops_lambda("lambda: 41", expect=42)
def test_marker_wrong_value():
    (HERE / "body-ran").touch()


@pytest.mark.modelops_lambda(deep_trouble, 2)
def test_marker_raises():
    (HERE / "body-ran").touch()


@pytest.mark.modelops_lambda("lambda: __import__('time').sleep(1)", deadline=0.2)
def test_marker_too_late():
    (HERE / "body-ran").touch()


@pytest.mark.modelops_aggregation(params=2, replicates=3)
def test_marker_aggregation():
    pass


@pytest.mark.modelops_aggregation(params=50, replicates=20, deadline=0.5)
def test_marker_aggregation_too_late():
    (HERE / "body-ran").touch()


@pytest.mark.modelops_lambda(log, "class")
class TestOfAClass:
    @pytest.mark.modelops_lambda(log, "upper")
    @pytest.mark.modelops_lambda(log, "lower")
    def test_order(self, modelops_cell):
        lines = (HERE / "order.txt").read_text().splitlines()
        assert list(dict.fromkeys(lines)) == ["class", "upper", "lower"]
        assert lines.count("class") == 2

    def test_without_the_fixture(self):
        assert (HERE / "order.txt").read_text().splitlines().count("class") == 4


# The fixture

def test_call(modelops_cell):
    assert modelops_cell.call(double, 21) == 42
    assert modelops_cell.call(lambda x: FACTOR * x, 21) == 42
    assert modelops_cell.call("lambda x: 2 * x", 21) == 42


def test_call_each(modelops_cell):
    assert modelops_cell.workers == ("worker-0", "worker-1")
    pids = modelops_cell.call_each(pid)
    assert list(pids) == ["worker-0", "worker-1"]
    assert len(set(pids.values()) - {os.getpid()}) == 2
    for worker in modelops_cell.workers:
        assert modelops_cell.call(pid, worker=worker) == pids[worker]


def test_values(modelops_cell):
    value = {"a": [None, True, 1, -0.5, 2**80], ("t", 1): {b"bytes", 3 + 4j}, "u": "ü\\ud800"}
    back = modelops_cell.call("lambda x: x", value)
    assert back == value
    assert type(back["a"][1]) is bool


def test_logs(modelops_cell):
    modelops_cell.call("lambda: print('heard on the worker')", worker="worker-1")
    assert set(modelops_cell.logs) == {"scheduler", "worker-0", "worker-1", "agent"}
    assert "heard on the worker" in modelops_cell.logs["worker-1"].read_text()


def test_client(modelops_cell):
    from conftest import kept
    from distributed import Client

    client = modelops_cell.client()
    kept.append(client)
    assert isinstance(client, Client)
    assert client.submit(pow, 2, 5).result(timeout=20) == 32
    assert len(client.scheduler_info()["workers"]) == 2


def test_session_fixture(table):
    cluster = table.call("lambda: __import__('distributed').get_worker().scheduler.address")
    (HERE / "cluster.txt").write_text(cluster)


def test_remote_error(modelops_cell):
    modelops_cell.call(deep_trouble, 3)


def test_unknown_worker(modelops_cell):
    modelops_cell.call(pid, worker="worker-7")


def test_late_call(modelops_cell):
    modelops_cell.call("lambda: __import__('time').sleep(1)", deadline=0.2)


@pytest.mark.xfail(reason="it is known to be slow")
def test_late_call_that_was_expected(modelops_cell):
    modelops_cell.call("lambda: __import__('time').sleep(1)", deadline=0.2)


@pytest.mark.modelops_lambda("lambda x: __import__('time').sleep(1)", 1, expect=None, deadline=0.2)
def test_late_marker(modelops_cell):
    raise AssertionError("the body was run")


@pytest.fixture
def late(modelops_cell):
    modelops_cell.call("lambda: __import__('time').sleep(1)", deadline=0.2)


def test_late_fixture(late):
    raise AssertionError("the body was run")


def test_closure(modelops_cell):
    modelops_cell.call(closing(1), 1)


def test_global_object(modelops_cell):
    modelops_cell.call(uses_an_object)


def test_value_there(modelops_cell):
    modelops_cell.call(double, {"key": [outside]})


def test_value_back(modelops_cell):
    modelops_cell.call("lambda: {'key': object()}")


def test_cell_after_all_that(modelops_cell):
    assert modelops_cell.call(double, 21) == 42
"""

MODULE = """
import pytest

pytestmark = [pytest.mark.modelops_lambda("lambda: 41", expect=42), pytest.mark.modelops_cells("py*")]

def test_of_a_module():
    raise AssertionError("the body ran")
"""

GREEN = [
    *("marker_source", "marker_lambda", "marker_function", "marker_on_each_worker", "marker_aggregation"),
    *("call", "call_each", "values", "logs", "client", "session_fixture", "cell_after_all_that"),
]


@pytest.fixture
def ran(project: Project, once: Once) -> Ran:
    def run() -> Ran:
        project.configure("[tool.modelops.environment]\nenv = { MINE = '1' }\n")
        project.write("conftest.py", CONFTEST)
        project.write("test_mine.py", TESTS)
        project.write("test_module.py", MODULE)
        check_names = [f"modelops::test_{name}" for name in ("lambda", "twice", "wrong", "after_wrong", "returns")]
        ran = project.matrix("--modelops-workers=2", *check_names, "test_mine.py", "test_module.py", "-rA")
        for name in ("finalised.txt", "cluster.txt", "clients.json", "body-ran"):
            path = project.path / name
            ran.report[name] = path.read_text(encoding="utf-8") if path.exists() else None
        return ran

    return once(run)


def failure(ran: Ran, test: str) -> str:
    """What pytest prints of a failed test."""
    _, _, rest = ran.out.partition(f"_ {test}")
    assert rest, f"{test} did not fail"
    lines = rest.splitlines()[1:]
    end = next(number for number, line in enumerate(lines) if line.startswith(("____", "====")))
    return "\n".join(lines[:end])


@pytest.mark.parametrize("name", GREEN)
def test_green(ran: Ran, name: str) -> None:
    assert ran.results[f"test_mine.py::test_{name}[{ran.report['cells'][0]['id']}]"] == "PASSED"


def test_all_of_it_took_one_cluster_of_which_nothing_is_left(ran: Ran) -> None:
    assert len(ran.clusters) == 1
    assert ran.left == []


OURS = r"pytest_modelops/"
DEEP = ["LookupError", "nothing down here"]


@pytest.mark.parametrize(
    ("test", "patterns", "absent"),
    [
        # markers
        ("test_of_a_module", ["returned 41, not 42"], "the body ran"),
        ("test_marker_wrong_value", ["lambda: 41", "returned 41, not 42", "worker-0", "worker-1"], OURS),
        ("test_marker_raises", [*DEEP, "(in deep_trouble.*){3}"], ""),
        ("test_marker_too_late", [r"worker-0[^\n]* not finish(ed)? within 0\.2 s"], ""),
        ("test_marker_aggregation_too_late", [r"within 0\.5 s"], ""),
        # calls: errors of the cell with its traceback, what cannot travel by name, an unknown worker with those known
        ("test_remote_error", [*DEEP, r"modelops_cell\.call\(deep_trouble, 3\)", "(in deep_trouble.*){4}"], OURS),
        ("test_unknown_worker", ["has no worker 'worker-7'; it has worker-0, worker-1"], ""),
        ("test_closure", ["closes over 'n'", r"test_mine\.py:"], OURS),
        ("test_global_object", ["'outside'", "object"], OURS),
        ("test_value_there", ["argument 1", "key", "object"], OURS),
        ("test_value_back", ["'key'", "object"], OURS),
        # checks of the user's
        ("test_wrong", ["two times twenty-one", "assert 42 == 43", "reproduce: pytest --modelops-matrix"], ""),
        ("test_returns", ["the check returned 42; it may return a dict of figures"], ""),
    ],
    ids=lambda value: value if str(value).startswith("test_") else "",
)
def test_a_failure_says_why(ran: Ran, test: str, patterns: list[str], absent: str) -> None:
    text = failure(ran, test)
    for pattern in patterns:
        assert re.search(pattern, text, re.DOTALL), pattern
    assert not absent or absent not in text


# --- markers ------------------------------------------------------------------------------------------------------


def test_markers_of_class_and_function_are_performed_from_the_outside_in(ran: Ran) -> None:
    cell = ran.report["cells"][0]["id"]
    assert ran.results[f"test_mine.py::TestOfAClass::test_order[{cell}]"] == "PASSED"
    assert ran.results[f"test_mine.py::TestOfAClass::test_without_the_fixture[{cell}]"] == "PASSED"


def test_a_body_does_not_run_when_its_marker_failed(ran: Ran) -> None:
    assert ran.report["body-ran"] is None


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ('@pytest.mark.modelops_cells("py3.13-*")', [1]),
        ('@pytest.mark.modelops_cells("py3.13-*", "py3.12-*")', [0, 1]),
        ('@pytest.mark.modelops_cells("py3.1[34]-*")\n@pytest.mark.modelops_cells("py3.1[23]-*")', [1]),
    ],
    ids=["one", "several", "both"],
)
def test_a_test_is_narrowed_to_cells(project: Project, marks: str, expected: list[int]) -> None:
    cells = project.configure_quick()
    project.write("test_mine.py", f"import pytest\n{marks}\ndef test_mine(): pass\n")
    ids = project.collect("test_mine.py").ids
    assert ids == [f"test_mine.py::test_mine[{cells[number]}]" for number in expected]


@pytest.mark.parametrize("setting", ["skip", "xfail", "fail_at_collect"])
@pytest.mark.parametrize("narrowed", ["--modelops-cell={}", "--modelops-python=3.12"])
def test_a_test_whose_cells_are_not_in_this_run_is_skipped_and_says_so(
    project: Project, setting: str, narrowed: str
) -> None:
    cells = project.configure_quick()
    project.write("pytest.ini", f"[pytest]\nempty_parameter_set_mark = {setting}\n")
    project.write(
        "test_mine.py", 'import pytest\n@pytest.mark.modelops_cells("py3.13-*")\ndef test_mine(modelops_cell): 1 / 0\n'
    )
    ran = project.matrix(narrowed.format(cells[0]), "modelops", "test_mine.py", "-rs")
    assert ran.code == 0
    assert ran.results == {
        **dict.fromkeys(project.checks_of(cells[0], check_names=project.quick_checks), "PASSED"),
        "test_mine.py::test_mine[no-cell]": "SKIPPED",
    }
    assert "this run has none of the cells that its markers match" in ran.out


def test_a_unittest_class_is_refused_because_it_would_run_once_and_not_for_each_cell(project: Project) -> None:
    project.write(
        "test_mine.py",
        "import pytest, unittest\n\nclass Mine(unittest.TestCase):\n"
        "    @pytest.mark.modelops_lambda('lambda: 1')\n    def test_mine(self): pass\n",
    )
    ran = project.matrix("test_mine.py")
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert "test_mine.py::Mine::test_mine: pytest runs the tests of a unittest.TestCase once" in ran.err


def test_asking_for_the_cell_while_a_test_runs_says_what_to_do(project: Project) -> None:
    project.write("test_mine.py", "def test_mine(request): request.getfixturevalue('modelops_cell')\n")
    ran = project.matrix("test_mine.py")
    assert ran.results == {"test_mine.py::test_mine": "FAILED"}
    assert "name it among the test's arguments" in failure(ran, "test_mine")


# --- the fixture --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", ["test_late_call", "test_late_marker", "test_late_fixture"])
def test_the_deadline_of_a_call_is_kept(ran: Ran, test: str) -> None:
    assert " within 0.2 s" in failure(ran, test)
    assert {word for node, word in ran.results.items() if f"::{test}[" in node} == {"TIMED-OUT"}
    statuses = {
        check["status"]
        for cell in ran.report["cells"]
        for check in cell["checks"]
        if check["name"].endswith(f"::{test}")
    }
    assert statuses == {"timed-out"}


def test_a_deadline_that_was_expected_to_pass_breaks_nothing(ran: Ran) -> None:
    test = "test_late_call_that_was_expected"
    assert {word for node, word in ran.results.items() if f"::{test}[" in node} == {"XFAIL"}


def test_a_client_is_closed_with_its_cell(ran: Ran) -> None:
    assert ran.report["clients.json"] == '["closed"]'


def test_a_session_fixture_on_a_cell_is_finalised_before_the_cell_is_stopped(ran: Ran) -> None:
    assert ran.report["finalised.txt"]
    assert ran.report["finalised.txt"] == ran.report["cluster.txt"]


def test_a_client_for_other_versions_is_refused_with_what_differs(building_project: Project) -> None:
    project = building_project
    other = "2024.10.0" if project.dask != "2024.10.0" else "2024.8.0"
    project.write("test_mine.py", "def test_mine(modelops_cell): modelops_cell.client()\n")
    ran = project.matrix(f"--modelops-dask={other}", "test_mine.py")
    text = failure(ran, "test_mine")
    if "no index answered" in text:
        pytest.skip("this machine has no index")
    assert f"a client of this pytest cannot speak with cell py{project.patch}-dask{other}: " in text
    assert f"dask {project.dask} here, {other} in the cell" in text
    assert f"distributed {project.dask} here, {other} in the cell" in text
    assert "Use modelops_cell.call, which runs in the cell's own Python" in text


# --- checks of one's own -------------------------------------------------------------------------------------------


def test_a_check_of_the_users_comes_after_what_it_needs(project: Project) -> None:
    project.write("conftest.py", CONFTEST)
    needed = ("resolve", "install", "start", "lambda")
    names = [*needed, "twice", *(name for name in CELL_CHECKS if name not in needed), "wrong", "after_wrong", "returns"]
    assert project.collect().ids == [f"modelops::test_{name}[{project.cell}]" for name in names]


def test_a_check_of_the_users_passes_and_its_figures_are_reported(ran: Ran) -> None:
    (check,) = (check for check in ran.report["cells"][0]["checks"] if check["name"] == "twice")
    assert check["status"] == "passed"
    assert check["data"] == {"answer": 42}


def test_a_check_of_the_users_blocks_those_that_need_it(ran: Ran) -> None:
    assert ran.checks(ran.report["cells"][0]["id"])["after-wrong"] == "blocked"


def test_a_check_has_a_deadline_that_can_be_set(project: Project) -> None:
    project.configure("[tool.modelops.deadlines]\nmine = 7\n")
    project.write(
        "conftest.py",
        "from pytest_modelops.checks.base import Check\n\n"
        "def mine(cell, deadline):\n    return {'seconds': deadline.seconds}\n\n"
        "def pytest_modelops_checks(checks):\n    checks.append(Check(name='mine', run=mine))\n",
    )
    for arguments, seconds in ([], 7.0), (["--modelops-deadline=mine=8"], 8.0):
        ran = project.matrix("modelops::test_mine", *arguments)
        assert ran.report["cells"][0]["checks"][-1]["data"] == {"seconds": seconds}
