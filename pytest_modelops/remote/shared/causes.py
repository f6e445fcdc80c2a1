"""Finds the first cause in what a process wrote to stderr. Python 3.9 and up.

All of the text is searched, because the last lines seldom say it: an installer fails, so an import fails, so a
handshake fails, and only the first of these is the cause.
"""

from __future__ import annotations

import itertools
import re

from .tracebacks import are_of_user, shortened

# No pattern begins with `[^\n]*`: that takes hours on a line of a megabyte, as progress bars write them.
_INSTALLERS = (
    # pip, then uv: a Python that is too old or too new
    re.compile(r"requires a different Python: [^\n]*"),
    re.compile(r"does not satisfy Python[^\n]*(?:\n[ │]+[^\n]*)?"),
    # an environment without pip
    re.compile(r"No module named '?pip'?(?![\w.])"),
    # a distribution that does not exist
    re.compile(r"(?:No matching distribution found for|Could not find a version that satisfies)[^\n]*"),
    re.compile(r"was not found in the (?:package registry|provided package locations)[^\n]*"),
    re.compile(r"No solution found when resolving[^\n]*(?:\n[^\n]+){0,6}"),
    # a wheel that does not fit or cannot be built
    re.compile(r"is not a supported wheel on this platform[^\n]*"),
    re.compile(r"(?:Failed building wheel for|Failed to build)[^\n]*"),
)
_CRASH = re.compile(r"Fatal Python error: [^\n]*")
_TRACEBACK = re.compile(
    r"^Traceback \(most recent call last\):\n(?:[ \t][^\n]*\n|\n)*(?P<error>[^\s][^\n]*)", re.MULTILINE
)
_LAST_FRAME = re.compile(r"^  File \"(?P<file>[^\n]*?)\", line (?P<line>\d+)(?:, in (?P<name>[^\n]*))?$", re.MULTILINE)
_SAID = re.compile(r"\b(?:error|fatal|cannot|failed)\b[^\n]*", re.IGNORECASE)
_LONGEST = 600
_BEFORE = 200
"""This many characters before a match are reported with it."""


def first_cause(text: str) -> str | None:
    """Return the line or few lines that say why a process failed; `None` if nothing looks like a reason.

    The earliest of: an installer's complaint about versions or packages, the error of the first traceback with the
    place where it was raised, a crash of the interpreter. Failing that, the first line that mentions an error.
    """
    found = []
    for pattern in (*_INSTALLERS, _CRASH):
        match = pattern.search(text)
        if match:
            found.append((match.start(), _with_line(text, match)))
    trace = _TRACEBACK.search(text)
    if trace:
        found.append((trace.start(), _of_traceback(trace)))
    if not found:
        said = _SAID.search(text)
        return _with_line(text, said)[:_LONGEST] if said else None
    return min(found)[1][:_LONGEST]


def _with_line(text: str, match: re.Match[str]) -> str:
    """Return the match with what is before it on its line."""
    start = max(text.rfind("\n", 0, match.start()) + 1, match.start() - _BEFORE)
    return " ".join(text[start : match.end()].split())


def _of_traceback(trace: re.Match[str]) -> str:
    """Return, for example, `ModuleNotFoundError: No module named 'x' (…/wire.py, line 3, in <module>)`."""
    frames = list(_LAST_FRAME.finditer(trace[0]))
    ours = [frame for frame in frames if not frame["file"].startswith("<frozen ")]
    if not ours:
        return trace["error"]
    users = [*itertools.compress(ours, are_of_user([frame["file"] for frame in ours]))]
    last, raised = (users or ours)[-1], ours[-1]
    where = f", in {last['name']}" if last["name"] else ""  # a SyntaxError's own line is in no function
    within = "" if raised is last else f"; raised in {raised['file']}, line {raised['line']}"
    return f"{trace['error']} ({last['file']}, line {last['line']}{where}{within})"


def last_lines(text: str, most: int = 60) -> list[str]:
    """Return the last lines that are not blank; of a traceback at the end also the user's frames before them."""
    lines = [line.rstrip()[:_LONGEST] for line in text.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    return shortened(lines[starts[-1] :], most) if starts and len(lines) - starts[-1] > most else lines[-most:]
