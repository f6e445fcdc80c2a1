"""For the tests of this repository."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """The tests here are the plugin's own, not tests of a cell: a matrix run has no need to import them."""
    return True if config.getoption("modelops_matrix") else None
