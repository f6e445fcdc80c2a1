"""`lambda`: functions that are not installed run on each worker, whatever constructs they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pytest_modelops.checks.base import Check, CheckedCell, role_differences
from pytest_modelops.checks.constructs import kinds, together
from pytest_modelops.cluster.cluster import Cluster
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, ModelopsError, TimedOut
from pytest_modelops.matrix.cell import Role
from pytest_modelops.remote.shared import plain
from pytest_modelops.remote.shared.facts import Outcome
from pytest_modelops.remote.shared.tracebacks import shortened
from pytest_modelops.shipping import Shipped, ship

_TRIVIAL = "lambda x: x + 1"
_TRIAL_SECONDS = 10.0


def run(cell: CheckedCell, deadline: Deadline) -> None:
    """Call a lambda with 41 on every worker, then a function of each kind of construct; each must return 42."""
    run_on_each(cell, deadline, ship(_TRIVIAL), (41,), expect=lambda value: value == 42, expected="42")
    of_kind = kinds(cell.environments[cell.cell[Role.CLIENT]].lock.python)
    wanted = dict.fromkeys(of_kind, 42)
    try:
        run_on_each(cell, deadline, together(of_kind), (41,), expect=lambda value: value == wanted, expected="42 each")
    except CheckFailed as error:
        raise CheckFailed(_with_kinds(cell, of_kind, str(error), deadline)) from None


def _with_kinds(cell: CheckedCell, of_kind: Mapping[str, Shipped], seen: str, deadline: Deadline) -> str:
    """Return the message about a function of all kinds that broke, with the kinds that break by themselves."""
    modules = {kind: one.module for kind, one in of_kind.items()}
    try:
        broken = cell.cluster.try_calls(modules, [plain.pack(41)], 42, deadline.at_most(_TRIAL_SECONDS))
    except ModelopsError as error:
        return f"{seen}\nWhich kinds break could not be found out: {error}"
    if not broken:
        return seen
    by_fault: dict[str, list[str]] = {}
    for kind, fault in broken.items():
        by_fault.setdefault(fault, []).append(kind)
    worker = cell.environments[cell.cell[Role.WORKER]].lock
    differences = role_differences(cell)
    _, _, evidence = seen.partition("\n")
    return "\n".join([
        f"`{_TRIVIAL}` runs, but functions with these constructs break on the workers: {', '.join(broken)}. "
        f"{differences}".rstrip(),
        *(f"{', '.join(kinds)}: {fault}" for fault, kinds in by_fault.items()),
        evidence,
        "Give the client and the workers the same Python and the same Dask."
        if differences
        else f"cloudpickle {worker.packages.get('cloudpickle')} may be too old for Python {worker.python}: upgrade it.",
    ])  # fmt: skip


def run_on_each(
    cell: CheckedCell,
    deadline: Deadline,
    function: Shipped,
    args: tuple[Any, ...],
    *,
    expect: Callable[[Any], bool],
    expected: str,
) -> None:
    """Run a function on each worker, all at once, and judge what comes back.

    Args:
        expect: judges a returned value; `expected` describes what is expected.

    Raises:
        CheckFailed: it raised on a worker, a worker died of it, or the value is another.
        TimedOut: a worker did not finish it.
    """
    cell.cluster.await_workers(deadline)
    names = cell.cluster.addresses
    outcomes = call_each(cell.cluster, function, [plain.pack(arg) for arg in args], list(names), deadline)
    call = f"`{function.label}`" + (f" with {', '.join(map(repr, args))}" if args else "")
    failures: dict[str, list[str]] = {}
    wrong: dict[str, list[str]] = {}
    pending: dict[str, list[str]] = {}
    for address, outcome in outcomes.items():
        worker = names[address]
        if "pending" in outcome:
            late = f"not finished within {deadline.seconds:g} s, {whereabouts(cell.cluster, outcome)}"
            pending.setdefault(late, []).append(worker)
        elif "value" not in outcome:
            failures.setdefault(in_words(cell.cluster, worker, outcome), []).append(worker)
        elif not expect(value := plain.unpack(outcome["value"])):
            wrong.setdefault(f"returned {value!r}, not {expected}", []).append(worker)
    broken = {**failures, **wrong, **pending}
    if not broken:
        return
    count = sum(map(len, broken.values()))
    lines = [f"{call} failed on {count} of {len(outcomes)} workers. {role_differences(cell)}".rstrip()]
    for fault, workers in broken.items():
        lines.append(f"{', '.join(workers)}: {fault}")
        if fault in failures:
            lines[-1] += f"\n{workers[0]}:{cell.cluster.last_words(workers[0])}"
    raise CheckFailed("\n".join(lines)) if failures or wrong else TimedOut("\n".join(lines))


def call_each(
    cluster: Cluster, function: Shipped, args: Sequence[Any], workers: Sequence[str | None], deadline: Deadline
) -> Mapping[str, Outcome]:
    """Call a function on each of these workers, all at once.

    Args:
        args: packed.
        workers: addresses; `None` for any worker.

    Returns:
        By address, `None` as text.
    """
    outcomes: Mapping[str, Outcome] = cluster.agent.call(
        "call_each",
        module=function.module,
        args=list(args),
        workers=list(workers),
        seconds=deadline.remaining,
        deadline=deadline,
    )
    return outcomes


def in_words(cluster: Cluster, worker: str | None, outcome: Outcome) -> str:
    """Say what went wrong on a worker: how it died, or Dask's error and the end of the cell's traceback."""
    if "gone" in outcome and worker is not None:
        death = cluster.death_of_worker(worker)
        return f"the worker left the cluster while the task was on it{f'; {death}' if death else ''}"
    lines = [outcome["error"], *end_of(outcome["traceback"])]
    if outcome["error"].startswith("KilledWorker"):
        lines[1:1] = deaths(cluster, cluster.addresses.values())
    return "\n    ".join(lines)


def deaths(cluster: Cluster, names: Iterable[str]) -> list[str]:
    """Say of which of these workers the process ended, and how."""
    return [f"{name}: {death}" for name in names if (death := cluster.death_of_worker(name))]


def whereabouts(cluster: Cluster, outcome: Outcome) -> str:
    """Say where a task is that did not finish. If no worker has it, the client may have failed on its result."""
    text = cluster.with_names(outcome["pending"])
    return (
        f"{text}\nThe client:{cluster.last_words(cluster.agent.process.name)}"
        if text.startswith("not assigned")
        else text
    )


def end_of(trace: str) -> list[str]:
    """Return the last lines of a traceback, and the user's frames before them, without its message."""
    return shortened(trace.rstrip().splitlines(), 13)[:-1]


CHECK = Check(
    name="lambda", run=run, needs=("start",), seconds=30, summary="functions of every kind run on each worker"
)
