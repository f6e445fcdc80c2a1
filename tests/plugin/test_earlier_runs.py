"""What a run takes from the last one, and what it leaves out because nothing in git has touched it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project, Ran


def taken(ran: Ran) -> set[str]:
    """Ids of the cells that the report shows as taken."""
    assert ran.report, ran.out + ran.err
    return {cell["id"] for cell in ran.report["cells"] if cell["taken"] is not None}


def reasons(ran: Ran) -> dict[str, str]:
    """Why each other cell was not taken."""
    return {cell["id"]: cell["not_taken"] for cell in ran.report["cells"] if cell["taken"] is None}


MINE = """
import json
from pathlib import Path
import helper

def test_mine(modelops_cell):
    assert helper.value
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_cells_that_passed_are_taken_and_all_others_run(project: Project, workers: tuple[str, ...]) -> None:
    first, second, third = project.configure_quick()
    project.end(**{f"second[{second}]": "failed"})
    project.write("helper.py", "value = 1\n")
    project.write("test_mine.py", MINE)
    trusting = ("--modelops-trust-last", "--modelops-report=out", *workers)
    ran = project.matrix(*trusting)
    assert taken(ran) == set()
    assert set(reasons(ran).values()) == {"there is no earlier run of this configuration"}
    began = ran.report["started"]

    project.end(**{f"first[{first}]": "failed"})  # would fail if it ran
    ran = project.matrix(*trusting)
    assert ran.code == 0, ran.out
    assert taken(ran) == {first, third}
    assert reasons(ran) == {second: f"its status was failed in the run of {began}"}
    assert {cell["taken"] for cell in ran.report["cells"]} == {began, None}
    assert set(ran.checks(first).values()) == {"passed"}
    words = {test: word for test, word in ran.results.items() if first in test}
    assert set(words.values()) == {"TAKEN"}
    assert f"not run, taken from the run of {began}: {first}, {third}" in " ".join(ran.out.split())
    assert f"run, since its status was failed in the run of {began}: {second}" in " ".join(ran.out.split())
    assert "10 taken" in ran.out
    verdict = "All 3 cells passed; 2 taken from an earlier run."
    out = project.path / "out"
    for name in ("report.html", "report.md"):
        assert verdict in (out / name).read_text(encoding="utf-8")
    assert f"from the run of {began}" in (out / "report.md").read_text(encoding="utf-8")
    case = next(
        one
        for one in ElementTree.parse(out / "junit.xml").iter("testcase")
        if one.get("name") == f"test_first[{first}]"
    )
    assert case.find("skipped") is not None
    properties = {one.get("name"): one.get("value") for one in case.findall("properties/property")}
    assert (properties["modelops.taken"], properties["modelops.status"]) == (began, "passed")

    merged = subprocess.run(  # a cell that was taken is not missing
        [sys.executable, "-m", "pytest_modelops", "merge", "out", "-o", "all.json"],
        cwd=project.path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (merged.returncode, merged.stdout.strip().splitlines()[0]) == (0, verdict), merged.stderr

    if workers:
        return
    ran = project.matrix(*trusting, "--modelops-baseline", "last")
    assert taken(ran) == {first, second, third}
    assert {cell["taken"] for cell in ran.report["cells"]} == {began, *{ran.report["comparison"]["started"]}}
    assert ran.out.count("Nothing newly broken in 3 cells; 3 taken from an earlier run.") == 1


def test_a_data_file_or_a_module_by_name_that_changed_runs_the_cells_again(project: Project) -> None:
    cells = {*project.configure_quick()}
    project.end()
    for name in ("limits.json", "helper.py"):
        project.write(name, "value = 1\n")
    project.write(
        "test_mine.py",
        """
        import importlib
        helper = importlib.import_module("helper")

        def test_mine(modelops_cell):
            with open("limits.json") as file:
                assert file.read()
        """.replace("\n        ", "\n"),
    )
    assert taken(project.matrix("--modelops-trust-last")) == set()
    for name in ("limits.json", "helper.py"):
        assert taken(project.matrix("--modelops-trust-last")) == cells
        project.write(name, "value = 22\n")
        ran = project.matrix("--modelops-trust-last")
        assert taken(ran) == set()
        assert all(why.startswith("files of test_mine.py::test_mine changed") for why in reasons(ran).values())


def test_a_real_cell_is_taken_without_starting_anything_and_runs_again_once_its_bundle_changed(
    building_project: Project,
) -> None:
    project = building_project
    tables = f'[tool.modelops.matrix]\npython = ["{project.patch}"]\ndask = ["{project.dask}"]\n'
    lists = 'bundles = ["one", { path = "two", install = "workers" }]\ntrust-last = true\n'
    project.configure(project.small.replace("workers = 1\n", f"workers = 1\n{lists}") + tables, small=False)
    for name in ("one", "two"):
        project.write(f"{name}/{name}_models.py", "x = 1\n")  # loose modules, which nothing has to build
    project.write("helper.py", "value = 1\n")
    project.write("test_mine.py", MINE)
    ran = project.matrix()
    assert (ran.code, ran.clusters) == (0, [project.cell]), ran.out
    began, before = ran.report["started"], ran.checks(project.cell)
    assert {*before.values()} == {"passed"}

    ran = project.matrix()
    assert (ran.code, ran.clusters, ran.left) == (0, [], []), ran.out
    assert [(cell["taken"], cell["status"]) for cell in ran.report["cells"]] == [(began, "passed")]
    assert ran.checks(project.cell) == before
    assert "test_mine.py::test_mine" in before
    assert "s: 1 taken" in ran.out

    began = ran.report["started"]
    project.write("one/one_models.py", "x = 2\n")
    ran = project.matrix()
    assert (ran.code, ran.clusters) == (0, [project.cell]), ran.out
    assert reasons(ran) == {project.cell: f"bundle one changed since the run of {began}"}


def test_users_tests_and_hooks_are_part_of_what_was_run(project: Project) -> None:
    cells = project.configure_quick()
    project.write("helper.py", "value = 1\n")
    project.write("test_mine.py", MINE)

    def why() -> str:
        ran = project.matrix("--modelops-trust-last", "-k", "first or second or test_mine")
        assert ran.code == 0, ran.out
        if not taken(ran):
            (reason,) = set(reasons(ran).values())
            return reason.partition(" since the run of ")[0]
        assert taken(ran) == set(cells)
        assert "test_mine.py::test_mine" in ran.checks(cells[0])
        return "taken"

    assert why() == "there is no earlier run of this configuration"
    assert why() == "taken"
    project.write("helper.py", "value = 2\n")
    assert why() == "files of test_mine.py::test_mine changed"
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + "\n# checks are not what they were\n")
    assert why() == "hooks changed"
    ran = project.matrix("--modelops-trust-last", "-k", "first or third")
    (reason,) = set(reasons(ran).values())
    assert reason.startswith("third did not pass in the run of ")


