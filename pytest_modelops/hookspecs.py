"""Hooks that a `conftest.py` or a plugin may implement. Called only with `--modelops-matrix`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_modelops.checks.base import Check
    from pytest_modelops.matrix.cell import Cell


@pytest.hookspec
def pytest_modelops_cells(cells: list[Cell], config: pytest.Config) -> None:
    """Change which cells are planned: remove from, add to or reorder `cells`, in place.

    Called once, before anything starts; with xdist on the controller alone.
    """


@pytest.hookspec
def pytest_modelops_checks(checks: list[Check], config: pytest.Config) -> None:
    """Change the checks: add a check of one's own to `checks`, or remove one, in place.

    A check is a `pytest_modelops.checks.base.Check`; its `run` gets the living cell (as `modelops_cell`) and a
    deadline,
    and raises `CheckFailed`, asserts, or calls `pytest.fail`, when the cell is broken, and `pytest.skip` when it has
    nothing to do there. Called once in each pytest process, with xdist in every worker, so it must always do the same.
    """
