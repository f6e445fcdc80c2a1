"""Laying out text for a terminal or a CI log: styled segments, lines of them, wrapping, columns.

Knows neither results nor pytest; of a terminal, its width and whether it shows Unicode.
"""

from __future__ import annotations

import enum
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple


class Style(enum.Enum):
    """The meaning of a segment; the value is its colour in pytest's terminal writer."""

    PLAIN = ""
    GOOD = "green"
    BAD = "red"
    WARN = "yellow"
    DIM = "light"

    @property
    def markup(self) -> dict[str, bool]:
        return {self.value: True} if self.value else {}


class Segment(NamedTuple):
    """A piece of a line, without line breaks."""

    text: str
    style: Style = Style.PLAIN


Line = tuple[Segment, ...]
"""One line of output, without trailing spaces."""

INDENT = 2
"""Spaces before a line that continues the one above."""

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_ASCII = str.maketrans(
    {
        "…": "...",
        "–": "-",
        "—": "-",
        "×": "x",
        "→": "->",
        "≥": ">=",
        "≤": "<=",
        **dict.fromkeys("‘’‚", "'"),
        **dict.fromkeys("“”„", '"'),
    }
)


class Paper(NamedTuple):
    """What the text must fit: the number of columns, and whether they show more than ASCII."""

    width: int
    unicode: bool

    @property
    def ellipsis(self) -> str:
        return "…" if self.unicode else "..."

    def clean(self, raw: str) -> str:
        """Remove escapes and control characters, and collapse spaces."""
        shown = _ESCAPES.sub("", raw)
        shown = "".join(" " if unicodedata.category(char).startswith("C") else char for char in shown)
        if not self.unicode:
            shown = shown.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")
        return " ".join(shown.split())

    def first_line(self, message: str) -> str:
        """Return the first line that is not empty, clean; if it ends in a colon, with the next one."""
        lines = [line.strip() for line in message.splitlines() if line.strip()]
        whole = 2 if lines and lines[0].endswith(":") else 1
        return self.clean(" ".join(lines[:whole]))

    def cut(self, shown: str, room: int) -> str:
        if columns(shown) <= room:
            return shown
        return next(_pieces(shown, room - columns(self.ellipsis))) + self.ellipsis

    def words(self, shown: str, style: Style = Style.PLAIN) -> list[Segment]:
        """Split a text into words, and cut those that are wider than a line."""
        room = self.width - INDENT
        return [Segment(piece, style) for word in shown.split() for piece in _pieces(word, room)]

    def flow(
        self, words: Iterable[Segment], *, indent: int = INDENT, start: int = 0, rows: int | None = None
    ) -> list[Line]:
        """Fill lines with whole words. Text that needs more than `rows` ends with an ellipsis."""
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
            style, room = last[-1].style, self.width - indent - columns(self.ellipsis)
            while sum(columns(word.text) + 1 for word in last) > room:
                last.pop()
            last.append(Segment(self.ellipsis, style))
        lines = []
        for row, segments in enumerate(filled):
            runs = itertools.groupby(segments, key=lambda word: word.style)
            spaced = (Segment("".join(f"{word.text} " for word in run), style) for style, run in runs)
            lines.append(trimmed([Segment(" " * (indent if row else start)), *spaced]))
        return lines


def text(lines: Iterable[Line]) -> str:
    return "".join("".join(segment.text for segment in line) + "\n" for line in lines)


def columns(shown: str) -> int:
    return sum(
        0 if unicodedata.category(char) in {"Mn", "Me"} else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in shown
    )


def widest(segments: Iterable[Segment]) -> int:
    return max((columns(segment.text) for segment in segments), default=0)


def padded(column: Sequence[Segment], extra: int = 0) -> list[Segment]:
    """Pad each segment to the width of the widest, plus `extra`."""
    wide = widest(column) + extra
    return [Segment(part.text + " " * (wide - columns(part.text)), part.style) for part in column]


def trimmed(segments: Iterable[Segment]) -> Line:
    """Return a line without empty segments and trailing spaces."""
    line = [segment for segment in segments if segment.text]
    while line and not line[-1].text.rstrip():
        line.pop()
    if line:
        line[-1] = Segment(line[-1].text.rstrip(), line[-1].style)
    return tuple(line)


def joined(segments: Sequence[Segment], last: str = "") -> list[Segment]:
    ends = [","] * (len(segments) - 1) + [last]
    return [Segment(segment.text + end, segment.style) for segment, end in zip(segments, ends, strict=False)]


def apart(parts: Iterable[Sequence[Line]]) -> list[Line]:
    """Join the parts that have lines, with an empty line between them."""
    return [line for part in parts if part for line in ((), *part)][1:]


def blocks(widths: Mapping[str, int], gap: int, room: int) -> list[list[str]]:
    """Split a row of columns into as few blocks as fit, of similar widths."""
    fewest = _filled(widths, gap, room)
    for less in range(max(widths.values()), room):
        if len(even := _filled(widths, gap, less)) == len(fewest):
            return even
    return fewest


def duration(seconds: float) -> str:
    """`4.2 s`, `41 s`, `3 min 12 s`, `1 h 2 min`."""
    whole = round(seconds)
    if whole < 10:  # noqa: PLR2004 - below ten seconds a tenth says something
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes_rest = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_rest} min"
    return f"{minutes} min {rest} s" if minutes else f"{whole} s"


def counted(number: int, noun: str) -> str:
    """`1 cell`, `2 cells`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _filled(widths: Mapping[str, int], gap: int, room: int) -> list[list[str]]:
    filled: list[list[str]] = []
    used = 0
    for name, wide in widths.items():
        if not filled or used + gap + wide > room:
            filled.append([])
            used = -gap
        filled[-1].append(name)
        used += gap + wide
    return filled


def _pieces(word: str, room: int) -> Iterator[str]:
    """Cut a word into pieces that are no wider than `room`."""
    piece = ""
    for char in word:
        if columns(piece + char) > room:
            yield piece
            piece = ""
        piece += char
    yield piece
