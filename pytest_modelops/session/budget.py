"""A time limit for a run: which cells still fit into it, and what they end with if they do not."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping

from pytest_modelops.report.paper import duration


class Budget:
    """Decides once for each cell whether it is begun: `may_begin` if it can begin ahead of its tests, else `admits`.

    All threads of a run use it.

    Args:
        seconds: that the run may take.
        started: time of day at which the run started, in the controller of xdist's workers, too.
        measured: seconds that cells took in the baseline, by id.
    """

    def __init__(self, seconds: float, started: float, measured: Mapping[str, float]) -> None:
        self._seconds = seconds
        self._started = started
        self._measured = dict(measured)
        self._here: list[float] = []
        self._decided: dict[str, bool] = {}
        self._ends: dict[str, float] = {}
        """When the cells that were begun and have not ended are expected to end."""
        self._lock = threading.RLock()

    @property
    def reason(self) -> str:
        return f"it would not end within the budget of {duration(self._seconds)}"

    def admits(self, cell_id: str) -> bool:
        """Whether the cell is run: it is expected to end in time if it begins now, or runs already."""
        with self._lock:
            if cell_id not in self._decided:
                self._decide(cell_id, time.time())
            return self._decided[cell_id]

    def may_begin(self, cell_id: str, parallel: int) -> bool | None:
        """Whether the cell is run if it begins as soon as fewer than `parallel` others run; `None`: ask again later.

        It is not known yet if the cell has to wait for others and no cell's time is known.
        """
        with self._lock:
            if cell_id not in self._decided:
                now, ends = time.time(), sorted(self._ends.values())
                begins = max(now, ends[-parallel]) if len(ends) >= parallel else now
                if len(ends) >= parallel and not self._here and cell_id not in self._measured:
                    return None
                self._decide(cell_id, begins)
            return self._decided[cell_id]

    def ended(self, cell_id: str, seconds: float) -> None:
        """Note how long a cell took, which is what others are expected to take; 0 if it was not begun."""
        with self._lock:
            self._ends.pop(cell_id, None)
            if seconds:
                self._here.append(seconds)

    def _decide(self, cell_id: str, begins: float) -> None:
        usual = statistics.mean(self._here) if self._here else 0.0
        end = begins + self._measured.get(cell_id, usual)
        self._decided[cell_id] = end <= self._started + self._seconds
        if self._decided[cell_id]:
            self._ends[cell_id] = end
