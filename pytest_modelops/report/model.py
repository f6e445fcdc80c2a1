"""What a run found: the model that every report is drawn from, versioned by `SCHEMA`.

`to_json` and `from_json` convert it to the JSON that `schema.json` describes and that xdist workers publish.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, TypedDict

from pytest_modelops.matrix.cell import Cell, Role, Rolling
from pytest_modelops.matrix.plan import LeftOut
from pytest_modelops.report.causes import ProbableCause
from pytest_modelops.report.changes import Comparison

BUDGET = "budget"
"""Key of the data of a check that was not run because of the run's time limit; the value is that limit in seconds."""
SCHEMA = 1
"""Version of the JSON report's shape."""


class Status(enum.Enum):
    """How a check, or a cell, ended.

    `passed`: what was asserted is true. `failed`: it is not. `timed-out`: it had not come true within the deadline.
    `blocked`: an earlier check broke. `unavailable`: no interpreter, image or engine. `skipped`: there was nothing to
    do. `not-run`: deselected, stopped early or interrupted. `known-broken`: broken, as the configuration says.
    `missing`: planned, and in none of the reports that were merged.
    """

    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    BLOCKED = "blocked"
    UNAVAILABLE = "unavailable"
    SKIPPED = "skipped"
    NOT_RUN = "not-run"
    KNOWN_BROKEN = "known-broken"
    MISSING = "missing"

    @property
    def broke(self) -> bool:
        """Whether a check with this status is where its cell broke (blocked ones are only followers)."""
        return self in {Status.FAILED, Status.TIMED_OUT, Status.UNAVAILABLE}

    @property
    def lets_through(self) -> bool:
        """Whether checks that need this one may run."""
        return self in {Status.PASSED, Status.SKIPPED}


