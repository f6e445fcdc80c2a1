"""What it means for a check that workers ended while it ran."""

from __future__ import annotations

import pytest

from pytest_modelops.checks.lost_workers import judged
from pytest_modelops.report.model import Status

EXITED = {"worker-0": "its process exited with status 3"}


def test_what_passed_fails_and_names_what_ran_before() -> None:
    status, message = judged(Status.PASSED, "", {**EXITED, "worker-1": ""}, "execute[a]")
    assert status is Status.FAILED
    ended, hint, rest = message.splitlines()
    assert ended == (
        "a worker ended that nobody had asked to: worker-0: its process exited with status 3; worker-1: its process "
        "ended, and nobody says how."
    )
    assert hint.startswith("`execute[a]` ran on it before and may have ended it with a delay")
    assert rest == "Everything else was right."


def test_what_failed_says_it_first_and_what_timed_out_last() -> None:
    assert judged(Status.FAILED, "CommClosedError", EXITED, "")[1].startswith("a worker ended")
    assert judged(Status.FAILED, "CommClosedError", EXITED, "")[1].endswith("\nCommClosedError")
    assert judged(Status.TIMED_OUT, "late", EXITED, "start") == (
        Status.TIMED_OUT,
        "late\nMeanwhile, worker-0: its process exited with status 3.",
    )


@pytest.mark.parametrize("status", [Status.PASSED, Status.FAILED, Status.TIMED_OUT, Status.SKIPPED])
def test_where_no_worker_ended_nothing_changes(status: Status) -> None:
    assert judged(status, "as it was", {}, "start") == (status, "as it was")


@pytest.mark.parametrize("status", [Status.FAILED, Status.TIMED_OUT])
def test_what_the_message_has_already_is_not_said_again(status: Status) -> None:
    message = "worker-0 left the cluster; it exited with status 3"
    assert judged(status, message, EXITED, "start") == (status, message)
