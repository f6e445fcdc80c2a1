"""What a run found: the model that every report is drawn from, and its JSON shapes, versioned by `SCHEMA`.

xdist workers hand the same shapes to the controller.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from typing import TypedDict

from pytest_modelops.matrix.cell import Cell, Role
from pytest_modelops.matrix.plan import LeftOut, LeftOutJson

SCHEMA = 1
"""Version of the JSON report's shape."""


class Status(enum.Enum):
    """How a check, or a whole cell, ended. What is not `PASSED` never looks like it."""

    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    BLOCKED = "blocked"
    UNAVAILABLE = "unavailable"
    SKIPPED = "skipped"
    NOT_RUN = "not-run"

    @property
    def broke(self) -> bool:
        """Whether a check with this status is where its cell broke (blocked ones are only followers)."""
        return self in {Status.FAILED, Status.TIMED_OUT, Status.UNAVAILABLE}

    @property
    def lets_through(self) -> bool:
        """Whether checks that need this one may run."""
        return self in {Status.PASSED, Status.SKIPPED}


# The JSON shapes. `schema.json` describes their keys -----------------------------------------------------------------


class CheckJson(TypedDict):
    """A `CheckResult` as JSON."""

    name: str
    bundle: str | None
    status: str
    seconds: float
    message: str
    blocked_by: str | None
    selected: bool
    reproduce: str
    data: dict[str, object]


class EnvironmentReport(TypedDict, total=False):
    """One distinct environment of a cell, as JSON and in the model.

    Attributes:
        python: version of its interpreter.
        reused: found in the cache and verified, instead of built.
        seconds: that building or verifying it took.
        location: for people; the same location is the same environment.
        identity: such as an image's digest, where it has one.
    """

    python: str
    dask: str
    reused: bool
    seconds: float
    location: str
    identity: str


class CellJson(TypedDict):
    """A `CellReport` as JSON."""

    id: str
    python: str
    dask: str
    roles: dict[str, dict[str, str]]
    selected: bool
    status: str
    first_broken: str | None
    seconds: float
    observed: dict[str, object]
    lock: list[str]
    environments: list[EnvironmentReport]
    logs: dict[str, str]
    notes: list[str]
    checks: list[CheckJson]


class RunJson(TypedDict):
    """A `RunReport` as JSON."""

    schema: int
    started: str
    seconds: float
    host: dict[str, str]
    backend: str
    cells: list[CellJson]
    left_out: list[LeftOutJson]


