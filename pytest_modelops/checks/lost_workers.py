"""What it means for a check that worker processes ended while it ran, which no check asks for."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_modelops.report.model import Status


def in_words(lost: Mapping[str, str]) -> str:
    """Return how workers ended, for people.

    Args:
        lost: see `Cluster.lost_workers`.
    """
    return "; ".join(f"{name}: {how or 'its process ended, and nobody says how'}" for name, how in lost.items())


def judged(status: Status, message: str, lost: Mapping[str, str], before: str) -> tuple[Status, str]:
    """Return the status and message of a check during which workers ended.

    Args:
        before: label of the check that used the cluster last; empty if none did.
    """
    if status is Status.PASSED:
        unsaid, rest = lost, "Everything else was right."
    elif status in {Status.FAILED, Status.TIMED_OUT}:
        unsaid = {name: how for name, how in lost.items() if how.removeprefix("its process ") not in message}
        rest = message
    else:
        return status, message
    if not unsaid:
        return status, message
    if status is Status.TIMED_OUT:  # what hangs comes first
        return status, f"{message}\nMeanwhile, {in_words(unsaid)}."
    ran = f"`{before}` ran on it before and" if before else "What ran on it before"
    return Status.FAILED, (
        f"a worker ended that nobody had asked to: {in_words(unsaid)}.\n"
        f"{ran} may have ended it with a delay, such as by a timer, a thread or a child process.\n{rest}"
    )
