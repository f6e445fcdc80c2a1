"""`known-broken` of `[tool.modelops]`."""

from __future__ import annotations

import dataclasses
import datetime

from pytest_modelops.config.setting import Place, Values, entries, leaf, setting, table
from pytest_modelops.config.types import DAY, matching, text
from pytest_modelops.errors import WrongInput
from pytest_modelops.report.known import KnownBreak

_TEXT = leaf(text, {"type": "string", "minLength": 1})


@dataclasses.dataclass(frozen=True, kw_only=True)
class _KnownTable:
    cell: str | None = setting(_TEXT, 'Pattern of the cells\' ids, such as `"py3.14-*"`.', required=True)
    check: str | None = setting(
        _TEXT, "The check that breaks: its name, or with a bundle `handshake[seir]`.", required=True
    )
    reason: str | None = setting(_TEXT, "Why it is broken, in a sentence that reports show.", required=True)
    link: str | None = setting(
        matching(r"https?://\S+", "is not an address; write that of the issue, https://…"),
        "Address of the issue.",
        required=True,
    )
    until: datetime.date | None = setting(DAY, "The last day on which it may be broken.")


def _known(found: _KnownTable, _: Values, place: Place) -> KnownBreak:
    required = {"cell": found.cell, "check": found.check, "reason": found.reason, "link": found.link}
    for key, value in required.items():
        if value is None:
            raise WrongInput(f"{place}: has no {key}; an entry needs {', '.join(required)}")
    return KnownBreak(
        cell=found.cell or "",
        check=found.check or "",
        reason=found.reason or "",
        link=found.link or "",
        until=found.until,
        place=str(place),
    )


KNOWN_BROKEN = entries(table(_KnownTable, _known))
