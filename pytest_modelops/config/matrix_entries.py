"""Entries of `exclude`, `include` and `rolling` in `[tool.modelops.matrix]`."""

from __future__ import annotations

import dataclasses
import itertools

from packaging.specifiers import SpecifierSet

from pytest_modelops.config.setting import Place, Values, as_toml, entries, leaf, setting, shown, table
from pytest_modelops.config.types import DASK, DASK_RANGE, PYTHON, string
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import PythonVersion, Role
from pytest_modelops.matrix.versions import DaskRequest, Exclusion, Inclusion, RoleRequest, RollingRequest


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ExcludeTable:
    python: PythonVersion | None = setting(PYTHON, 'The Python to leave out; `"3.13"` stands for every 3.13.')
    dask: SpecifierSet | None = setting(DASK_RANGE, "The release or range of Dask to leave out.")


def _exclusion(found: _ExcludeTable, values: Values, place: Place) -> Exclusion:
    if not values:
        raise WrongInput(f"{place}: is empty; write python, dask or both")
    return Exclusion(python=found.python, dask=found.dask, text=as_toml(values))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _RoleTable:
    python: PythonVersion | None = setting(PYTHON, "The role's own Python.")
    dask: DaskRequest | None = setting(DASK, "The role's own Dask.")


def _role(found: _RoleTable, values: Values, place: Place) -> RoleRequest:
    if not values:
        raise WrongInput(f"{place}: is empty; write python, dask or both")
    return RoleRequest(python=found.python, dask=found.dask)


_ROLE = table(_RoleTable, _role)
_NEEDS = "an entry needs python and dask"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _IncludeTable:
    python: PythonVersion = setting(PYTHON, "The cell's Python.", required=_NEEDS)
    dask: DaskRequest = setting(DASK, "The cell's Dask.", required=_NEEDS)
    client: RoleRequest | None = setting(_ROLE, "Versions of the client that differ.")
    scheduler: RoleRequest | None = setting(_ROLE, "Versions of the scheduler that differ.")
    worker: RoleRequest | None = setting(_ROLE, "Versions of the workers that differ.")


def _inclusion(found: _IncludeTable, _: Values, place: Place) -> Inclusion:
    roles = {Role.CLIENT: found.client, Role.SCHEDULER: found.scheduler, Role.WORKER: found.worker}
    return Inclusion(
        python=found.python,
        dask=found.dask,
        roles={role: request for role, request in roles.items() if request is not None},
        origin=str(place),
    )


_ALL = "all"
"""Stands for every order of the roles."""
_EVERY_ORDER = tuple(itertools.permutations((Role.WORKER, Role.SCHEDULER, Role.CLIENT)))
_ROLES = [role.value for role in Role]


def _order(value: object) -> tuple[Role, ...]:
    names = [string(name) for name in value] if isinstance(value, list) else []
    if sorted(names) != sorted(_ROLES):
        raise WrongInput(f'{shown(value)} is no order; write "all", or each of {", ".join(_ROLES)} once')
    return tuple(map(Role, names))


def _orders(value: object) -> tuple[tuple[Role, ...], ...]:
    if value == _ALL:
        return _EVERY_ORDER
    if isinstance(value, list) and value and all(isinstance(one, list) for one in value):
        return tuple(map(_order, value))
    return (_order(value),)


_AN_ORDER = {"type": "array", "items": {"enum": _ROLES}, "minItems": 3, "maxItems": 3, "uniqueItems": True}
_ORDERS = leaf(_orders, {"anyOf": [{"const": _ALL}, _AN_ORDER, {"type": "array", "items": _AN_ORDER, "minItems": 1}]})


@dataclasses.dataclass(frozen=True, kw_only=True)
class _RollingTable:
    start: RoleRequest = setting(
        _ROLE, "With what it starts: `python` and `dask`.", key="from", required="an entry needs from and to"
    )
    to: RoleRequest = setting(
        _ROLE, "What differs at the end: `python`, `dask` or both.", required="an entry needs from and to"
    )
    order: tuple[tuple[Role, ...], ...] = setting(
        _ORDERS,
        'How roles are replaced: `["worker", "scheduler", "client"]`, a list of such orders, or `"all"`.',
        lambda: _EVERY_ORDER,
        shown='"all"',
    )


def _rolling(found: _RollingTable, values: Values, place: Place) -> RollingRequest:
    start = found.start
    if start.python is None or start.dask is None:
        raise WrongInput(f"{place}: {as_toml(values)} does not have from, with both python and dask, and to")
    return RollingRequest(python=start.python, dask=start.dask, to=found.to, orders=found.order, origin=str(place))


EXCLUDE = entries(table(_ExcludeTable, _exclusion))
INCLUDE = entries(table(_IncludeTable, _inclusion))
ROLLING = entries(table(_RollingTable, _rolling))
