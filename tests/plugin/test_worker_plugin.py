"""A configured worker plugin has a check; without one there is none. The one here is Dask's own, doing nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.names import CELL_CHECKS

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

PLUGIN = '[tool.modelops.worker-plugin]\nclass = "distributed:WorkerPlugin"\n'
HEALTHY = f'{PLUGIN}probe = "address"\nexpect = {{ "state.nthreads" = 1, "name" = "worker-0" }}\n'
CHECKS = (*CELL_CHECKS, "runtime")


def test_it_is_collected_once_a_cell_and_not_without_a_plugin(project: Project) -> None:
    assert project.collect().ids == project.checks_of(project.cell)
    ran = project.collect("-k", "runtime")
    assert (ran.code, ran.ids) == (5, [])
    cells = project.configure_two(HEALTHY)
    assert project.collect().ids == project.checks_of(*cells, check_names=CHECKS)
    assert project.collect("-k", "runtime").ids == project.checks_of(*cells, check_names=("runtime",))


def test_alone_it_runs_with_what_it_needs(project: Project) -> None:
    project.configure(f'{PLUGIN}probe = "address"\nexpect = {{ "state.nthreads" = 1 }}\n')
    ran = project.matrix(f"modelops::test_runtime[{project.cell}]")
    assert ran.code == 0, ran.out
    assert ran.results == {f"modelops::test_runtime[{project.cell}]": "PASSED"}
    passed = {name for name, status in ran.checks(project.cell).items() if status == "passed"}
    assert passed == {"resolve", "install", "start", "runtime"}
    assert ran.left == []


def test_a_failed_one_blocks_nothing_and_the_user_s_tests_come_after_it(project: Project) -> None:
    """The late worker is named otherwise, so it differs from what is asked."""
    project.configure(HEALTHY)
    project.write("test_it.py", "def test_it(modelops_cell):\n    assert modelops_cell.call('lambda: 1') == 1\n")
    ran = project.matrix("test_it.py")
    assert ran.code == 1
    assert ran.results == {"test_it.py::test_it" + f"[{project.cell}]": "PASSED"}
    cell = ran.cell(project.cell)
    assert (cell["status"], cell["first_broken"]) == ("failed", "runtime")
    [message] = [check["message"] for check in cell["checks"] if check["name"] == "runtime"]
    assert "on worker-late, which joined after the registration (worker-0 is as asked): asked for name" in message
    assert ran.left == []


@pytest.mark.parametrize("xdist", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_wrong_input_is_one_line_and_exit_4(project: Project, xdist: tuple[str, ...]) -> None:
    project.configure('[tool.modelops.worker-plugin]\nclass = "acme"\n')
    ran = project.matrix(*xdist)
    assert ran.code == 4
    assert (
        "pyproject.toml: [tool.modelops.worker-plugin] class: 'acme' is not an import path; write package.module:Class"
        in ran.err
    )
    assert ran.clusters == []


def test_its_deadline_is_known_also_where_there_is_no_plugin(project: Project) -> None:
    assert project.collect("--modelops-deadline", "runtime=5").code == 0
