"""`resolve`: the cell's requirements can be resolved for its Python and platform."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_modelops.checks.base import Check, CheckedCell
from pytest_modelops.deadline import Deadline


def run(cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Make or find a lock for each distinct environment of the cell."""
    for versions in cell.cell.needed:
        cell.progress(f"resolving {versions}")
        cell.locks[versions] = cell.backend.resolve(versions, deadline=deadline, progress=cell.progress)
    notes = [lock.note for lock in cell.locks.values() if lock.note]
    return {"notes": notes} if notes else {}


CHECK = Check(
    name="resolve", run=run, seconds=120, uses_cluster=False, summary="the cell's requirements can be resolved"
)
