"""What a run found, as plain types that every report is drawn from.

The model is versioned (`SCHEMA`); `to_json` and `from_json` are the only places that know its JSON shape,
which also is what xdist workers hand to the controller.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_modelops.matrix.plan import LeftOut

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One check in one cell (and with one bundle, where it has one).

    Attributes:
        seconds: how long the check itself took, without those it needed.
        message: empty when passed; else everything a person needs, first line first.
        blocked_by: name of the check that broke, when `status` is `BLOCKED`.
        selected: whether it was to run in this session; false for a check that the user deselected.
        data: figures and facts worth keeping, plain JSON values (`{"tasks_per_second": 310.5}`).
    """

    name: str
    status: Status
    seconds: float = 0.0
    message: str = ""
    bundle: str | None = None
    blocked_by: str | None = None
    selected: bool = True
    reproduce: str = ""
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        """`handshake[seir]`, or just the name where there is no bundle."""
        return f"{self.name}[{self.bundle}]" if self.bundle else self.name

    def to_json(self) -> dict[str, Any]:
        """Plain data, as in the report's `checks`."""
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
    def from_json(cls, plain: Mapping[str, Any]) -> CheckResult:
        """The inverse of `to_json`."""
        return cls(**{**plain, "status": Status(plain["status"])})


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellReport:
    """Everything known about one cell after a run.

    Attributes:
        python, dask: the cell's versions as planned (`"3.12"`, `"2024.10.0"`); the base ones for a skew cell.
        roles: versions of each role, `{"client": {"python": …, "dask": …}, "scheduler": …, "worker": …}`.
        selected: whether any test of this cell was selected.
        seconds: from the first check to the proof that nothing is left.
        observed: what the cell's processes said of themselves: `{"client": {…}, "scheduler": {…},
            "workers": {address: {…}}}`.
        lock: the requirements that were installed, `name==version` a line, for each distinct environment.
        environments: one entry for each distinct environment, `{"python": …, "dask": …, "reused": bool, …}`.
        logs: path of each kept log by process name.
        notes: what a person should know though nothing is broken: warnings, and how to get into a cell left up.
    """

    id: str
    python: str
    dask: str
    roles: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    selected: bool = True
    seconds: float = 0.0
    checks: tuple[CheckResult, ...] = ()
    observed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    lock: tuple[str, ...] = ()
    environments: tuple[Mapping[str, Any], ...] = ()
    logs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

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
        """The checks of which something is known, be it that they were blocked."""
        return tuple(check for check in self.checks if check.status is not Status.NOT_RUN)

    @property
    def status(self) -> Status:
        """`PASSED` when everything that was asked of the cell passed or was skipped.

        Checks that nobody selected, nor needed, are not asked of it: they are `not-run` in `checks`, and the terminal
        says how many of them there are.
        """
        if self.broken:
            return self.broken.status
        asked = [check for check in self.checks if check.selected or check.status is not Status.NOT_RUN]
        if not asked:
            return Status.NOT_RUN
        return next((check.status for check in asked if not check.status.lets_through), Status.PASSED)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as in the report's `cells`."""
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
            "environments": [dict(environment) for environment in self.environments],
            "logs": dict(self.logs),
            "notes": list(self.notes),
            "checks": [check.to_json() for check in self.checks],
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> CellReport:
        """The inverse of `to_json`; what is derived is derived again."""
        fields = {k: v for k, v in plain.items() if k not in {"status", "first_broken"}}
        fields["checks"] = tuple(CheckResult.from_json(check) for check in plain["checks"])
        fields["lock"] = tuple(plain["lock"])
        fields["environments"] = tuple(plain["environments"])
        fields["notes"] = tuple(plain.get("notes", ()))
        return cls(**fields)


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

    def to_json(self) -> dict[str, Any]:
        """The whole report as plain data."""
        return {
            "schema": SCHEMA,
            "started": self.started,
            "seconds": round(self.seconds, 3),
            "host": dict(self.host),
            "backend": self.backend,
            "cells": [cell.to_json() for cell in self.cells],
            "left_out": [dataclasses.asdict(left) for left in self.left_out],
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> RunReport:
        """The inverse of `to_json`.

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
    """Join two lists of results: a later one of the same check and bundle replaces the earlier, in its place.

    That something did not run replaces nothing.
    """
    merged = {(check.name, check.bundle): check for check in old}
    for check in new:
        if check.status is not Status.NOT_RUN or (check.name, check.bundle) not in merged:
            merged[check.name, check.bundle] = check
    return tuple(merged.values())
