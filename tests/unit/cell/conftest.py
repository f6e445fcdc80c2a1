"""Living cells that start nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops.bundles.bundle import Patterns
from pytest_modelops.cell.live import LiveCell
from pytest_modelops.checks.base import Check
from pytest_modelops.config.model import AggregationSettings, ClusterSettings, RunnerSettings
from pytest_modelops.matrix.cell import Cell, PythonVersion, Versions

MakeCell = Callable[..., LiveCell]


@pytest.fixture
def make_cell() -> MakeCell:
    """Make a living cell with these checks."""

    def make_cell(*checks: Check) -> LiveCell:
        no_backend: Any = None
        return LiveCell(
            Cell.uniform(Versions(PythonVersion.parse("3.12"), Version("2024.10.0"))),
            backend=no_backend,
            checks=checks,
            aggregation=AggregationSettings(),
            patterns=Patterns(),
            runner=RunnerSettings(),
            cluster_settings=ClusterSettings(
                workers=2, threads=1, nanny=True, worker_variables={}, worker_arguments=()
            ),
            deadlines={},
            progress=lambda _: None,
            reproduce=lambda _, check: f"run {check.label}",
        )

    return make_cell
