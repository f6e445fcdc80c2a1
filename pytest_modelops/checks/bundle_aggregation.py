"""`bundle-aggregation[bundle]`: targets aggregate real replicates in the Dask graph, as a real job submits them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import bundle_words as words
from pytest_modelops.checks.base import Check, CheckedCell, label
from pytest_modelops.checks.bundle_job import Replicate, run_job
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
    told = run_job(bundle, cell, deadline, sets, targets=bundle.targets)
    failed = {}
    for name, one in told.replicates.items():
        wrong = words.failures(one, cell.aggregation.failed_when)
        if one["outside"]:
            wrong.insert(0, words.polluted(one["outside"], "before the answer to `execute`"))
        if wrong:
            failed[name] = "\n".join(wrong)
    found: list[str] = []
    for name, why in failed.items():
        number, index = map(int, name.split("-"))
        after = " (Dask calls it finished)" if not found else ""
        found.append(
            f"replicate {index} of set {number}, seed {sets[number][index].seed}, failed{after}: {why}"
        )
    for number in range(bundle.aggregation_params):
        for target in bundle.targets:
            aggregate = told.aggregates.get(f"{number}-{target}")
            wrong_in = _wrong(aggregate, bundle) if aggregate is not None else ()
            found += [f"target {target} of set {number}: {words_of_it}" for words_of_it in wrong_in]
    told.judge(
        f"bundle {bundle.name!r}, {size}, {words.counted(len(failed), told.replicates, 'failed')}", found
    )
    losses = {name: told.aggregates[name]["result"]["loss"] for name in sorted(told.aggregates)}
    tasks = bundle.aggregation_params * (bundle.aggregation_replicates + len(bundle.targets))
    return {"tasks": tasks, "losses": losses, "seconds": round(told.seconds, 3)}


def _wrong(aggregate: Mapping[str, Any], bundle: Bundle) -> Iterator[str]:
    """What is wrong with an aggregate, the most telling first."""
    if aggregate["outside"]:
        yield words.polluted(aggregate["outside"], "before the answer to `aggregate`")
    if "error" in aggregate:
        error = aggregate["error"]
        yield "\n".join([words.head(error, "aggregate"), *words.details(error)])
        return
    result = aggregate["result"]
    if not isinstance(result, Mapping) or "loss" not in result:
        yield f"its answer has no loss: {result!r}"
        return
    loss, count = result["loss"], result.get("n_replicates")
    if isinstance(loss, bool) or not isinstance(loss, int | float) or not math.isfinite(loss):
        yield f"its loss is {loss!r}, not a finite number"
    if count != bundle.aggregation_replicates:
        yield f"it says that it aggregated {count!r} replicates; it was given {bundle.aggregation_replicates}"


def check(bundle: Bundle) -> Check:
    """The rung for a bundle with an entry point and targets."""
    return Check(
        name="bundle-aggregation",
        bundle=bundle,
        run=lambda cell, deadline: run(bundle, cell, deadline),
        needs=(label("execute", bundle),),
        seconds=120,
        summary="targets aggregate the bundle's replicates in the graph",
    )
