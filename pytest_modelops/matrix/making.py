"""Making the plan from the settings: the cells, and a reason for each one that is left out."""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
from collections.abc import Iterable, Sequence

from packaging.version import Version

from pytest_modelops.errors import WrongInput, said_of
from pytest_modelops.matrix.cell import Cell, PythonVersion, Role, Rolling, Versions, check_role
from pytest_modelops.matrix.plan import LeftOut, Plan
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

_IDS_IN_A_MESSAGE = 12


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
