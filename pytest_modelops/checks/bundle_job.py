"""Runs a bundle in the Dask graph, for the two checks that do: `execute` and `bundle-aggregation`."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import bundle_in_workers, bundle_tasks
from pytest_modelops.checks import bundle_messages as words
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.checks.bundle_isolated import MARGIN_SECONDS, location_in
from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.checks.lambdas import in_words, whereabouts
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, ModelopsError, RunnerTimedOut, TimedOut
from pytest_modelops.remote.shared import plain
from pytest_modelops.shipping import ship

_GRACE_SECONDS = 0.8
"""The word of a runner that was too slow arrives so much later, stacks included."""
_CLOSE_SECONDS = 8.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replicate:
    """One run of the entry point that is asked for; on any worker, unless one is named."""

    params: Mapping[str, Any]
    seed: int
    worker: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What a bundle's job came to.

    Attributes:
        replicates: summary of each, by `<parameter set>-<number>`; see `checks/bundle_tasks.py`.
        aggregates: `{"result"}` or `{"error"}` of each, by `<parameter set>-<target>`.
        lost: of both, those that Dask has no result for, and why.
        late: whether anything was too slow.
        ends: what is wrong with how runners ended, by worker.
        tidy: for texts of this bundle's.
        logs: where runners' logs are, as the end of a message.
        seconds: from the first task to the last result.
        in_process: whether no runner was between worker and bundle, so that a worker's stacks tell where it stands.
    """

    replicates: Mapping[str, Mapping[str, Any]]
    aggregates: Mapping[str, Mapping[str, Any]]
    lost: Mapping[str, Fault]
    late: bool
    ends: Mapping[str, Sequence[Fault]]
    tidy: words.Tidy
    logs: str
    seconds: float
    in_process: bool

    def judge(self, intro: str, faults: Mapping[str, Sequence[Fault]], *, named: bool = False) -> None:
        """Raise what this came to, if anything is wrong with it.

        Args:
            intro: what it is about.
            faults: what is wrong with results, by name.
            named: see `bundle_words.message`.

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
            message = words.message(intro, tidied, self.logs, named=named)
            too_late = TimedOut if self.in_process else RunnerTimedOut
            raise too_late(message) if self.late else CheckFailed(message)


def run_job(
    bundle: Bundle,
    cell: CheckedCell,
    deadline: Deadline,
    sets: Sequence[Sequence[Replicate]],
    *,
    targets: Sequence[str] = (),
) -> Answer:
    """Submit replicates, and targets that depend on them, await all, and end the runners that they started.

    Args:
        sets: the replicates of each parameter set.
    """
    location = (bundle_in_workers.bring_again if bundle.in_workers else location_in)(bundle, cell, deadline)
    addresses = cell.cluster.await_workers(deadline)
    shipped = {
        function.__name__: ship(function)
        for function in (bundle_tasks.replicate, bundle_tasks.aggregate, bundle_tasks.summarize)
    }
    run = secrets.token_hex(4)
    reply = cell.cluster.agent.call(
        "run_bundle",
        modules={name: {"source": one.source, "name": one.name} for name, one in shipped.items()},
        location=location,
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
    ends: Mapping[str, Sequence[Fault]] = {}
    logs = ""
    if bundle.in_workers:
        bundle_in_workers.take_away(cell)
    else:
        ends, logs = _end_runners(bundle, location, cell)
    names = {address: name for name, address in addresses.items()}
    lost, values = {}, {}
    for kind in ("replicates", "aggregates"):
        for name, outcome in reply[kind].items():
            if "value" in outcome:
                values[kind, name] = plain.unpack(outcome["value"])
            elif "pending" in outcome:
                where = whereabouts(cell.cluster, outcome)
                lost[f"{kind[:-1]} {name}"] = Fault(head=f"not finished in time, {where}")
            else:
                worker = next((names[a] for a in names if a in outcome.get("gone", "")), None)
                lost[f"{kind[:-1]} {name}"] = Fault(head=in_words(cell.cluster, worker, outcome))
    others = dict(_answers_of_others(values, run, sets, targets))
    late = any(_silent(value.get("error")) for value in values.values())
    pending = any("pending" in outcome for kind in ("replicates", "aggregates") for outcome in reply[kind].values())
    return Answer(
        replicates={name: value for (kind, name), value in values.items() if kind == "replicates"},
        aggregates={name: value for (kind, name), value in values.items() if kind == "aggregates"},
        lost={**others, **lost},
        late=late or pending,
        ends=ends,
        tidy=words.Tidy(directories=location["directories"].values()),
        logs=logs,
        seconds=reply["seconds"],
        in_process=bundle.in_workers,
    )


def _answers_of_others(
    values: Mapping[tuple[str, str], Mapping[str, Any]],
    run: str,
    sets: Sequence[Sequence[Replicate]],
    targets: Sequence[str],
) -> Iterator[tuple[str, Fault]]:
    """Results that are not of the task they were asked of: kept from another run, or under the key of another task."""
    for number, replicates in enumerate(sets):
        asked = [f"sim-{run}-{number}-{index}" for index in range(len(replicates))]
        for index, task_id in enumerate(asked):
            reply = values.get(("replicates", f"{number}-{index}"))
            if reply is not None and reply["task_id"] != task_id:
                yield (f"replicate {number}-{index}", Fault(head=f"the result is that of task {reply['task_id']!r}"))
        for target in targets:
            reply = values.get(("aggregates", f"{number}-{target}"))
            if reply is not None and (reply["target"], reply["of"]) != (target, asked):
                head = f"the result is that of target {reply['target']} on {', '.join(reply['of'])}"
                yield f"{target} of set {number}", Fault(head=head)


def _silent(error: Any) -> bool:
    return isinstance(error, Mapping) and "silent" in error


def _end_runners(
    bundle: Bundle, location: Mapping[str, Any], cell: CheckedCell
) -> tuple[Mapping[str, Sequence[Fault]], str]:
    """End every worker's runner; what is wrong with that by worker, and where the logs are."""
    ends, logs = {}, []
    try:
        reply = cell.cluster.ask_workers("close", {"location": location}, Deadline(_CLOSE_SECONDS))
    except ModelopsError as error:  # a worker that died of the bundle; what it died of is reported elsewhere
        return {"their runners": [Fault(head=f"could not all be ended: {error}")]}, ""
    for name, answer in reply.items():
        logs.append(words.keep_logs(answer["logs"], f"{name}-{bundle.name}-runner", cell.keep_log))
        if faults := words.faults_of_end(answer):
            ends[name] = faults
    return ends, next(filter(None, logs), "")
