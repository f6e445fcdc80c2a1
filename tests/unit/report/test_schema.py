from __future__ import annotations

import dataclasses

import pytest

from pytest_modelops.matrix.plan import LeftOut
from pytest_modelops.report import schema
from pytest_modelops.report.model import CellReport, CheckResult, RunReport


def test_the_published_schema_is_that_of_the_model() -> None:
    assert schema.FILE.read_text(encoding="utf-8") == schema.text(), "run: python -m pytest_modelops.report.schema"


@pytest.mark.parametrize("one", [RunReport, CellReport, CheckResult, LeftOut])
def test_every_attribute_is_described(one: type) -> None:
    assert {field.name for field in dataclasses.fields(one)} <= set(schema._attributes(one))
