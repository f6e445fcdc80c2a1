"""`lambda`: a function that was never heard of there runs on each worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pytest_modelops.checks.base import Check, CheckedCell, role_differences
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, TimedOut
from pytest_modelops.incell import plain
from pytest_modelops.shipping import Shipped, ship


def run(cell: CheckedCell, deadline: Deadline) -> None:
    """`lambda x: x + 1` returns 42 for 41 on every worker."""
    run_on_each(
        cell, deadline, ship("lambda x: x + 1"), (41,), expect=lambda value: value == 42, expected="42"
    )


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
        expect: judges a returned value; `expected` says in words what is expected.

    Raises:
        CheckFailed: it raised on a worker, a worker died of it, or the value is another.
        TimedOut: a worker did not finish it.
    """
    names = cell.cluster.addresses
    outcomes: Mapping[str, Mapping[str, Any]] = cell.cluster.agent.call(
        "call_each",
        module={"source": function.source, "name": function.name},
        args=[plain.pack(arg) for arg in args],
        workers=list(names),
        seconds=deadline.remaining,
        deadline=deadline,
    )
    call = f"{function.label} with {', '.join(map(repr, args))}" if args else function.label
    failures, pending = [], []
    for address, outcome in outcomes.items():
        where = f"{names[address]} ({address})"
        if "pending" in outcome:
            pending.append(
                f"on {where} it did not finish within {deadline.seconds:g} s; it is {outcome['pending']}"
            )
        elif "value" in outcome:
            value = plain.unpack(outcome["value"])
            if not expect(value):
                failures.append(f"on {where} it returned {value!r}, not {expected}")
        else:
            failures.append(f"on {where}: {explain(cell, names[address], outcome)}")
    if failures or pending:
        text = "\n".join(filter(None, [f"{call} failed", role_differences(cell), *failures, *pending]))
        raise CheckFailed(text) if failures else TimedOut(text)


def explain(cell: CheckedCell, worker: str, outcome: Mapping[str, Any]) -> str:
    """What went wrong on a worker: Dask's words, the cell's traceback, the worker's last words."""
    parts = [outcome.get("error") or outcome["gone"]]
    if "traceback" in outcome:
        parts += outcome["traceback"].rstrip().splitlines()[-12:]
    parts += [f"{worker} printed last:", *cell.cluster.last_words(worker)]
    return "\n    ".join(parts)


CHECK = Check(name="lambda", run=run, needs=("start",), seconds=30, summary="a lambda runs on each worker")
