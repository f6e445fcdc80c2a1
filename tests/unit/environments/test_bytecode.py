"""What is compiled ahead of Dask."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from pytest_modelops.environments.bytecode import LOADED


@pytest.mark.parametrize("module", LOADED)
def test_what_is_compiled_ahead_is_part_of_dask(module: str) -> None:
    """A module that Dask has renamed would be compiled by several processes of a cell at once."""
    package, *names = module.split(".")
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin).parent.joinpath(*names)
    assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
