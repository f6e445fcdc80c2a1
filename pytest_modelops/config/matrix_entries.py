"""Entries of `exclude` and `include` in `[tool.modelops.matrix]`."""

from __future__ import annotations

import dataclasses

from packaging.specifiers import SpecifierSet

from pytest_modelops.config.setting import Place, Values, as_toml, entries, setting, table
from pytest_modelops.config.types import DASK, DASK_RANGE, PYTHON
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import PythonVersion, Role
from pytest_modelops.matrix.versions import DaskRequest, Exclusion, Inclusion, RoleRequest


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _IncludeTable:
    python: PythonVersion | None = setting(PYTHON, "The cell's Python.", required=True)
    dask: DaskRequest | None = setting(DASK, "The cell's Dask.", required=True)
    client: RoleRequest | None = setting(_ROLE, "Versions of the client that differ.")
    scheduler: RoleRequest | None = setting(_ROLE, "Versions of the scheduler that differ.")
    worker: RoleRequest | None = setting(_ROLE, "Versions of the workers that differ.")


def _inclusion(found: _IncludeTable, values: Values, place: Place) -> Inclusion:
    if found.python is None or found.dask is None:
        raise WrongInput(f"{place}: {as_toml(values)} does not have both python and dask")
    roles = {Role.CLIENT: found.client, Role.SCHEDULER: found.scheduler, Role.WORKER: found.worker}
    return Inclusion(
        python=found.python,
        dask=found.dask,
        roles={role: request for role, request in roles.items() if request is not None},
        origin=str(place),
    )


EXCLUDE = entries(table(_ExcludeTable, _exclusion))
INCLUDE = entries(table(_IncludeTable, _inclusion))
