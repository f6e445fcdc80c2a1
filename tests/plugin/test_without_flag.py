"""Without `--modelops-matrix` the plugin does nothing and costs nothing; tests for cells are skipped."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Once, Project, Ran

MARKED = """
import pytest

pytestmark = {module}

@pytest.fixture
def built_on_it(modelops_cell):
    raise AssertionError("must not be set up")

def test_with_the_fixture(modelops_cell):
    raise AssertionError("must not run")

def test_with_a_fixture_of_its_own(built_on_it):
    raise AssertionError("must not run")

@pytest.mark.modelops_lambda("lambda x: x + 1", 41, expect=42)
def test_with_a_lambda():
    raise AssertionError("must not run")

@pytest.mark.modelops_aggregation(params=2)
def test_with_an_aggregation():
    raise AssertionError("must not run")

@pytest.mark.modelops_cells("py3.12-*")
def test_narrowed():
    raise AssertionError("must not run")

@pytest.mark.modelops_lambda("lambda: 1")
class TestMarked:
    def test_in_a_class(self):
        raise AssertionError("must not run")
"""

WRITE_MODULES = """
import json, sys

def pytest_unconfigure():
    with open("modules.json", "w") as file:
        json.dump(sorted(sys.modules), file)
"""

WRITE_LOADERS = """
import json, sys

def pytest_unconfigure():
    loaders = {name: getattr(module, "__loader__", None) for name, module in sys.modules.items()}
    with open("loaders.json", "w") as file:
        json.dump({name: type(loader).__name__ for name, loader in loaders.items()}, file)
