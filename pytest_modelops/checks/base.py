"""What a check is, and what it is given. One file a rung; `pytest_modelops.checks` is the table of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Protocol

from pytest_modelops.cluster import Cluster
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Backend, Environment, Lock, Progress
from pytest_modelops.matrix.cell import Cell, Role, Versions


@dataclasses.dataclass(frozen=True, kw_only=True)
class AggregationSettings:
    """Size of the aggregation job: `params` × `replicates` tasks, and `params` aggregates of them."""

    params: int = 20
    replicates: int = 20


class CheckedCell(Protocol):
    """The living cell, as checks see it.

    Attributes:
        cell: the point of the matrix.
        backend: makes environments.
        aggregation: the job's size.
        progress: says what is being done now.
        locks, environments: by the versions that they are for; filled by `resolve` and `install`.
        observed: what the cell's processes said of themselves (`Cluster.facts`); filled by `start` and `versions`.
    """

    cell: Cell
    backend: Backend
    aggregation: AggregationSettings
    progress: Progress
    locks: MutableMapping[Versions, Lock]
    environments: MutableMapping[Versions, Environment]
    observed: Mapping[str, Any]

    @property
    def cluster(self) -> Cluster:
        """The running cluster; there is one once `start` passed."""

    def open_cluster(self, deadline: Deadline) -> Cluster:
        """Start the cluster, without waiting until it is up."""


Run = Callable[[CheckedCell, Deadline], Mapping[str, Any] | None]
"""Performs a check: returns figures worth keeping, or raises an error of `pytest_modelops.errors`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One rung of the ladder.

    Attributes:
        name: as in `modelops::test_<name>[…]`; letters, digits and `-`, which becomes `_` in the test's name.
        needs: names of the rungs that must have passed.
        run: performs it.
        seconds: its deadline, unless the user sets another.
        summary: one line for people.
    """

    name: str
    run: Run
    needs: tuple[str, ...] = ()
    seconds: float = 60.0
    summary: str = ""


def role_differences(cell: CheckedCell) -> str:
    """What differs between the roles' environments, as a sentence; empty when nothing that matters does.

    These packages are what a task passes through on its way: https://distributed.dask.org/en/stable/protocol.html
    """
    locks = {role: cell.environments[cell.cell[role]].lock for role in Role}
    parts = []
    for name in ("Python", "dask", "distributed", "cloudpickle", "msgpack", "tornado"):
        of_role = {
            role: lock.python if name == "Python" else lock.packages.get(name) for role, lock in locks.items()
        }
        if len(set(of_role.values())) > 1:
            parts.append(
                f"{name}: " + ", ".join(f"{role.value} {version}" for role, version in of_role.items())
            )
    if not parts:
        return ""
    hint = (
        " Dask sends functions as bytecode, which only the same Python runs."
        if parts[0].startswith("Python")
        else ""
    )
    return f"The roles differ in {'; '.join(parts)}.{hint}"