def test_fresh_and_trust_contradict_each_other_and_the_key_is_private(project: Project) -> None:
    project.configure_quick()
    assert "leave out one" in project.run("--modelops-matrix", "--modelops-trust-last", "--modelops-fresh").refusal
    assert project.run("--modelops-matrix").code == 0
    key = project.cache / "fingerprint.key"
    assert (key.stat().st_mode & 0o777, len(key.read_bytes())) == (0o600, 32)


def git(project: Project, *arguments: str) -> None:
    name = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    subprocess.run(["git", *name, *arguments], cwd=project.path, check=True, capture_output=True)


BUNDLES = """
[tool.modelops]
workers = 1
bundles = ["one", "two"]
[tool.modelops.matrix]
python = ["3.12", "3.13"]
"""


@pytest.fixture
def repository(project: Project) -> Project:
    """A project in git with two bundles, a test and the ordinary checks; nothing has changed."""
    project.configure(BUNDLES, small=False)
    for name in ("one", "two"):
        project.write(f"{name}/pyproject.toml", f'[project]\nname = "{name}"\nversion = "1"\n')
        project.write(f"{name}/{name}_models.py", "")
    project.write("helper.py", "value = 1\n")
    project.write("test_mine.py", MINE)
    project.write("test_marked.py", "import pytest\n@pytest.mark.modelops_handshake('two')\ndef test_marked(): pass\n")
    project.write(".gitignore", "*.whl\n__pycache__/\nreport.json\n")
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    return project


def selected(project: Project, *arguments: str) -> set[str]:
    """Names of the tests that are selected, without cells."""
    ran = project.collect("--modelops-changed", "HEAD", *arguments)
    assert ran.code in {0, 5}, ran.out + ran.err
    return {one.partition("::")[2].partition("[")[0] + ("-one" if "-one]" in one else "") for one in ran.ids}


def test_only_what_changed_in_git_is_selected(repository: Project) -> None:
    project, here = repository, repository.path
    assert selected(project) == set()
    (here / "one/one_models.py").write_text("x = 1")
    of_one = {"test_resolve", "test_install", "test_start", *(f"test_{n}-one" for n in ("preflight", "bundle_install"))}
    assert selected(project) == {*of_one, "test_handshake-one"}
    git(project, "checkout", "one")
    (here / "helper.py").write_text("value = 2\n")
    (here / "two/new.py").write_text("")
    found = selected(project)
    assert {"test_mine", "test_marked", "test_handshake"} < found
    assert not {"test_handshake-one", "test_lambda"} & found


def test_a_run_in_which_nothing_was_touched_is_fine(repository: Project) -> None:
    for workers in ((), ("-n", "2")):
        ran = repository.matrix("--modelops-changed", "HEAD", *workers)
        assert ran.code == 0, ran.out + ran.err
        assert "no change since HEAD can have touched what is selected" in ran.out
        assert ran.report["since"] == "HEAD"
    repository.write("one/new.py", "")
    assert repository.matrix("--modelops-changed", "HEAD", "-k", "nothing_has_this_name").code == 5
    plan = repository.run("--modelops-plan", "--modelops-changed", "HEAD").out
    assert "changed since HEAD; run: bundle one (one/new.py changed), tests that use them" in plan


def test_a_revision_that_git_does_not_know_is_refused(repository: Project, tmp_path: Path) -> None:
    refusal = repository.run("--modelops-matrix", "--modelops-changed=none").refusal
    assert "--modelops-changed: git rev-parse" in refusal
    (repository.path / ".git").rename(tmp_path / "git")
    assert "not a git repository" in repository.run("--modelops-matrix", "--modelops-changed=HEAD").refusal
