"""The matrix at the end of a run, as lines for a terminal or a CI log.

Takes a `RunReport` and returns lines of styled segments; whoever has a terminal writer colours them with
`Style.markup`. Knows nothing of pytest, backends or terminals. Colour never carries meaning alone: symbols
and words do, so that a log without colours says the same.

From top to bottom: the table (Pythons down, Dasks across), the cells that do not fit it, a legend, what broke
and the command that reproduces it, what did not run, what was left out, and one line of sums.
"""

from __future__ import annotations

import enum
import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from packaging.version import InvalidVersion, Version

from pytest_modelops.results import CellReport, CheckResult, RunReport, Status


class Style(enum.Enum):
    """What a segment is, for whoever colours it."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    DIM = "dim"

    @property
    def markup(self) -> dict[str, bool]:
        """Keyword arguments for `write()` of pytest's terminal writer."""
        return dict(_MARKUP[self])


_MARKUP: Mapping[Style, Mapping[str, bool]] = {
    Style.PLAIN: {},
    Style.GOOD: {"green": True},
    Style.BAD: {"red": True},
    Style.WARN: {"yellow": True},
    Style.DIM: {"light": True},
}


class Segment(NamedTuple):
    """A piece of a line, without line breaks."""

    text: str
    style: Style = Style.PLAIN


Line = tuple[Segment, ...]
"""One line of output, without trailing spaces."""


def text(lines: Iterable[Line]) -> str:
    """The lines without their styles, each ended by a newline."""
    return "".join("".join(segment.text for segment in line) + "\n" for line in lines)


def matrix(report: RunReport, *, width: int, unicode: bool) -> list[Line]:
    """Draw the matrix and what a person needs to know about it.

    Args:
        report: what the run found.
        width: columns of the terminal. No line is wider, except commands, which are never cut, and ids of
            cells that are wider by themselves. Less than 40 is taken as 40.
        unicode: whether the terminal can show `✓` and its like. If not, everything but commands is ASCII.
    """
    return _Matrix(report, max(width, _NARROWEST), unicode).lines()


class _Mark(NamedTuple):
    """How a status is shown; all of them differ without colour, and none but the first resembles success."""

    unicode: str
    ascii: str
    words: str
    style: Style


_MARKS: Mapping[Status, _Mark] = {
    Status.PASSED: _Mark("✓", "ok", "passed", Style.GOOD),
    Status.FAILED: _Mark("✗", "X", "failed", Style.BAD),
    Status.TIMED_OUT: _Mark("T", "T", "timed out", Style.BAD),
    Status.BLOCKED: _Mark("!", "!", "blocked", Style.BAD),
    Status.UNAVAILABLE: _Mark("?", "?", "unavailable", Style.WARN),
    Status.SKIPPED: _Mark("s", "s", "skipped", Style.WARN),
    # Not "." as the twin: to eyes used to pytest that is a test that passed.
    Status.NOT_RUN: _Mark("·", "~", "not run", Style.WARN),
}
_NOT_PLANNED = _Mark("–", "-", "not planned", Style.DIM)

_NARROWEST = 40
_GAPS = (3, 2)
"""Spaces between the columns of the table, and when it is tight."""
_INDENT = 2
_COMMAND = 4
_MESSAGE = 300
"""How many columns of a message are shown, about; pytest's failure above the table has all of it."""
_RUNG = 20
"""How many columns of a rung's name the table shows when it is tight; the longest of ours has 18."""
_REASONS = 3
"""How many different reasons for leaving cells out are shown."""

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_ASCII = str.maketrans({"…": "...", "–": "-", "—": "-", "×": "x", "→": "->", "≥": ">=", "≤": "<="})
for _quotes, _plain in (("‘’‚", "'"), ("“”„", '"')):
    _ASCII.update(dict.fromkeys(map(ord, _quotes), _plain))


class _Look(NamedTuple):
    """What the table shows for a cell: the rung with its bundle where there is room, else without and cut."""

    full: str
    short: str
    style: Style


