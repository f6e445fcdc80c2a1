"""`bundle-install[bundle]`: the bundle installs on every worker, and every module of it is found there."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from pytest_modelops.bundles import formats
from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import bundle_in_workers, bundle_isolated, own_installs
from pytest_modelops.checks.base import Check, CheckedCell, label
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Lock
from pytest_modelops.matrix.cell import Role


def check(bundle: Bundle) -> Check:
    return Check(
        name="bundle-install",
        bundle=bundle,
        run=functools.partial(bundle_in_workers.run if bundle.in_workers else bundle_isolated.run, bundle),
        needs=("start",),
        after=(label("preflight", bundle),),
        seconds=180,
        summary="the bundle installs on every worker, and every module of it is found",
    )


def wheels_now(bundle: Bundle, locks: Mapping[Role, Lock], cell: CheckedCell, deadline: Deadline) -> Mapping[str, str]:
    """Return what the check would report as `bundle_isolated.WHEELS`; starts nothing in the cell.

    Raises:
        ModelopsError: the bundle cannot be read, or its wheels cannot be had.
    """
    source = formats.read(bundle.path, cell.unpacked, indexes=cell.backend.indexes, deadline=deadline)
    worker = locks[Role.WORKER]
    houses = {bundle_isolated.WORKER: bundle_isolated.wheels_of(bundle, source, worker, cell, deadline)}
    if bundle.in_workers:
        for role in (Role.CLIENT, *([Role.SCHEDULER] if bundle.in_scheduler else [])):
            same = locks[role].python == worker.python
            houses[role.value] = (
                houses[bundle_isolated.WORKER]
                if same
                else bundle_isolated.wheels_of(bundle, source, locks[role], cell, deadline)
            )
    elif cell.runner.installs and (builds := own_installs.build_wheels(source, worker, cell, deadline)):
        houses[bundle_isolated.BUILD] = builds
    return bundle_isolated.fingerprints(houses)
