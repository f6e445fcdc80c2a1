"""The fixture through which tests reach a living cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_modelops.cell.live import LiveCell

NAME = "modelops_cell"
WITHOUT_FLAG = "runs only with --modelops-matrix"
"""Why a test for cells is skipped."""


@pytest.fixture(scope="session")
def modelops_cell(request: pytest.FixtureRequest) -> LiveCell:
    """A cell with a real Dask scheduler and real workers; the test runs once for each cell of the matrix.

    - `modelops_cell.call(f, *args)` runs a function on one worker, `call_each(f, *args)` on every worker;
    - `.workers` are the workers' names, `.id` is the cell's id, `.logs` are the logs by process name;
    - `.client()` is a real `distributed.Client`, if this pytest's versions are the cell's.

    The cluster starts with the first call, in the test's call phase, and ends with the cell's last test.
    Functions travel as source and values as plain data. Narrow a test to some cells with
    `@pytest.mark.modelops_cells("py3.12-*")`.
    """
    cell: LiveCell | None = getattr(request, "param", None)
    if cell is None:  # from `request.getfixturevalue`
        if not request.config.getoption("modelops_matrix"):
            pytest.skip(WITHOUT_FLAG)
        pytest.fail(
            "modelops_cell cannot be asked for while a test runs; name it among the test's arguments, so that the "
            "test runs once for each cell",
            pytrace=False,
        )
    return cell
