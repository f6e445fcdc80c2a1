"""How long something may take. Every wait in this package is given a `Deadline`; none is endless."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pytest_modelops.errors import TimedOut
from pytest_modelops.remote.shared.waiting import poll

_T = TypeVar("_T")


class Deadline:
    """A moment on the monotonic clock by which something must have happened.

    Args:
        seconds: how long from now.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = float(seconds)
        self._end = time.monotonic() + self.seconds

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._end

    def at_most(self, seconds: float) -> Deadline:
        """Return a deadline for a part: this one's end or `seconds` from now, whichever comes first."""
        return Deadline(min(seconds, self.remaining))

    def check(self, awaited: str) -> None:
        """Raise `TimedOut`, naming what was awaited, if the deadline has passed."""
        if self.passed:
            raise TimedOut(f"{awaited}: not within {self.seconds:g} s")

    def until(self, look: Callable[[], _T], *, every: float, done: Callable[[_T], object] = bool) -> _T:
        """Call `look` every few seconds until what it returns is `done`, or the deadline passes.

        It is called at least once, and once more when the deadline has passed.

        Returns:
            What the last call returned; not `done` if the deadline passed.
        """
        return poll(look, end=self._end, every=every, done=done)

    def __repr__(self) -> str:
        return f"Deadline({self.seconds:g} s, {self.remaining:.1f} s left)"
