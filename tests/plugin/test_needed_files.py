"""A matrix run imports the test files that have to do with cells, and no other, unless it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

BROKEN = "import no_such_module\n\ndef test_broken():\n    pass\n"
FIXTURE = "import pytest\n\n@pytest.fixture{}\ndef table(modelops_cell):\n    return modelops_cell\n"
USES = "def test_uses(table):\n    pass\n"


@pytest.fixture
def checks(project: Project) -> list[str]:
    project.configure_quick()
    return project.checks_of(f"py3.12-dask{project.dask}", check_names=project.quick_checks)


def collected(project: Project, *arguments: str) -> list[str]:
    ran = project.collect("--modelops-cell=py3.12-*", *arguments)
    assert ran.code == 0, ran.out
    return [test.partition("[")[0] for test in ran.ids if not test.startswith("modelops::")]


def test_what_is_wrong_elsewhere_keeps_no_check_from_running(project: Project, checks: list[str]) -> None:
    project.write("tests/test_broken.py", BROKEN)
    project.write("tests/deep/conftest.py", "import no_such_module\n")
    project.write("tests/deep/test_deep.py", BROKEN)
    project.write("bundle/pyproject.toml", '[project]\nname = "sim"\nversion = "1"\n')
    project.write("bundle/tests/test_sim.py", "import sim\n")
    project.write("bundle/sim_doc.py", '"""\n>>> 1\n2\n"""\nimport no_such_module\n')
    project.write("tests/test_cell.py", "def test_cell(modelops_cell):\n    pass\n")
    project.write("tests/cache/installs/test_cell.py", "def test_of_a_bundle(modelops_cell):\n    pass\n")
    cache = project.path / "tests/cache"
    ran = project.matrix("--modelops-cell=py3.12-*", "--doctest-modules", f"--modelops-cache={cache}")
    assert ran.code == 0
    assert [*ran.results] == [*checks, checks[0].replace("modelops::test_first", "tests/test_cell.py::test_cell")]
    assert "not imported: " in ran.out


@pytest.mark.parametrize("asked", ["tests/test_broken.py", "tests/test_broken.py::test_broken"])
def test_a_file_that_is_asked_for_is_collected(project: Project, checks: list[str], asked: str) -> None:
    project.write("tests/test_broken.py", BROKEN)
    ran = project.collect(asked)
    assert ran.code != 0
    assert "no_such_module" in ran.out


def test_a_directory_that_is_asked_for_and_has_no_such_test_is_no_error(project: Project, checks: list[str]) -> None:
    project.write("tests/unit/test_broken.py", BROKEN)
    assert collected(project, "tests/unit") == []


def test_what_leads_to_a_cell_in_another_file_is_found(project: Project, checks: list[str]) -> None:
    """A false "not needed" would be a test that silently does not run."""
    project.write("fixture/conftest.py", FIXTURE.format(""))
    project.write("fixture/deep/test_fixture.py", USES)
    project.write("autouse/conftest.py", FIXTURE.format("(autouse=True)"))
    project.write("autouse/deep/test_autouse.py", "def test_it():\n    pass\n")
    project.write("helpers/__init__.py", "")
    project.write("helpers/base.py", "class Base:\n    def test_inherited(self, modelops_cell):\n        pass\n")
    project.write("helpers/marks.py", "import pytest\n\nrun = pytest.mark.modelops_lambda('lambda: 1')\n")
    project.write("helpers/more.py", "from .marks import run\n")
    project.write("inherits/test_inherits.py", "from helpers.base import Base\n\nclass TestIt(Base):\n    pass\n")
    project.write("marked/test_marked.py", "from helpers import more\n\n@more.run\ndef test_it():\n    pass\n")
    project.write("other/test_other.py", BROKEN)
    assert sorted(collected(project, "-o", f"pythonpath={project.path}")) == [
        "autouse/deep/test_autouse.py::test_it",
        "fixture/deep/test_fixture.py::test_uses",
        "inherits/test_inherits.py::TestIt::test_inherited",
        "marked/test_marked.py::test_it",
    ]
