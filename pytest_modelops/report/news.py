"""What the reports of tests add to what is known of a cell, and how that is merged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_modelops.report.model import CellReport, CheckResult, Status, fields_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellNews:
    """What the report of a test adds to what is known of its cell; travels from an xdist worker to the controller.

    Attributes:
        id: the cell's.
        seconds: of the cell so far.
        checks: results that no earlier report held.
        facts: the cell without its checks and seconds; `None` if an earlier report held the same.
    """

    id: str
    seconds: float
    checks: tuple[CheckResult, ...]
    facts: CellReport | None

    def to_json(self) -> dict[str, object]:
        return fields_of(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> CellNews:
        checks = tuple(map(CheckResult.from_json, plain["checks"]))
        facts = plain["facts"] and CellReport.from_json(plain["facts"])
        return cls(id=plain["id"], seconds=plain["seconds"], checks=checks, facts=facts)


def merge_checks(old: Iterable[CheckResult], new: Iterable[CheckResult]) -> tuple[CheckResult, ...]:
    """Join two lists of results: a new one replaces the old one with the same label, in its place.

    `NOT_RUN` replaces nothing.
    """
    merged = {check.label: check for check in old}
    for check in new:
        if check.status is not Status.NOT_RUN or check.label not in merged:
            merged[check.label] = check
    return tuple(merged.values())
