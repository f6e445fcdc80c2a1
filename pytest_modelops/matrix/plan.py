"""The plan: the cells that will run, and a reason for each one that is left out; as JSON and for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TypedDict

from packaging.version import Version

from pytest_modelops.matrix.cell import Cell, PythonVersion, Role, Rolling, Versions

SCHEMA = 1
"""Version of the JSON plan's shape."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A cell of the product that is not in the plan, and why.

    Attributes:
        id: of the cell.
        reason: for people.
    """

    id: str
    reason: str


class VersionsJson(TypedDict):
    """Versions as JSON.

    Attributes:
        dask: `None` where no index could be asked which release the request means.
        as_is: the role runs in the host's own interpreter, and nothing is built.
    """

    python: str
    dask: str | None
    dask_request: str
    as_is: bool


class RollingJson(TypedDict):
    """An upgrade as JSON: the versions at its end, and the order in which the roles are replaced."""

    to: VersionsJson
    order: list[str]


class PlannedCellJson(VersionsJson):
    """A planned cell as JSON, with its base versions and those of each role: `client`, `scheduler`, `worker`.

    Attributes:
        rolling: how it is upgraded while it runs; `None` if it is not.
    """

    id: str
    skew: bool
    roles: dict[str, VersionsJson]
    rolling: RollingJson | None


class LeftOutJson(TypedDict):
    id: str
    reason: str


class PlanJson(TypedDict):
    """What `--modelops-plan=json` prints of a plan, and what xdist workers are handed."""

    schema: int
    cells: list[PlannedCellJson]
    left_out: list[LeftOutJson]
    elsewhere: list[PlannedCellJson]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What will run, in order, and what will not.

    Attributes:
        cells: sorted by Python, then Dask; no two with the same id.
        left_out: cells of the product that are excluded or were not selected, and included ones that were not
            selected; in the same order.
        elsewhere: cells of the matrix that another run has to report: of other shards, or not selected.
    """

    cells: tuple[Cell, ...]
    left_out: tuple[LeftOut, ...] = ()
    elsewhere: tuple[Cell, ...] = ()

    @property
    def whole(self) -> tuple[Cell, ...]:
        """All cells of the matrix, sorted."""
        return tuple(sorted((*self.cells, *self.elsewhere)))

    def to_json(self) -> PlanJson:
        return {
            "schema": SCHEMA,
            "cells": [_cell_to_json(cell) for cell in self.cells],
            "left_out": [{"id": left.id, "reason": left.reason} for left in self.left_out],
            "elsewhere": [_cell_to_json(cell) for cell in self.elsewhere],
        }

    @classmethod
    def from_json(cls, plain: PlanJson) -> Plan:
        """Read what `to_json` returns.

        Raises:
            ValueError: the data is of another schema.
        """
        if plain["schema"] != SCHEMA:
            raise ValueError(f"plan of schema {plain['schema']}; this version reads {SCHEMA}")
        return cls(
            cells=tuple(map(_cell_from_json, plain["cells"])),
            left_out=tuple(LeftOut(**left) for left in plain["left_out"]),
            elsewhere=tuple(map(_cell_from_json, plain["elsewhere"])),
        )

    def to_text(self, *, unavailable: Mapping[str, str]) -> str:
        """Return the plan for people: the cells with their versions, those that cannot run, those left out, and why.

        Args:
            unavailable: by the id of each cell that cannot run on this machine, why.
        """
        runnable = [cell for cell in self.cells if cell.id not in unavailable]
        lines = [f"{len(runnable)} cell{'' if len(runnable) == 1 else 's'}:"]
        lines += _columns((cell.id, _describe(cell)) for cell in runnable)
        if unavailable:
            lines.append("unavailable here, and a run fails for it:")
            lines += _columns(unavailable.items())
        if self.left_out:
            lines.append("left out:")
            lines += _columns((left.id, left.reason) for left in self.left_out)
        return "\n".join(lines)


def _cell_to_json(cell: Cell) -> PlannedCellJson:
    rolling = cell.rolling
    return {
        "id": cell.id,
        "skew": cell.skew,
        **_versions_to_json(cell.base),
        "roles": {role.value: _versions_to_json(cell[role]) for role in Role},
        "rolling": {"to": _versions_to_json(rolling.to), "order": [role.value for role in rolling.order]}
        if rolling is not None
        else None,
    }


def _cell_from_json(plain: PlannedCellJson) -> Cell:
    client, scheduler, worker = (_versions_from_json(plain["roles"][role.value]) for role in Role)
    rolling = plain["rolling"]
    upgrade = Rolling(_versions_from_json(rolling["to"]), tuple(map(Role, rolling["order"]))) if rolling else None
    return Cell(_versions_from_json(plain), client, scheduler, worker, upgrade)


def _versions_to_json(versions: Versions) -> VersionsJson:
    return {
        "python": str(versions.python),
        "dask": None if versions.dask is None else str(versions.dask),
        "dask_request": versions.dask_request,
        "as_is": versions.as_is,
    }


def _versions_from_json(plain: VersionsJson) -> Versions:
    return Versions(
        python=PythonVersion.parse(plain["python"]),
        dask=None if plain["dask"] is None else Version(plain["dask"]),
        dask_request=plain["dask_request"],
        as_is=plain["as_is"],
    )


def _columns(rows: Iterable[tuple[str, str]]) -> list[str]:
    table = list(rows)
    width = max((len(first) for first, _ in table), default=0)
    return [f"  {first:{width}}  {second}" for first, second in table]


def _describe(cell: Cell) -> str:
    if cell.rolling is not None:
        order = ", ".join(role.value for role in cell.rolling.order)
        return f"{_describe_versions(cell.base)}; upgraded to {_describe_versions(cell.rolling.to)}: {order}"
    if not cell.skew:
        return _describe_versions(cell.base)
    return "; ".join(f"{role.value}: {_describe_versions(cell[role])}" for role in Role)


def _describe_versions(versions: Versions) -> str:
    notes = [versions.dask_request] if versions.dask_request not in {"", versions.dask_text} else []
    if versions.as_is:
        notes.append("as it is")
    if versions.dask is None:
        notes.append("no index to ask")
    return f"Python {versions.python}, Dask {versions.dask_text}" + (f" ({', '.join(notes)})" if notes else "")
