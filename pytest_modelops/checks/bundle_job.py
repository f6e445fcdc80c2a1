"""Runs a bundle in the Dask graph, for the two rungs that do: `execute` and `bundle-aggregation`."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import bundle_tasks
from pytest_modelops.checks import bundle_words as words
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.checks.bundle_install import MARGIN_SECONDS, placed_in
from pytest_modelops.checks.lambdas import in_words, whereabouts
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, ModelopsError, RunnerTimedOut
from pytest_modelops.incell import plain
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
class Told:
    """What a bundle's job came to.

    Attributes:
        replicates: summary of each, by `<parameter set>-<number>`; see `checks/bundle_tasks.py`.
        aggregates: `{"result"}` or `{"error"}` of each, by `<parameter set>-<target>`.
        lost: of both, those that Dask has no result for, and why, in words.
        late: whether anything was too slow.
        ends: what is wrong with how runners ended, by worker.
        logs: where runners' logs are, as the end of a message.
        seconds: from the first task to the last result.
    """

    replicates: Mapping[str, Mapping[str, Any]]
    aggregates: Mapping[str, Mapping[str, Any]]
    lost: Mapping[str, str]
    late: bool
    ends: Mapping[str, str]
    logs: str
    seconds: float

    def judge(self, what: str, wrong: Sequence[str]) -> None:
        """Raise what this came to, if anything is wrong with it.

        Args:
            what: first words of the message.
            wrong: what is wrong, in words, the most telling first.

        Raises:
            CheckFailed, RunnerTimedOut: with all of it.
        """
        lost = [f"{name}: {why}" for name, why in self.lost.items()]
        found = [*wrong, *lost, *words.by_worker(self.ends)]
        if not found:
            return
        first = found[0].partition("\n")[0]
        message = "\n".join([f"{what}: {first}", *found, self.logs]).rstrip()
        raise RunnerTimedOut(message) if self.late else CheckFailed(message)


def run_job(
    bundle: Bundle,
    cell: CheckedCell,
    deadline: Deadline,
    sets: Sequence[Sequence[Replicate]],
    *,
    targets: Sequence[str] = (),
) -> Told:
    """Submit replicates, and targets that depend on them, await all, and end the runners that they started.

    Args:
        sets: the replicates of each parameter set.
    """
    placed = placed_in(bundle, cell, deadline)
    addresses = cell.cluster.await_workers(deadline)
    shipped = {
        function.__name__: ship(function)
        for function in (bundle_tasks.replicate, bundle_tasks.aggregate, bundle_tasks.summarize)
    }
    told = cell.cluster.agent.call(
        "run_bundle",
        modules={name: {"source": one.source, "name": one.name} for name, one in shipped.items()},
        placed=placed,
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
        run=secrets.token_hex(4),
        seconds=max(0.1, deadline.remaining - MARGIN_SECONDS),
        deadline=Deadline(deadline.remaining + _GRACE_SECONDS),
    )
    ends, logs = _end_runners(bundle, placed, cell)
    names = {address: name for name, address in addresses.items()}
    lost, values = {}, {}
    for kind in ("replicates", "aggregates"):
        for name, outcome in told[kind].items():
            if "value" in outcome:
                values[kind, name] = plain.unpack(outcome["value"])
            elif "pending" in outcome:
                lost[f"{kind[:-1]} {name}"] = f"not finished, {whereabouts(cell.cluster, outcome)}"
            else:
                worker = next((names[a] for a in names if a in outcome.get("gone", "")), None)
                lost[f"{kind[:-1]} {name}"] = in_words(cell.cluster, worker, outcome)
    late = any(_silent(value.get("error")) for value in values.values())
    pending = any(
        "pending" in outcome for kind in ("replicates", "aggregates") for outcome in told[kind].values()
    )
    return Told(
        replicates={name: value for (kind, name), value in values.items() if kind == "replicates"},
        aggregates={name: value for (kind, name), value in values.items() if kind == "aggregates"},
        lost=lost,
        late=late or pending,
        ends=ends,
        logs=logs,
        seconds=told["seconds"],
    )


def _silent(error: Any) -> bool:
    return isinstance(error, Mapping) and "silent" in error


def _end_runners(
    bundle: Bundle, placed: Mapping[str, Any], cell: CheckedCell
) -> tuple[Mapping[str, str], str]:
    """End every worker's runner; what is wrong with that by worker, and where the logs are."""
    ends, logs = {}, []
    try:
        told = cell.cluster.ask_workers("close", {"placed": placed}, Deadline(_CLOSE_SECONDS))
    except ModelopsError as error:  # a worker that died of the bundle; what it died of is told elsewhere
        return {"the workers' runners": f"could not all be ended: {error}"}, ""
    for name, answer in told.items():
        logs.append(words.keep_logs(answer["logs"], f"{name}-{bundle.name}-runner", cell.keep_log))
        if wrong := words.ended(answer):
            ends[name] = "\n".join(wrong)
    return ends, next(filter(None, logs), "")
