"""Faults on purpose: what happens to a cell while a job runs in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pytest_modelops.config.setting import Kind, Place, Type, Values, leaf, setting, shown, table
from pytest_modelops.config.types import PATTERN, SECONDS, choice
from pytest_modelops.errors import WrongInput

KILL, FREEZE, MEMORY, RESTART = "kill-worker", "freeze-worker", "memory", "restart-scheduler"
CUT_OFF, DISK, SLOW = "cut-off", "disk-full", "slow-network"
FAULTS = (KILL, FREEZE, CUT_OFF, MEMORY, DISK, RESTART, SLOW)
LASTING = (FREEZE, CUT_OFF, DISK, SLOW)
"""Those that end after a time that can be set."""
IN_CONTAINERS = "use --modelops-backend docker, where each worker has its own"
"""What helps where workers share something."""


def _at(value: object) -> float:
    share = isinstance(value, float) and 0 <= value < 1
    count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not isinstance(value, int | float) or not (share or count):
        raise WrongInput(f"{shown(value)} is neither a share of the tasks, below 1.0, nor a number of tasks")
    return float(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault. Attributes are as in the file; `name` is its `fault`."""

    name: str = setting(
        choice("a fault", FAULTS),
        "What happens, see [the faults](faults.md).",
        key="fault",
        required=f"valid: {', '.join(sorted(FAULTS))}",
    )
    at: float = setting(
        leaf(_at, {"type": "number", "minimum": 0}),
        "When it happens: as soon as this share of the job's tasks is done, or this number of tasks (`30`).",
        0.5,
    )
    seconds: float = setting(SECONDS, f"How long it lasts: of {', '.join(f'`{name}`' for name in LASTING)}.", 2.0)
    fails: str = setting(
        PATTERN,
        'The job must fail, with a message in which this regular expression is found: `"KilledWorker"`. Without it, '
        "the job must complete, and every number must be right.",
        "",
        shown="",
    )

    def needed_of(self, total: int) -> float:
        """Return how many tasks must be done, of so many."""
        return self.at if self.at >= 1 else self.at * total


def _finish(found: Fault, values: Values, place: Place) -> Fault:
    if "seconds" in values and found.name not in LASTING:
        raise WrongInput(f"{place}: has seconds, and {found.name} does not last; leave it out")
    return found


_FAULT = table(Fault, _finish)


def read(values: Mapping[str, object], place: Place) -> Fault:
    """Read one fault; raises `WrongInput`."""
    return _FAULT.read(values, place)


def _faults(value: object, place: Place) -> tuple[Fault, ...]:
    if not isinstance(value, list):
        raise WrongInput(f"{place}: {shown(value)} is not a list of faults or tables")
    found: dict[str, Fault] = {}
    for number, one in enumerate(value):
        fault = _FAULT.read({"fault": one} if isinstance(one, str) else one, place.index(number))
        if fault.name in found:
            raise WrongInput(f"{place}: {fault.name} is there twice; name it once")
        found[fault.name] = fault
    return tuple(found.values())


FAULTS_OF_JOB: Type[tuple[Fault, ...]] = Type(_faults, {"enum": [*FAULTS]}, kind=Kind.MANY, table=Fault)