class CellNews(TypedDict):
    """What a test's report adds to what is known of its cell; travels from an xdist worker.

    Attributes:
        id: the cell's.
        seconds: of the cell so far.
        checks: results that no earlier report held.
        facts: the cell without its checks; `None` if an earlier report held the same.
    """

    id: str
    seconds: float
    checks: list[CheckJson]
    facts: CellJson | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One check in one cell (and with one bundle, where it has one).

    Attributes:
        seconds: how long the check itself took, without those it needed.
        message: empty when passed; else everything a person needs, first line first.
        blocked_by: label of the check that broke, when `status` is `BLOCKED`.
        selected: whether it was to run in this session; false for a check that the user deselected.
        data: figures and facts for the report, plain JSON values (`{"tasks_per_second": 310.5}`).
    """

    name: str
    status: Status
    seconds: float = 0.0
    message: str = ""
    bundle: str | None = None
    blocked_by: str | None = None
    selected: bool = True
    reproduce: str = ""
    data: Mapping[str, object] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        """`handshake[seir]`, or the name where there is no bundle."""
        return f"{self.name}[{self.bundle}]" if self.bundle else self.name

    def to_json(self) -> CheckJson:
        return {
            "name": self.name,
            "bundle": self.bundle,
            "status": self.status.value,
            "seconds": round(self.seconds, 3),
            "message": self.message,
            "blocked_by": self.blocked_by,
            "selected": self.selected,
            "reproduce": self.reproduce,
            "data": dict(self.data),
        }

    @classmethod
    def from_json(cls, plain: CheckJson) -> CheckResult:
        return cls(**{**plain, "status": Status(plain["status"])})  # type: ignore[arg-type] # the same keys


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellReport:
    """Everything known about one cell after a run.

    Attributes:
        python, dask: the cell's versions as planned (`"3.12"`, `"2024.10.0"`); the base ones for a skew cell.
        roles: versions of each role, `{"client": {"python": …, "dask": …}, "scheduler": …, "worker": …}`.
        selected: whether any test of this cell was selected.
        seconds: from the first check to the proof that nothing is left.
        observed: what the cell's processes reported, `{"client": {…}, "scheduler": {…}, "workers": {address: {…}}}`.
        lock: the requirements that were installed, `name==version` a line, for each distinct environment.
        logs: path of each log by process name.
        notes: warnings, and how to get into a cell that was left up.
    """

    id: str
    python: str
    dask: str
    roles: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    selected: bool = True
    seconds: float = 0.0
    checks: tuple[CheckResult, ...] = ()
    observed: Mapping[str, object] = dataclasses.field(default_factory=dict)
    lock: tuple[str, ...] = ()
    environments: tuple[EnvironmentReport, ...] = ()
    logs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, cell: Cell) -> CellReport:
        """Return the report of a planned cell in which nothing has run."""
        roles = {role.value: {"python": str(cell[role].python), "dask": cell[role].dask_text} for role in Role}
        return cls(id=cell.id, python=str(cell.base.python), dask=cell.base.dask_text, roles=roles)

    @property
    def skew(self) -> bool:
        """Whether the roles' versions differ."""
        return len({tuple(sorted(versions.items())) for versions in self.roles.values()}) > 1

    @property
    def broken(self) -> CheckResult | None:
        """The first check that broke."""
        return next((check for check in self.checks if check.status.broke), None)

    @property
    def ran(self) -> tuple[CheckResult, ...]:
        """The checks that ran or were blocked."""
        return tuple(check for check in self.checks if check.status is not Status.NOT_RUN)

    @property
    def status(self) -> Status:
        """`PASSED` if every check that was selected or needed passed or was skipped.

        The other checks are `not-run` in `checks`, and the terminal shows how many there are.
        """
        if self.broken:
            return self.broken.status
        asked = [check for check in self.checks if check.selected or check.status is not Status.NOT_RUN]
        if not asked:
            return Status.NOT_RUN
        return next((check.status for check in asked if not check.status.lets_through), Status.PASSED)

    def to_json(self) -> CellJson:
        return {
            "id": self.id,
            "python": self.python,
            "dask": self.dask,
            "roles": {role: dict(versions) for role, versions in self.roles.items()},
            "selected": self.selected,
            "status": self.status.value,
            "first_broken": self.broken.label if self.broken else None,
            "seconds": round(self.seconds, 3),
            "observed": dict(self.observed),
            "lock": list(self.lock),
            "environments": [environment.copy() for environment in self.environments],
            "logs": dict(self.logs),
            "notes": list(self.notes),
            "checks": [check.to_json() for check in self.checks],
        }

    @classmethod
    def from_json(cls, plain: CellJson) -> CellReport:
        """Read what `to_json` returns; `status` and `first_broken` are derived again."""
        return cls(
            id=plain["id"],
            python=plain["python"],
            dask=plain["dask"],
            roles=plain["roles"],
            selected=plain["selected"],
            seconds=plain["seconds"],
            checks=tuple(CheckResult.from_json(check) for check in plain["checks"]),
            observed=plain["observed"],
            lock=tuple(plain["lock"]),
            environments=tuple(plain["environments"]),
            logs=plain["logs"],
            notes=tuple(plain["notes"]),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunReport:
    """One run: its cells in plan order and those left out.

    Attributes:
        started: ISO 8601 with offset.
        seconds: of the whole session.
        host: facts about the machine that ran pytest (`python`, `platform`, `pytest`, `pytest_modelops`).
        backend: name of the backend that ran the cells.
    """

    started: str
    seconds: float
    host: Mapping[str, str]
    backend: str
    cells: tuple[CellReport, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every planned and selected cell passed, and nothing broke in any other."""
        return all(cell.status is Status.PASSED for cell in self.cells if cell.selected or cell.broken)

    def to_json(self) -> RunJson:
        return {
            "schema": SCHEMA,
            "started": self.started,
            "seconds": round(self.seconds, 3),
            "host": dict(self.host),
            "backend": self.backend,
            "cells": [cell.to_json() for cell in self.cells],
            "left_out": [{"id": left.id, "reason": left.reason} for left in self.left_out],
        }

    @classmethod
    def from_json(cls, plain: RunJson) -> RunReport:
        """Read what `to_json` returns.

        Raises:
            ValueError: the data is of another schema.
        """
        if plain["schema"] != SCHEMA:
            raise ValueError(f"report of schema {plain['schema']}; this version reads {SCHEMA}")
        return cls(
            started=plain["started"],
            seconds=plain["seconds"],
            host=plain["host"],
            backend=plain["backend"],
            cells=tuple(CellReport.from_json(cell) for cell in plain["cells"]),
            left_out=tuple(LeftOut(**left) for left in plain["left_out"]),
        )


def merge_checks(old: Iterable[CheckResult], new: Iterable[CheckResult]) -> tuple[CheckResult, ...]:
    """Join two lists of results: a new one replaces the old one of the same check and bundle, in its place.

    `NOT_RUN` replaces nothing.
    """
    merged = {(check.name, check.bundle): check for check in old}
    for check in new:
        if check.status is not Status.NOT_RUN or (check.name, check.bundle) not in merged:
            merged[check.name, check.bundle] = check
    return tuple(merged.values())
