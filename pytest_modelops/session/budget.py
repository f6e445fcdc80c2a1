"""A time limit for a run: which cells still fit into it, and what they end with if they do not."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

from pytest_modelops.report.paper import duration


class Budget:
    """Decides once for each cell whether it is begun.

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

    @property
    def reason(self) -> str:
        return f"it would not end within the budget of {duration(self._seconds)}"

    def admits(self, cell_id: str) -> bool:
        """Whether the cell is run: it is expected to end in time, or runs already."""
        if cell_id not in self._decided:
            usual = statistics.mean(self._here) if self._here else 0.0
            spent = time.time() - self._started
            self._decided[cell_id] = spent + self._measured.get(cell_id, usual) <= self._seconds
        return self._decided[cell_id]

    def took(self, cell_id: str, seconds: float) -> None:
        """Note how long a cell took, which is what others are expected to take."""
        if self.admits(cell_id):
            self._here.append(seconds)
