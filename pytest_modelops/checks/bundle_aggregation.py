"""`bundle-aggregation[bundle]`: targets aggregate real replicates in the Dask graph, as a real job submits them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import bundle_messages as words
from pytest_modelops.checks.base import Check, CheckedCell, label
from pytest_modelops.checks.bundle_job import Replicate, run_job
from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.deadline import Deadline


def run(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, Any]:
    """Parameter sets × replicates, each with a seed of its own, and every target on each set."""
    size = f"{bundle.aggregation_params} × {bundle.aggregation_replicates} replicates"
    cell.progress(f"aggregating {size} of {bundle.name}")
    sets = [
        [
            Replicate(params=bundle.params, seed=bundle.seed + number * bundle.aggregation_replicates + index)
            for index in range(bundle.aggregation_replicates)
        ]
        for number in range(bundle.aggregation_params)
    ]
    reply = run_job(bundle, cell, deadline, sets, targets=bundle.targets)
    seconds, failed = deadline.seconds, 0
    faults: dict[str, Sequence[Fault]] = {}
    for number, replicates in enumerate(sets):
        for index, asked in enumerate(replicates):
            one = reply.replicates.get(f"{number}-{index}")
            if one and (found := words.faults_of_replicate(one, cell.aggregation.failed_when, seconds=seconds)):
                faults[f"replicate {index} of set {number} (seed {asked.seed})"] = found
                failed += 1
        for target in bundle.targets:
            aggregate = reply.aggregates.get(f"{number}-{target}")
            if aggregate and (wrong := list(_faults(aggregate, bundle, seconds))):
                faults[f"{target} of set {number}"] = wrong
    finished = f"{failed} of {len(reply.replicates)} replicates that Dask calls finished failed"
    size = f"{bundle.aggregation_params} × {bundle.aggregation_replicates} replicates"
    reply.judge(f"bundle {bundle.name!r}, {finished if failed else size}", faults, named=True)
    losses = {name: reply.aggregates[name]["result"]["loss"] for name in sorted(reply.aggregates)}
    tasks = bundle.aggregation_params * (bundle.aggregation_replicates + len(bundle.targets))
    processes = words.processes_of(reply.replicates.values())
    return {"tasks": tasks, "processes": processes, "losses": losses, "seconds": round(reply.seconds, 3)}


def _faults(aggregate: Mapping[str, Any], bundle: Bundle, seconds: float) -> Iterator[Fault]:
    """What is wrong with an aggregate, the most telling first."""
    if aggregate["outside"]:
        yield words.polluted(aggregate["outside"], "aggregate", aggregate["protocol"])
    if "error" in aggregate:
        yield words.fault_of(aggregate["error"], "aggregate", seconds=seconds)
        return
    result = aggregate["result"]
    if not isinstance(result, Mapping) or "loss" not in result:
        yield Fault(head=f"its answer has no loss: {result!r}")
        return
    loss, count = result["loss"], result.get("n_replicates")
    if isinstance(loss, bool) or not isinstance(loss, int | float) or not math.isfinite(loss):
        yield Fault(head=f"its loss is {loss!r}, not a finite number")
    if count != bundle.aggregation_replicates:
        given = bundle.aggregation_replicates
        yield Fault(head=f"it says that it aggregated {count!r} replicates; it was given {given}")


def check(bundle: Bundle) -> Check:
    """The check for a bundle with an entry point and targets."""
    return Check(
        name="bundle-aggregation",
        bundle=bundle,
        run=lambda cell, deadline: run(bundle, cell, deadline),
        needs=(label("execute", bundle),),
        seconds=120,
        summary="targets aggregate the bundle's replicates in the graph",
    )
