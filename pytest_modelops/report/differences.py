"""What differs: between the roles of a cell, and between what two cells have installed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_modelops.report.changes import Drift
from pytest_modelops.report.model import CellReport, Status

ROLES = ("client", "scheduler", "worker")


@dataclasses.dataclass(frozen=True)
class Versions:
    """What each role has of one thing, such as `Python` or a package; several values if its processes differ.

    Attributes:
        of_role: by role, only those that are known.
    """

    name: str
    of_role: Mapping[str, str]

    @property
    def differ(self) -> bool:
        return len(set(self.of_role.values())) > 1 or any(", " in value for value in self.of_role.values())


def versions_by_role(cell: CellReport) -> list[Versions]:
    """Return what the roles of a cell run: as its processes reported it, else as it was planned."""
    facts = {role: list(_processes(cell, role)) for role in ROLES}
    if not any(facts.values()):
        planned = {name: {role: cell.roles[role][name] for role in cell.roles} for name in ("python", "dask")}
        return [Versions(name.title(), of_role) for name, of_role in planned.items() if of_role]
    found: dict[str, dict[str, str]] = {}
    for role, processes in facts.items():
        values: dict[str, list[str]] = {}
        for process in processes:
            packages: Mapping[str, object] = process.get("packages") or {}
            for name, version in {"Python": process.get("python", "no answer"), **packages}.items():
                values.setdefault(name, []).append("–" if version is None else str(version))
        for name, versions in values.items():
            found.setdefault(name, {})[role] = ", ".join(dict.fromkeys(versions))
    return [Versions(name, of_role) for name, of_role in found.items()]


def _processes(cell: CellReport, role: str) -> Iterable[Mapping[str, Any]]:
    observed: Mapping[str, Any] = cell.observed
    if role == "worker":
        return list((observed.get("workers") or {}).values())
    return [observed[role]] if observed.get(role) else []


@functools.lru_cache(maxsize=4096)
def packages(lock: tuple[str, ...]) -> Mapping[str, str]:
    """Return the versions of a cell's lock, by package; several if its environments differ."""
    found: dict[str, list[str]] = {}
    for line in lock:
        name, equals, version = line.partition("==")
        if equals:
            found.setdefault(name.strip(), []).append(version.strip())
    return {name: ", ".join(sorted(set(versions))) for name, versions in found.items()}


def drift(old: CellReport, new: CellReport) -> tuple[Drift, ...]:
    """Return the packages that differ between the locks of two cells; nothing where one has no lock."""
    before, after = packages(old.lock), packages(new.lock)
    if not before or not after:
        return ()
    names = sorted({*before, *after})
    return tuple(
        Drift(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    )


def passed_cells(cells: Iterable[CellReport]) -> list[CellReport]:
    """Return the cells that passed and whose lock is known, without rolling upgrades, which have several."""
    return [cell for cell in cells if cell.lock and cell.status is Status.PASSED and cell.rolling is None]


def nearest(cell: CellReport, passed: Sequence[CellReport]) -> CellReport | None:
    """Return the cell whose planned versions, and then whose packages, differ least from those of a broken one.

    Args:
        passed: the cells to choose from; see `passed_cells`.
    """

    def distance(other: CellReport) -> int:
        axes = (cell.python != other.python) + (cell.dask != other.dask)
        return axes + sum(cell.roles.get(role) != other.roles.get(role) for role in ROLES)

    if not passed or not cell.lock:
        return None
    distances = [distance(other) for other in passed]
    least = min(distances)
    near = [other for other, far in zip(passed, distances, strict=True) if far == least]
    return min(near, key=lambda other: len(drift(other, cell)))
