"""`aggregation`: parameter sets × replicates fan in to aggregates that workers write and that are right.

The functions below travel into the cell as source and run on its workers.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_modelops.checks.base import Check, CheckedCell, role_differences
from pytest_modelops.checks.lambdas import deaths, end_of
from pytest_modelops.config.model import AggregationSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, TimedOut
from pytest_modelops.remote.shared import plain
from pytest_modelops.remote.shared.facts import AggregationReport, Outcome
from pytest_modelops.shipping import Shipped, ship


def simulate(param: int, replicate: int) -> tuple[int, int]:
    """Make one replicate: a number that no other replicate has, and the pid of the process that made it."""
    import os

    return param * 1_000_003 + replicate * replicate, os.getpid()


def summarize(param: int, replicates: list[tuple[int, int]]) -> dict[str, Any]:
    """Return the sum of a parameter set's replicates."""
    return {
        "param": param,
        "sum": sum(number for number, _ in replicates),
        "replicates": len(replicates),
        "pids": sorted({pid for _, pid in replicates}),
    }


def aggregate(param: int, replicates: list[tuple[int, int]]) -> dict[str, str]:
    """Write what `summarize` returns to a file of the worker's."""
    import json
    import os

    from distributed import get_worker

    worker = get_worker()
    path = os.path.join(worker.local_directory, f"aggregate-{param}-{os.getpid()}.json")  # noqa: PTH118
    result = summarize(param, replicates)
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(result, file)
    return {"path": path, "worker": worker.address}


def read_back(paths: list[str]) -> list[Any]:
    """Read what a worker wrote."""
    import json

    found = []
    for path in paths:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            found.append(json.load(file))
    return found


def simulate_slowly(param: int, replicate: int, seconds: float) -> tuple[int, int]:
    """Make one replicate in so many seconds."""
    import time

    time.sleep(seconds)
    return simulate(param, replicate)


def aggregate_and_read_back(param: int, replicates: list[tuple[int, int]]) -> object:
    """Aggregate and read in one task, for workers that may die before the next."""
    return read_back([aggregate(param, replicates)["path"]])[0]


def run_with(settings: AggregationSettings, cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Run the job with the functions above; see `run_job`."""
    return run_job(functions_of_job(writing=not cell.attached), settings, cell, deadline)


@functools.cache
def functions_of_job(*, writing: bool) -> Mapping[str, Shipped]:
    """Return the functions of the job.

    Args:
        writing: whether aggregates are written, which they are not on a deployment's workers.
    """
    if writing:
        return {"simulate": ship(simulate), "aggregate": ship(aggregate), "read_back": ship(read_back)}
    return {"simulate": ship(simulate), "aggregate": ship(summarize)}


def run_job(
    functions: Mapping[str, Shipped],
    settings: AggregationSettings,
    cell: CheckedCell,
    deadline: Deadline,
    *,
    seconds_of_each: float | None = None,
) -> Mapping[str, object]:
    """Submit the job, await its aggregates, and compare each with what it must be.

    Args:
        functions: `simulate`, `aggregate` and perhaps `read_back`.
        seconds_of_each: third argument of `simulate`, if it has one.

    Returns:
        `tasks`, `seconds` and `tasks_per_second` (until the last aggregate was there), and how many `processes` took
        part.

    Raises:
        CheckFailed: a replicate or an aggregate failed, or a number is wrong.
        TimedOut: not all aggregates were complete; the message says how many were.
    """
    size = f"{settings.params} × {settings.replicates} tasks"
    cell.progress(f"aggregating {size}")
    late = f"aggregating {size}: not complete within {deadline.seconds:g} s;"
    try:
        report: AggregationReport = cell.cluster.agent.call(
            "aggregate",
            modules={name: function.module for name, function in functions.items()},
            params=settings.params,
            replicates=settings.replicates,
            more=[] if seconds_of_each is None else [seconds_of_each],
            run=secrets.token_hex(4),
            seconds=deadline.remaining,
            deadline=deadline,
        )
    except TimedOut as error:
        raise TimedOut(f"{late} {error}") from None
    outcomes = report["results"]
    results = {name: plain.unpack(outcome["value"]) for name, outcome in outcomes.items() if "value" in outcome}
    failed = {name: outcome for name, outcome in outcomes.items() if "error" in outcome or "gone" in outcome}
    progress = (
        f"{len(results)} of {settings.params} aggregates were complete, "
        f"{report['simulated']} of {settings.params * settings.replicates} replicates"
    )
    if failed:
        intro = f"aggregating {size}: {len(failed)} aggregates failed; {progress}. {role_differences(cell)}".rstrip()
        raise CheckFailed("\n".join([intro, *_failures(report, failed, cell)]))
    if len(results) < settings.params:
        raise TimedOut("\n".join([f"{late} {progress}.", *_holding(report, cell)]))
    if faults := list(wrong(results, settings)):
        raise CheckFailed("\n".join([f"aggregating {size}: {len(faults)} aggregates are wrong.", *faults[:5]]))
    return {
        "tasks": report["tasks"],
        "seconds": round(report["seconds"], 3),
        "tasks_per_second": round(report["tasks"] / report["seconds"], 1),
        "processes": len({pid for result in results.values() for pid in result["pids"]}),
    }


def _failures(report: AggregationReport, failed: Mapping[str, Outcome], cell: CheckedCell) -> Iterator[str]:
    """Yield lines about replicates, the first aggregate that failed, and workers that died."""
    yield from (f"{key}: {error}" for key, error in report["failed"].items())
    param, outcome = next(iter(failed.items()))
    yield f"aggregate of parameter set {param}: {outcome.get('error') or outcome['gone']}"
    yield from end_of(outcome.get("traceback", ""))
    yield from deaths(cell.cluster, cell.cluster.addresses.values())


def _holding(report: AggregationReport, cell: CheckedCell) -> list[str]:
    """Say how many tasks each worker holds."""
    if report["processing"] is None:
        return ["The scheduler does not answer."]
    names = cell.cluster.addresses
    return [
        f"{names.get(address, '?')} ({address}) holds {count} tasks" for address, count in report["processing"].items()
    ]


def wrong(results: Mapping[str, Any], settings: AggregationSettings) -> Iterator[str]:
    """Yield which aggregates are not what they must be."""
    for param in range(settings.params):
        result, expected = results[str(param)], expected_sum(param, settings)
        if (result["sum"], result["replicates"]) != (expected, settings.replicates):
            got = f"got sum {result['sum']} of {result['replicates']} replicates"
            yield f"parameter set {param}: {got}, must be {expected}"


def expected_sum(param: int, settings: AggregationSettings) -> int:
    """Return what the aggregate of a parameter set must be."""
    return sum(simulate(param, replicate)[0] for replicate in range(settings.replicates))


CHECK = Check(
    name="aggregation",
    run=lambda cell, deadline: run_with(cell.aggregation, cell, deadline),
    needs=("lambda",),
    seconds=120,
    summary="parameter sets × replicates fan in to right aggregates",
)
