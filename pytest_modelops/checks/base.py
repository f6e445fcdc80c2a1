"""What a check is, and what it is given. One file a check; `pytest_modelops.checks` is the table of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Protocol

from pytest_modelops.backends.base import Backend
from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.cluster.cluster import Cluster
from pytest_modelops.config.model import AggregationSettings, RunnerSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Lock, Progress
from pytest_modelops.matrix.cell import Cell, Role, Versions
from pytest_modelops.remote.shared.bundle_messages import BundleLocation


class CheckedCell(Protocol):
    """The living cell, as checks see it.

    Attributes:
        cell: the point of the matrix.
        backend: makes environments.
        aggregation: the job's size.
        runner: how a bundle's runner is started.
        progress: says what is being done now.
        locks, environments: by the versions that they are for; filled by `resolve` and `install`.
        observed: what the cell's processes said of themselves (`Cluster.facts`); filled by `start` and `versions`.
        unpacked: the directory for what bundles that are archives hold; `None` for the default.
        locations: where the bundles are that the workers have (see `remote/worker/bundles.py`); filled by
            `bundle-install`.
    """

    cell: Cell
    backend: Backend
    aggregation: AggregationSettings
    runner: RunnerSettings
    progress: Progress
    locks: MutableMapping[Versions, Lock]
    environments: MutableMapping[Versions, Environment]
    observed: Mapping[str, Any]
    unpacked: Path | None
    locations: MutableMapping[Bundle, BundleLocation]

    @property
    def cluster(self) -> Cluster:
        """The running cluster; there is one once `start` passed."""

    def open_cluster(self, deadline: Deadline) -> Cluster:
        """Start the cluster, without waiting until it is up."""

    def keep_log(self, name: str, content: bytes) -> Path:
        """Keep what a part of the cell wrote that has no log on the host; replaces an earlier one of that name."""


Run = Callable[[CheckedCell, Deadline], Mapping[str, Any] | None]
"""Performs a check: returns figures worth keeping, or raises an error of `pytest_modelops.errors`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One check.

    Attributes:
        name: as in `modelops::test_<name>[…]`; letters, digits and `-`, which becomes `_` in the test's name.
        bundle: what it is about; `None` for a check that is run once in a cell.
        needs: labels of the checks that must have passed; those are performed for it.
        after: labels of checks that stop this one if they were performed and did not pass.
        run: performs it.
        seconds: its deadline, unless the user sets another.
        leaves: does again what the check leaves behind in the cluster, when that was started again. A check that leaves
            something is performed before bundles' checks and before what tests of the user's do, which shall find it.
        summary: one line for people.
    """

    name: str
    run: Run
    bundle: Bundle | None = None
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    seconds: float = 60.0
    leaves: Run | None = None
    summary: str = ""

    @property
    def label(self) -> str:
        """`handshake[seir]`, or just the name where there is no bundle; unique in a cell."""
        return label(self.name, self.bundle)


def label(name: str, bundle: Bundle | None) -> str:
    """What a check is called in messages and in `needs`."""
    return f"{name}[{bundle.name}]" if bundle is not None else name


def role_differences(cell: CheckedCell) -> str:
    """What differs between the roles' environments, as a sentence; empty when nothing that matters does.

    These packages are what a task passes through on its way: https://distributed.dask.org/en/stable/protocol.html
    """
    locks = {role: cell.environments[cell.cell[role]].lock for role in Role}
    parts = []
    for name in ("Python", "dask", "distributed", "cloudpickle", "msgpack", "tornado"):
        of_role = {role: lock.python if name == "Python" else lock.packages.get(name) for role, lock in locks.items()}
        if len(set(of_role.values())) > 1:
            parts.append(f"{name}: " + ", ".join(f"{role.value} {version}" for role, version in of_role.items()))
    if not parts:
        return ""
    hint = (
        " Dask sends functions as bytecode, which only the same Python runs." if parts[0].startswith("Python") else ""
    )
    return f"The roles differ in {'; '.join(parts)}.{hint}"
