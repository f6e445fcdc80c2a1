"""What changed from one run to another: the shapes that a report holds of it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Drift:
    """A package whose version differs between two locks.

    Attributes:
        name: of the package.
        old, new: its versions; null where it is not installed.
    """

    name: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        """`msgpack 1.1.0 → 1.2.0`."""
        return f"{self.name} {self.old or 'not installed'} → {self.new or 'not installed'}"


class Change(enum.Enum):
    """What became of a cell since the baseline.

    `newly-broken`: a check broke that passed before. `still-broken`: as before. `fixed`: it was broken and passed.
    `new`: the baseline has no verdict on it. `gone`: only the baseline has it. `slower`: it passed as before, and took
    longer than the other cells of this run explain.
    """

    NEWLY_BROKEN = "newly-broken"
    STILL_BROKEN = "still-broken"
    FIXED = "fixed"
    NEW = "new"
    GONE = "gone"
    SLOWER = "slower"

    @property
    def text(self) -> str:
        return self.value.replace("-", " ")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellChange:
    """A cell that is not as it was.

    Attributes:
        id: of the cell; of the baseline's for one that is gone.
        was: id of the baseline's cell in the same place of the matrix, if that is another one; else null.
        change: what became of it.
        check: label of the check that broke; null if none did.
        times: how many times as long it took as the other cells of this run explain; null unless it is slower.
        drift: packages that differ between the locks of the two cells.
    """

    id: str
    was: str | None = None
    change: Change
    check: str | None = None
    times: float | None = None
    drift: tuple[Drift, ...] = ()

    @property
    def breaks(self) -> bool:
        """Whether it is a break that the baseline did not have."""
        return self.change is Change.NEWLY_BROKEN or (self.change is Change.NEW and self.check is not None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What changed since a baseline.

    Attributes:
        started: when the baseline's run started.
        upgrade: what this run has and the baseline has not, such as `Dask 2026.8.0`; empty unless it is one thing.
        changes: the cells that changed, in the plan's order, and then those that are gone.
        suspects: packages that drifted in every newly broken cell, and in no cell that passes as before.
    """

    started: str
    upgrade: str = ""
    changes: tuple[CellChange, ...] = ()
    suspects: tuple[Drift, ...] = ()

    def of(self, change: Change) -> list[CellChange]:
        return [one for one in self.changes if one.change is change]

    @property
    def breaks(self) -> list[CellChange]:
        """The breaks that the baseline did not have."""
        return [one for one in self.changes if one.breaks]

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Comparison:
        changes = [
            CellChange(
                **{**one, "change": Change(one["change"]), "drift": tuple(Drift(**each) for each in one["drift"])}
            )
            for one in plain["changes"]
        ]
        suspects = tuple(Drift(**one) for one in plain["suspects"])
        return cls(**{**plain, "changes": tuple(changes), "suspects": suspects})
