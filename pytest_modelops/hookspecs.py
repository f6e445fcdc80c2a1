"""Hooks that a `conftest.py` or a plugin may implement. Called only with `--modelops-matrix`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_modelops.checks.base import Check
    from pytest_modelops.matrix.cell import Cell
    from pytest_modelops.report.causes import Cause


@pytest.hookspec
def pytest_modelops_cells(cells: list[Cell], config: pytest.Config) -> None:
    """Change which cells are planned: remove from, add to or reorder `cells`, in place.

    Called once, before anything starts; with xdist, only on the controller.
    """


@pytest.hookspec
def pytest_modelops_checks(checks: list[Check], config: pytest.Config) -> None:
    """Change the checks: add your own to `checks`, or remove one, in place.

    A check is a `pytest_modelops.checks.base.Check`. Its `run` gets the cell, as tests do from `modelops_cell`, and a
    deadline. If the cell is broken it raises `CheckFailed`, asserts or calls `pytest.fail`; if it has nothing to do
    there it calls `pytest.skip`. A check that uses `cell.cluster` has `needs=("start",)`. It runs in the main thread,
    or with `main_thread=False` in a thread of its cell, beside checks of other cells.

    Called once in each pytest process, with xdist also in every worker, so it must always do the same.
    """


@pytest.hookspec
def pytest_modelops_causes(causes: list[Cause], config: pytest.Config) -> None:
    """Change which causes of broken cells are known: add to `causes`, remove or reorder, in place.

    A cause is a `pytest_modelops.report.causes.Cause`; the first one that fits is reported. Called once; with xdist,
    only on the controller.
    """
