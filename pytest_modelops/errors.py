"""Every error that a person may read, in one place; the texts are part of the interface.

Each says what was awaited, how long, what was seen last and what to do. Knows nothing of the rest.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any


class ModelopsError(Exception):
    """Base of all errors of this package; `str()` of one is its message for people.

    Attributes:
        figures: what a check measured all the same.
    """

    figures: Mapping[str, Any] = MappingProxyType({})


class WrongInput(ModelopsError):
    """A setting that cannot be meant: one line naming file, key and valid values. Ends pytest with exit 4."""


class CheckFailed(ModelopsError):
    """A check broke: what was asserted is not true."""


class TimedOut(ModelopsError):
    """What was awaited had not happened when the deadline passed, though nothing had exited."""


class RunnerTimedOut(TimedOut):
    """A bundle's runner was too slow; the message holds where that one stands, so that no other process is asked."""


class Unavailable(ModelopsError):
    """The cell cannot be tried on this machine: no interpreter, image or engine. Says how to get it."""


class NothingToDo(ModelopsError):
    """The check has no object here; its status is `skipped` and this is the reason."""


class MalformedBundle(CheckFailed):
    """A bundle's files are not what an installer or a runner can take; names the file and what is valid."""


class ProcessExited(CheckFailed):
    """A process ended that should have stayed: not the same as being slow."""


class CannotScale(CheckFailed):
    """This cluster cannot have one worker more."""


class RemoteError(CheckFailed):
    """Code in the cell raised. `traceback` is the cell's own, as text."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class NotShippable(ModelopsError, TypeError):
    """A function or a value cannot travel into a cell; names what and why."""


class CellBroken(ModelopsError):
    """A cell cannot be used, because a check that is needed did not pass.

    Attributes:
        root: name of the check that broke.
    """

    def __init__(self, message: str, root: str) -> None:
        super().__init__(message)
        self.root = root


_FULL = (errno.ENOSPC, errno.EDQUOT)
_PATH = re.compile(r"(?<![^\s`'\"])/[^\s`'\"]*[^\s`'\":]")
_ROOM = "free some, or name another directory with --modelops-cache"


def of_full_disk(error: OSError) -> str:
    """Return one line with the path if an error means that no space is left; empty for any other error."""
    if error.errno not in _FULL:
        return ""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror}; {_ROOM}"


def full_disk_in(output: str) -> str:
    """Return the same of what a command of the host printed; empty if it does not say so.

    Python has the path behind the reason, in quotes; Rust and C have it before.
    """
    for reason in map(os.strerror, _FULL):
        for line in output.splitlines():
            before, found, after = line.partition(reason)
            if found:
                quoted = re.match(r": b?['\"](/.*?)['\"]", after)
                paths = _PATH.findall(before)
                place = quoted[1] if quoted else paths[-1] if paths else ""
                return f"{place}: {reason}; {_ROOM}" if place else f"{reason}; {_ROOM}"
    return ""


@contextlib.contextmanager
def said_of(origin: str) -> Iterator[None]:
    """Turn a `ValueError` or `WrongInput` into wrong input that starts with the place that the user has to look at."""
    try:
        yield
    except (ValueError, WrongInput) as error:
        raise WrongInput(f"{origin}: {error}") from None
