"""`start`: the scheduler is up and all workers are registered."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_modelops.checks.base import Check, CheckedCell, role_differences
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import RemoteError


def run(cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Start all parts at once and wait until they have found each other."""
    cell.progress("starting scheduler and workers")
    cluster = cell.open_cluster(deadline)
    try:
        cluster.await_ready(deadline)
    except RemoteError as error:
        lines = [f"the client could not connect to the scheduler: {error}", role_differences(cell)]
        raise RemoteError("\n".join(filter(None, lines)), error.traceback) from None
    # Asked here already, because a process that hangs later cannot report its pid.
    cell.observed = cluster.facts(deadline.at_most(2.0))
    return {"workers": len(cluster.addresses)}


CHECK = Check(
    name="start", run=run, needs=("install",), seconds=120, summary="scheduler up, and all workers registered"
)
