"""`bundle-aggregation[bundle]`: targets aggregate real replicates in the Dask graph, as a real job submits them."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks.base import Check, CheckedCell, label
from pytest_modelops.checks.bundle_job import Replicate, processes_of, run_job
from pytest_modelops.checks.bundle_messages import Fault, fault_of, polluted
from pytest_modelops.checks.results import faults_of_replicate
from pytest_modelops.deadline import Deadline
from pytest_modelops.remote.shared.bundle_messages import AggregateAnswer


def run(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Run parameter sets × replicates, each with its own seed, and every target on each set."""
    size = f"{bundle.aggregation_params} × {bundle.aggregation_replicates} replicates"
    cell.progress(f"aggregating {size} of {bundle.name}")
    sets = [
        [
            Replicate(params=bundle.params, seed=bundle.seed + number * bundle.aggregation_replicates + index)
            for index in range(bundle.aggregation_replicates)
        ]
        for number in range(bundle.aggregation_params)
    ]
    job = run_job(bundle, cell, deadline, sets, targets=bundle.targets)
    seconds, failed = deadline.seconds, 0
    when, may_be_empty = cell.aggregation.failed_when, cell.aggregation.may_be_empty
    faults: dict[str, Sequence[Fault]] = {}
    for number, replicates in enumerate(sets):
        for index, asked in enumerate(replicates):
            one = job.replicates.get(f"{number}-{index}")
            if one and (found := faults_of_replicate(one, when, seconds=seconds, may_be_empty=may_be_empty)):
                faults[f"replicate {index} of set {number} (seed {asked.seed})"] = found
                failed += 1
        for target in bundle.targets:
            aggregate = job.aggregates.get(f"{number}-{target}")
            if aggregate and (wrong := list(_faults(aggregate, bundle, seconds))):
                faults[f"{target} of set {number}"] = wrong
    finished = f"{failed} of {len(job.replicates)} replicates that Dask calls finished failed"
    job.raise_faults(f"bundle {bundle.name!r}, {finished if failed else size}", faults, named=True)
    return {
        "tasks": bundle.aggregation_params * (bundle.aggregation_replicates + len(bundle.targets)),
        "processes": processes_of(job.replicates.values()),
        "losses": {name: job.aggregates[name]["result"]["loss"] for name in sorted(job.aggregates)},
        "seconds": round(job.seconds, 3),
    }


def _faults(aggregate: AggregateAnswer, bundle: Bundle, seconds: float) -> Iterator[Fault]:
    """Yield what is wrong with an aggregate, the most telling first."""
    if aggregate["outside"]:
        yield polluted(aggregate["outside"], "aggregate", aggregate["protocol"])
    if "error" in aggregate:
        yield fault_of(aggregate["error"], "aggregate", seconds=seconds)
        return
    result = aggregate["result"]
    if not isinstance(result, Mapping) or "loss" not in result:
        yield Fault(head=f"its answer has no loss: {result!r}")
        return
    loss, count, given = result["loss"], result.get("n_replicates"), bundle.aggregation_replicates
    if isinstance(loss, bool) or not isinstance(loss, int | float) or not math.isfinite(loss):
        yield Fault(head=f"its loss is {loss!r}, not a finite number")
    if count != given:
        yield Fault(head=f"it says that it aggregated {count!r} replicates; it was given {given}")


def check(bundle: Bundle) -> Check:
    return Check(
        name="bundle-aggregation",
        bundle=bundle,
        run=functools.partial(run, bundle),
        needs=(label("execute", bundle),),
        seconds=120,
        summary="targets aggregate the bundle's replicates in the graph",
    )