class _Matrix:
    """One drawing: the report, and the paper that it has to fit."""

    def __init__(self, report: RunReport, width: int, unicode: bool) -> None:
        self.report = report
        self.width = width
        self.unicode = unicode
        self.rows = math.ceil(_MESSAGE / width)
        self.ellipsis = "…" if unicode else "..."
        self.grid: dict[tuple[str, str], CellReport] = {}
        self.others: list[CellReport] = []
        for cell in report.cells:
            # A skew cell has no place in the table; and no cell may hide another one that has the same.
            if cell.skew or (cell.python, cell.dask) in self.grid:
                self.others.append(cell)
            else:
                self.grid[cell.python, cell.dask] = cell
        self.gaps = False
        self.looks = {cell.id: self.look(cell) for cell in report.cells}

    def lines(self) -> list[Line]:
        """Everything, in parts with an empty line between them."""
        parts = [
            [*self.table(), *self.legend()],
            self.broken(),
            [*self.not_run(), *self.left_out(), *self.sums()],
        ]
        lines: list[Line] = []
        for part in filter(None, parts):
            if lines:
                lines.append(())
            lines.extend(part)
        return lines

    # The table

    def look(self, cell: CellReport) -> _Look:
        mark = _MARKS[cell.status]
        symbol = self.symbol(mark)
        if cell.status is Status.PASSED:
            if len(cell.ran) == len(cell.checks):
                return _Look(symbol, symbol, mark.style)
            partly = f"{symbol} {len(cell.ran)}/{len(cell.checks)}"
            return _Look(partly, partly, Style.WARN)
        if not cell.selected and cell.status is Status.NOT_RUN:
            return _Look(symbol, symbol, Style.DIM)
        cause = _cause(cell)
        if cause is None:
            return _Look(f"{symbol} {mark.words}", f"{symbol} {mark.words}", mark.style)
        # A test of the user's goes by its node id, of which the table has room for the end.
        name, label = (self.clean(part.rpartition("::")[2]) for part in (cause.name, cause.label))
        return _Look(f"{symbol} {label}", f"{symbol} {self.cut(name, _RUNG)}", mark.style)

    def table(self) -> list[Line]:
        """The table, and under it the cells that have no place in it; or only a list, where no table fits."""
        if not self.report.cells:
            return [(Segment("no cell was planned", Style.WARN),)]
        pythons = sorted({python for python, _ in self.grid}, key=_by_version)
        dasks = sorted({dask for _, dask in self.grid}, key=_by_version)
        if not dasks:
            return self.listed(self.others)
        left = [Segment("Python", Style.DIM), *(Segment(python) for python in pythons)]
        between = Segment("   Dask ", Style.DIM)
        room = self.width - _widest(left) - columns(between.text)
        # From the roomiest form to the tightest, and to blocks of columns where none fits at once.
        for full, gap in itertools.product((True, False), _GAPS):
            shown = {dask: self.column(dask, pythons, full=full) for dask in dasks}
            widths = {dask: _widest(column) for dask, column in shown.items()}
            blocks = _blocks(widths, gap, room)
            if len(blocks) == 1 and max(widths.values()) <= room:
                break
        if max(widths.values()) > room:
            return self.listed(self.report.cells)
        self.gaps = len(self.grid) < len(pythons) * len(dasks)
        lines: list[Line] = []
        for block in blocks:
            head = [between, *(Segment(" " * columns(between.text)) for _ in pythons)]
            parts = [left, head, *(shown[dask] for dask in block)]
            gaps = [0, 0, *(gap for _ in block)]
            rows = zip(*(_padded(part, extra) for part, extra in zip(parts, gaps, strict=True)), strict=True)
            lines.extend([(), *map(_trimmed, rows)])
        if self.others:
            lines.extend([(), *self.listed(self.others)])
        return lines[1:]

    def column(self, dask: str, pythons: Sequence[str], *, full: bool) -> list[Segment]:
        column = [Segment(dask)]
        for python in pythons:
            cell = self.grid.get((python, dask))
            if cell is None:
                column.append(Segment(self.symbol(_NOT_PLANNED), _NOT_PLANNED.style))
            else:
                look = self.looks[cell.id]
                column.append(Segment(look.full if full else look.short, look.style))
        return column

    def listed(self, cells: Sequence[CellReport]) -> list[Line]:
        """One line a cell: its whole id, and what the table would say."""
        ids = [Segment(cell.id) for cell in cells]
        lines: list[Line] = []
        for cell, aligned in zip(cells, _padded(ids, _GAPS[0]), strict=True):
            look = self.looks[cell.id]
            alone = Segment(cell.id + " " * _GAPS[0])
            for name, shown in itertools.product((aligned, alone), (look.full, look.short)):
                if columns(name.text + shown) <= self.width:
                    lines.append((name, Segment(shown, look.style)))
                    break
            else:
                lines.extend([(Segment(cell.id),), (Segment(" " * _INDENT), Segment(look.short, look.style))])
        return lines

    def legend(self) -> list[Line]:
        """What the symbols mean, of those that occur and do not explain themselves."""
        occur = {cell.status for cell in self.report.cells}
        marks = [_MARKS[status] for status in Status if status in occur]
        if self.gaps:
            marks.append(_NOT_PLANNED)
        passed = self.symbol(_MARKS[Status.PASSED])
        entries = [
            f"{self.symbol(mark)} {mark.words}"
            for mark in marks
            if mark not in {_MARKS[Status.PASSED], _MARKS[Status.FAILED]}
        ]
        if any(_partly(cell) for cell in self.report.cells):
            entries.append(f"{passed} n/m only n of m rungs were run")
        if not entries:
            return []
        return [(), *self.flow(_joined([Segment(entry, Style.DIM) for entry in entries]), indent=0)]

    # Under the table

    def broken(self) -> list[Line]:
        """A line for each broken cell, and under it the command that reproduces it."""
        lines: list[Line] = []
        before = None
        for cell in self.report.cells:
            cause = _cause(cell)
            if cell.status in {Status.PASSED, Status.NOT_RUN} or cause is None:
                continue
            style = _MARKS[cell.status].style
            said = self.said(cause)
            message = self.clean(_first_line(cause.message).replace(f" in cell {cell.id}", ""))
            if message and (said, message) == before:
                words = [*self.words(f"{said}:", style), *self.words("as above")]
            else:
                words = self.words(f"{said}: {message}" if message else said, style)
                told = len(said.split())
                words = [*words[:told], *(Segment(word) for word, _ in words[told:])]
            before = said, message
            lines.extend(self.flow([Segment(f"{cell.id}:", style), *words], rows=self.rows))
            also = [self.said(check) for check in cell.checks if check.status.broke and check is not cause]
            if also:
                words = self.words(f"also: {', '.join(also)}")
                lines.extend(self.flow(words, start=_INDENT, rows=self.rows))
            lines.extend((Segment(" " * _COMMAND + part),) for part in cause.reproduce.splitlines())
        return lines

    def not_run(self) -> list[Line]:
        """The cells that were selected and did not run, by reason."""
        reasons: dict[str, list[str]] = {}
        for cell in self.report.cells:
            if cell.selected and cell.status is Status.NOT_RUN:
                cause = _cause(cell)
                reason = self.clean(_first_line(cause.message)) if cause else ""
                reasons.setdefault(reason, []).append(cell.id)
        lines: list[Line] = []
        for reason, ids in reasons.items():
            head = f"not run, {reason}:" if reason else "not run:"
            named = _joined([Segment(name) for name in ids])
            lines.extend(self.flow([*self.words(head, Style.WARN), *named]))
        return lines

    def left_out(self) -> list[Line]:
        """How many points of the product are not in the plan, and why."""
        reasons: dict[str, list[str]] = {}
        for left in self.report.left_out:
            reasons.setdefault(self.clean(_first_line(left.reason)), []).append(left.id)
        lines: list[Line] = []
        for reason, ids in list(reasons.items())[:_REASONS]:
            which = ids[0] if len(ids) == 1 else f"{len(ids)} cells"
            head = Segment(f"left out: {which}:", Style.DIM)
            lines.extend(self.flow([head, *self.words(reason, Style.DIM)], rows=2))
        rest = list(reasons.values())[_REASONS:]
        if rest:
            cells, reasons_left = sum(map(len, rest)), len(rest)
            more = f"left out: {_count(cells, 'more cell')} for {_count(reasons_left, 'other reason')}"
            lines.extend(self.flow(self.words(more, Style.DIM)))
        return lines

    def sums(self) -> list[Line]:
        """Cells and time, how they ended, and what their environments cost."""
        selected = [cell for cell in self.report.cells if cell.selected]
        ends: Counter[tuple[str, Style]] = Counter()
        for status in Status:
            for cell in selected:
                if cell.status is status:
                    partly = _partly(cell)
                    words = "passed in part" if partly else _MARKS[status].words
                    ends[words, Style.WARN if partly else _MARKS[status].style] += 1
        others = len(self.report.cells) - len(selected)
        if others:
            ends["not selected", Style.DIM] += others
        said = [Segment(f"{number} {words}", style) for (words, style), number in ends.items()]
        total = f"{_count(len(selected), 'cell')} in {_duration(self.report.seconds)}"
        built = _environments(self.report.cells)
        counts = [f"{number} {words}" for words, number in built.items() if number]
        if counts:
            counts[0] = f"environments: {counts[0]}"
        parts = [Segment(f"{total}:" if said else total), *_joined(said, last=";" if counts else "")]
        return self.flow([*parts, *_joined([Segment(part) for part in counts])])

    # Words and lines

    def symbol(self, mark: _Mark) -> str:
        return mark.unicode if self.unicode else mark.ascii

    def said(self, check: CheckResult) -> str:
        words = _MARKS[check.status].words
        if check.status is Status.BLOCKED and check.blocked_by:
            words = f"{words} by {check.blocked_by}"
        return self.clean(f"{check.label} {words}")

    def clean(self, raw: str) -> str:
        """Text that cannot disturb a terminal: no escapes, no control characters, single spaces."""
        shown = _ESCAPES.sub("", raw)
        shown = "".join(" " if unicodedata.category(char).startswith("C") else char for char in shown)
        if not self.unicode:
            shown = shown.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")
        return " ".join(shown.split())

    def cut(self, shown: str, room: int) -> str:
        """The beginning of a text that is too wide."""
        if columns(shown) <= room:
            return shown
        return next(iter(_pieces(shown, room - columns(self.ellipsis)))) + self.ellipsis

    def words(self, shown: str, style: Style = Style.PLAIN) -> list[Segment]:
        """The words of a text, none wider than a line."""
        room = self.width - _INDENT
        return [Segment(piece, style) for word in shown.split() for piece in _pieces(word, room)]

    def flow(
        self, words: Iterable[Segment], *, indent: int = _INDENT, start: int = 0, rows: int | None = None
    ) -> list[Line]:
        """Fill lines with words, which stay whole, and end with an ellipsis what takes more than `rows`."""
        filled: list[list[Segment]] = [[]]
        used = start
        for word in words:
            wide = columns(word.text) + bool(filled[-1])
            if filled[-1] and used + wide > self.width:
                filled.append([])
                used, wide = indent, columns(word.text)
            filled[-1].append(word)
            used += wide
        if rows is not None and len(filled) > rows:
            del filled[rows:]
            last = filled[-1]
            style, room = last[-1].style, self.width - indent - columns(self.ellipsis) - 1
            while _wide(last) > room:
                last.pop()
            last.append(Segment(self.ellipsis, style))
        return [
            _trimmed([Segment(" " * (indent if row else start)), *_spaced(segments)])
            for row, segments in enumerate(filled)
        ]


