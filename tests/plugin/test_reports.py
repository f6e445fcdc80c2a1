"""Reports as a run writes them, and what a run makes of an earlier one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project


def test_a_run_writes_every_report_and_pytests_junit_has_the_cells(project: Project) -> None:
    cells = project.configure_quick()
    configuration = project.path / "pyproject.toml"
    configuration.write_text(
        configuration.read_text() + '[tool.modelops.environment]\nenv = { MODELS = "planted-value-4711" }\n'
    )
    project.end(**{f"second[{cells[1]}]": "failed"})
    summary = project.write("summary.md", "")
    project.environ(GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary), GITHUB_WORKSPACE=str(project.path))
    ran = project.run("--modelops-matrix", "--modelops-report=out", "--modelops-report=deep/a.html")
    assert ran.code == pytest.ExitCode.TESTS_FAILED
    out = project.path / "out"
    assert {path.name for path in out.iterdir()} == {"report.html", "report.md", "report.json", "junit.xml"}
    verdict = "1 of 3 cells broken, with Python 3.13; second failed."
    for report in (out / "report.html", out / "report.md", project.path / "deep/a.html", summary):
        assert verdict in report.read_text(encoding="utf-8")
    everything = [path.read_text(encoding="utf-8") for path in (*out.iterdir(), summary)]
    assert not [text for text in everything if str(Path.home()) in text or "planted-value-4711" in text]

    suite = next(ElementTree.parse(out / "junit.xml").iter("testsuite"))
    of_run = {one.get("name"): one.get("value") for one in suite.findall("properties/property")}
    assert of_run["modelops.verdict"] == verdict
    case = next(one for one in suite.iter("testcase") if one.get("name") == f"test_second[{cells[1]}]")
    of_case = {one.get("name"): one.get("value") for one in case.findall("properties/property")}
    assert of_case["modelops.cell"] == cells[1]
    assert (of_case["modelops.check"], of_case["modelops.status"]) == ("second", "failed")

    (annotation,) = (line for line in ran.out.splitlines() if line.startswith("::error "))
    number = configuration.read_text().splitlines().index('python = ["3.12", "3.13", "3.14"]') + 1
    assert annotation.startswith(f"::error file=pyproject.toml,line={number},title={cells[1]}%3A second failed::")


def test_pytest_writes_one_junit_report(project: Project) -> None:
    project.configure_quick()
    ran = project.run("--modelops-matrix", "--modelops-report=a.xml", "--junitxml=b.xml")
    assert "b.xml and " in ran.refusal
    assert ran.refusal.endswith("leave out one")
    assert "-p no:junitxml" in project.run("--modelops-matrix", "--modelops-report=out", "-p", "no:junitxml").refusal


def test_only_new_breaks_fail_a_run_that_is_asked_to(project: Project) -> None:
    first, second, third = project.configure_quick()
    project.end(**{f"first[{first}]": "failed"})
    assert project.run("--modelops-matrix", "--modelops-report=old.json").code == 1
    asked = ("--modelops-matrix", "--modelops-fail-on", "new")
    assert "without a baseline" in project.run(*asked).refusal

    ran = project.run(*asked, "--modelops-baseline=old.json")
    assert ran.code == 0, ran.out
    summary = ran.out.partition("modelops matrix")[2].splitlines()
    assert summary[1] == "Nothing newly broken in 3 cells; 1 still broken."

    project.end(**{f"first[{first}]": "failed", f"other[{third}]": "failed"})
    ran = project.run(*asked, "--modelops-baseline", "last", "--modelops-report=new.json")
    assert ran.code == 1
    assert "1 of 3 cells newly broken, with Python 3.14; 1 still broken." in ran.out
    changes = json.loads((project.path / "new.json").read_text())["comparison"]["changes"]
    assert [(one["id"], one["change"]) for one in changes] == [(first, "still-broken"), (third, "newly-broken")]

    project.end(**{f"first[{first}]": "failed"})
    project.write("test_mine.py", "def test_mine(): assert False\n")
    ran = project.run(*asked, "--modelops-baseline=old.json", "test_mine.py", f"modelops::test_first[{second}]")
    assert ran.code == 1, "a test that belongs to no cell failed"


@pytest.mark.parametrize(("name", "text"), [("none.json", None), ("odd.json", "{}"), ("text.json", "no")])
def test_a_baseline_that_cannot_be_read_is_refused(project: Project, name: str, text: str | None) -> None:
    project.configure_quick()
    if text is not None:
        project.write(name, text)
    ran = project.run("--modelops-matrix", f"--modelops-baseline={name}")
    assert "--modelops-baseline: " in ran.refusal
    assert name in ran.refusal


KNOWN = """
[tool.modelops]
workers = 1
known-broken = [
  {{ cell = "{cell}", check = "first", reason = "as reported", link = "https://example.org/1", until = {until} }},
]
[tool.modelops.matrix]
python = ["3.12", "3.13", "3.14"]
"""


def test_what_is_known_to_be_broken_does_not_fail_a_run_and_what_is_no_longer_so_does(project: Project) -> None:
    cells = project.configure_quick()
    project.configure(KNOWN.format(cell="py3.13-*", until="2999-01-01"), small=False)
    project.end(**{f"first[{cells[1]}]": "failed"})
    ran = project.matrix()
    assert ran.code == 0, ran.out
    assert list(ran.checks(cells[1]).values()) == ["known-broken", "blocked", "blocked", "passed"]
    assert ran.results[f"modelops::test_first[{cells[1]}]"] == "KNOWN-BROKEN"
    assert "as reported (https://example.org/1), until 2999-01-01" in ran.out
    assert "2 passed, 1 known broken" in ran.out

    project.end()
    ran = project.matrix()
    assert ran.code == 1
    assert list(ran.checks(cells[1]).values()) == ["failed", "passed", "passed", "passed"]
    assert "it passes, but is known to be broken: as reported (https://example.org/1)" in ran.out
    assert "known-broken[0]" in ran.out

    project.configure(KNOWN.format(cell="py3.13-*", until="2020-01-01"), small=False)
    project.end(**{f"first[{cells[1]}]": "failed"})
    ran = project.matrix()
    assert (ran.code, ran.checks(cells[1])["first"]) == (1, "failed")
    assert "It was known to be broken until 2020-01-01" in ran.out


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        ('reason = "as reported", ', "", "has no reason"),
        ('link = "https://example.org/1", ', "", "has no link"),
        ("https://example.org/1", "soon", "'soon' is not an address"),
        ('check = "first"', 'check = "frist"', "'frist' is not a check; did you mean 'first'"),
        ("py3.13-*", "py3.15-*", "'py3.15-*' matches none of the cells"),
    ],
)
def test_an_entry_that_nobody_could_act_on_is_refused(project: Project, before: str, after: str, refused: str) -> None:
    project.configure_quick()
    project.configure(KNOWN.format(cell="py3.13-*", until="2999-01-01").replace(before, after), small=False)
    refusal = project.run("--modelops-plan").refusal
    assert refused in refusal
    assert "known-broken[0]" in refusal


def test_shards_have_all_cells_and_their_reports_make_that_of_one_run(project: Project) -> None:
    cells = project.configure_quick()
    for number in (1, 2):
        ran = project.run("--modelops-matrix", f"--modelops-shard={number}/2", f"--modelops-report=parts/{number}.json")
        assert ran.code == 0, ran.out
    assert project.run("--modelops-matrix", "--modelops-report=whole.json").code == 0
    from pytest_modelops.report.merging import merge
    from pytest_modelops.report.reading import read

    merged = merge([read(project.path / f"parts/{number}.json") for number in (1, 2)])
    whole = read(project.path / "whole.json")
    assert [(one.id, one.status) for one in merged.cells] == [(one.id, one.status) for one in whole.cells]
    assert [one.id for one in merged.cells] == list(cells)
    assert (merged.left_out, merged.planned) == (whole.left_out, whole.planned) == ((), ())
    assert "4 shards for 3 cells" in project.run("--modelops-matrix", "--modelops-shard=1/4").refusal
    last = project.run("--modelops-matrix", "--modelops-shard=1/2", "--modelops-baseline=last").refusal
    assert "every machine needs the same measured seconds" in last


@pytest.mark.parametrize("xdist", [[], ["-n", "1"]], ids=["alone", "xdist"])
def test_a_budget_runs_what_tells_most_and_calls_the_rest_not_run(project: Project, xdist: list[str]) -> None:
    first, second, third = project.configure_quick()
    project.end(**{f"first[{second}]": "failed"})
    project.run("--modelops-matrix", "--modelops-report=old.json")
    old = json.loads((project.path / "old.json").read_text())
    for cell in old["cells"]:
        cell["seconds"] = {second: 1.0, third: 1.0}.get(cell["id"], 1_000_000.0)
    project.write("old.json", json.dumps(old))
    project.end()
    ran = project.matrix("--modelops-budget=1h", "--modelops-baseline=old.json", *xdist)
    assert ran.code == 0, ran.out
    began = dict.fromkeys(test.partition("[")[2].rstrip("]") for test, word in ran.results.items() if word == "PASSED")
    assert list(began) == [second, third], "the one that was red, then the newest"
    check = ran.cell(first)["checks"][0]
    assert (check["status"], check["message"]) == ("not-run", "it would not end within the budget of 1 h 0 min")
    assert ran.results[f"modelops::test_first[{first}]"] == "NOT-RUN"
    assert f"not run, it would not end within the budget of 1 h 0 min: {first}" in ran.out
    assert "1 fixed; 1 not run." in ran.out


@pytest.mark.parametrize("form", ["github", "gitlab"])
def test_the_plan_of_a_ci_service_has_a_job_for_each_cell(project: Project, form: str) -> None:
    cells = project.configure_quick()
    plan = json.loads(project.run("--modelops-matrix", f"--modelops-plan={form}").out)
    jobs = [job["cell"] for job in plan["include"]] if form == "github" else list(plan)
    assert jobs == list(cells)


CAUSES_HOOK = """

