"""Making the plan from the settings: the cells, and a reason for each one that is left out."""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

from packaging.version import Version

from pytest_modelops.errors import WrongInput, said_of
from pytest_modelops.matrix.cell import Cell, PythonVersion, Role, Rolling, Versions, check_role
from pytest_modelops.matrix.versions import (
    DaskRequest,
    Exclusion,
    Inclusion,
    Keyword,
    MatrixSettings,
    Releases,
    RoleRequest,
    RollingRequest,
    expand,
)

SCHEMA = 1
"""Version of the JSON plan's shape."""
_IDS_IN_A_MESSAGE = 12


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
    return {
        "id": cell.id,
        "skew": cell.skew,
        **_versions_to_json(cell.base),
        "roles": {role.value: _versions_to_json(cell[role]) for role in Role},
        "rolling": _rolling_to_json(cell.rolling) if cell.rolling is not None else None,
    }


def _rolling_to_json(rolling: Rolling) -> RollingJson:
    return {"to": _versions_to_json(rolling.to), "order": [role.value for role in rolling.order]}


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


def make_plan(
    matrix: MatrixSettings,
    *,
    releases: Releases,
    installed: Version | None,
    this_python: PythonVersion,
    as_is_allowed: bool,
) -> Plan:
    """Make the plan: the product of the axes, without `exclude`, with `include` and `rolling`; of these the selected.

    If two requests mean the same release, the plan has the cell of the first.

    Args:
        installed: the release of Dask beside pytest, `None` if there is none.
        this_python: the version of the interpreter that runs pytest, to the patch.
        as_is_allowed: whether roles that ask for that Python and the installed Dask use the interpreter as it is.

    Raises:
        WrongInput: no such release, a duplicate, a Python that a role cannot have, or no cell left.
    """
    ground = _Ground(releases, installed, this_python, as_is_allowed)
    product = _product(matrix, ground)
    left_out = {cell: reason for cell in product if (reason := excluded(cell, matrix.exclude))}
    cells = {cell: requests for cell, requests in product.items() if cell not in left_out}
    with said_of(matrix.python_origin):
        _check_roles(cells)
    _include(matrix.include, cells, ground)
    _roll(matrix.rolling, cells, ground)
    if not cells:
        raise WrongInput(f"{matrix.exclude_origin}: no cell is left of {_listed(product)}")
    selected = _selected(matrix, cells)
    for cell in cells.keys() - selected:
        left_out[cell] = f"not selected by {matrix.select_origin} {' '.join(matrix.select)}"
    return Plan(
        cells=tuple(sorted(selected)),
        left_out=tuple(LeftOut(id=cell.id, reason=left_out[cell]) for cell in sorted(left_out) if cell not in selected),
        elsewhere=tuple(sorted(cells.keys() - selected)),
    )


_Requests = tuple[tuple[str, str], ...]
"""The Python and the Dask that were written for each role. Several requests may lead to the same cell."""


@dataclasses.dataclass(frozen=True)
class _Ground:
    """What turns requests into releases and interpreters."""

    releases: Releases
    installed: Version | None
    this_python: PythonVersion
    as_is_allowed: bool

    def expand(self, request: DaskRequest) -> tuple[Version | None, ...]:
        return expand(request, releases=self.releases, installed=self.installed)

    def versions(self, python: PythonVersion, request: DaskRequest, release: Version | None) -> Versions:
        as_is = (
            self.as_is_allowed and request.wanted is Keyword.INSTALLED and python.admits(Version(str(self.this_python)))
        )
        return Versions(python, release, request.text, as_is)

    def one(self, python: PythonVersion, request: DaskRequest, key: str) -> Versions:
        """Return the versions that a request means, which must not be a range."""
        if request.is_range:
            raise WrongInput(f"{request.text!r} is a range; {key} takes one release, latest or installed")
        (release,) = self.expand(request)
        return self.versions(python, request, release)


