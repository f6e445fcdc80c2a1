"""`known-broken` of `[tool.modelops]`."""

from __future__ import annotations

import dataclasses
import datetime

from pytest_modelops.config.setting import Place, Values, entries, setting, table
from pytest_modelops.config.types import DAY, TEXT, matching
from pytest_modelops.report.known import KnownBreak

_NEEDS = "an entry needs cell, check, reason, link"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _KnownTable:
    cell: str = setting(TEXT, 'Pattern of the cells\' ids, such as `"py3.14-*"`.', required=_NEEDS)
    check: str = setting(TEXT, "The check that breaks: its name, or with a bundle `handshake[seir]`.", required=_NEEDS)
    reason: str = setting(TEXT, "Why it is broken, in a sentence that reports show.", required=_NEEDS)
    link: str = setting(
        matching(r"https?://\S+", "is not an address; write that of the issue, https://…"),
        "Address of the issue.",
        required=_NEEDS,
    )
    until: datetime.date | None = setting(DAY, "The last day on which it may be broken.")


def _known(found: _KnownTable, _: Values, place: Place) -> KnownBreak:
    return KnownBreak(
        cell=found.cell, check=found.check, reason=found.reason, link=found.link, until=found.until, place=str(place)
    )


KNOWN_BROKEN = entries(table(_KnownTable, _known))
