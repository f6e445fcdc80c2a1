"""A cell, and a run, are ended whole, also where a part of them cannot be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modelops.errors import CheckFailed
from pytest_modelops.report.model import CellReport
from pytest_modelops.session.run import MatrixRun

if TYPE_CHECKING:
    from tests.unit.cell.conftest import MakeCell


class Part:
    """Something that is to be closed, and may break at it."""

    def __init__(self, *, breaks: bool = False, left: tuple[str, ...] = ()) -> None:
        self._breaks = breaks
        self._left = left
        self.closed = 0
        self.lifecycle = SimpleNamespace(unreported=[])
        self.stop_notes = ()

    def lost_workers(self) -> dict[str, str]:
        return {}

    def close(self, timeout: float = 0) -> tuple[str, ...]:
        self.closed += 1
        if self._breaks:
            raise OSError("it cannot be closed")
        return self._left

    stop = close


def test_looking_at_a_cell_starts_nothing_and_changes_no_report(make_cell: MakeCell) -> None:
    cell = make_cell()
    assert cell.workers == ("worker-0", "worker-1")
    assert (cell.logs, cell.report()) == ({}, CellReport.of(cell.cell))
    with pytest.raises(CheckFailed, match=r'no cluster of cell py3.12-dask2024.10.0 runs; .* needs=\("start",\)'):
        cell.cluster  # noqa: B018 - it raises
    cell.lifecycle.unreported.append("something was left")
    assert cell.report() == cell.report()
    assert cell.lifecycle.unreported == ["something was left"]


def test_a_client_that_cannot_be_closed_keeps_nothing_else_up(make_cell: MakeCell) -> None:
    cell: Any = make_cell()
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
    run.cells, run.progress, run.backend, run.ahead = cells, Part(), Part(), Part()
    run._handed, run.directory = None, tmp_path / "run"
    run.directory.mkdir()
    with pytest.raises(OSError, match="it cannot be closed"):
        run.close()
    assert [part.closed for part in (*cells.values(), run.progress, run.backend, run.ahead)] == [1] * 6
    assert not run.directory.exists()
    assert capsys.readouterr().err == "modelops: cell 1: something was left\n"