from pytest_modelops.report.causes import Cause, ProbableCause

def pytest_modelops_causes(causes):
    causes.append(Cause(probable=ProbableCause(id="hook", cause="the hook says so"), statuses=("timed-out",)))
"""


def test_probable_causes_of_a_file_and_of_a_hook(project: Project) -> None:
    cells = project.configure_quick()
    matrix = '[tool.modelops.matrix]\npython = ["3.12", "3.13", "3.14"]\n'
    project.configure(f'[tool.modelops]\ncauses = "ours.toml"\n{matrix}', small=False)
    ours = "[[cause]]\nid = 'ours'\ncause = 'as we planned'\nremedy = 'Plan better'\nmessage = 'first is failed'\n"
    project.write("ours.toml", ours)
    with (project.path / "conftest.py").open("a", encoding="utf-8") as file:
        file.write(CAUSES_HOOK)
    project.end(**{f"first[{cells[0]}]": "failed", f"first[{cells[1]}]": "timed-out", f"second[{cells[2]}]": "failed"})
    ran = project.matrix()
    broken = [next(one for one in cell["checks"] if one["probable_cause"]) for cell in ran.report["cells"]]
    assert [one["probable_cause"]["id"] for one in broken] == ["ours", "hook", "unknown"]
    assert re.search(r"-+ probable cause -+\nas we planned\. Plan better\.\n", ran.out), "below pytest's failure"
    assert f"{cells[0]}: first failed; probable cause: as we planned\n" in ran.out
    assert f"{cells[2]}: second failed: second is failed on purpose\n" in ran.out
    assert "probable cause: unknown\n" in ran.out

    project.write("ours.toml", f"{ours}check = 'frist'\n")
    assert "ours.toml: ours: 'frist' is not a check; did you mean 'first'?" in project.run("--modelops-matrix").refusal
    project.write("ours.toml", ours.replace("first is", "("))
    assert (
        "ours.toml: cause[0].message: '( failed' is not a regular expression"
        in project.run("--modelops-matrix").refusal
    )
