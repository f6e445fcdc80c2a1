"""Probable causes: their evidence, files of the user's, and how reports show them.

The known ones are tested where cells are really broken that way, in tests/integration.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from pytest_modelops.checks import BUNDLE_CHECKS
from pytest_modelops.config import causes
from pytest_modelops.errors import WrongInput
from pytest_modelops.report import github, html, markdown, terminal
from pytest_modelops.report.causes import ProbableCause, explained
from pytest_modelops.report.json import render
from pytest_modelops.report.model import CellReport, RunReport, Status
from pytest_modelops.report.paper import text
from pytest_modelops.report.verdict import sentence
from tests.unit.report.made import cell, check, run

KNOWN = causes.load()
TESTS = Path(__file__).parents[2] / "integration"
FROZEN = """aggregating 20 × 20 tasks: not complete within 5 s; 17 of 20 aggregates were complete.
worker-1 (tcp://127.0.0.1:45615) holds 3 tasks

Where each process stands:
worker-1 (pid 1955) is stopped (SIGSTOP)"""
CRASHED = "bundle 'seir', 2 of 2 workers: the worker left the cluster; its process was killed by signal 11"
PANDAS = (
    "frames in cell py3.11-dask2023.1.1: AttributeError: module 'pandas.core.strings' has no attribute 'StringMethods'"
)
IMAGE = """what runs is not what was asked for:
image modelops-fixture/python:3.12 has no module modelops.worker, which require-modules asks for"""
PRELOAD = "the preload depot.preload failed on worker-1 (tcp://127.0.0.1:42133): ZeroDivisionError: division by zero"


def ids(cell_report: CellReport) -> list[str | None]:
    """The probable cause of each check."""
    found = explained(KNOWN, cell_report, str)
    return [check.probable_cause.id if check.probable_cause else None for check in found.checks]


def test_each_known_cause_is_of_a_cell_that_a_test_really_breaks() -> None:
    names = [cause.probable.id for cause in KNOWN]
    assert sorted(names) == sorted(set(names))
    tests = "".join(path.read_text(encoding="utf-8") for path in TESTS.glob("test_*.py"))
    assert [name for name in names if f'"{name}"' not in tests] == []
    assert [cause.probable.id for cause in KNOWN if not cause.probable.remedy] == []


def test_the_causes_that_the_docs_name_exist() -> None:
    lines = (Path(__file__).parents[3] / "docs" / "cascade.md").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if "| probable cause |" in line)
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    named = {name for row in rows for name in re.findall(r"`([\w-]+)`", row.split("|")[3])}
    assert named <= {"unknown", *(cause.probable.id for cause in KNOWN)}
    assert len(named) > 10


def test_versions_packages_and_status_are_evidence() -> None:
    crashed = check("execute", Status.FAILED, CRASHED)
    assert ids(cell("3.12", "2024.10.0", crashed, worker="3.13")) == ["roles-of-different-pythons"]
    assert ids(cell("3.12", "2024.10.0", crashed)) == ["unknown"], "all roles run the same Python"
    frames = check("test_it.py::test_frames", Status.FAILED, PANDAS)
    assert ids(cell("3.11", "2023.1.1", frames, lock={"pandas": "2.0.3"})) == ["pandas-2-with-old-dask"]
    assert ids(cell("3.11", "2024.10.0", frames, lock={"pandas": "2.0.3"})) == ["unknown"], "made for pandas 2"
    assert ids(cell("3.11", "2023.1.1", frames)) == ["unknown"], "there is no pandas"
    for status, expected in ((Status.TIMED_OUT, "process-stopped"), (Status.FAILED, "unknown")):
        assert ids(cell("3.12", "2024.10.0", check("aggregation", status, FROZEN))) == [expected]


def test_each_check_that_broke_has_a_cause_of_its_own_and_others_have_none() -> None:
    checks = (
        check("start"),
        check("versions", Status.FAILED, IMAGE),
        check("lambda", Status.FAILED, "nobody has seen this before"),
        check("aggregation", Status.BLOCKED, IMAGE, blocked_by="versions"),
        check("resolve", Status.UNAVAILABLE, IMAGE),
    )
    assert ids(cell("3.12", "2024.10.0", *checks)) == [None, "image-lacks-module", "unknown", None, None]


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
    read: list[str] = []

    def logs() -> str:
        read.append("")
        return "OSError: No space left on device"

    def first(message: str) -> ProbableCause | None:
        made = cell("3.12", "2024.10.0", check("execute", Status.FAILED, message))
        return explained(known, made, logs).probable_cause

    assert first("LicenseError: timeout\ndaemonic processes are not allowed to have children") == ProbableCause(
        id="license", cause="the license server does not answer", issues=("https://example.org/17",)
    )
    assert read == []
    assert first("ValueError: no") == ProbableCause(id="disk", cause="the node's disk is full")
    assert read == [""]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[[cause]]\nid = 'a'\nmessage = 'x'", "cause[0]: has no cause; an entry needs id and cause"),
        (
            "[[cause]]\nid = 'a'\ncause = 'b'\ncheck = 'start'",
            "cause[0]: fits every break; give it one of message, log,",
        ),
        ("[[cause]]\nid = 'a'\ncause = 'b'\nmessage = '('", "cause[0].message: '(' is not a regular expression of"),
        (
            "[[cause]]\nid = 'a'\ncause = 'b'\nroles = 'client < worker'",
            "cause[0].roles: 'client < worker' compares no",
        ),
        ("[[cause]]\nid = 'a'\ncause = 'b'\npackages = '>2'", "cause[0].packages: '>2' is not a requirement:"),
        ("[[cause]]\nid = 'a'\ncause = 'b'\nmesage = 'x'", "'mesage' is not a key; did you mean 'message'?"),
        (
            "[[cause]]\nid = 'a'\ncause = 'b'\nmessage = 'x'\ncheck = 'handshak'",
            "a: 'handshak' is not a check; did you mean 'handshake'?",
        ),
        (
            "[[cause]]\nid = 'a'\ncause = 'b'\nmessage = 'x'\nstatus = 'unavailable'",
            "cause[0].status: 'unavailable' is",
        ),
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
        causes.load([path], BUNDLE_CHECKS)
    assert str(refused.value).startswith(str(path))


def reported(message: str = PRELOAD) -> RunReport:
    return run(explained(KNOWN, cell("3.12", "2024.10.0", check("start", Status.FAILED, message)), str))


def test_the_summary_begins_with_the_cause() -> None:
    lines = text(terminal.matrix(reported(), width=120, unicode=True)).splitlines()
    first = "py3.12-dask2024.10.0: start failed; probable cause: a preload raises"
    at = lines.index(first)
    assert lines[at + 1].strip().startswith("the preload depot.preload failed on worker-1")
    assert sentence(reported()).endswith("; start failed; probable cause: a preload raises.")


def test_an_unknown_cause_is_called_unknown() -> None:
    unknown = reported("nobody has seen this before")
    shown = text(terminal.matrix(unknown, width=120, unicode=True))
    assert "py3.12-dask2024.10.0: start failed: nobody has seen this before\n  probable cause: unknown\n" in shown
    assert sentence(unknown).endswith("; start failed.")
    assert "<option>unknown: start</option>" in html.render(run(*unknown.cells, cell("3.11")))


def test_every_report_has_the_cause() -> None:
    report = run(*reported().cells, cell("3.11"))
    assert "**Probable cause:** a preload raises. Correct the preload" in markdown.render(report)
    page = html.render(report)
    assert "Probable cause: a preload raises. Correct the preload" in page
    assert "<option>a preload raises</option>" in page
    assert 'data-cause="a preload raises"' in page
    assert "::Probable cause: a preload raises" in next(github.commands(report, Path("/")))
    plain = json.loads(render(report))
    assert plain["cells"][0]["checks"][0]["probable_cause"]["id"] == "preload-raises"
    assert plain["cells"][1]["checks"][0]["probable_cause"] is None
    assert RunReport.from_json(plain) == report
    del plain["cells"][0]["checks"][0]["probable_cause"]
    assert RunReport.from_json(plain).cells[0].probable_cause is None, "as an earlier version wrote it"
