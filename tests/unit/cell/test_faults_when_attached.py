"""A deployment that is attached to is not broken on purpose."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_modelops.config.faults import FAULTS, Fault
from pytest_modelops.config.model import AggregationSettings
from pytest_modelops.errors import NothingToDo
from tests.unit.cell.conftest import MakeCell


@pytest.mark.parametrize("name", FAULTS)
def test_a_marker_makes_nothing_happen_to_a_deployment(make_cell: MakeCell, name: str) -> None:
    cell = make_cell()
    deployment: Any = object()
    cell.lifecycle.deployment = deployment
    with pytest.raises(NothingToDo, match=f"a marker asks for {name}; nothing is installed"):
        cell.checks.run_aggregation(AggregationSettings(), seconds=None, fault=Fault(name=name))
    with pytest.raises(NothingToDo, match=f"a marker asks for {name}"), cell.checks.during_test(Fault(name=name)):
        pytest.fail("the body was run")
