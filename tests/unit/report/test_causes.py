"""Probable causes: each known one is found in what a cell that was broken that way said, and no other is."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from pytest_modelops.config import causes
from pytest_modelops.errors import WrongInput
from pytest_modelops.report import github, html, markdown, terminal
from pytest_modelops.report.causes import UNKNOWN, ProbableCause, fitting
from pytest_modelops.report.json import render
from pytest_modelops.report.model import CellReport, RunReport, Status
from pytest_modelops.report.paper import text
from pytest_modelops.report.verdict import sentence
from pytest_modelops.storage.toml import tomllib
from tests.unit.report.made import cell, check, run

SAID = [
    (said["cause"], said["check"], said["message"])
    for said in tomllib.loads(Path(__file__).with_name("causes_said.toml").read_text(encoding="utf-8"))["said"]
]
LATE = {"aggregation-waits", "preload-does-not-end", "runner-hangs"}
"""Causes of checks that time out."""
OF_NO_ENTRY = {
    "the worker left the cluster while the task was on it; its process was killed by signal 11": "execute",
    "bundle 'wrong_id', 1 of 1 workers: its runner did not answer `ready` within the deadline of 4 s, and still ran. "
    'It sent an answer to nothing that was asked: {"jsonrpc": "2.0", "id": 1001}': "handshake",
    "bundle 'refuses', 1 of 1 workers: `ready` was answered with error -32603: not today": "handshake",
    "aggregating 20 × 20 tasks: 20 aggregates failed; 0 of 20 aggregates were complete.": "aggregation",
    "0 of 2 workers registered with the scheduler within 15 s.\nworker-0 is sleeping. It printed nothing.": "start",
}
"""Messages of real breaks of which no cause is known."""
KNOWN = causes.load()


def broken(entry: str, name: str, message: str, **fields: object) -> CellReport:
    """A cell that broke at a check, with the versions and packages that the entry is about."""
    worker = "3.13" if entry == "roles-of-different-pythons" else ""
    status = Status.TIMED_OUT if entry in LATE else Status.FAILED
    dask = "2023.1.1" if entry == "pandas-2-with-old-dask" else "2024.10.0"
    made = cell("3.12", dask, check(name, status, message), worker=worker, lock={"pandas": "2.2.3"}, **fields)
    if entry != "client-newer-than-scheduler":
        return made
    return dataclasses.replace(made, roles={**made.roles, "client": {"python": "3.12", "dask": "2026.8.0"}})


@pytest.mark.parametrize(
    ("entry", "name", "message"), SAID, ids=[f"{cause}-{number}" for number, (cause, *_) in enumerate(SAID)]
)
def test_what_a_cell_said_that_was_broken_that_way_has_this_cause_and_no_other(
    entry: str, name: str, message: str
) -> None:
    assert [found.id for found in fitting(KNOWN, broken(entry, name, message), str)] == [entry]


def test_every_known_cause_has_a_name_of_its_own_and_a_test() -> None:
    ids = [cause.probable.id for cause in KNOWN]
    assert sorted(ids) == sorted(set(ids))
    assert set(ids) == {entry for entry, *_ in SAID}
    assert [cause.probable.id for cause in KNOWN if not cause.probable.remedy] == []


@pytest.mark.parametrize("message", OF_NO_ENTRY)
def test_of_other_breaks_no_cause_is_known(message: str) -> None:
    made = cell("3.12", "2024.10.0", check(OF_NO_ENTRY[message], Status.FAILED, message))
    assert list(fitting(KNOWN, made, str)) == []


def test_versions_and_packages_are_evidence() -> None:
    said = "bundle 'numbers', 2 of 2 workers: the worker left the cluster; its process was killed by signal 11"
    assert [one.id for one in fitting(KNOWN, broken("roles-of-different-pythons", "execute", said), str)] != []
    assert list(fitting(KNOWN, broken("", "execute", said), str)) == [], "all roles run the same Python"
    said = "AttributeError: module 'pandas.core.strings' has no attribute 'StringMethods'"
    assert list(fitting(KNOWN, broken("", "test_frames", said), str)) == [], "this Dask is new enough for pandas 2"


OURS = """
[[cause]]
id = "license"
cause = "the license server does not answer"
issues = "https://example.org/17"
status = "failed"
message = "^LicenseError"
roles = ["worker.python >= 3.12", "client.dask == scheduler.dask"]

