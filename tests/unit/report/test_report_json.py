"""The JSON report: its text, its schema, and that there is never half of one."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta, timezone
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pytest_modelops.matrix.plan import LeftOut
from pytest_modelops.report import json as report_json
from pytest_modelops.report import write
from pytest_modelops.report.model import CellReport, CheckResult, RunReport, Status

SCHEMA: dict[str, Any] = json.loads(
    resources.files("pytest_modelops.report").joinpath("schema.json").read_text(encoding="utf-8")
)
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)


def a_report(**data: Any) -> RunReport:
    """Two cells: one that passed, and a skew cell that broke; `data` is the first check's."""
    return RunReport(
        started="2026-11-20T10:00:00+01:00",
        seconds=41.25,
        host={"python": "3.12.1", "platform": "Linux × 64"},
        backend="process",
        cells=(
            CellReport(
                id="py3.12-dask2024.10.0",
                python="3.12",
                dask="2024.10.0",
                roles={role: {"python": "3.12", "dask": "2024.10.0"} for role in ("client", "scheduler", "worker")},
                seconds=7.5,
                observed={
                    "workers": {"tcp://127.0.0.1:2": {"python": "3.12.1"}, "tcp://127.0.0.1:1": {}},
                    "client": {"python": "3.12.1"},
                },
                lock=("dask==2024.10.0",),
                environments=({"python": "3.12.1", "dask": "2024.10.0", "reused": True, "location": "/cache/e1"},),
                logs={"worker-0": "/logs/worker-0.log", "agent": "/logs/agent.log"},
                checks=(CheckResult(name="lambda", status=Status.PASSED, seconds=0.25, data=data),),
            ),
            CellReport(
                id="py3.12-dask2024.10.0+worker-py3.13",
                python="3.12",
                dask="2024.10.0",
                checks=(
                    CheckResult(
                        name="handshake",
                        bundle="seir",
                        status=Status.TIMED_OUT,
                        message="no answer\nin 10 s",
                        reproduce="pytest --modelops-matrix",
                    ),
                    CheckResult(name="execute", bundle="seir", status=Status.BLOCKED, blocked_by="handshake[seir]"),
                ),
            ),
        ),
        left_out=(LeftOut(id="py3.13-dask2024.2.0", reason="excluded"),),
    )


def valid(text: str) -> Any:
    """The data of a report's text, which is strict JSON and follows the schema."""

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    plain = json.loads(text, parse_constant=refuse)
    VALIDATOR.validate(plain)
    return plain


def test_text_is_readable_and_ends_with_one_newline() -> None:
    text = report_json.render(a_report(tasks_per_second=310.5))
    assert text.endswith("\n}\n")
    assert text.startswith(
        """\
{
  "schema": 1,
  "started": "2026-11-20T10:00:00+01:00",
  "seconds": 41.25,
  "host": {
    "platform": "Linux × 64",
    "python": "3.12.1"
  },
  "configuration": null,
  "backend": "process",
  "cells": [
    {
      "id": "py3.12-dask2024.10.0",
      "python": "3.12",
      "dask": "2024.10.0",
      "roles": {
        "client": {
          "python": "3.12",
          "dask": "2024.10.0"
        },
"""
    )


def test_what_comes_from_the_run_is_sorted() -> None:
    plain = valid(report_json.render(a_report(b={"d": 1, "c": 2}, a=0)))
    cell = plain["cells"][0]
    assert list(plain["host"]) == ["platform", "python"]
    assert list(cell["observed"]) == ["client", "workers"]
    assert list(cell["observed"]["workers"]) == ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]
    assert list(cell["environments"][0]) == ["dask", "location", "python", "reused"]
    assert list(cell["logs"]) == ["agent", "worker-0"]
    assert list(cell["checks"][0]["data"]) == ["a", "b"]
    assert list(cell["checks"][0]["data"]["b"]) == ["c", "d"]


def test_it_reads_back_as_the_same_report() -> None:
    report = a_report(tasks_per_second=310.5)
    assert RunReport.from_json(valid(report_json.render(report))) == report


def test_odd_values_do_not_cost_the_report() -> None:
    plain = valid(
        report_json.render(
            a_report(
                nan=math.nan,
                infinite=[math.inf, (-math.inf, 1.5)],
                path=Path("/a"),
                keys={1: True, None: "x", "caf\udce9": 2},
                bytes_of_a_process="caf\udce9",
            )
        )
    )
    assert plain["cells"][0]["checks"][0]["data"] == {
        "nan": None,
        "infinite": [None, [None, 1.5]],
        "path": "/a",
        "keys": {"1": True, "None": "x", r"caf\udce9": 2},
        "bytes_of_a_process": r"caf\udce9",
    }


def test_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_schema_knows_every_status() -> None:
    assert SCHEMA["$defs"]["status"]["enum"] == [status.value for status in Status]


def properties(schema: Any) -> list[dict[str, Any]]:
    """Every named property of a schema, at any depth, that says something of its own."""
    found: list[dict[str, Any]] = []
    if isinstance(schema, dict):
        for key, part in schema.items():
            if key in {"if", "then", "else"}:
                continue
            if key == "properties":
                found.extend(part.values())
            found.extend(properties(part))
    return found


