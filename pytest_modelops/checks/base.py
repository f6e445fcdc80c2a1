"""What a check is, and what it is given. Each check has a file; `pytest_modelops.checks` is the table of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from pytest_modelops.backends.base import Backend
from pytest_modelops.bundles.bundle import Bundle, Patterns
from pytest_modelops.cluster.cluster import Cluster
from pytest_modelops.cluster.faults import DuringJob
from pytest_modelops.config.faults import Fault
from pytest_modelops.config.model import AggregationSettings, RunnerSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Lock, Progress
from pytest_modelops.matrix.cell import Cell, Role, Versions
from pytest_modelops.remote.shared.bundle_messages import BundleLocation
from pytest_modelops.remote.shared.facts import ClusterFacts, ProcessFacts
from pytest_modelops.report.model import CheckResult, Status


class CheckedCell(Protocol):
    """The living cell, as checks see it.

    Attributes:
        cell: the point of the matrix.
        backend: makes environments.
        aggregation: the job's size.
        patterns: how entry points and targets have to be written.
        runner: how a bundle's runner is started.
        progress: shows what is being done now.
        locks, environments: by the versions that they are for; filled by `resolve` and `install`.
        observed: what the cell's processes reported (`Cluster.facts`); filled by `start` and `versions`.
        unpacked: the directory for the contents of bundles that are archives; `None` for the default.
        locations: where the workers have each bundle (see `remote/worker/bundles.py`); filled by `bundle-install`.
    """

    cell: Cell
    backend: Backend
    aggregation: AggregationSettings
    patterns: Patterns
    runner: RunnerSettings
    progress: Progress
    locks: MutableMapping[Versions, Lock]
    environments: MutableMapping[Versions, Environment]
    observed: ClusterFacts
    unpacked: Path | None
    locations: MutableMapping[Bundle, BundleLocation]

    @property
    def attached(self) -> bool:
        """Whether it is a client of a deployment, whose scheduler and workers are not ours."""

    @property
    def cluster(self) -> Cluster:
        """The running cluster. One runs for every check that needs `start`."""

    def open_cluster(self, deadline: Deadline) -> Cluster:
        """Start the cluster, without waiting until it is up."""

    def during_job(self, fault: Fault, tasks: int | None = None) -> AbstractContextManager[DuringJob]:
        """Return a context in which a job is to run, and in the middle of it a fault happens; see `DuringJob`.

        What comes next in the cell then gets a new cluster.
        """

    def keep_log(self, name: str, content: bytes) -> Path:
        """Write the log of something that is no process of the sandbox; replace an earlier one of that name."""


PASSED_THROUGH = ("Python", "dask", "distributed", "cloudpickle", "msgpack", "tornado")
"""What serializes a task: https://distributed.dask.org/en/stable/protocol.html"""
Run = Callable[[CheckedCell, Deadline], Mapping[str, object] | None]
"""Runs a check: returns figures for the report, or raises an error of `pytest_modelops.errors`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One check.

    Attributes:
        name: as in `modelops::test_<name>[…]`; letters, digits and `-`, which becomes `_` in the test's name.
        bundle: the bundle that it checks; `None` for a check that runs once in a cell.
        variant: what tells it apart from other checks of its name, besides a bundle, such as a fault; may be empty.
        replaced: of a rolling upgrade, the roles that have been replaced in the state that it checks; else empty.
        needs: labels of the checks that must have passed; they run before it.
        first: labels of checks that run before it, whatever they come to.
        after: labels of checks that block this one if they ran and did not pass.
        seconds: its deadline, unless the user sets another.
        uses_cluster: whether it may use the cell's cluster. Only so many cells as `parallel` says do that at once.
        main_thread: whether it runs in pytest's main thread, when its test is due. Otherwise it runs in a thread of its
            cell, beside checks of other cells.
        leaves: repeats what the check leaves in the cluster, after that was restarted. A check that leaves something
            runs before bundles' checks and before users' tests, which find it there.
        summary: one line for people.
    """

    name: str
    run: Run
    bundle: Bundle | None = None
    variant: str = ""
    replaced: tuple[Role, ...] = ()
    needs: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    seconds: float = 60.0
    uses_cluster: bool = True
    main_thread: bool = True
    leaves: Run | None = None
    summary: str = ""

    @property
    def label(self) -> str:
        """`handshake[seir]`, `aggregation[kill-worker]`, `rolling[worker]`, or the name alone; unique in a cell."""
        return f"{self.name}[{self.object}]" if self.object else self.name

    @property
    def object(self) -> str:
        """What stands in the brackets of its label: the name of its bundle, or its variant; may be empty."""
        return self.bundle.name if self.bundle is not None else self.variant

    def is_of(self, cell: Cell) -> bool:
        """Whether it belongs to a cell, besides the checks that need it."""
        if cell.rolling is not None:
            return self.replaced in cell.rolling.states
        return not self.replaced

    def ended(self, status: Status, message: str, **fields: Any) -> CheckResult:
        """Return a result of this check; `fields` are further fields of `CheckResult`."""
        bundle = self.bundle.name if self.bundle else None
        return CheckResult(
            name=self.name, bundle=bundle, variant=self.variant, status=status, message=message, **fields
        )


def needs_start(check: Check, by_label: Mapping[str, Check], seen: tuple[str, ...] = ()) -> bool:
    """Return whether a check needs `start`, directly or not."""
    return any(
        need == "start"
        or (need in by_label and need not in seen and needs_start(by_label[need], by_label, (*seen, need)))
        for need in check.needs
    )


def label(name: str, bundle: Bundle | None) -> str:
    """Return what a check is called in messages and in `needs`."""
    return f"{name}[{bundle.name}]" if bundle is not None else name


def role_differences(cell: CheckedCell) -> str:
    """Return the differences between the roles' environments as a sentence; empty if there are none."""
    found: dict[Role, Mapping[str, object]] = {}
    for role in Role:
        if cell.attached:
            found[role] = _reported(cell.observed, role)
        else:
            lock = cell.environments[cell.cell[role]].lock
            found[role] = {"Python": lock.python, **lock.packages}
    parts = []
    for name in PASSED_THROUGH:
        of_role = {role: versions.get(name) for role, versions in found.items()}
        if len(set(of_role.values())) > 1:
            parts.append(f"{name}: " + ", ".join(f"{role.value} {version}" for role, version in of_role.items()))
    if not parts:
        return ""
    hint = (
        " Dask sends functions as bytecode, which only the same Python runs." if parts[0].startswith("Python") else ""
    )
    return f"The roles differ in {'; '.join(parts)}.{hint}"


def _reported(observed: ClusterFacts, role: Role) -> Mapping[str, object]:
    """Return what the processes of a role reported, several versions with commas between them."""
    processes: list[ProcessFacts | None]
    if role is Role.WORKER:
        processes = [*observed.get("workers", {}).values()]
    elif role is Role.SCHEDULER:
        processes = [observed.get("scheduler")]
    else:
        processes = [observed.get("client")]
    versions = [{"Python": one.get("python"), **one.get("packages", {})} for one in processes if one is not None]
    return {name: ", ".join(dict.fromkeys(str(one.get(name)) for one in versions)) for name in PASSED_THROUGH}
