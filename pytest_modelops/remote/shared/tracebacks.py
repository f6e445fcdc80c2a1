"""Tells the user's frames of a traceback from those of libraries, and shortens one without losing them. Python 3.9+."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

_FRAME = re.compile(r"\s*File \"(?P<file>[^\n]*?)\", line (?P<line>\d+)(?:, in (?P<name>[^\n]*))?$")
_PACKAGE = re.compile(r".*/(?:site|dist)-packages/([^/]+)")
_PYTHON_S = re.compile(r"<frozen |/lib(?:64)?/python3[\d.]*t?/(?!(?:site|dist)-packages/)")
_BETWEEN = {"dask", "distributed", "tornado", "cloudpickle", "toolz", "modelops_remote"}
"""Packages that call the user's code, and so stand outside of it."""
_MOST_OF_USER = 10
_MOST_OF_MESSAGE = 4


def are_of_user(files: Sequence[str]) -> list[bool]:
    """Return for each file of a traceback, the outermost first, whether its frame is the user's.

    A user's package may be installed beside libraries: the outermost package, apart from Dask's, is the one that was
    called, and so the user's.
    """
    tops = [_top(file) for file in files]
    called = next((top for top in tops if top is not None), "")
    return [top is not None and top in {"", called} for top in tops]


def _top(file: str) -> str | None:
    """Return the package of an installed file, empty for another file, `None` if it cannot be the user's."""
    if _PYTHON_S.search(file) or "/modelops_remote/" in file:
        return None
    package = _PACKAGE.match(file)
    top = package[1].partition(".")[0] if package else ""
    return None if top in _BETWEEN else top


def shortened(lines: Sequence[str], most: int) -> list[str]:
    """Return at most so many lines of a traceback, but the user's frames in any case; what is left out is counted."""
    if len(lines) <= most:
        return list(lines)
    parts = list(_parts(lines))
    frames = [number for number, part in enumerate(parts) if _FRAME.match(part[0])]
    if not frames:
        return list(lines[-most:])
    of_user = are_of_user([_FRAME.match(parts[number][0])["file"] for number in frames])  # type: ignore[index]
    users = [*itertools.compress(frames, of_user)][-_MOST_OF_USER:]
    parts[-1] = parts[-1][:_MOST_OF_MESSAGE]
    kept = {*users, len(parts) - 1}
    left = most - sum(len(parts[number]) for number in kept)
    for number in reversed(range(len(parts))):  # the innermost of the others
        if number not in kept and len(parts[number]) <= left:
            kept.add(number)
            left -= len(parts[number])
    return list(_joined(parts, kept))


def _parts(lines: Sequence[str]) -> Iterator[list[str]]:
    """Yield frames with their lines of code, and what is between them line by line; after the last, all at once."""
    part: list[str] = []
    for line in lines:
        starts = _FRAME.match(line) is not None
        continues = bool(part) and not starts and (_FRAME.match(part[0]) is None or line.startswith("    "))
        if part and not continues:
            yield part
            part = []
        if not (set(line) <= set(" ^~") and line.strip()):  # markers cost a line and say little
            part.append(line)
    if part:
        yield part


def _joined(parts: Sequence[Sequence[str]], kept: set[int]) -> Iterator[str]:
    skipped = 0
    for number, part in enumerate(parts):
        if number not in kept:
            skipped += 1
            continue
        if skipped:
            yield f"  … {skipped} more"
            skipped = 0
        yield from part
