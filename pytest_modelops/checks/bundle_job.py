"""Runs a bundle in the Dask graph, for the two checks that do: `execute` and `bundle-aggregation`."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import bundle_in_workers, bundle_tasks
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.checks.bundle_isolated import MARGIN_SECONDS, location_in
from pytest_modelops.checks.bundle_messages import Fault, Tidy, faults_of_end, keep_logs, message
from pytest_modelops.checks.lambdas import in_words, whereabouts
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, ModelopsError, RunnerTimedOut, TimedOut
from pytest_modelops.remote.shared import plain
from pytest_modelops.remote.shared.bundle_messages import AggregateAnswer, BundleLocation, CloseAnswer, ReplicateSummary
from pytest_modelops.remote.shared.facts import BundleJobReport, Outcome
from pytest_modelops.shipping import ship

_GRACE_SECONDS = 0.8
"""The report of a runner that was too slow arrives this much later, stacks included."""
_CLOSE_SECONDS = 8.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replicate:
    """One run of the entry point; on any worker, unless one is named."""

    params: Mapping[str, object]
    seed: int
    worker: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobResult:
    """The result of a bundle's job.

    Attributes:
        replicates: by `<parameter set>-<number>`.
        aggregates: by `<parameter set>-<target>`.
        lost: why Dask has no result, for replicates and aggregates.
        late: whether anything was too slow.
        ends: what is wrong with how runners ended, by worker.
        tidy: for texts about this bundle.
        logs: where runners' logs are, as the last line of a message.
        seconds: from the first task to the last result.
        in_process: whether the worker ran the bundle itself, without a runner, so that its stacks show where it is.
    """

    replicates: Mapping[str, ReplicateSummary]
    aggregates: Mapping[str, AggregateAnswer]
    lost: Mapping[str, Fault]
    late: bool
    ends: Mapping[str, Sequence[Fault]]
    tidy: Tidy
    logs: str
    seconds: float
    in_process: bool

    def raise_faults(self, intro: str, faults: Mapping[str, Sequence[Fault]], *, named: bool = False) -> None:
        """Raise everything that is wrong with the job, if anything is.

        Args:
            intro: what it is about.
            faults: what is wrong with results, by name.
            named: see `bundle_messages.message`.

        Raises:
            CheckFailed, TimedOut: with all that is wrong.
        """
        found = {name: list(some) for name, some in faults.items() if some}
        for name, fault in self.lost.items():
            found.setdefault(name, []).append(fault)
        for name, some in self.ends.items():
            found.setdefault(name, []).extend(some)
        if found:
            tidied = {name: [self.tidy.fault(fault) for fault in some] for name, some in found.items()}
            text = message(intro, tidied, self.logs, named=named)
            too_late = TimedOut if self.in_process else RunnerTimedOut
            raise too_late(text) if self.late else CheckFailed(text)


def run_job(
    bundle: Bundle,
    cell: CheckedCell,
    deadline: Deadline,
    sets: Sequence[Sequence[Replicate]],
    *,
    targets: Sequence[str] = (),
) -> JobResult:
    """Submit replicates and the targets that depend on them, await all, and end the runners that they started.

    Args:
        sets: the replicates of each parameter set.
    """
    location = (bundle_in_workers.install_again if bundle.in_workers else location_in)(bundle, cell, deadline)
    addresses = cell.cluster.await_workers(deadline)
    run = secrets.token_hex(4)
    outcomes = _submit(bundle, location, cell, deadline, sets, targets=targets, run=run, addresses=addresses)
    ends: Mapping[str, Sequence[Fault]] = {}
    logs = ""
    if bundle.in_workers:
        bundle_in_workers.uninstall(cell)
    else:
        ends, logs = _end_runners(bundle, location, cell)
    replicates: dict[str, ReplicateSummary] = _values(outcomes["replicates"])
    aggregates: dict[str, AggregateAnswer] = _values(outcomes["aggregates"])
    lost = dict(_answers_of_others(replicates, aggregates, run, sets, targets))
    names = {address: name for name, address in addresses.items()}
    lost.update(_lost("replicate", outcomes["replicates"], cell, names))
    lost.update(_lost("aggregate", outcomes["aggregates"], cell, names))
    errors = [one["error"] for one in replicates.values()] + [one.get("error") for one in aggregates.values()]
    pending = any("pending" in one for one in (*outcomes["replicates"].values(), *outcomes["aggregates"].values()))
    return JobResult(
        replicates=replicates,
        aggregates=aggregates,
        lost=lost,
        late=pending or any(error and "silent" in error for error in errors),
        ends=ends,
        tidy=Tidy(directories=location["directories"].values()),
        logs=logs,
        seconds=outcomes["seconds"],
        in_process=bundle.in_workers,
    )


def _submit(
    bundle: Bundle,
    location: BundleLocation,
    cell: CheckedCell,
    deadline: Deadline,
    sets: Sequence[Sequence[Replicate]],
    *,
    targets: Sequence[str],
    run: str,
    addresses: Mapping[str, str],
) -> BundleJobReport:
    """Have the agent submit the job and await it.

    Args:
        run: part of every key, so that no result of another run is taken for one of this.
        addresses: of the workers, by name.
    """
    functions = (bundle_tasks.replicate, bundle_tasks.aggregate, bundle_tasks.summarize)
    report: BundleJobReport = cell.cluster.agent.call(
        "run_bundle",
        modules={function.__name__: ship(function).module for function in functions},
        location={**location, "conditions": [one for one in cell.aggregation.failed_when if ":" in one]},
        entrypoint=bundle.entrypoint,
        sets=[
            [
                {"params": dict(one.params), "seed": one.seed, "worker": one.worker and addresses[one.worker]}
                for one in replicates
            ]
            for replicates in sets
        ],
        targets=list(targets),
        target_data=dict(bundle.target_data),
        run=run,
        seconds=max(0.1, deadline.remaining - MARGIN_SECONDS),
        deadline=Deadline(deadline.remaining + _GRACE_SECONDS),
    )
    return report


def _values(outcomes: Mapping[str, Outcome]) -> Any:
    return {name: plain.unpack(outcome["value"]) for name, outcome in outcomes.items() if "value" in outcome}


def _lost(
    kind: str, outcomes: Mapping[str, Outcome], cell: CheckedCell, names: Mapping[str, str]
) -> Iterator[tuple[str, Fault]]:
    """Yield the tasks that Dask has no value for, and why.

    Args:
        names: of the workers, by address.
    """
    for name, outcome in outcomes.items():
        if "pending" in outcome:
            yield f"{kind} {name}", Fault(head=f"not finished in time, {whereabouts(cell.cluster, outcome)}")
        elif "value" not in outcome:
            worker = next((names[address] for address in names if address in outcome.get("gone", "")), None)
            yield f"{kind} {name}", Fault(head=in_words(cell.cluster, worker, outcome))


def _answers_of_others(
    of_replicates: Mapping[str, ReplicateSummary],
    of_aggregates: Mapping[str, AggregateAnswer],
    run: str,
    sets: Sequence[Sequence[Replicate]],
    targets: Sequence[str],
) -> Iterator[tuple[str, Fault]]:
    """Yield results of another task than the one that was asked: of another run, or under the key of another task."""
    for number, replicates in enumerate(sets):
        asked = [f"sim-{run}-{number}-{index}" for index in range(len(replicates))]
        for index, task_id in enumerate(asked):
            one = of_replicates.get(f"{number}-{index}")
            if one is not None and one["task_id"] != task_id:
                yield f"replicate {number}-{index}", Fault(head=f"the result is that of task {one['task_id']!r}")
        for target in targets:
            aggregate = of_aggregates.get(f"{number}-{target}")
            if aggregate is not None and (aggregate["target"], aggregate["of"]) != (target, asked):
                head = f"the result is that of target {aggregate['target']} on {', '.join(aggregate['of'])}"
                yield f"{target} of set {number}", Fault(head=head)


def _end_runners(
    bundle: Bundle, location: BundleLocation, cell: CheckedCell
) -> tuple[Mapping[str, Sequence[Fault]], str]:
    """End every worker's runner; returns what is wrong with that by worker, and where the logs are."""
    ends, logs = {}, []
    try:
        answers: Mapping[str, CloseAnswer] = cell.cluster.ask_workers(
            "close", {"location": location}, Deadline(_CLOSE_SECONDS)
        )
    except ModelopsError as error:  # a worker has died of the bundle; its tasks' messages say how
        return {"their runners": [Fault(head=f"could not all be ended: {error}")]}, ""
    for name, answer in answers.items():
        logs.append(keep_logs(answer["logs"], f"{name}-{bundle.name}-runner", cell.keep_log))
        if faults := faults_of_end(answer):
            ends[name] = faults
    return ends, next(filter(None, logs), "")


def processes_of(replicates: Iterable[ReplicateSummary]) -> int:
    """Return how many processes ran these replicates."""
    return len({(one["worker"], one["pid"]) for one in replicates})
