"""Names that many tests list, from the product's own tables. `test_checks.py` has them written out."""

from __future__ import annotations

from pytest_modelops import checks

CELL_CHECKS = tuple(check.name for check in checks.CELL_CHECKS)
"""Of the checks that every cell has, in order."""
NEEDED_BY_UPGRADES = ("resolve", "install", "start", "versions", "lambda", "aggregation")
"""Of those that the states of a rolling upgrade need."""


def after(name: str) -> tuple[str, ...]:
    """Return the checks of every cell that come after one."""
    return CELL_CHECKS[CELL_CHECKS.index(name) + 1 :]