"""


@pytest.fixture
def skipped(project: Project, once: Once) -> Ran:
    def run() -> Ran:
        project.write("test_marked.py", MARKED.format(module="[]"))
        project.write(
            "test_module.py",
            "import pytest\npytestmark = pytest.mark.modelops_lambda('lambda: 1')\ndef test_it(): assert False\n",
        )
        project.write("test_other.py", "def test_of_something_else(): pass\n")
        return project.run("-v", "-rs", "--strict-markers")

    return once(run)


def test_tests_for_cells_are_skipped_and_the_rest_runs(skipped: Ran) -> None:
    assert skipped.code == 0
    assert skipped.results == {
        "test_marked.py::test_with_the_fixture": "SKIPPED",
        "test_marked.py::test_with_a_fixture_of_its_own": "SKIPPED",
        "test_marked.py::test_with_a_lambda": "SKIPPED",
        "test_marked.py::test_with_an_aggregation": "SKIPPED",
        "test_marked.py::test_narrowed": "SKIPPED",
        "test_marked.py::TestMarked::test_in_a_class": "SKIPPED",
        "test_module.py::test_it": "SKIPPED",
        "test_other.py::test_of_something_else": "PASSED",
    }


def test_the_reason_names_the_flag(skipped: Ran) -> None:
    reasons = [line for line in skipped.out.splitlines() if line.startswith("SKIPPED [")]
    assert reasons
    assert all(line.endswith(": runs only with --modelops-matrix") for line in reasons)


def test_the_header_is_silent(skipped: Ran) -> None:
    header = skipped.out.partition("collecting")[0]
    assert not [line for line in header.splitlines() if "modelops" in line and not line.startswith("plugins:")]


def test_no_matrix_is_printed_and_nothing_written(project: Project, skipped: Ran) -> None:
    assert "modelops matrix" not in skipped.out
    assert not skipped.clusters
    assert not project.cache.exists()


def test_a_test_that_asks_for_the_cell_while_it_runs_is_skipped_too(project: Project) -> None:
    project.write("test_late.py", "def test_late(request): request.getfixturevalue('modelops_cell')\n")
    ran = project.run("-rs")
    assert ran.code == 0
    assert "runs only with --modelops-matrix" in ran.out


def test_a_marker_that_there_is_not_stays_an_error_under_strict_markers(project: Project) -> None:
    project.write("test_typo.py", "import pytest\n@pytest.mark.modelops_lamda('x')\ndef test_typo(): pass\n")
    ran = project.run("--strict-markers")
    assert ran.code == pytest.ExitCode.INTERRUPTED
    assert "'modelops_lamda' not found in `markers`" in ran.out


def test_nothing_is_imported_but_the_plugins_face_and_the_standard_library(project: Project) -> None:
    project.write("conftest.py", WRITE_MODULES)
    project.write("test_marked.py", MARKED.format(module="[]"))

    project.fresh = True

    def imported(*arguments: str) -> set[str]:
        assert project.run(*arguments).code in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
        return set(json.loads((project.path / "modules.json").read_text(encoding="utf-8")))

    brought = imported() - imported("-p", "no:modelops")
    foreign = {name for name in brought if name.partition(".")[0] not in sys.stdlib_module_names}
    assert foreign == {
        "pytest_modelops",
        "pytest_modelops.errors",
        "pytest_modelops.fixtures",
        "pytest_modelops.hookspecs",
        "pytest_modelops.markers",
        "pytest_modelops.config",
        "pytest_modelops.config.attach",
        "pytest_modelops.config.file",
        "pytest_modelops.config.matrix_table",
        "pytest_modelops.config.options",
        "pytest_modelops.config.outcome_types",
        "pytest_modelops.config.setting",
        "pytest_modelops.config.parsing",
        "pytest_modelops.config.settings",
        "pytest_modelops.config.types",
        "pytest_modelops.plugin",
        "pytest_modelops.report",
        "pytest_modelops.report.targets",
    }


def test_with_it_what_is_imported_is_loaded_by_python_itself(project: Project) -> None:
    """pytest would compile it in each run of a Python that must not write bytecode."""
    project.fresh = True
    project.write("conftest.py", WRITE_LOADERS)
    assert project.collect().code == 0
    loaders = json.loads((project.path / "loaders.json").read_text(encoding="utf-8"))
    assert loaders["pytest_modelops.session.run"] == "SourceFileLoader"
    assert loaders["xdist.plugin"] == "AssertionRewritingHook"


def test_markers_are_listed_with_their_arguments_and_what_they_do(project: Project) -> None:
    ran = project.run("--markers")
    ours = re.findall(r"^@pytest\.mark\.(modelops_.*?): (.+)$", ran.out, re.MULTILINE)
    assert [usage for usage, _ in ours] == [
        "modelops_cells(*globs)",
        "modelops_lambda(function, *args, expect=<anything>, deadline=<seconds>)",
        "modelops_aggregation(params=20, replicates=20, deadline=<seconds>)",
        "modelops_fault(fault, at=0.5, seconds=2, fails=<pattern>)",
        "modelops_bundle(path, deadline=<seconds>)",
        "modelops_handshake(path, deadline=<seconds>)",
    ]
    assert all(text.endswith(".") for _, text in ours)


def test_the_fixture_is_listed_with_what_it_is(project: Project) -> None:
    ran = project.run("--fixtures", "-v")
    _, _, ours = ran.out.partition("fixtures defined from pytest_modelops.fixtures")
    assert "modelops_cell [session scope]" in ours
    assert "real Dask scheduler and real workers; the test runs once for each cell of the matrix" in ours
    assert "`modelops_cell.call(f, *args)` runs a function on one worker" in ours


@pytest.mark.parametrize("arguments", [["--help"], ["--help", "--modelops-matrix"]])
def test_the_help_has_the_flags_whatever_is_configured(project: Project, arguments: list[str]) -> None:
    project.configure("[tool.modelops.matrix]\nthis-is-wrong = 1\n")
    ran = project.run(*arguments)
    assert ran.code == 0
    _, _, ours = ran.out.partition("Dask version matrix (pytest-modelops):")
    assert "--modelops-matrix" in ours
    assert "--modelops-plan" in ours


def test_what_is_wrong_in_the_table_disturbs_no_other_run(project: Project) -> None:
    project.configure("[tool.modelops.matrix]\nthis-is-wrong = 1\n")
    project.environ(PYTEST_MODELOPS_FOO="1")
    project.write("test_other.py", "def test_of_something_else(): pass\n")
    assert project.run().code == 0
