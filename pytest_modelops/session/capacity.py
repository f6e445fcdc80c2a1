"""How many cells this machine can run at once."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import psutil
import pytest

from pytest_modelops.config.settings import Settings
from pytest_modelops.session.ahead import Ahead
from pytest_modelops.session.budget import Budget

_BYTES_OF_A_PROCESS = 100 * 2**20
"""Of a scheduler, worker, nanny or agent that has imported Dask; 60 to 95 MiB were measured."""


def ahead_on_this_machine(
    settings: Settings, config: pytest.Config, *, budget: Budget | None, interrupt: Callable[[], None]
) -> Ahead:
    """Return what runs cells ahead: as many at once as was set or this machine can, divided among xdist's workers."""
    sharing = getattr(config, "workerinput", {}).get("workercount", 1)
    if settings.parallel is not None:
        return Ahead(max(1, settings.parallel // sharing), budget=budget, interrupt=interrupt)
    needed = (2 * settings.workers + 2) * _BYTES_OF_A_PROCESS
    parallel = min(_cores(), _free_memory() // needed) // sharing
    has_room = functools.partial(_has_room, needed)
    return Ahead(max(1, parallel), has_room=has_room, budget=budget, interrupt=interrupt)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has none
        return os.cpu_count() or 1


def _free_memory() -> int:
    return int(psutil.virtual_memory().available)


def _has_room(needed: int) -> bool:
    return _free_memory() >= needed
