"""The matrix at the end of a run, as lines of styled segments for a terminal or a CI log.

The table; what broke and the commands that reproduce it; what did not run; what was left out; one line of sums. Colour
never carries meaning alone, so that a log without colours says the same. Knows neither pytest nor backends.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from pytest_modelops.matrix.plan import LeftOut
from pytest_modelops.report.looks import MARKS, cause_of, mark_of
from pytest_modelops.report.model import CellReport, CheckResult, RunReport, Status
from pytest_modelops.report.paper import INDENT, Line, Paper, Segment, Style, apart, counted, duration, joined
from pytest_modelops.report.table import Table
from pytest_modelops.report.upgrades import Safety, upgrades
from pytest_modelops.report.verdict import sentence

_NARROWEST = 40
_MESSAGE = 300
"""About how many columns of a message are shown; pytest's failure above the table has all of it."""
_DRIFTED = 5
"""How many packages are shown that drifted in a cell."""
_REASONS = 3
"""How many different reasons for leaving cells out are shown."""


def matrix(report: RunReport, *, width: int, unicode: bool) -> list[Line]:
    """Return the lines of the matrix.

    Args:
        width: columns of the terminal, at least 40. No line is wider, except commands, which are never cut, and ids
            of cells that are wider by themselves.
        unicode: whether the terminal can show `✓`. If not, everything but commands is ASCII.
    """
    paper = Paper(max(width, _NARROWEST), unicode)
    answer = [*_verdict(report, paper), *_changes(report, paper)]
    rest = [
        *_taken(report, paper),
        *_not_run(report.cells, paper),
        *_left_out(report.left_out, paper),
        *_sums(report, paper),
    ]
    table = Table(report.cells, paper).lines()
    broken, notes = _broken(report.cells, paper), _notes(report.cells, paper)
    return apart([answer, table, broken, _upgrades(report, paper), notes, rest])


def _verdict(report: RunReport, paper: Paper) -> list[Line]:
    """Return the answer, if the run was compared with a baseline."""
    if report.comparison is None:
        return []
    style = Style.BAD if report.comparison.breaks else Style.GOOD
    return paper.flow(paper.words(paper.clean(sentence(report)), style), indent=0)


def _changes(report: RunReport, paper: Paper) -> list[Line]:
    """Return a line for each cell that changed since the baseline, with the packages that drifted."""
    lines: list[Line] = []
    for change in report.comparison.changes if report.comparison is not None else ():
        style = Style.BAD if change.breaks else Style.PLAIN
        what = change.change.text + (f" ({change.times:g} times as long)" if change.times else "")
        at = f" at {change.check}" if change.check else ""
        since = f"; was {change.was}" if change.was else ""
        drifted = [str(one) for one in change.drift[:_DRIFTED]]
        more = [f"{len(change.drift) - _DRIFTED} more"] if len(change.drift) > _DRIFTED else []
        packages = f"; {', '.join([*drifted, *more])}" if drifted else ""
        rest = paper.words(paper.clean(f"{change.id}{at}{since}{packages}"))
        lines.extend(paper.flow([*paper.words(f"{what}:", style), *rest]))
    return lines


def _upgrades(report: RunReport, paper: Paper) -> list[Line]:
    """Return which order of each rolling upgrade is safe, and where the others break."""
    lines: list[Line] = []
    for upgrade in upgrades(report):
        style = Style.GOOD if upgrade.of(Safety.SAFE) else Style.BAD
        lines.extend(paper.flow(paper.words(paper.clean(upgrade.verdict), style)))
        for other in upgrade.others:
            lines.extend(paper.flow(paper.words(paper.clean(other)), start=INDENT))
    return lines


def _notes(cells: Sequence[CellReport], paper: Paper) -> list[Line]:
    """Return the cells' notes, each once. Lines after the first are commands and are never cut."""
    lines: list[Line] = []
    for note in dict.fromkeys(note for cell in cells for note in cell.notes):
        first, *rest = note.splitlines()
        lines.extend(paper.flow([Segment("note:", Style.WARN), *paper.words(first)]))
        lines.extend((Segment(line),) for line in rest)
    return lines


