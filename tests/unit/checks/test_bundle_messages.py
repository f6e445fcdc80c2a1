"""When a replicate that Dask calls finished is a failed one."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import execute
from pytest_modelops.checks.bundle_job import JobResult
from pytest_modelops.checks.bundle_messages import Tidy, fault_of, faults_of_end
from pytest_modelops.checks.results import faults_of_replicate
from pytest_modelops.config.model import AggregationSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed
from pytest_modelops.remote.shared import artifacts
from pytest_modelops.remote.shared.bundle_messages import Artifact, ReplicateSummary, RunnerEnd

CRASHED = {"exited": "exited with code 1", "last": ["Killed by its licence server"]}


def reported(failure: Any = None, conditions: tuple[str, ...] = (), /, **outputs: bytes) -> ReplicateSummary:
    """The summary of a replicate."""
    whole: dict[str, Artifact] = {
        name: {"size": len(content), "checksum": "", "inline": base64.b64encode(content).decode()}
        for name, content in outputs.items()
    }
    return {
        "contents": artifacts.look(whole, conditions),
        "task_id": "sim-0-0",
        "worker": "worker-0",
        "pid": 1,
        "outside": "",
        "protocol": "json-rpc",
        "error": failure,
        "outputs": {name: {"size": len(head), "checksum": "0" * 64, "head": head} for name, head in outputs.items()},
    }


def heads(replicate: ReplicateSummary, *failed_when: str) -> list[str]:
    return [fault.head for fault in faults_of_replicate(replicate, failed_when, seconds=12)]


@pytest.mark.parametrize("failed_when", ["error", "outputs.empty"])
def test_a_runner_that_crashed_returned_nothing(failed_when: str) -> None:
    (head,) = heads(reported(CRASHED), failed_when)
    assert head.startswith("its runner exited with code 1")


def test_a_runner_that_takes_a_header_for_json_is_told_about_frames() -> None:
    cause = "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"
    crashed: Any = {"exited": "exited with code 1", "cause": cause, "last": [cause], "outside": ""}
    assert "it is asked in `Content-Length` frames" in fault_of(crashed, "ready", seconds=1).head
    assert "frames" not in fault_of(crashed, "execute", seconds=1).head


def test_each_condition_is_honoured_alone() -> None:
    assert heads(reported(CRASHED), "outputs.error") == []
    assert heads(reported(a=b""), "error", "outputs.error") == []
    assert heads(reported(a=b""), "outputs.empty") == ["it returned no artifact that holds anything"]
    assert heads(reported(error=b"no"), "error", "outputs.empty") == []
    assert heads(reported(error=b"no"), "outputs.error") == ["it returned an artifact named 'error': 'no'"]


TABLE = b"day,infected\n1,20\n"


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (
            {"table.csv": TABLE, "metadata": b'{"error": "no seeds left"}'},
            ["'metadata' holds an error: 'no seeds left'"],
        ),
        ({"table.csv": TABLE, "m.json": b'{"error": {"type": "OSError"}}'}, ["'m.json' holds an error: {'type': 'OS"]),
        (
            {"table.csv": b"", "metadata": b'{"error": "no seeds left"}'},
            ["'metadata' holds an error: ", "its artifact 'table.csv' is empty (no bytes), others are not"],
        ),
        ({"table.csv": b"day,infected\n", "m": b"1"}, ["'table.csv' is empty (a table with a header and no rows)"]),
        ({"table.tsv": b"day\tinfected\n", "m": b"1"}, ["'table.tsv' is empty (a table with a header and no rows)"]),
        ({"rows.json": b"[]", "m": b"1"}, ["'rows.json' is empty ([])"]),
        ({"rows.json": b" \n", "m": b"1"}, ["'rows.json' is empty (only white space)"]),
        ({"rows.json": b"[]", "m.json": b"{}"}, ["it returned no artifact that holds anything"]),
        ({"fit.json": b'{"error": 0.03}', "table.csv": TABLE}, []),
        ({"fit.json": b'{"error": null, "a": 1}', "b": b'{"error": "", "errors": 1}', "c": b'{"error": false}'}, []),
        ({"log": b'{"Errors": ["no space left"]}'}, ["no space left"]),
        ({"log": b'{"exception": {"type": "OSError", "lines": [1]}}'}, ["OSError"]),
        ({"rows": b'[{"error": "lost"}, {"error": "late"}]'}, ["lost"]),
        ({"rows": b'[{"error": "lost"}, {"value": 1}]', "fit": b'{"error": {"mean": 0.1}, "errors": [0.1, 2]}'}, []),
        ({"x.csv": b"0.5\n", "weird": b"\xff\xfe{", "long.csv": b"x" * 200_000, "list": b'["error"]'}, []),
    ],
)
def test_an_artifact_that_is_empty_or_holds_an_error_is_red_beside_others(
    outputs: dict[str, bytes], expected: list[str]
) -> None:
    found = heads(reported(**outputs), "error", "outputs.error", "outputs.empty")
    assert len(found) == len(expected), found
    assert all(text in head for text, head in zip(expected, found, strict=True)), found


def test_what_may_be_empty_may() -> None:
    one = reported(**{"table.csv": TABLE, "warnings.json": b"[]", "log.txt": b""})
    faults = faults_of_replicate(one, ["outputs.empty"], seconds=1, may_be_empty=["warnings.json"])
    assert [fault.head[:33] for fault in faults] == ["its artifact 'log.txt' is empty ("]
    assert not faults_of_replicate(one, ["outputs.empty"], seconds=1, may_be_empty=["warnings.*", "log*"])
    none = reported(**{"log.txt": b""})
    assert faults_of_replicate(none, ["outputs.empty"], seconds=1, may_be_empty=["*"]), "nothing at all is no result"


STATUS = b'{"status": {"failed": 2, "of": [{"why": ""}, {"why": "diverged"}]}, "zero": 0}'


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("run.json:status.failed", "its artifact 'run.json' holds 2 at 'status.failed', and failed-when names it"),
        ("run.json:status.of.1.why", "holds 'diverged' at 'status.of.1.why'"),
        ("run.*:status.failed", "its artifact 'run.json' holds 2"),
        ("failure.txt:", "its artifact 'failure.txt' holds 'lost'"),
        ("failure.txt:why", "its artifact 'failure.txt' is not JSON, and failed-when looks at 'why' in it"),
        (
            "run.jsn:status",
            "failed-when names the artifact 'run.jsn', which it did not return (it returned 'run.json',",
        ),
        ("run.json:status.of.0.why", ""),
        ("run.json:status.of.7.why", ""),
        ("run.json:zero", ""),
        ("run.json:nothing.of.it", ""),
        ("*:why", ""),
        ("other*:why", ""),
        ("other.txt:", ""),
    ],
)
def test_any_place_in_any_artifact_may_be_named(condition: str, expected: str) -> None:
    one = reported(None, (condition,), **{"run.json": STATUS, "failure.txt": b"lost"})
    found = heads(one, condition)
    assert len(found) == bool(expected), found
    assert not found or expected in found[0]


@pytest.mark.parametrize("replicate", [reported(CRASHED), reported(a=b""), reported(error=b"no")])
def test_execute_is_red_whatever_an_aggregation_lets_pass(
    monkeypatch: pytest.MonkeyPatch, replicate: ReplicateSummary
) -> None:
    job = JobResult(
        replicates={"0-0": replicate},
        aggregates={},
        lost={},
        late=False,
        ends={},
        tidy=Tidy(directories=[]),
        logs="",
        seconds=1.0,
        in_process=False,
    )
    monkeypatch.setattr(execute, "run_job", lambda *_: job)
    bundle = Bundle(name="seir", path=execute.__file__, entrypoint="wire/run")  # type: ignore[arg-type] # not read
    for condition in ("error", "outputs.error", "outputs.empty"):
        cell: Any = SimpleNamespace(
            progress=lambda _: None,
            cluster=SimpleNamespace(names=["worker-0"]),
            aggregation=AggregationSettings(failed_when=(condition,)),
            locations={bundle: {}},
            runner=SimpleNamespace(path=None),
        )
        with pytest.raises(CheckFailed, match=r"^bundle 'seir', `wire/run` with seed 0, 1 of 1 workers: it"):
            execute.run(bundle, cell, Deadline(12))


def test_an_error_shows_the_bundle_s_line_and_what_to_do() -> None:
    library = [
        line for number in range(9) for line in (f'  File "/usr/lib/python3.12/mp.py", line {number}', "    x()")
    ]
    trace = [
        "Traceback (most recent call last):",
        '  File "/b/model.py", line 9, in run',
        "    pool()",
        *library,
        "A: no",
    ]
    said = "daemonic processes are not allowed to have children"
    error = {"data": {"exc_type": "AssertionError", "exc": said, "traceback": "\n".join(trace)}}
    fault = fault_of({"error": error, "outside": ""}, "execute", seconds=1)
    assert fault.head.startswith(
        f"`execute` raised AssertionError: {said}. A worker with a nanny is a daemonic process"
    )
    assert '  File "/b/model.py", line 9, in run' in fault.details


@pytest.mark.parametrize(
    ("cause", "hinted"),
    [
        ("/x/python: No module named pip", True),
        ("ModuleNotFoundError: No module named 'pip' (a.py, line 1, in f)", True),
        ("ModuleNotFoundError: No module named 'pipeline'", False),
        ("ModuleNotFoundError: No module named 'pip.req'", False),
    ],
)
def test_a_missing_pip_hints_at_the_setting(cause: str, hinted: bool) -> None:
    outcome: Any = {"exited": "exited with code 1", "cause": cause, "last": [], "outside": ""}
    head = fault_of(outcome, "ready", seconds=1).head
    assert ("`installs = true`" in head) is hinted
    assert head.count("..") == 0


@pytest.mark.parametrize("ended", ["exited with code 1", "was killed by SIGSEGV", "was killed by signal 40"])
def test_a_runner_that_does_not_exit_with_code_0_has_ended_wrongly(ended: str) -> None:
    end: RunnerEnd = {"outside": "", "ended": ended, "survived": [], "left": []}
    [fault] = faults_of_end(end)
    assert fault.head == f"its runner {ended} after `shutdown`; it has to exit with code 0"
    assert not faults_of_end({**end, "ended": "exited with code 0"})
    assert not faults_of_end({**end, "ended": None})
