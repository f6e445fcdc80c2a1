"""Waiting: by looking again and again, or for another thread so that Ctrl-C ends the wait. Standard library only.

A signal is handled in Python's main thread, but does not wake it if the system hands it to another thread, or if it
comes just before the wait begins.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_SECONDS = 0.5
"""How long a signal may go unnoticed."""


def wait_until(changed: threading.Condition, condition: Callable[[], object], seconds: float = math.inf) -> bool:
    """Wait until a condition holds, which is looked at when `changed` is notified; return whether it does.

    The caller holds the lock of `changed`.
    """
    end = time.monotonic() + seconds
    while not changed.wait_for(condition, max(0.0, min(LOOK_SECONDS, end - time.monotonic()))):
        if time.monotonic() >= end:
            return bool(condition())
    return True


def poll(look: Callable[[], T], *, end: float, every: float, done: Callable[[T], object] = bool) -> T:
    """Call `look` every few seconds until what it returns is `done`, or a moment of the monotonic clock has come.

    It is called at least once, and once more at the end.

    Returns:
        What the last call returned.
    """
    while True:
        last = time.monotonic() >= end
        found = look()
        if last or done(found):
            return found
        time.sleep(max(0.0, min(every, end - time.monotonic())))
