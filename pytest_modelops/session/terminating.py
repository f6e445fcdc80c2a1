"""SIGTERM, which a CI sends at its time limit: the run ends as after Ctrl-C, with its summary and reports."""

from __future__ import annotations

import signal
import threading
from types import FrameType

import pytest


class Terminating:
    """Turns the first SIGTERM into a `KeyboardInterrupt`. A later one does not interrupt the stopping of the cells."""

    def __init__(self) -> None:
        self._ending = False
        self._installed = self._received = False
        # A handler that somebody else installed, or that nobody may install outside of the main thread, stays.
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._interrupt)
            self._installed = True

    def _interrupt(self, _signum: int, _frame: FrameType | None) -> None:
        self._received = True
        if not self._ending:
            self._ending = True
            raise KeyboardInterrupt("SIGTERM, as a CI sends it at its time limit")

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        self._ending = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._ending = True

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        if self._installed:
            # Python restores defaults while it shuts down: a later SIGTERM would change the exit code.
            signal.signal(signal.SIGTERM, signal.SIG_IGN if self._received else signal.SIG_DFL)
