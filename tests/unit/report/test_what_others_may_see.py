"""Reports that are shared: what of the machine and of the variables is not in them, and a directory with the logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_modelops.config.model import EnvironmentTable
from pytest_modelops.report import directory, write
from pytest_modelops.report.model import RunReport, Status
from pytest_modelops.report.sharing import Sharing
from pytest_modelops.report.targets import FORMATS, GITHUB, Target, target
from tests.unit.report.made import broken, cell, check, run

HOME = Path("/home/ada")
PLANTED = {
    "MODELS_DB": "postgres://db.internal/models",
    "TOKEN": "t0ken-4711",
    "EXECUTOR": "cold",
    "STORE": "/srv/store-of-ada",
}
ENVIRONMENT = EnvironmentTable(env=PLANTED, client_env={"FROM_HOST": "{env:ADAS}"}, pass_env=("PASSED",))
SHARING = Sharing([HOME], ENVIRONMENT.everything(environ={"ADAS": "host-value-1", "PASSED": "passed-value-2"}).hide)
SECRETS = (
    "db.internal",
    "t0ken-4711",
    "/srv/store-of-ada",
    "host-value-1",
    "passed-value-2",
    "/home/ada",
    "EXECUTOR=cold",
)


def planted() -> RunReport:
    """A report with the home directory and values of variables wherever a run may put them."""
    everything = f"{' '.join(PLANTED.values())} EXECUTOR=cold host-value-1 passed-value-2 {HOME}/sim {HOME}"
    facts = {
        "variables": dict(PLANTED),
        "config": {"x": {"asked": "cold", "actual": "'cold'"}},
        "executable": f"{HOME}/py",
    }
    red = broken(
        message=everything,
        logs={"worker-0": f"{HOME}/.cache/runs/worker-0.log"},
        notes=(everything,),
        observed={"client": facts, "workers": {"tcp://1": facts}},
        environments=({"python": "3.12", "dask": "1", "reused": True, "location": f"{HOME}/.cache/env"},),
    )
    green = cell(
        "3.12", "1", check("lambda", data={"note": everything, f"{HOME}/x": [everything]}, reproduce=everything)
    )
    return run(red, green, configuration=f"{HOME}/sim/pyproject.toml", host={"platform": everything})


@pytest.mark.parametrize("ending", [*FORMATS])
def test_no_report_has_values_of_variables_or_the_home_directory(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"report{ending}"
    write(SHARING.report(planted()), path)
    text = path.read_text(encoding="utf-8")
    assert [secret for secret in SECRETS if secret in text] == []
    assert "~/sim/pyproject.toml" in text


def test_names_of_variables_stay_and_so_does_what_is_not_set() -> None:
    shared = SHARING.report(run(cell(observed={"client": {"variables": {"A": "1", "B": None}, "python": "3.12"}})))
    assert shared.cells[0].observed["client"] == {"variables": {"A": "[…]", "B": None}, "python": "3.12"}


def test_a_short_value_is_a_word_like_any_other() -> None:
    assert SHARING.text("asked for cold, EXECUTOR=cold") == "asked for cold, EXECUTOR=[…]"
    assert SHARING.text("EXECUTOR is 'cold', 'EXECUTOR': 'cold'") == "EXECUTOR is '[…]', 'EXECUTOR': '[…]'"


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("/home/ada", "~"),
        ("'/home/ada/x' /home/ada:", "'~/x' ~:"),
        ("a @ file:///home/ada/a gcc -I/home/ada/include", "a @ file://~/a gcc -I~/include"),
        ("/home/adam /srv/home/ada /home/ada-2", "/home/adam /srv/home/ada /home/ada-2"),
    ],
)
def test_only_the_home_directory_itself_is_replaced(text: str, shared: str) -> None:
    assert SHARING.text(text) == shared


def test_a_machine_without_a_home_directory_has_none_to_hide() -> None:
    assert Sharing([Path("/")], str).text("/a /") == "/a /"


def test_a_directory_has_all_reports_and_the_logs_that_they_link_to(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_bytes(b"started in /home/ada with t0ken-4711 \xff\n")
    report = run(cell("3.12", "odd/id"), broken())
    logs = {"py3.12-daskodd/id": {"worker-0": log, "gone": tmp_path / "gone.log"}}
    there = tmp_path / "out"
    for _ in range(2):  # again, into the same directory
        directory.write(report, there, logs=logs, clean=SHARING.text)
        (there / "logs/of-an-earlier-run").mkdir()
    directory.write(report, there, logs=logs, clean=SHARING.text)
    found = sorted(path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file())
    inside = "logs/py3.12-daskodd_id/worker-0.log"
    assert found == [inside, "report.html", "report.json", "report.md"]
    assert (there / inside).read_text() == "started in ~ with […] \\xff\n"
    assert json.loads((there / "report.json").read_text())["cells"][0]["logs"] == {"worker-0": inside}
    assert f'href="{inside}"' in (there / "report.html").read_text()
    assert not (there / "logs/of-an-earlier-run").exists()


@pytest.mark.parametrize(
    ("text", "ending"),
    [("a.json", ".json"), ("b/a.md", ".md"), ("a.html", ".html"), ("junit.xml", ".xml"), ("out", ""), ("out.d/", "")],
)
def test_the_ending_of_a_path_names_the_report(text: str, ending: str, tmp_path: Path) -> None:
    assert target(text, tmp_path / text) == Target(ending, tmp_path / text)


def test_github_is_a_name_and_no_path_and_a_directory_is_one(tmp_path: Path) -> None:
    assert target("github", tmp_path / "github") == Target(GITHUB)
    (tmp_path / "x.y").mkdir()
    assert target("x.y", tmp_path / "x.y") == Target("", tmp_path / "x.y")


def test_another_ending_is_refused_with_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'a\.txt'.*\.html, \.json, \.md, \.xml, a directory, or github"):
        target("a.txt", tmp_path / "a.txt")


def test_every_status_has_a_place_on_the_page() -> None:
    from pytest_modelops.report.html import _ORDER

    assert set().union(*(statuses for statuses, _ in _ORDER)) == set(Status)


def test_what_decided_about_a_runtime_is_shown_unless_it_is_a_secret() -> None:
    environment = EnvironmentTable(
        env={"MODE": "isolated-warm", "API_TOKEN": "abcdefghijkl", "FROM_HOST": "{env:ADAS}", "X": "0123456789"}
    )
    secrets = environment.everything(reported=lambda name: name != "X", environ={"ADAS": "host-value-1"})
    assert secrets.hide("isolated-warm abcdefghijkl host-value-1 0123456789") == "isolated-warm […] […] […]"
