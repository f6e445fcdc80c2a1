"""How long something may take. Every wait in this package is given a `Deadline`; none is endless."""

from __future__ import annotations

import time

from pytest_modelops.errors import TimedOut


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
        """Whether the moment is over."""
        return time.monotonic() >= self._end

    def at_most(self, seconds: float) -> Deadline:
        """A deadline for a part: this one's end or `seconds` from now, whichever comes first."""
        return Deadline(min(seconds, self.remaining))

    def check(self, awaited: str) -> None:
        """Raise `TimedOut` with what was awaited if the moment is over."""
        if self.passed:
            raise TimedOut(f"{awaited}: not within {self.seconds:g} s")

    def __repr__(self) -> str:
        return f"Deadline({self.seconds:g} s, {self.remaining:.1f} s left)"