class EnvironmentReport(TypedDict, total=False):
    """One distinct environment of a cell.

    Attributes:
        python: version of its interpreter.
        dask: release of Dask in it.
        reused: found in the cache and verified, instead of built.
        seconds: that building or verifying it took.
        location: where it is, for people; the same location is the same environment.
        identity: such as an image's digest, where it has one.
        roles: `client`, `scheduler`, `worker`: those that ran in it.
        requirements: its lock as a requirements file, with the hashes that each package's file may have.
    """

    python: str
    dask: str
    reused: bool
    seconds: float
    location: str
    identity: str
    roles: list[str]
    requirements: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One check in one cell (and with one bundle, where it has one).

    Attributes:
        name: such as `lambda`; of a test of the user's, its node id.
        bundle: name of the bundle that it was tried with; null for a check without one.
        variant: what tells it apart from other checks of its name, besides a bundle: a fault, or the roles that a
            rolling upgrade had replaced (`worker+scheduler`); may be empty.
        status: how it ended.
        seconds: how long the check itself took, without those it needed.
        message: why it did not pass, the most important line first; empty when it passed.
        blocked_by: label of the check that broke, when `status` is `blocked`; else null.
        selected: whether it was to run in this session; false for a check that was deselected and that nothing needed.
        reproduce: command that runs this check of this cell again; may be empty.
        data: figures and facts of the check, such as `{"tasks_per_second": 310.5}`; open; NaN and infinity are null.
        probable_cause: why it failed or timed out, as far as that is known; null if it did neither.
    """

    name: str
    bundle: str | None = None
    variant: str = ""
    status: Status
    seconds: float = 0.0
    message: str = ""
    blocked_by: str | None = None
    selected: bool = True
    reproduce: str = ""
    data: Mapping[str, object] = dataclasses.field(default_factory=dict)
    probable_cause: ProbableCause | None = None

    @property
    def label(self) -> str:
        """`handshake[seir]`, `aggregation[kill-worker]`, `rolling[worker]`, or the name alone."""
        of = self.bundle or self.variant
        return f"{self.name}[{of}]" if of else self.name

    def to_json(self) -> dict[str, object]:
        return {**fields_of(self), "seconds": round(self.seconds, 3)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> CheckResult:
        cause = plain.get("probable_cause")
        probable = ProbableCause.from_json(cause) if cause else None
        return cls(**{**plain, "status": Status(plain["status"]), "probable_cause": probable})


@dataclasses.dataclass(frozen=True, kw_only=True)
class RollingReport:
    """How a cell was upgraded while it ran.

    Attributes:
        python, dask: versions of all roles at the end.
        order: the roles, in the order in which they were replaced.
    """

    python: str
    dask: str
    order: tuple[str, ...]

    @classmethod
    def of(cls, rolling: Rolling) -> RollingReport:
        order = tuple(role.value for role in rolling.order)
        return cls(python=str(rolling.to.python), dask=rolling.to.dask_text, order=order)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any] | None) -> RollingReport | None:
        return cls(**{**plain, "order": tuple(plain["order"])}) if plain else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellReport:
    """Everything known about one cell after a run.

    Attributes:
        id: for people and for matching as a whole; `py3.12-dask2024.10.0+worker-py3.13` for a skew cell.
        python, dask: the cell's versions as planned (`"3.12"`, `"2024.10.0"`); the base ones for a skew cell.
        roles: versions of each role, `{"client": {"python": …, "dask": …}, "scheduler": …, "worker": …}`.
        rolling: how it was upgraded while it ran, from the versions of its roles; null if it was not.
        selected: whether any test of this cell was selected.
        seconds: from the first check to the proof that nothing is left.
        observed: what the cell's processes reported, `{"client": {…}, "scheduler": {…}, "workers": {address: {…}}}`;
            empty if no process was started; values of variables are not shown.
        lock: the requirements that were installed, `name==version`, of all environments.
        environments: one entry for each distinct environment.
        started: how each process was started, by its name: `exec`, `fork`, `fork-workers` (its worker is forked, too),
            or `exec: ` and why it could not be forked; empty if no cluster was started.
        logs: path of each log by process name; relative in a directory of reports.
        checks: in order.
        notes: warnings, and how to get into a cell that was left up.
        line: number of the line of the configuration that asks for the cell, the first being 1.
        fingerprint: what decides about its results besides the run's own fingerprint, as hashes of named parts.
        taken: when the run started that its results are from, if it was not run in this one; else null.
        not_taken: why results of the last run were not taken, if that was asked for; else empty.
    """

    id: str
    python: str
    dask: str
    roles: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    rolling: RollingReport | None = None
    selected: bool = True
    seconds: float = 0.0
    observed: Mapping[str, object] = dataclasses.field(default_factory=dict)
    lock: tuple[str, ...] = ()
    environments: tuple[EnvironmentReport, ...] = ()
    started: Mapping[str, str] = dataclasses.field(default_factory=dict)
    logs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    line: int | None = None
    fingerprint: Mapping[str, str] = dataclasses.field(default_factory=dict)
    taken: str | None = None
    not_taken: str = ""

    @classmethod
    def of(cls, cell: Cell) -> CellReport:
        """Return the report of a planned cell in which nothing has run."""
        roles = {role.value: {"python": str(cell[role].python), "dask": cell[role].dask_text} for role in Role}
        rolling = RollingReport.of(cell.rolling) if cell.rolling is not None else None
        return cls(id=cell.id, python=str(cell.base.python), dask=cell.base.dask_text, roles=roles, rolling=rolling)

    @property
    def skew(self) -> bool:
        """Whether the roles' versions differ."""
        return len({tuple(sorted(versions.items())) for versions in self.roles.values()}) > 1

    @property
    def broken(self) -> CheckResult | None:
        return next((check for check in self.checks if check.status.broke), None)

    @property
    def probable_cause(self) -> ProbableCause | None:
        """Why the check where it broke failed or timed out; `None` if none did."""
        return self.broken.probable_cause if self.broken else None

    @property
    def beyond_budget(self) -> bool:
        """Whether it was not begun, because it would not have ended in the time that the run was given."""
        return self.status is Status.NOT_RUN and any(BUDGET in check.data for check in self.checks)

    @property
    def ran(self) -> tuple[CheckResult, ...]:
        """The checks that ran or were blocked."""
        return tuple(check for check in self.checks if check.status is not Status.NOT_RUN)

    @property
    def status(self) -> Status:
        """`PASSED` if every check that was selected or needed passed or was skipped.

        `KNOWN_BROKEN` if all others are known to be broken, or blocked by such a check.

        The other checks are `not-run` in `checks`, and the terminal shows how many there are.
        """
        if self.broken:
            return self.broken.status
        asked = [check for check in self.checks if check.selected or check.status is not Status.NOT_RUN]
        if not asked:
            return Status.NOT_RUN
        known = {check.label for check in asked if check.status is Status.KNOWN_BROKEN}
        others = [check.status for check in asked if not {check.label, check.blocked_by} & known]
        fine = Status.KNOWN_BROKEN if known else Status.PASSED
        return next((status for status in others if not status.lets_through), fine)

    def to_json(self) -> dict[str, object]:
        return {
            **dict.fromkeys(("id", "python", "dask", "roles", "rolling", "selected")),  # in the schema's order
            "status": self.status.value,
            "first_broken": self.broken.label if self.broken else None,
            **fields_of(self),
            "seconds": round(self.seconds, 3),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> CellReport:
        """Read what `to_json` returns; `status` and `first_broken` are derived again."""
        fields = {name: value for name, value in plain.items() if name not in {"status", "first_broken"}}
        lists = {name: tuple(plain[name]) for name in ("lock", "environments", "notes")}
        checks = tuple(map(CheckResult.from_json, plain["checks"]))
        return cls(**{**fields, **lists, "checks": checks, "rolling": RollingReport.from_json(plain.get("rolling"))})


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A cell of the plan, whoever runs it.

    Attributes:
        id, python, dask, roles, rolling: as in a cell's report.
    """

    id: str
    python: str
    dask: str
    roles: Mapping[str, Mapping[str, str]]
    rolling: RollingReport | None = None

    @classmethod
    def of(cls, cell: Cell) -> PlannedCell:
        return cls.of_report(CellReport.of(cell))

    @classmethod
    def of_report(cls, cell: CellReport) -> PlannedCell:
        return cls(id=cell.id, python=cell.python, dask=cell.dask, roles=cell.roles, rolling=cell.rolling)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> PlannedCell:
        return cls(**{**plain, "rolling": RollingReport.from_json(plain.get("rolling"))})


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunReport:
    """One run: its cells in plan order and those left out.

    Attributes:
        started: ISO 8601 with offset.
        seconds: of the whole session.
        host: facts about the machine that ran pytest (`python`, `platform`, `pytest`, `pytest_modelops`).
        configuration: path of the file with the settings; null if there was none.
        backend: name of the backend that ran the cells.
        cells: the planned cells, in the plan's order.
        left_out: cells of the product that are not in the plan, and why.
        shard: the part of the matrix that this run had, such as `2/8`; null if it was not divided.
        planned: every cell of the matrix, in the plan's order, if others than this run have to report some of them;
            else empty.
        comparison: what changed since a baseline; null if the run was compared with none.
        fingerprint: what decides about the results of all cells, as hashes of named parts; empty if it is of several
            runs. The key of the hashes is in the cache.
        since: the revision of git since which a change can have touched what was run; null if that did not matter.
    """

    started: str
    seconds: float
    host: Mapping[str, str]
    configuration: str | None = None
    backend: str
    cells: tuple[CellReport, ...]
    left_out: tuple[LeftOut, ...] = ()
    shard: str | None = None
    planned: tuple[PlannedCell, ...] = ()
    comparison: Comparison | None = None
    fingerprint: Mapping[str, str] = dataclasses.field(default_factory=dict)
    since: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every planned and selected cell passed or is known to be broken, and nothing broke in any other.

        Cells that did not fit into the run's time limit do not count, unless no other was run.
        """
        fine = {Status.PASSED, Status.KNOWN_BROKEN}
        asked = [cell for cell in self.cells if cell.selected or cell.broken]
        begun = [cell for cell in asked if not cell.beyond_budget]
        return all(cell.status in fine for cell in begun) and bool(begun or not asked)

    def to_json(self) -> dict[str, object]:
        return {"schema": SCHEMA, **fields_of(self), "seconds": round(self.seconds, 3)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> RunReport:
        """Read what `to_json` returns; `ValueError` for another schema."""
        if plain["schema"] != SCHEMA:
            raise ValueError(f"report of schema {plain['schema']}; this version reads {SCHEMA}")
        fields = {name: value for name, value in plain.items() if name not in {"schema", "verdict", "upgrades"}}
        cells = tuple(map(CellReport.from_json, plain["cells"]))
        left_out = tuple(LeftOut(**left) for left in plain["left_out"])
        comparison = Comparison.from_json(plain["comparison"]) if plain["comparison"] else None
        planned = tuple(map(PlannedCell.from_json, plain["planned"]))
        found = {"cells": cells, "left_out": left_out, "planned": planned, "comparison": comparison}
        return cls(**{**fields, **found})


def fields_of(value: Any) -> dict[str, object]:
    return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}


def _plain(value: object) -> object:
    if isinstance(value, CheckResult | CellReport):
        return value.to_json()
    if dataclasses.is_dataclass(value):
        return fields_of(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
