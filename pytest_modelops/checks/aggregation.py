"""`aggregation`: parameter sets × replicates fan in to aggregates that workers write and that are right.

The three functions below travel into the cell as source and run on its workers.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from pytest_modelops.checks.base import Check, CheckedCell, role_differences
from pytest_modelops.checks.lambdas import end_of
from pytest_modelops.config.model import AggregationSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, TimedOut
from pytest_modelops.remote.shared import plain
from pytest_modelops.shipping import ship


def simulate(param: int, replicate: int) -> dict[str, int]:
    """One replicate: a number that no other replicate has, and the process that made it."""
    import os

    return {"value": param * 1_000_003 + replicate * replicate, "pid": os.getpid()}


def aggregate(param: int, replicates: list[dict[str, int]]) -> dict[str, str]:
    """The sum of a parameter set's replicates, written to a file of the worker's."""
    import json
    import os

    from distributed import get_worker

    worker = get_worker()
    path = os.path.join(worker.local_directory, f"aggregate-{param}-{os.getpid()}.json")  # noqa: PTH118
    result = {
        "param": param,
        "sum": sum(replicate["value"] for replicate in replicates),
        "replicates": len(replicates),
        "pids": sorted({replicate["pid"] for replicate in replicates}),
    }
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(result, file)
    return {"path": path, "worker": worker.address}


def read_back(path: str) -> object:
    """What a worker wrote."""
    import json

    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        return json.load(file)


def run_with(settings: AggregationSettings, cell: CheckedCell, deadline: Deadline) -> Mapping[str, Any]:
    """Submit the job, await its aggregates, and compare each with what it must be.

    Returns:
        `tasks`, `seconds`, `tasks_per_second` (until the last aggregate was there) and `processes` that took part.

    Raises:
        CheckFailed: a replicate or an aggregate failed, or a number is wrong.
        TimedOut: not all aggregates were complete; the message says how far it came.
    """
    cell.progress(f"aggregating {settings.params} × {settings.replicates} tasks")
    shipped = {"simulate": ship(simulate), "aggregate": ship(aggregate), "read_back": ship(read_back)}
    size = f"{settings.params} × {settings.replicates} tasks"
    late = f"aggregating {size}: not complete within {deadline.seconds:g} s;"
    try:
        reply = cell.cluster.agent.call(
            "aggregate",
            modules={name: {"source": function.source, "name": function.name} for name, function in shipped.items()},
            params=settings.params,
            replicates=settings.replicates,
            run=secrets.token_hex(4),
            seconds=deadline.remaining,
            deadline=deadline,
        )
    except TimedOut as error:
        raise TimedOut(f"{late} {error}") from None
    outcomes: Mapping[str, Mapping[str, Any]] = reply["results"]
    results = {name: plain.unpack(outcome["value"]) for name, outcome in outcomes.items() if "value" in outcome}
    failed = {name: outcome for name, outcome in outcomes.items() if "error" in outcome or "gone" in outcome}
    progress = (
        f"{len(results)} of {settings.params} aggregates were complete, "
        f"{reply['simulated']} of {settings.params * settings.replicates} replicates"
    )
    if failed:
        param, outcome = next(iter(failed.items()))
        deaths = {name: cell.cluster.death_of_worker(name) for name in cell.cluster.addresses.values()}
        lines = [
            f"aggregating {size}: {len(failed)} aggregates failed; {progress}. {role_differences(cell)}".rstrip(),
            *(f"{key}: {error}" for key, error in reply["failed"].items()),
            f"aggregate of parameter set {param}: {outcome.get('error') or outcome['gone']}",
            *end_of(outcome.get("traceback", "")),
            *(f"{name}: {death}" for name, death in deaths.items() if death),
        ]
        raise CheckFailed("\n".join(lines))
    if len(results) < settings.params:
        holding = [
            f"{cell.cluster.addresses.get(address, '?')} ({address}) holds {count} tasks"
            for address, count in (reply["processing"] or {}).items()
        ]
        if reply["processing"] is None:
            holding = ["The scheduler does not answer."]
        raise TimedOut("\n".join([f"{late} {progress}.", *holding]))
    wrong = [
        f"parameter set {param}: got sum {result['sum']} of {result['replicates']} replicates, must be {expected}"
        for param in range(settings.params)
        if (result := results[str(param)])
        and (result["sum"], result["replicates"]) != ((expected := expected_sum(param, settings)), settings.replicates)
    ]
    if wrong:
        raise CheckFailed("\n".join([f"aggregating {size}: {len(wrong)} aggregates are wrong.", *wrong[:5]]))
    return {
        "tasks": reply["tasks"],
        "seconds": round(reply["seconds"], 3),
        "tasks_per_second": round(reply["tasks"] / reply["seconds"], 1),
        "processes": len({pid for result in results.values() for pid in result["pids"]}),
    }


def expected_sum(param: int, settings: AggregationSettings) -> int:
    """What the aggregate of a parameter set must be."""
    return sum(simulate(param, replicate)["value"] for replicate in range(settings.replicates))


CHECK = Check(
    name="aggregation",
    run=lambda cell, deadline: run_with(cell.aggregation, cell, deadline),
    needs=("lambda",),
    seconds=120,
    summary="parameter sets × replicates fan in to right aggregates",
)
