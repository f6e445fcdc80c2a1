"""The report in Markdown, to paste into a pull request or a wiki: the verdict, the compatibility matrix, what broke."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from pytest_modelops.report.differences import ROLES, drift, nearest, passed_cells
from pytest_modelops.report.looks import cause_of, mark_of
from pytest_modelops.report.model import CellReport, CheckResult, RunReport, Status
from pytest_modelops.report.paper import Paper, Style, duration
from pytest_modelops.report.upgrades import upgrades
from pytest_modelops.report.verdict import sentence

_SIGNS = {Style.GOOD: "✅", Style.BAD: "❌", Style.WARN: "⚠️", Style.DIM: "", Style.PLAIN: ""}
_MESSAGE_LINES = 60
"""How many lines of a message are shown; the other reports have all of it."""
_NOTE = 240
_PAPER = Paper(_NOTE, unicode=True)
_SPECIAL = re.compile(r"[\\`*\[\]<>|]|@(?=\w)|#(?=\d)")
"""Characters that would format text, close a cell of a table, or mention a person or an issue."""


def render(report: RunReport) -> str:
    """Return the report as GitHub's Markdown."""
    parts = [
        f"**{_plain(sentence(report))}**",
        _table(report.cells),
        *_upgrades(report),
        *_changes(report),
        *_broken(report.cells),
        *_left_out(report),
    ]
    return "\n\n".join([*filter(None, parts), _footer(report)]) + "\n"


def _table(cells: Iterable[CellReport]) -> str:
    rows = ["| Python | Dask | Status | Notes |", "| --- | --- | --- | --- |"]
    for cell in cells:
        columns = [_versions(cell, "python"), _versions(cell, "dask"), _status(cell), _note(cell)]
        rows.append(f"| {' | '.join(columns)} |".replace("|  |", "| |"))
    return "\n".join(rows) if len(rows) > 2 else "No cell was planned."  # noqa: PLR2004 - the head


def _versions(cell: CellReport, name: str) -> str:
    """`3.12`, or `3.12, worker 3.13` for a skew cell, and `3.12 → 3.13` for an upgrade."""
    base = {"python": cell.python, "dask": cell.dask}[name]
    if cell.rolling is not None:
        end = {"python": cell.rolling.python, "dask": cell.rolling.dask}[name]
        order = f" ({', '.join(cell.rolling.order)})" if name == "dask" else ""
        return _plain(" → ".join(dict.fromkeys([base, end])) + order)
    others = {role: cell.roles.get(role, {}).get(name, base) for role in ROLES}
    return _plain(", ".join([base, *(f"{role} {version}" for role, version in others.items() if version != base)]))


def _status(cell: CellReport) -> str:
    mark, cause = mark_of(cell), cause_of(cell)
    named = cause is not None and (cause.status.broke or cause.status is Status.KNOWN_BROKEN)
    check = f"`{cause.label}` " if cause is not None and named else ""
    return f"{_SIGNS[mark.style]} {check}{mark.text}".strip()


def _note(cell: CellReport) -> str:
    cause = cause_of(cell)
    if cause is not None:
        return _plain(_PAPER.cut(_PAPER.first_line(cause.message), _NOTE))
    if cell.taken is not None:
        return f"from the run of {cell.taken}"
    count = len(cell.ran)
    return f"{count} of {len(cell.checks)} checks" if count < len(cell.checks) else ""


def _changes(report: RunReport) -> Iterator[str]:
    if report.comparison is None or not report.comparison.changes:
        return
    rows = []
    for change in report.comparison.changes:
        at = f" at `{change.check}`" if change.check else ""
        times = f", {change.times:g} times as long" if change.times else ""
        drifted = f": {', '.join(f'`{one}`' for one in change.drift)}" if change.drift else ""
        rows.append(f"- {change.change.text}{at}{times}: {_plain(change.id)}{drifted}")
    yield "\n".join([f"Since the run of {report.comparison.started}:\n", *rows])


def _upgrades(report: RunReport) -> Iterator[str]:
    for upgrade in upgrades(report):
        yield "\n".join([f"**{_plain(upgrade.verdict)}**\n", *(f"- {_plain(one)}" for one in upgrade.others)]).rstrip()


def _broken(cells: Sequence[CellReport]) -> Iterator[str]:
    passed = passed_cells(cells)
    for cell in cells:
        cause = cause_of(cell)
        if cause is None or cell.status in {Status.PASSED, Status.NOT_RUN}:
            continue
        yield f"### {_plain(cell.id)}: `{cause.label}` {mark_of(cell).text}"
        if cell.probable_cause is not None:
            yield f"**Probable cause:** {_plain(cell.probable_cause.text)}"
        yield _fenced(_shortened(cause))
        other = nearest(cell, passed)
        changed = drift(other, cell) if other is not None else ()
        if other is not None and changed:
            listed = ", ".join(f"`{one}`" for one in changed)
            yield f"Packages that differ from the nearest cell that passed, {_plain(other.id)}: {listed}"
        if cause.reproduce:
            yield f"Reproduce:\n\n{_fenced(cause.reproduce)}"


def _shortened(cause: CheckResult) -> str:
    lines = cause.message.splitlines()
    more = len(lines) - _MESSAGE_LINES
    return "\n".join([*lines[:_MESSAGE_LINES], *([f"… and {more} more lines"] if more > 0 else [])])


def _left_out(report: RunReport) -> Iterator[str]:
    if report.left_out:
        rows = [f"- {_plain(left.id)}: {_plain(left.reason)}" for left in report.left_out]
        yield "\n".join([f"<details><summary>{len(rows)} left out</summary>\n", *rows, "\n</details>"])


def _footer(report: RunReport) -> str:
    ran = f"{len(report.cells)} cells in {duration(report.seconds)}, backend `{report.backend}`, {report.started}"
    where = f"configuration `{report.configuration}`" if report.configuration else "no configuration"
    where += f"; only what changes since {_plain(report.since)} can have touched" if report.since else ""
    version = report.host.get("pytest_modelops", "")
    return f"<sub>pytest-modelops {version}: {ran}; {where}</sub>"


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", " ".join(text.split()))


def _fenced(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