def test_schema_describes_every_property() -> None:
    named = properties(SCHEMA)
    assert len(named) > 30
    for described in named:
        target = SCHEMA["$defs"][described["$ref"].rsplit("/")[-1]] if "$ref" in described else {}
        assert "description" in {**target, **described}, described


def spoiled(path: str, value: Any) -> Any:
    """A valid report's data with one thing in it replaced, or added."""
    plain = json.loads(report_json.render(a_report()))
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    place = plain
    for step in steps:
        place = place[step]
    place[last] = value
    return plain


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", 2),
        ("started", "2026-11-20 10:00"),
        ("started", "2026-11-20T10:00:00"),
        ("seconds", -1),
        ("seconds", None),
        ("surprise", 1),
        ("host.cores", 2),
        ("left_out.0.surprise", 1),
        ("cells.0.surprise", 1),
        ("cells.0.status", "green"),
        ("cells.0.status", "failed"),
        ("cells.1.first_broken", None),
        ("cells.0.python", "three"),
        ("cells.0.roles.nanny", {}),
        ("cells.0.roles.client", {"python": "3.12"}),
        ("cells.0.observed.nanny", {}),
        ("cells.0.environments.0.reused", "yes"),
        ("cells.0.logs.agent", None),
        ("cells.0.checks.0.surprise", 1),
        ("cells.0.checks.0.blocked_by", "start"),
        ("cells.1.checks.1.blocked_by", None),
        ("cells.0.checks.0.data", []),
    ],
)
def test_schema_refuses_what_is_not_a_report(path: str, value: Any) -> None:
    assert not VALIDATOR.is_valid(spoiled(path, value))


def test_schema_refuses_what_lacks_a_key() -> None:
    for part in (("checks", 0), None):
        whole = json.loads(report_json.render(a_report()))
        for key in list(whole["cells"][0][part[0]][part[1]] if part else whole["cells"][0]):
            spoilt = json.loads(report_json.render(a_report()))
            del (spoilt["cells"][0][part[0]][part[1]] if part else spoilt["cells"][0])[key]
            assert not VALIDATOR.is_valid(spoilt), key


def offset(minutes: int) -> timezone:
    return timezone(timedelta(minutes=minutes))


names = st.text(min_size=1)
facts = st.dictionaries(names, st.one_of(names, st.integers(), st.floats(), st.none(), st.lists(st.floats())))
role = st.fixed_dictionaries({"python": st.just("3.12"), "dask": names})


@st.composite
def checks(draw: st.DrawFn) -> CheckResult:
    status = draw(st.sampled_from(Status))
    return CheckResult(
        name=draw(names),
        status=status,
        seconds=draw(st.floats(0, 1e6)),
        message=draw(st.text()),
        bundle=draw(st.none() | names),
        blocked_by=draw(names) if status is Status.BLOCKED else None,
        reproduce=draw(st.text()),
        data=draw(facts),
    )


cells = st.builds(
    CellReport,
    id=names,
    python=st.sampled_from(["3.12", "3.12.1", "3.15.0rc1"]),
    dask=names,
    roles=st.fixed_dictionaries({}, optional={"client": role, "scheduler": role, "worker": role}),
    seconds=st.floats(0, 1e6),
    checks=st.lists(checks(), max_size=4).map(tuple),
    observed=st.fixed_dictionaries(
        {}, optional={"client": facts, "scheduler": facts, "workers": st.dictionaries(names, facts)}
    ),
    lock=st.lists(names).map(tuple),
    logs=st.dictionaries(names, names),
)
reports = st.builds(
    RunReport,
    started=st.datetimes(timezones=st.integers(-720, 840).map(offset)).map(datetime.isoformat),
    seconds=st.floats(0, 1e6),
    host=st.dictionaries(names, names),
    backend=names,
    cells=st.lists(cells, max_size=3).map(tuple),
    left_out=st.lists(st.builds(LeftOut, id=names, reason=st.text()), max_size=3).map(tuple),
)


@given(reports)
def test_every_report_follows_the_schema_and_is_the_same_when_it_was_read_back(report: RunReport) -> None:
    text = report_json.render(report)
    valid(text)
    assert report_json.render(RunReport.from_json(json.loads(text))) == text


# Writing


def test_written_is_what_is_rendered(tmp_path: Path) -> None:
    path = tmp_path / "not" / "yet" / "there" / "report.json"
    write(a_report(), path)
    assert path.read_bytes() == report_json.render(a_report()).encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["report.json"]


def test_others_may_read_it_as_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write(a_report(), tmp_path / "report.json")
    assert (tmp_path / "report.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_failure_leaves_the_old_report_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    path.write_text("old", encoding="utf-8")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write(a_report(), path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_link_stays_a_link(tmp_path: Path) -> None:
    link = tmp_path / "latest.json"
    link.symlink_to(tmp_path / "elsewhere.json")
    write(a_report(), link)
    assert link.is_symlink()
    assert (tmp_path / "elsewhere.json").is_file()