def _product(matrix: MatrixSettings, ground: _Ground) -> dict[Cell, set[_Requests]]:
    pythons = matrix.python or (ground.this_python,)
    requests = matrix.dask or (DaskRequest.parse(Keyword.INSTALLED.value),)
    _refuse_twice(pythons, matrix.python_origin)
    _refuse_twice([request.text for request in requests], matrix.dask_origin)
    product: dict[Cell, set[_Requests]] = {}
    for request in requests:
        with said_of(matrix.dask_origin):
            found = ground.expand(request)
        for python, release in itertools.product(pythons, found):
            cell = Cell.uniform(ground.versions(python, request, release))
            product.setdefault(cell, set()).add(_requests(cell))
    return product


def _include(entries: Iterable[Inclusion], cells: dict[Cell, set[_Requests]], ground: _Ground) -> None:
    for entry in entries:
        with said_of(entry.origin):
            cell = _included(entry, ground)
            _check_roles([cell])
            requests = cells.setdefault(cell, set())
            if _requests(cell) in requests:
                raise WrongInput(f"{cell} is in the matrix already; remove the entry")
            requests.add(_requests(cell))


def _included(entry: Inclusion, ground: _Ground) -> Cell:
    def versions(asked: RoleRequest) -> Versions:
        return ground.one(asked.python or entry.python, asked.dask or entry.dask, "include")

    client, scheduler, worker = (versions(entry.roles.get(role, RoleRequest())) for role in Role)
    cell = Cell(versions(RoleRequest()), client, scheduler, worker)
    if not cell.skew and cell.client != cell.base:
        raise WrongInput("client, scheduler and worker are all the same; write their versions once, for the entry")
    return cell


def _roll(entries: Iterable[RollingRequest], cells: dict[Cell, set[_Requests]], ground: _Ground) -> None:
    for entry in entries:
        with said_of(entry.origin):
            start = Cell.uniform(ground.one(entry.python, entry.dask, "rolling"))
            to = ground.one(entry.to.python or entry.python, entry.to.dask or entry.dask, "rolling")
            if to == start.base:
                raise WrongInput(f"from and to are both {to}; nothing would be upgraded")
            for order in entry.orders:
                cell = dataclasses.replace(start, rolling=Rolling(to, order))
                _check_roles([cell])
                if cell in cells:
                    raise WrongInput(f"{cell} is in the matrix already; remove the entry, or this order")
                cells[cell] = {_requests(cell)}


def excluded(cell: Cell, entries: Iterable[Exclusion]) -> str:
    """Return why a cell of the product is excluded; empty if it is not."""
    return next((f"excluded by {entry.text}" for entry in entries if _matches(entry, cell.base)), "")


def _matches(entry: Exclusion, versions: Versions) -> bool:
    if entry.python is not None:
        actual = versions.python
        if entry.python not in {actual, PythonVersion(actual.release[:2])}:
            return False
    if entry.dask is not None:
        # Without an index the release is unknown, so no range excludes it; its `resolve` check will fail.
        return versions.dask is not None and entry.dask.contains(versions.dask, prereleases=True)
    return True


def _selected(matrix: MatrixSettings, cells: Iterable[Cell]) -> set[Cell]:
    if not matrix.select:
        return set(cells)
    selected = {cell for cell in cells if any(fnmatch.fnmatchcase(cell.id, pattern) for pattern in matrix.select)}
    if not selected:
        patterns = " or ".join(map(repr, matrix.select))
        raise WrongInput(f"{matrix.select_origin}: no cell's id matches {patterns}; there are {_listed(cells)}")
    return selected


def _check_roles(cells: Iterable[Cell]) -> None:
    for cell, role in itertools.product(cells, Role):
        check_role(role, cell[role])
        check_role(role, cell.upgraded(role))


def _requests(cell: Cell) -> _Requests:
    return tuple((str(cell[role].python), cell[role].dask_request) for role in Role)


def _refuse_twice(values: Sequence[object], origin: str) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise WrongInput(f"{origin}: {str(value)!r} is there twice")


def _listed(cells: Iterable[Cell]) -> str:
    ids = [cell.id for cell in sorted(cells)]
    more = len(ids) - _IDS_IN_A_MESSAGE
    return ", ".join(ids[:_IDS_IN_A_MESSAGE]) + (f" and {more} more" if more > 0 else "")
