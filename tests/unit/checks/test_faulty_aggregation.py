"""What is said of a job that a fault happened to, or was to happen to; nothing is started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_modelops.checks import faulty_aggregation
from pytest_modelops.cluster.faults import DuringJob, Happened
from pytest_modelops.config.faults import Fault
from pytest_modelops.config.model import AggregationSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, NothingToDo, TimedOut

KILLED = Happened("kill-worker", "worker-0", 7, 3, 9, 0.1)
WAS_KILLED = r"worker-0 \(pid 7\) was killed \(SIGKILL\) when 3 of 9 tasks were done"
LOST = CheckFailed("1 aggregates failed\nKilledWorker: no")
LATE = TimedOut("not complete within 9 s")


def result(
    monkeypatch: pytest.MonkeyPatch, failure: Exception | None, happened: Happened | None, fails: str, **more: Any
) -> Any:
    """Run the check with a job that ends in this way."""
    no: Any = None
    fault, workers = Fault(name="kill-worker", fails=fails), {"tcp://1": "worker-0"}
    during = DuringJob(fault, no, no, no, pids={}, addresses=workers, tasks=9)
    during.happened, during.error = happened, more.get("error")

    def run_job(*_: object, **__: object) -> dict[str, object]:
        if failure is not None:
            raise failure
        return {"tasks": 9}

    @contextmanager
    def during_job(*_: object) -> Iterator[DuringJob]:
        yield during

    monkeypatch.setattr(faulty_aggregation, "run_job", run_job)
    cluster = SimpleNamespace(settings=SimpleNamespace(workers=2, threads=1))
    cell: Any = SimpleNamespace(cluster=cluster, during_job=during_job)
    return faulty_aggregation.run_with(during.fault, AggregationSettings(), cell, Deadline(9))


def test_what_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    survived = result(monkeypatch, None, KILLED, "")
    assert (survived["tasks"], survived["fault"]["pid"]) == (9, 7)
    assert survived["note"] == "kill-worker: worker-0 (pid 7) was killed (SIGKILL) when 3 of 9 tasks were done"
    assert result(monkeypatch, LOST, KILLED, "Killed.*no")["failed"] == "1 aggregates failed"
    assert result(monkeypatch, LATE, KILLED, "not complete")["fault"] == survived["fault"]


@pytest.mark.parametrize(
    ("ended", "fails", "kind", "said"),
    [
        ((None, None), "", CheckFailed, r"kill-worker did not happen: .* before 50% of .* 0 of 9"),
        ((None, None), "Killed", CheckFailed, "kill-worker did not happen"),
        ((None, KILLED), "Killed", CheckFailed, f"{WAS_KILLED}. The job completed with right numbers, and was to fail"),
        ((LOST, None), "Killed", CheckFailed, "did not happen, because the job failed before:\n1 aggregates failed"),
        ((LOST, KILLED), "", CheckFailed, f"{WAS_KILLED}. The job did not survive that:\n1 aggregates failed"),
        ((LOST, KILLED), "Cancelled", CheckFailed, f"{WAS_KILLED}. The job failed, and 'Cancelled' is not found"),
        ((LATE, KILLED), "", TimedOut, f"{WAS_KILLED}. The job did not survive that:\nnot complete"),
    ],
)
def test_what_does_not_pass(
    monkeypatch: pytest.MonkeyPatch,
    ended: tuple[Exception | None, Happened | None],
    fails: str,
    kind: type[Exception],
    said: str,
) -> None:
    with pytest.raises(kind, match=said) as raised:
        result(monkeypatch, *ended, fails)
    assert ("fault" in getattr(raised.value, "figures", {})) is (ended[1] is not None)


def test_a_fault_that_could_not_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NothingToDo, match="no tbf"):
        result(monkeypatch, None, None, "", error=NothingToDo("no tbf"))
    with pytest.raises(CheckFailed, match=r"was gone already. The job failed:\n1 aggregates"):
        result(monkeypatch, LOST, None, "Killed", error=CheckFailed("worker-0 was gone already"))
