"""Which orders of a rolling upgrade are safe: those in which every state between passed."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

from pytest_modelops.report.model import CellReport, RunReport, Status

_CHECK = "rolling"


class Safety(enum.Enum):
    """What came of an order: every state passed, one did not, or that is not known."""

    SAFE = "safe"
    BROKEN = "broken"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TriedOrder:
    """An order in which roles were replaced, and what came of it.

    Attributes:
        cell: id of the cell that was upgraded in this order.
        order: the roles.
        safety: whether it is safe.
        at: label of the first check that is not green; null if the order is safe.
    """

    cell: str
    order: tuple[str, ...]
    safety: Safety
    at: str | None

    @classmethod
    def of(cls, cell: CellReport, order: tuple[str, ...]) -> TriedOrder:
        states = [check for check in cell.checks if check.name == _CHECK]
        at = next((check.label for check in cell.checks if check.status is not Status.PASSED), None)
        bad = [one for one in states if one.status.broke or one.status is Status.KNOWN_BROKEN]
        if bad:
            return cls(cell=cell.id, order=order, safety=Safety.BROKEN, at=bad[0].label)
        safe = len(states) == len(order) and all(one.status is Status.PASSED for one in states)
        return cls(cell=cell.id, order=order, safety=Safety.SAFE if safe else Safety.UNKNOWN, at=None if safe else at)

    def __str__(self) -> str:
        roles = ", ".join(self.order)
        if self.safety is Safety.BROKEN:
            return f"{roles}: breaks at {self.at}"
        return roles if self.safety is Safety.SAFE else f"{roles}: not known" + (f", see {self.at}" if self.at else "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upgrade:
    """A rolling upgrade, with all orders that were to be tried.

    Attributes:
        start, end: versions, such as `py3.12-dask2024.10.0`.
        orders: the safe ones first.
    """

    start: str
    end: str
    orders: tuple[TriedOrder, ...]

    @property
    def title(self) -> str:
        return f"Rolling upgrade {self.start} → {self.end}"

    def of(self, safety: Safety) -> Sequence[TriedOrder]:
        return [one for one in self.orders if one.safety is safety]

    @property
    def verdict(self) -> str:
        """Which order is safe, as a sentence."""
        safe = [", ".join(one.order) for one in self.of(Safety.SAFE)]
        if safe:
            return f"{self.title}: safe in the order {'; or '.join(safe)}."
        if self.of(Safety.UNKNOWN):
            return f"{self.title}: no order is known to be safe."
        return f"{self.title}: {'this order is not' if len(self.orders) == 1 else 'none of these orders is'} safe."

    @property
    def others(self) -> Sequence[str]:
        """The orders that are not safe or not known to be, with the check at which they end."""
        return [str(one) for one in self.orders if one.safety is not Safety.SAFE]


def upgrades(report: RunReport) -> list[Upgrade]:
    """Return the rolling upgrades of a run."""
    found: dict[tuple[str, str], list[TriedOrder]] = {}
    for cell in report.cells:
        if cell.rolling is not None:
            ends = f"py{cell.python}-dask{cell.dask}", f"py{cell.rolling.python}-dask{cell.rolling.dask}"
            found.setdefault(ends, []).append(TriedOrder.of(cell, cell.rolling.order))
    ranks = list(Safety)
    return [
        Upgrade(start=start, end=end, orders=tuple(sorted(orders, key=lambda one: ranks.index(one.safety))))
        for (start, end), orders in found.items()
    ]