def columns(shown: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.category(char) in {"Mn", "Me"} else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in shown
    )


def _cause(cell: CellReport) -> CheckResult | None:
    """The check that a cell which did not pass owes its status to, if there is one."""
    if cell.broken:
        return cell.broken
    same = (check for check in cell.checks if check.status is cell.status)
    return next((check for check in same if check.message or check.status is not Status.NOT_RUN), None)


def _partly(cell: CellReport) -> bool:
    """Whether a cell passed, but was not asked everything."""
    return cell.status is Status.PASSED and len(cell.ran) < len(cell.checks)


def _environments(cells: Iterable[CellReport]) -> dict[str, int]:
    """How many distinct environments were built and reused; one that a later cell finds again was built."""
    reused: dict[object, bool] = {}
    for cell in cells:
        for environment in cell.environments:
            place = environment.get("location") or (environment.get("python"), environment.get("dask"))
            reused[place] = reused.get(place, True) and bool(environment.get("reused"))
    counts = Counter(reused.values())
    return {"built": counts[False], "reused": counts[True]}


def _by_version(version: str) -> tuple[bool, Version, str]:
    """Sort key: versions in their order, then what is none (`latest`, where no index could be asked)."""
    try:
        return False, Version(version), version
    except InvalidVersion:
        return True, Version("0"), version


