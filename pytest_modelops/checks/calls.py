"""Calling a function on workers, for users' tests: returns the values, or raises what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_modelops.checks.lambdas import call_each, in_words, whereabouts
from pytest_modelops.cluster.cluster import Cluster
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, RemoteError, TimedOut
from pytest_modelops.shipping import Shipped, unpack


def call_on(
    cluster: Cluster,
    function: Shipped,
    args: Sequence[Any],
    workers: Sequence[str | None],
    deadline: Deadline,
    *,
    where: str,
) -> dict[str | None, Any]:
    """Call a function on each of these workers, all at once.

    Args:
        args: packed, see `shipping.pack`.
        workers: names; `None` for any worker.
        where: function and cell, for messages.

    Returns:
        The value by worker name.

    Raises:
        CheckFailed: no such worker exists.
        RemoteError: it raised there, or its worker died.
        TimedOut: it did not finish, or the worker did not come back.
    """
    __tracebackhide__ = True
    names = [name for name in workers if name is not None]
    known = cluster.names
    if unknown := set(names).difference(known):
        raise CheckFailed(f"{where}: it has no worker {unknown.pop()!r}; it has {', '.join(known)}")
    addresses = cluster.await_workers(deadline, names) if names else {}
    outcomes = call_each(cluster, function, args, [name and addresses[name] for name in workers], deadline)
    values = {}
    for name in workers:
        outcome = outcomes[str(name and addresses[name])]
        place = f"{where} on {name}" if name else where
        if "pending" in outcome:
            raise TimedOut(
                f"{place} did not finish within {deadline.seconds:g} s; it is {whereabouts(cluster, outcome)}"
            )
        if "value" not in outcome:
            raise RemoteError(f"{place}: {in_words(cluster, name, outcome)}")
        values[name] = unpack(outcome["value"])
    return values
