"""Probable causes: known ways in which cells break, recognized by what checks say and by the cell's versions."""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from pytest_modelops.report.model import CellReport, CheckResult

FILE = Path(__file__).with_suffix(".toml")
STATUSES = ("failed", "timed-out")
"""Of checks that have a probable cause."""
_OPERATORS: Mapping[str, Callable[[Version, Version], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
COMPARISON = re.compile(
    r"(?P<role>client|scheduler|worker)\.(?P<what>python|dask) *(?P<operator>[=!<>]=|[<>]) *"
    r"(?:(?P<other>client|scheduler|worker)\.(?P=what)|(?P<version>\d[\w.]*))"
)
"""Such as `client.dask > scheduler.dask` or `worker.python >= 3.13`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbableCause:
    """Why a check most probably broke.

    Attributes:
        id: the entry that fits; `unknown` if none does.
        cause: what it is, in a few words.
        remedy: what to do about it; may be empty.
        issues: addresses of public issues about it.
    """

    id: str
    cause: str
    remedy: str = ""
    issues: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        return self != UNKNOWN

    @property
    def help(self) -> str:
        """Remedy and issues as one line."""
        return " ".join(filter(None, [f"{self.remedy}." if self.remedy else "", *self.issues]))

    @property
    def text(self) -> str:
        """All of it as one line."""
        return f"{self.cause}. {self.help}" if self.help else self.cause

    @classmethod
    def from_json(cls, plain: Mapping[str, object]) -> ProbableCause:
        fields = {**plain, "issues": tuple(plain["issues"])}  # type: ignore[arg-type]
        return cls(**fields)  # type: ignore[arg-type]


UNKNOWN = ProbableCause(id="unknown", cause="unknown")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cause:
    """A known cause and its evidence; everything that is given has to fit.

    Attributes:
        probable: what reports say.
        checks: names of the checks that break; empty for any.
        statuses: of `STATUSES`; empty for any.
        message: is searched for in the check's message.
        log: is searched for in the last lines of the cell's logs.
        roles: comparisons of the roles' versions.
        packages: requirements that a package of the cell's lock meets.
    """

    probable: ProbableCause
    checks: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    message: re.Pattern[str] | None = None
    log: re.Pattern[str] | None = None
    roles: tuple[re.Match[str], ...] = ()
    packages: tuple[Requirement, ...] = ()

    def fits(self, cell: CellReport, check: CheckResult, logs: Callable[[], str]) -> bool:
        """Return whether the evidence is there; `logs` is called only if it is needed."""
        return (
            (not self.checks or check.name in self.checks)
            and (not self.statuses or check.status.value in self.statuses)
            and (self.message is None or self.message.search(check.message) is not None)
            and all(_compares(one, cell) for one in self.roles)
            and all(any(_meets(line, one) for line in cell.lock) for one in self.packages)
            and (self.log is None or self.log.search(logs()) is not None)
        )


def explained(causes: Sequence[Cause], cell: CellReport, logs: Callable[[], str]) -> CellReport:
    """Return a cell's report with the probable cause of each check that failed or timed out.

    The first cause that fits is taken. An `unavailable` check says itself what is missing.
    """
    checks = [
        dataclasses.replace(
            check, probable_cause=next((one.probable for one in causes if one.fits(cell, check, logs)), UNKNOWN)
        )
        if check.status.value in STATUSES
        else check
        for check in cell.checks
    ]
    return dataclasses.replace(cell, checks=tuple(checks))


def _compares(comparison: re.Match[str], cell: CellReport) -> bool:
    what = comparison["what"]
    one = cell.roles.get(comparison["role"], {}).get(what, "")
    other = comparison["version"] or cell.roles.get(comparison["other"], {}).get(what, "")
    try:
        return _OPERATORS[comparison["operator"]](Version(one), Version(other))
    except InvalidVersion:
        return False


def _meets(line: str, requirement: Requirement) -> bool:
    name, _, version = line.partition("==")
    if canonicalize_name(name) != canonicalize_name(requirement.name):
        return False
    try:
        return requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False