def _broken(cells: Sequence[CellReport], paper: Paper) -> list[Line]:
    """Return a message for each broken cell, and under it the command that reproduces it."""
    rows = math.ceil(_MESSAGE / paper.width)
    lines: list[Line] = []
    before = None
    for cell in cells:
        cause = cause_of(cell)
        if cell.status in {Status.PASSED, Status.NOT_RUN} or cause is None:
            continue
        style = mark_of(cell).style
        ending = _ending(cause, paper)
        message = paper.first_line(cause.message.replace(f" in cell {cell.id}", ""))
        repeated = bool(message) and (ending, message) == before
        before = ending, message
        known = cell.probable_cause is not None and cell.probable_cause.known
        probable = paper.clean(f"probable cause: {cell.probable_cause.cause}") if cell.probable_cause else ""
        first, second = "as above" if repeated else message, "" if repeated and not known else probable
        if known:
            first, second = second, first
        end = ";" if known else ":" if first else ""
        head = [Segment(f"{cell.id}:", style), *paper.words(f"{ending}{end}", style)]
        lines.extend(paper.flow([*head, *paper.words(first)], rows=rows))
        lines.extend(paper.flow(paper.words(second), start=INDENT, rows=rows) if second else [])
        also = [_ending(check, paper) for check in cell.checks if check.status.broke and check is not cause]
        if also:
            lines.extend(paper.flow(paper.words(f"also: {', '.join(also)}"), start=INDENT, rows=rows))
        lines.extend((Segment(f"    {part}"),) for part in cause.reproduce.splitlines())
    return lines


def _ending(check: CheckResult, paper: Paper) -> str:
    by = f" by {check.blocked_by}" if check.status is Status.BLOCKED and check.blocked_by else ""
    return paper.clean(f"{check.label} {MARKS[check.status].text}{by}")


def _not_run(cells: Sequence[CellReport], paper: Paper) -> list[Line]:
    reasons: dict[str, list[Segment]] = {}
    for cell in cells:
        if cell.selected and cell.status is Status.NOT_RUN:
            cause = cause_of(cell)
            reason = paper.first_line(cause.message) if cause else ""
            reasons.setdefault(reason, []).append(Segment(cell.id))
    lines: list[Line] = []
    for reason, ids in reasons.items():
        head = paper.words(f"not run, {reason}:" if reason else "not run:", Style.WARN)
        lines.extend(paper.flow([*head, *joined(ids)]))
    return lines


def _taken(report: RunReport, paper: Paper) -> list[Line]:
    """Return from which run cells were taken, and why others were not."""
    groups: dict[tuple[str, Style], list[Segment]] = {}
    for cell in report.cells:
        if cell.taken is not None:
            groups.setdefault((f"not run, taken from the run of {cell.taken}:", Style.WARN), []).append(
                Segment(cell.id)
            )
        elif cell.not_taken and cell.ran:
            reason = f"run, since {paper.first_line(cell.not_taken)}:"
            groups.setdefault((reason, Style.PLAIN), []).append(Segment(cell.id))
    return [
        line for (text, style), ids in groups.items() for line in paper.flow([*paper.words(text, style), *joined(ids)])
    ]


def _left_out(points: Sequence[LeftOut], paper: Paper) -> list[Line]:
    reasons: dict[str, list[str]] = {}
    for point in points:
        reasons.setdefault(paper.first_line(point.reason), []).append(point.id)
    lines: list[Line] = []
    for reason, ids in list(reasons.items())[:_REASONS]:
        which = ids[0] if len(ids) == 1 else f"{len(ids)} cells"
        head = Segment(f"left out: {which}:", Style.DIM)
        lines.extend(paper.flow([head, *paper.words(reason, Style.DIM)], rows=2))
    rest = list(reasons.values())[_REASONS:]
    if rest:
        more = f"{counted(sum(map(len, rest)), 'more cell')} for {counted(len(rest), 'other reason')}"
        lines.extend(paper.flow(paper.words(f"left out: {more}", Style.DIM)))
    return lines


def _sums(report: RunReport, paper: Paper) -> list[Line]:
    """Return one line: cells, time, how the cells ended, environments built and reused."""
    selected = [cell for cell in report.cells if cell.selected]
    order = list(Status)
    counts = Counter(mark_of(cell) for cell in sorted(selected, key=lambda cell: order.index(cell.status)))
    ends = [Segment(f"{number} {mark.text}", mark.style) for mark, number in counts.items()]
    if others := len(report.cells) - len(selected):
        ends.append(Segment(f"{others} not selected", Style.DIM))
    total = f"{counted(len(selected), 'cell')} in {duration(report.seconds)}"
    built = [f"{number} {how}" for how, number in _environments(report.cells).items() if number]
    if built:
        built[0] = f"environments: {built[0]}"
    parts = [Segment(f"{total}:" if ends else total), *joined(ends, last=";" if built else "")]
    return paper.flow([*parts, *joined([Segment(part) for part in built])])


def _environments(cells: Sequence[CellReport]) -> dict[str, int]:
    """Count the distinct environments that were built and reused; one that a later cell reuses was built."""
    reused: dict[object, bool] = {}
    for cell in cells:
        for environment in cell.environments if cell.taken is None else ():
            place = environment.get("location") or (environment.get("python"), environment.get("dask"))
            reused[place] = reused.get(place, True) and bool(environment.get("reused"))
    counts = Counter(reused.values())
    return {"built": counts[False], "reused": counts[True]}
