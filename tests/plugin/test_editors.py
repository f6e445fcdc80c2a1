"""What editors rely on. VS Code names a test by its path and the rest of its node id, opens the path at its line, runs
tests by these names, and finds each result by its name again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

EDITOR = """

NOTED = Path(__file__).with_name("noted.jsonl")
PATHS = {}

def name(nodeid):
    return "::".join([str(PATHS[nodeid]), *nodeid.split("::")[1:]])

def note(**fields):
    with NOTED.open("a") as file:
        print(json.dumps(fields), file=file)

def pytest_collection_finish(session):
    for item in session.items:
        PATHS[item.nodeid] = item.path
        if session.config.option.collectonly:
            assert isinstance(item.parent, pytest.File)
            assert not hasattr(item, "callspec")  # editors take the node id of one that has it apart at `.py`
            note(name=name(item.nodeid), path=str(item.path), line=item.location[1])

def pytest_report_teststatus(report):
    if report.when == "call" or report.when == "setup" and report.skipped:
        note(name=name(report.nodeid), outcome=report.outcome, message=report.longreprtext)
"""


def noted(project: Project, *arguments: str) -> list[dict[str, Any]]:
    """Run pytest as an editor does, and return what it noted."""
    file = project.write("noted.jsonl", "")
    ran = project.run("--modelops-matrix", f"--rootdir={project.path}", *arguments)
    assert ran.code in (0, 1), ran.out + ran.err
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("settings", ["pyproject.toml", "services/sim/pyproject.toml", "none"])
def test_an_editor_finds_opens_and_runs_the_checks(project: Project, settings: str) -> None:
    project.configure_quick()
    table = (project.path / "pyproject.toml").read_text(encoding="utf-8")
    if settings != "pyproject.toml":
        project.configure("", small=False)
        (project.path / "pyproject.toml").unlink()
    if settings.startswith("services"):
        project.write(settings, table)
    named = [f"--modelops-config={settings}"] if settings != "none" else []
    conftest = (project.path / "conftest.py").read_text(encoding="utf-8")
    project.write("conftest.py", conftest + EDITOR)

    found = noted(project, "--collect-only", *named)
    assert len(found) == len({test["name"] for test in found}) == (4 if settings == "none" else 12)
    for test in found:
        place = Path(test["path"])
        beside = settings == "pyproject.toml"
        assert place == (project.path / settings if beside else project.path)
        if beside:
            assert "3.1" in place.read_text(encoding="utf-8").splitlines()[test["line"]]

    chosen = [test["name"] for test in found if "test_other" in test["name"] or "test_second" in test["name"]]
    failing = chosen[-1].partition("::test_")[2]
    project.end(**{failing: "failed"})
    results = noted(project, *named, *chosen)
    assert {test["name"]: test["outcome"] for test in results} == dict.fromkeys(chosen, "passed") | {
        chosen[-1]: "failed"
    }
    assert f"{failing.partition('[')[0]} is failed on purpose" in results[-1]["message"]


def test_new_files_first_needs_a_path_that_exists(project: Project) -> None:
    project.configure_quick()
    assert project.run("--modelops-matrix", "--nf").code == 0
