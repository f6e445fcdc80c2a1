"""What a check is, and what it is given. One file a rung; `pytest_modelops.checks` is the table of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Protocol

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.cluster import Cluster
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Backend, Environment, Lock, Progress
from pytest_modelops.matrix.cell import Cell, Role, Versions

FAILED_WHEN = ("error", "outputs.error", "outputs.empty")
"""What makes a replicate a failed one although Dask calls it finished; see `bundle_words.failures`."""


PROTOCOLS = ("json-rpc", "one-shot")
"""How a runner is asked: frames to one process (`incell/running.py`), or a process a request (`incell/one_shot.py`)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AggregationSettings:
    """Size of the aggregation job: `params` × `replicates` tasks, and `params` aggregates of them.

    Attributes:
        failed_when: which of `FAILED_WHEN` make a bundle's replicate a failed one.
    """

    params: int = 20
    replicates: int = 20
    failed_when: tuple[str, ...] = FAILED_WHEN


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunnerSettings:
    """How the runner of a bundle is started.

    Attributes:
        command: its command line; `{python}` is the interpreter of the bundle's environment, `{runner}` the runner's
            path, `{bundle}`, `{venv}`, `{digest}` and `{wheels}` are the bundle's, `{version}` is the worker's Python.
        path: a file of the host's, or a folder with a `__main__.py`; or `module:file`, a file beside a module of the
            workers' environment; `None` for the reference runner.
        protocol: one of `PROTOCOLS`.
        installs: whether it installs the bundle by itself, into an environment that has nothing but pip.
        fresh_env: variables that make it install whatever there is; `None` where there are none.
    """

    command: tuple[str, ...] = (
        *("{python}", "{runner}", "--bundle-path", "{bundle}"),
        *("--venv-path", "{venv}", "--bundle-digest", "{digest}"),
    )
    path: Path | str | None = None
    protocol: str = PROTOCOLS[0]
    installs: bool = False
    fresh_env: Mapping[str, str] | None = None

    @property
    def reuses(self) -> bool:
        """Whether it may use an environment again: a one-shot runner has a new one for every request, if any."""
        return self.installs and self.protocol == PROTOCOLS[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PluginSettings:
    """The worker plugin of a deployment, and what its runtime must be on every worker.

    Attributes:
        path: its class, `package.module:Class`, importable by client and workers.
        arguments: of the class, by keyword; plain data as TOML has it.
        probe: dotted attribute that every worker must have; empty when only `expect` is asked.
        expect: dotted attribute of the worker → its value: plain data, or `package.module:Class` for an object.
        processes: `COLD`, `WARM` or `DIRECT` → a function, `package.module:function`, that does something with the
            runtime on a worker and returns which process did it.
        tasks: how often such a function is called on each worker.
    """

    path: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    probe: str = ""
    expect: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    processes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tasks: int = 4


COLD, WARM, DIRECT = PROCESSES = ("cold", "warm", "direct")
"""A new process for every task; one process of each worker for all of them; the worker's own process."""


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
        unpacked: the folder for what bundles that are archives hold; `None` for the default.
        placed: where the bundles are that the workers have (see `incell/bundles.py`); filled by `bundle-install`.
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
    placed: MutableMapping[Bundle, Mapping[str, Any]]

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
    """One rung of the ladder.

    Attributes:
        name: as in `modelops::test_<name>[…]`; letters, digits and `-`, which becomes `_` in the test's name.
        bundle: what it is about; `None` for a rung that is climbed once in a cell.
        needs: labels of the rungs that must have passed; those are performed for it.
        after: labels of rungs that stop this one if they were performed and did not pass.
        run: performs it.
        seconds: its deadline, unless the user sets another.
        leaves: does again what the rung leaves behind in the cluster, when that was started again. A rung that leaves
            something is performed before bundles' rungs and before what tests of the user's do, which shall find it.
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
    """What a rung is called in messages and in `needs`."""
    return f"{name}[{bundle.name}]" if bundle is not None else name


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
