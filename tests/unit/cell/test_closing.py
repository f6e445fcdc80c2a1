"""A cell, and a run, are ended whole, also where a part of them cannot be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops.cell.live import LiveCell
from pytest_modelops.config.model import AggregationSettings, RunnerSettings
from pytest_modelops.matrix.cell import Cell, PythonVersion, Versions
from pytest_modelops.session.run import MatrixRun


class Part:
    """Something that is to be closed, and may break at it."""

    def __init__(self, *, breaks: bool = False, left: tuple[str, ...] = ()) -> None:
        self._breaks = breaks
        self._left = left
        self.closed = 0
        self.lifecycle = SimpleNamespace(unreported=[])

    def close(self, timeout: float = 0) -> tuple[str, ...]:
        self.closed += 1
        if self._breaks:
            raise OSError("it cannot be closed")
        return self._left

    stop = close


def live_cell() -> LiveCell:
    nothing: Any = None
    return LiveCell(
        Cell.uniform(Versions(PythonVersion.parse("3.12"), Version("2024.10.0"))),
        backend=nothing,
        checks=[],
        aggregation=AggregationSettings(),
        runner=RunnerSettings(),
        cluster_settings=nothing,
        deadlines={},
        progress=lambda _: None,
        reproduce=lambda *_: "",
    )


def test_a_client_that_cannot_be_closed_keeps_nothing_else_up() -> None:
    cell: Any = live_cell()
    clients = [Part(), Part(breaks=True), Part()]
    cluster = Part(left=("process 4711",))
    cell.lifecycle.clients, cell.lifecycle.cluster = clients, cluster
    with pytest.raises(OSError, match="it cannot be closed"):
        cell.close()
    assert [part.closed for part in (*clients, cluster)] == [1, 1, 1, 1]
    assert cell.leftover.message == "after stopping the cell, this was left: process 4711"
    cell.close()
    assert [part.closed for part in (*clients, cluster)] == [1, 1, 1, 1]


def test_a_cell_that_cannot_be_closed_keeps_no_other_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = {str(number): Part(breaks=number == 1) for number in range(3)}
    cells["1"].lifecycle.unreported.append("cell 1: something was left")
    run: Any = object.__new__(MatrixRun)
    run.cells, run.progress, run.backend = cells, Part(), Part()
    run._hosts, run.directory = True, tmp_path / "run"
    run.directory.mkdir()
    with pytest.raises(OSError, match="it cannot be closed"):
        run.close()
    assert [part.closed for part in (*cells.values(), run.progress, run.backend)] == [1] * 5
    assert not run.directory.exists()
    assert capsys.readouterr().err == "modelops: cell 1: something was left\n"
