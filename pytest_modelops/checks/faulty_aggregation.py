"""`aggregation[kill-worker]` and the others: a fault happens to the cell in the middle of the aggregation."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pytest_modelops.checks.aggregation import aggregate_and_read_back, run_job, simulate_slowly
from pytest_modelops.checks.base import Check, CheckedCell
from pytest_modelops.cluster.faults import DuringJob
from pytest_modelops.config.faults import Fault
from pytest_modelops.config.model import AggregationSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, ModelopsError, TimedOut
from pytest_modelops.shipping import ship

_JOB_SECONDS = 2.5
"""How long the replicates take together at least, so that a fault happens in the middle of them."""


def run_with(
    fault: Fault, settings: AggregationSettings, cell: CheckedCell, deadline: Deadline
) -> Mapping[str, object]:
    """Run the job while the fault happens.

    Returns:
        The figures of the aggregation if it completed; under `fault` what happened (`cluster.faults.Happened`).

    Raises:
        CheckFailed, TimedOut: the fault did not happen; or the job did not end as was expected.
        NothingToDo: the fault cannot happen in this cell.
    """
    functions = {"simulate": ship(simulate_slowly), "aggregate": ship(aggregate_and_read_back)}
    failure: CheckFailed | TimedOut | None = None
    figures: Mapping[str, object] = {}
    cluster = cell.cluster.settings
    each = round(_JOB_SECONDS * cluster.workers * cluster.threads / (settings.params * settings.replicates), 4)
    with cell.during_job(fault, settings.tasks) as during:
        try:
            figures = run_job(functions, settings, cell, deadline, seconds_of_each=each)
        except (CheckFailed, TimedOut) as error:
            failure = error
    found = {**figures, **during.figures}
    if failure is not None and fault.fails and during.happened and re.search(fault.fails, str(failure)):
        return {**found, "failed": str(failure).partition("\n")[0]}
    if problem := _problem(during, failure):
        problem.figures = found
        raise problem
    return found


def _problem(during: DuringJob, failure: CheckFailed | TimedOut | None) -> ModelopsError | None:
    """Return why the check does not pass: the job did not end as it should, or the fault did not happen."""
    name, fails = during.fault.name, during.fault.fails
    if failure is None:
        if (why := during.why_not_happened()) or not fails:
            return why
        return CheckFailed(f"{during.happened}. The job completed with right numbers, and was to fail with {fails!r}.")
    if during.error is not None:
        text = f"{during.error}. The job failed:"
    elif during.happened is None:
        text = f"{name} did not happen, because the job failed before:"
    elif fails:
        text = f"{during.happened}. The job failed, and {fails!r} is not found in its message:"
    else:
        text = f"{during.happened}. The job did not survive that:"
    return (TimedOut if isinstance(failure, TimedOut) else CheckFailed)(f"{text}\n{failure}")


def check(fault: Fault) -> Check:
    return Check(
        name="aggregation",
        variant=fault.name,
        run=lambda cell, deadline: run_with(fault, cell.aggregation, cell, deadline),
        needs=("aggregation",),
        seconds=120,
        summary=f"the aggregation completes, or fails as it is expected to, when {fault.name} happens",
    )
