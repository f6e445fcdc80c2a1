"""A stdout without Unicode, reporters in the place of pytest's, and Windows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modelops import plugin

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

OTHER_REPORTER = """
import pytest

@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.unregister(config.pluginmanager.get_plugin("terminalreporter"))
        config.pluginmanager.register(Reporter(), "other-reporter")

class Reporter:
    def pytest_sessionfinish(self):
        print("the end, as another reporter has it")
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--markers"], ["--fixtures"]], ids=" ".join)
def test_help_is_readable_on_a_stdout_without_unicode(project: Project, arguments: list[str]) -> None:
    project.environ(PYTHONIOENCODING="ascii", LC_ALL="C")
    ran = project.run(*arguments)
    assert ran.code == 0
    assert ran.err == ""
    assert r"\n" not in ran.out
    assert r"\x" not in ran.out
    if arguments == ["--help"]:
        assert "\n  --modelops-matrix " in ran.out
        assert "Dask clusters for every Python x Dask cell" in " ".join(ran.out.split())


def test_the_matrix_and_the_plan_are_readable_on_a_stdout_without_unicode(project: Project) -> None:
    first, *_ = project.configure_quick()
    project.end(**{f"second[{first}]": "failed"})
    project.environ(PYTHONIOENCODING="ascii", LC_ALL="C")
    ran = project.matrix()
    assert ran.code == 1
    assert ran.err == ""
    assert ran.out.isascii()
    assert f"{first}: second failed: second is failed on purpose" in ran.out
    assert r"\u" not in ran.out.partition("modelops matrix")[2]
    moved = project.path / "größe"
    project.write("größe/pyproject.toml", "[tool.modelops]\n")
    project.enter("größe")
    plan = project.run("--modelops-plan")
    assert (plan.code, plan.err) == (0, "")
    assert f"configuration: {str(moved).encode('ascii', 'backslashreplace').decode()}/pyproject.toml" in plan.out


def test_a_reporter_that_shows_no_summaries_is_followed_by_the_matrix(project: Project) -> None:
    project.configure_quick()
    conftest = (project.path / "conftest.py").read_text(encoding="utf-8")
    project.write("conftest.py", conftest + OTHER_REPORTER)
    ran = project.matrix()
    assert ran.code == 0, ran.err
    _, _, summary = ran.out.partition("the end, as another reporter has it")
    assert "modelops matrix" in summary
    assert f"configuration: {project.path}/pyproject.toml" in summary
    assert f"report: {project.path}/report.json" in summary


def test_who_wants_no_terminal_gets_no_matrix(project: Project) -> None:
    project.configure_quick()
    ran = project.run("--modelops-matrix", "-pno:terminal")
    assert ran.code == 0, ran.err
    assert "modelops matrix" not in ran.out


@pytest.mark.parametrize("flag", ["matrix", "plan"])
def test_on_windows_one_line_names_wsl(monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    given = {"modelops_matrix": flag == "matrix", "modelops_plan": "text" if flag == "plan" else None}
    config: Any = SimpleNamespace(
        addinivalue_line=lambda *_: None, option=SimpleNamespace(help=False, version=0), getoption=given.get
    )
    monkeypatch.setattr(plugin, "sys", SimpleNamespace(platform="win32"))
    with pytest.raises(pytest.UsageError) as raised:
        (plugin.pytest_configure if flag == "matrix" else plugin.pytest_cmdline_main)(config)
    assert "WSL 2" in str(raised.value)
    assert "\n" not in str(raised.value)
