"""Checks that are known to be broken, strictly: an entry that is no longer true, or has expired, is a failure."""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch

from pytest_modelops.report.model import Status


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownBreak:
    """An entry of `known-broken`.

    Attributes:
        cell: pattern of cell ids.
        check: name or label of a check, `handshake` or `handshake[seir]`.
        link: address of the issue.
        until: the last day on which it may be broken; `None` for no end.
        place: where it stands, for messages.
    """

    cell: str
    check: str
    reason: str
    link: str
    until: datetime.date | None = None
    place: str = "known-broken"

    def is_of_cell(self, cell_id: str) -> bool:
        return fnmatch.fnmatchcase(cell_id, self.cell)

    def matches(self, cell_id: str, name: str, label: str) -> bool:
        return self.check in {name, label} and self.is_of_cell(cell_id)

    def judge(self, status: Status, message: str, today: datetime.date) -> tuple[Status, str]:
        """Return status and message of a check that this entry matches."""
        why = f"{self.reason} ({self.link})"
        if status is Status.PASSED:
            return Status.FAILED, (
                f"it passes, but is known to be broken: {why}.\nRemove the entry {self.place}, so that it cannot break "
                "again unnoticed."
            )
        if status not in {Status.FAILED, Status.TIMED_OUT}:
            return status, message
        if self.until is not None and today > self.until:
            return status, (
                f"{message}\n\nIt was known to be broken until {self.until}: {why}.\nMend it, or move the date of the "
                f"entry {self.place}."
            )
        end = f", until {self.until}" if self.until is not None else ""
        return Status.KNOWN_BROKEN, f"{why}{end}\n\n{status.value}: {message}"
