"""How the processes of a cluster are started: forked from one that has imported Dask, or executed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from pytest_modelops.backends.base import Sandbox
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.config.types import EXEC, FORK, FORK_WORKERS
from pytest_modelops.environments.base import Environment
from pytest_modelops.matrix.cell import Role

OPTIONS, SCHEDULER, AGENT = "options", "scheduler", "agent"
"""Names of processes."""
_METHOD = "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD"
"""Dask's own setting of how a nanny starts its worker."""


def worker_names(settings: ClusterSettings) -> tuple[str, ...]:
    return tuple(f"worker-{number}" for number in range(settings.workers))


def with_forking_nannies(settings: ClusterSettings, sandbox: Sandbox) -> ClusterSettings:
    """Return settings with which nannies fork their workers, if they are to; a variable of the user's wins."""
    if settings.start != FORK_WORKERS or not sandbox.nannies_fork:
        return settings
    return dataclasses.replace(
        settings,
        worker_variables={_METHOD: "fork", **settings.worker_variables},
        scheduler_variables={_METHOD: "fork", **settings.scheduler_variables},
        client_variables={_METHOD: "fork", **settings.client_variables},
    )


def prepare_to_fork(
    sandbox: Sandbox, environments: Mapping[Role, Environment], settings: ClusterSettings, *, seconds: float
) -> None:
    """Have the sandbox get ready to fork what is to be forked, if it can.

    Args:
        seconds: how long the first start may wait for it.
    """
    if settings.start == EXEC or sandbox.forking is None:
        return
    worker = (environments[Role.WORKER], settings.worker_variables)
    wanted = {
        SCHEDULER: (environments[Role.SCHEDULER], settings.scheduler_variables),
        AGENT: (environments[Role.CLIENT], settings.client_variables),
    }
    if settings.nanny or settings.start == FORK_WORKERS:
        wanted.update(dict.fromkeys(worker_names(settings), worker))
    if settings.worker_arguments:
        wanted[OPTIONS] = worker
    sandbox.forking.prepare(wanted, seconds=seconds)


def started(sandbox: Sandbox, settings: ClusterSettings) -> Iterator[tuple[str, str]]:
    """Yield each process's name and how it was started: `exec`, `fork`, `fork-workers`, or `exec` and why."""
    forking, workers = sandbox.forking, worker_names(settings)
    for name in (SCHEDULER, *workers, AGENT):
        if settings.start == EXEC:
            yield name, EXEC
        elif forking is None and name in workers and _nanny_forks(settings, sandbox):
            yield name, FORK_WORKERS
        elif forking is None:
            yield name, f"{EXEC}: only the backend `process` forks it, and only on Linux"
        elif name in forking.executed:
            yield name, f"{EXEC}: {forking.executed[name]}"
        elif name not in workers:
            yield name, FORK
        elif settings.nanny:
            yield name, settings.start if settings.worker_variables.get(_METHOD, "fork") == "fork" else FORK
        else:
            yield (
                name,
                FORK if settings.start == FORK_WORKERS else f"{EXEC}: workers are not forked, and it has no nanny",
            )


def _nanny_forks(settings: ClusterSettings, sandbox: Sandbox) -> bool:
    asked = settings.nanny and settings.start == FORK_WORKERS and sandbox.nannies_fork
    return asked and settings.worker_variables.get(_METHOD, "fork") == "fork"


def faults(sandbox: Sandbox) -> Iterator[str]:
    """Yield a message for each reason for which processes could not be forked."""
    found: dict[str, list[str]] = {}
    for name, why in sandbox.forking.faults.items() if sandbox.forking is not None else ():
        found.setdefault(why, []).append(name)
    for why, names in found.items():
        yield f"{', '.join(sorted(names))}: executed, not forked: {why}"
