"""How many cells run at once where nothing is set."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_modelops.config.settings import Settings
from pytest_modelops.session import capacity

CELL = 6 * 100 * 2**20
"""Memory of a cell with two workers."""


@pytest.mark.parametrize(
    ("cores", "cells_in_memory", "xdist", "expected"),
    [
        (1, 99, 1, [2]),
        (2, 99, 1, [3]),
        (8, 99, 1, [10]),
        (8, 4, 1, [4]),
        (8, 0, 1, [1]),
        (2, 99, 2, [2, 1]),
        (2, 99, 4, [1, 1, 1, 1]),
        (8, 99, 4, [3, 3, 2, 2]),
    ],
)
def test_a_few_more_cells_than_cores_run_at_once_if_memory_allows(
    cores: int, cells_in_memory: int, xdist: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "_cores", lambda: cores)
    monkeypatch.setattr(capacity, "_free_memory", lambda: cells_in_memory * CELL)
    settings: Any = SimpleNamespace(parallel=None, workers=Settings.workers)
    found = []
    for number in range(xdist):
        config: Any = SimpleNamespace()
        if xdist > 1:
            config.workerinput = {"workercount": xdist, "workerid": f"gw{number}"}
        ahead = capacity.ahead_on_this_machine(settings, config, budget=None, interrupt=lambda: None)
        found.append(ahead._parallel)
    assert found == expected
