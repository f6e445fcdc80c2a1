"""`install`: the cell's environments are built, or found in the cache and verified."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_modelops.checks.base import Check, CheckedCell
from pytest_modelops.deadline import Deadline


def run(cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Build or find the environment of each lock."""
    for versions, lock in cell.locks.items():
        cell.progress(f"installing {versions}")
        cell.environments[versions] = cell.backend.install(lock, deadline=deadline, progress=cell.progress)
    reused = sum(environment.reused for environment in cell.environments.values())
    return {"built": len(cell.environments) - reused, "reused": reused}


CHECK = Check(
    name="install",
    run=run,
    needs=("resolve",),
    seconds=600,
    uses_cluster=False,
    summary="the environments are built, or verified",
)
