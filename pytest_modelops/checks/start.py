"""`start`: the scheduler is up, all workers are registered, and no preload failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_modelops.checks.aggregation import functions_of_job
from pytest_modelops.checks.base import Check, CheckedCell, role_differences
from pytest_modelops.checks.constructs import all_kinds
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, RemoteError
from pytest_modelops.remote.shared.facts import PreloadSetup

_TRACE_LINES = 13


def run(cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Start all parts at once and wait until they have found each other."""
    cell.progress("starting scheduler and workers")
    cluster = cell.open_cluster(deadline)
    all_kinds()  # while the processes start: the checks that follow send these, and preparing them takes a moment
    functions_of_job(writing=True)
    try:
        cluster.await_ready(deadline)
    except RemoteError as error:
        lines = [f"the client could not connect to the scheduler: {error}", role_differences(cell)]
        raise RemoteError("\n".join(filter(None, lines)), error.traceback) from None
    if broken := broken_preloads(cluster.preloads(deadline)):
        raise CheckFailed(broken)
    # Asked here already, because a process that hangs later cannot report its pid.
    cell.observed = cluster.facts(deadline.at_most(2.0))
    return {"workers": len(cluster.addresses)}


def broken_preloads(preloads: Mapping[str, Sequence[PreloadSetup]]) -> str:
    """Return which preloads failed in which processes, for people; empty if none did."""
    failed: dict[tuple[str, str], list[str]] = {}
    traces: dict[tuple[str, str], str] = {}
    for process, setups in preloads.items():
        for setup in setups:
            if setup["error"]:
                key = (setup["name"], setup["error"])
                failed.setdefault(key, []).append(process)
                traces.setdefault(key, setup["traceback"])
    lines = []
    for (name, error), processes in failed.items():
        lines.append(f"the preload {name} failed on {', '.join(processes)}: {error}")
        lines += [f"    {line}" for line in traces[name, error].rstrip().splitlines()[-_TRACE_LINES:]]
    if lines:
        uncaught = any(setup["uncaught"] for setups in preloads.values() for setup in setups)
        effect = (
            "Dask does not catch this, so the process does not come up."
            if uncaught
            else "Dask only logs this and runs tasks without what the preload sets up."
        )
        lines.append(f"{effect} Correct the preload, or remove it.")
    return "\n".join(lines)


CHECK = Check(
    name="start", run=run, needs=("install",), seconds=120, summary="scheduler up, and all workers registered"
)
