"""When a replicate that Dask calls finished is a failed one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import execute
from pytest_modelops.checks.bundle_job import JobResult, faults_of_replicate
from pytest_modelops.checks.bundle_messages import Tidy
from pytest_modelops.config.model import AggregationSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed
from pytest_modelops.remote.shared.bundle_messages import ReplicateSummary

CRASHED = {"exited": "exited with code 1", "last": ["Killed by its licence server"]}


def reported(failure: Any = None, **outputs: bytes) -> ReplicateSummary:
    """The summary of a replicate."""
    return {
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


def test_each_condition_is_honoured_alone() -> None:
    assert heads(reported(CRASHED), "outputs.error") == []
    assert heads(reported(a=b""), "error", "outputs.error") == []
    assert heads(reported(a=b""), "outputs.empty") == ["it returned no artifact that holds anything"]
    assert heads(reported(error=b"no"), "error", "outputs.empty") == []
    assert heads(reported(error=b"no"), "outputs.error") == ["it returned an artifact named 'error': 'no'"]


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
            cluster=SimpleNamespace(workers=[SimpleNamespace(name="worker-0")]),
            aggregation=AggregationSettings(failed_when=(condition,)),
            locations={bundle: {}},
            runner=SimpleNamespace(path=None),
        )
        with pytest.raises(CheckFailed, match=r"^bundle 'seir', `wire/run` with seed 0, 1 of 1 workers: it"):
            execute.run(bundle, cell, Deadline(12))
