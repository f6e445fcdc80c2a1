"""What every backend is asked by the contract tests: a stage of its own, and an environment to run on it."""

from __future__ import annotations

import datetime as dt
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from pytest_modelops.environments.base import Environment, Lock, Stage
from pytest_modelops.environments.process import ProcessStage
from pytest_modelops.matrix.cell import PythonVersion, Versions


@pytest.fixture
def environment() -> Environment:
    """The interpreter that runs the tests."""
    versions = Versions(PythonVersion.parse(platform.python_version()), Version("1"))
    lock = Lock(
        versions=versions,
        python=Version(platform.python_version()),
        interpreter=sys.executable,
        requirements="",
        packages={},
        resolved=dt.datetime.now(dt.timezone.utc),
    )
    return Environment(python=sys.executable, lock=lock, reused=True, seconds=0, location=sys.prefix)


@pytest.fixture(params=["process"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """A stage of each backend."""
    made = {"process": ProcessStage}[request.param](tmp_path / "cell")
    yield made
    made.close()
