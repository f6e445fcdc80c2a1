"""How modules of this package are imported."""

from __future__ import annotations

import contextlib
import sys
import types
from importlib.machinery import SourceFileLoader
from typing import cast

import pytest

import pytest_modelops
from pytest_modelops.session.loading import FromBytecode


def test_python_itself_loads_modules_of_this_package_until_the_run_ends() -> None:
    before = list(sys.meta_path)
    with contextlib.ExitStack() as cleanup:
        config = types.SimpleNamespace(add_cleanup=cleanup.callback)
        FromBytecode.until_the_end_of(cast("pytest.Config", config))
        finder = sys.meta_path[0]
        spec = finder.find_spec("pytest_modelops.errors", list(pytest_modelops.__path__))
        assert spec is not None
        assert type(spec.loader) is SourceFileLoader
        assert finder.find_spec("pytest_modelops_of_another", None) is None
        assert finder.find_spec("pytest", None) is None
    assert sys.meta_path == before
