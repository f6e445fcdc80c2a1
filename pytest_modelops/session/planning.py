"""The plan of a run. An index is asked if releases must be known; nothing else is started, pulled or removed."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import metadata
from platform import python_version

import pytest
from packaging.version import Version

from pytest_modelops.backends.attach import AttachBackend
from pytest_modelops.backends.cluster import ClusterBackend
from pytest_modelops.backends.process import ProcessBackend
from pytest_modelops.config.outcome_types import LAST
from pytest_modelops.environments.interpreters import looks_installed
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import Cell, PythonVersion
from pytest_modelops.matrix.making import make_plan
from pytest_modelops.matrix.plan import LeftOut, Plan
from pytest_modelops.matrix.shards import part_of
from pytest_modelops.matrix.versions import Releases
from pytest_modelops.session.baseline import baseline_of, seconds_of
from pytest_modelops.session.configured import Configured
from pytest_modelops.session.hooks import change


def plan_of(configured: Configured, *, releases: Releases, config: pytest.Config) -> Plan:
    """Make the plan.

    Raises:
        WrongInput: a version does not exist, no cell is left, or what a hook made of the cells is not valid.
    """
    spec = configured.settings.environment
    plan = make_plan(
        configured.settings.matrix,
        releases=releases,
        installed=_installed_dask(),
        this_python=PythonVersion.parse(python_version()),
        as_is_allowed=not (spec.requirements or spec.constraints or spec.as_of),
    )
    if configured.settings.attach.is_asked_for:
        plan = _of_clients(plan)
    cells = list(plan.cells)
    change(config, "pytest_modelops_cells", cells=cells)
    plan = _after_hook(plan, cells)
    _refuse_unknown(configured, plan)
    settings = configured.settings
    if settings.shard is None:
        return plan
    if settings.baseline == LAST:
        raise WrongInput(
            "--modelops-shard: every machine needs the same measured seconds; name a file with --modelops-baseline"
        )
    baseline = baseline_of(settings)
    return part_of(plan, settings.shard, seconds_of(baseline) if baseline is not None else {})


def unavailable(cells: Iterable[Cell], backend: str) -> dict[str, str]:
    """Return for each cell that needs a Python which is not installed what is missing, as far as files show it."""
    if backend not in {ProcessBackend.name, AttachBackend.name, ClusterBackend.name}:
        return {}
    found = {}
    is_here = functools.cache(looks_installed)
    for cell in cells:
        pythons = dict.fromkeys(versions.python for versions in cell.needed if not versions.as_is)
        missing = [str(python) for python in pythons if not is_here(python)]
        if missing:
            found[cell.id] = (
                f"Python {' and '.join(missing)} is not installed; get it with: uv python install {' '.join(missing)}"
            )
    return found


def _of_clients(plan: Plan) -> Plan:
    """Return the plan without skew cells and rolling upgrades: scheduler and workers are those of a deployment."""
    cells = tuple(cell for cell in plan.cells if not cell.skew and cell.rolling is None)
    left_out = [
        LeftOut(
            id=cell.id,
            reason="a deployment's scheduler and workers are not replaced"
            if cell.rolling is not None
            else "scheduler and workers are the deployment's",
        )
        for cell in plan.cells
        if cell not in cells
    ]
    if not cells:
        raise WrongInput(
            f"no cell is left: {', '.join(left.id for left in left_out)} have a scheduler or workers of theirs"
        )
    return dataclasses.replace(plan, cells=cells, left_out=(*plan.left_out, *left_out))


def _after_hook(plan: Plan, cells: Sequence[Cell]) -> Plan:
    if not cells:
        raise WrongInput("pytest_modelops_cells: no cell is left")
    for cell in cells:
        if not isinstance(cell, Cell):
            raise WrongInput(f"pytest_modelops_cells: {cell!r} is not a pytest_modelops.matrix.cell.Cell")
    ids = [cell.id for cell in cells]
    if twice := next((cell_id for cell_id, count in Counter(ids).items() if count > 1), None):
        raise WrongInput(f"pytest_modelops_cells: {twice} is there twice")
    there = set(ids)
    left_out = [left for left in plan.left_out if left.id not in there]
    left_out += [
        LeftOut(id=cell.id, reason="removed by pytest_modelops_cells") for cell in plan.cells if cell.id not in there
    ]
    return Plan(cells=tuple(cells), left_out=tuple(left_out), elsewhere=plan.elsewhere)


def _refuse_unknown(configured: Configured, plan: Plan) -> None:
    """Refuse an entry of `known-broken` for no cell of the configuration: it would never be found out."""
    if configured.settings.matrix.replaced:
        return
    ids = [*(cell.id for cell in plan.cells), *(left.id for left in plan.left_out)]
    for known in configured.settings.known_broken:
        if not any(map(known.is_of_cell, ids)):
            raise WrongInput(f"{known.place}: {known.cell!r} matches none of the cells {', '.join(ids)}; remove it")


def _installed_dask() -> Version | None:
    try:
        return Version(metadata.version("distributed"))
    except metadata.PackageNotFoundError:
        return None