def _blocks(widths: Mapping[str, int], gap: int, room: int) -> list[list[str]]:
    """Cut a row of columns into as few blocks as fit, and those into equal widths as far as it goes."""
    fewest = _filled(widths, gap, room)
    for less in range(max(widths.values(), default=0), room):
        if len(blocks := _filled(widths, gap, less)) == len(fewest):
            return blocks
    return fewest


def _filled(widths: Mapping[str, int], gap: int, room: int) -> list[list[str]]:
    blocks: list[list[str]] = []
    used = 0
    for name, wide in widths.items():
        if not blocks or used + gap + wide > room:
            blocks.append([])
            used = -gap
        blocks[-1].append(name)
        used += gap + wide
    return blocks


def _pieces(word: str, room: int) -> Iterable[str]:
    """Cut a word that is wider than a line."""
    piece = ""
    for char in word:
        if columns(piece + char) > room:
            yield piece
            piece = ""
        piece += char
    yield piece


def _first_line(message: str) -> str:
    return next((line for line in message.splitlines() if line.strip()), "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _duration(seconds: float) -> str:
    """`4.2 s`, `41 s`, `3 min 12 s`, `1 h 2 min`."""
    whole = round(seconds)
    if whole < 10:  # noqa: PLR2004 - below ten seconds a tenth says something
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes_rest = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_rest} min"
    return f"{minutes} min {rest} s" if minutes else f"{whole} s"