[[cause]]
id = "disk"
cause = "the node's disk is full"
log = "No space left"
"""


def test_a_file_of_the_users_comes_first_and_logs_are_read_only_if_they_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "causes.toml"
    path.write_text(OURS, encoding="utf-8")
    known = causes.load([path])
    asked: list[str] = []

    def logs() -> str:
        asked.append("")
        return "OSError: No space left on device"

    said = "LicenseError: timeout\nAssertionError: daemonic processes are not allowed to have children"
    found = fitting(known, broken("", "execute", said), logs)
    assert next(found) == ProbableCause(
        id="license", cause="the license server does not answer", issues=("https://example.org/17",)
    )
    assert asked == []
    assert [one.id for one in found] == ["disk", "pool-in-a-daemon"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[[cause]]\nid = 'a'\nmessage = 'x'", "cause[0]: has no cause; an entry needs id and cause"),
        (
            "[[cause]]\nid = 'a'\ncause = 'b'\ncheck = 'start'",
            "cause[0]: fits every break; give it one of message, log,",
        ),
        ("[[cause]]\nid = 'a'\ncause = 'b'\nmessage = '('", "cause[0].message: '(' is not a regular expression:"),
        (
            "[[cause]]\nid = 'a'\ncause = 'b'\nroles = 'client < worker'",
            "cause[0].roles: 'client < worker' compares no",
        ),
        ("[[cause]]\nid = 'a'\ncause = 'b'\npackages = '>2'", "cause[0].packages: '>2' is not a requirement:"),
        ("[[cause]]\nid = 'a'\ncause = 'b'\nmesage = 'x'", "'mesage' is not a key; did you mean 'message'?"),
        ("[[causes]]\nid = 'a'", "'causes' is not read; a cause is a table [[cause]]"),
        ("[[cause", "not valid TOML"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_its_place(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "causes.toml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(WrongInput, match=re.escape(said)) as refused:
        causes.load([path])
    assert str(refused.value).startswith(str(path))


def reported(*, known: bool = True) -> RunReport:
    message = next(message for entry, _, message in SAID if entry == "preload-raises")
    made = broken("", "start", message)
    return run(dataclasses.replace(made, probable_cause=next(fitting(KNOWN, made, str)) if known else UNKNOWN))


def test_the_summary_begins_with_the_cause_and_says_what_to_do() -> None:
    lines = text(terminal.matrix(reported(), width=120, unicode=True)).splitlines()
    first = "py3.12-dask2024.10.0: start failed; probable cause: a preload raises, which Dask only logs"
    at = lines.index(first)
    assert lines[at + 1].strip().startswith("the preload depot.preload failed on worker-1")
    assert "Correct the preload, or remove it. https://github.com/dask/distributed/issues/8754" in "\n".join(lines[at:])
    assert sentence(reported()).endswith("; start failed; probable cause: a preload raises, which Dask only logs.")


def test_an_unknown_cause_is_called_unknown() -> None:
    shown = text(terminal.matrix(reported(known=False), width=120, unicode=True))
    assert "py3.12-dask2024.10.0: start failed: the preload depot.preload failed on worker-1" in shown
    assert "probable cause: unknown\n" in shown
    assert "<option>unknown: start</option>" in html.render(run(*reported(known=False).cells, cell("3.11")))


def test_every_report_has_the_cause() -> None:
    report = run(*reported().cells, cell("3.11"))
    assert "**Probable cause:** a preload raises, which Dask only logs. Correct the preload" in markdown.render(report)
    page = html.render(report)
    assert "Probable cause: a preload raises, which Dask only logs. Correct the preload" in page
    assert "<option>a preload raises, which Dask only logs</option>" in page
    assert 'data-cause="a preload raises, which Dask only logs"' in page
    assert "::Probable cause: a preload raises" in next(github.commands(report, Path("/")))
    plain = json.loads(render(report))
    assert plain["cells"][0]["probable_cause"]["id"] == "preload-raises"
    assert plain["cells"][1]["probable_cause"] is None
    assert RunReport.from_json(plain) == report
    del plain["cells"][0]["probable_cause"]
    assert RunReport.from_json(plain).cells[0].probable_cause is None, "as an earlier version wrote it"