def _joined(segments: Sequence[Segment], last: str = "") -> list[Segment]:
    """Commas after all but the last."""
    ends = [","] * (len(segments) - 1) + [last]
    return [Segment(segment.text + end, segment.style) for segment, end in zip(segments, ends, strict=False)]


def _spaced(segments: Iterable[Segment]) -> Iterable[Segment]:
    """Spaces between words, and neighbours of one style as one segment."""
    run: Segment | None = None
    for segment in segments:
        if run is None:
            run = segment
        elif run.style is segment.style:
            run = Segment(f"{run.text} {segment.text}", run.style)
        else:
            yield Segment(f"{run.text} ", run.style)
            run = segment
    if run is not None:
        yield run


def _trimmed(segments: Iterable[Segment]) -> Line:
    """A line without empty segments and trailing spaces."""
    line = [segment for segment in segments if segment.text]
    while line and not line[-1].text.rstrip():
        line.pop()
    if line:
        line[-1] = Segment(line[-1].text.rstrip(), line[-1].style)
    return tuple(line)


def _padded(column: Sequence[Segment], extra: int) -> list[Segment]:
    """A column whose segments are all as wide as the widest, and `extra`."""
    wide = _widest(column) + extra
    return [Segment(part.text + " " * (wide - columns(part.text)), part.style) for part in column]


def _widest(segments: Iterable[Segment]) -> int:
    return max(columns(segment.text) for segment in segments)


def _wide(segments: Sequence[Segment]) -> int:
    return sum(columns(segment.text) for segment in segments) + len(segments) - 1
