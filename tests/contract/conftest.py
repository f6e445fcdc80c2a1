"""A sandbox of every backend, and an environment to run on it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from packaging.version import Version

from pytest_modelops.backends.base import Backend, Process, Sandbox
from pytest_modelops.backends.process import ProcessBackend
from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.environments.base import Environment, Lock
from pytest_modelops.matrix.cell import Cell, PythonVersion, Versions
from tests.conftest import bare_backend


@dataclasses.dataclass(frozen=True)
class Kit:
    """A backend, as the contract tests use it.

    Attributes:
        backend: it.
        environment: to run on its sandboxes.
        runs: whether a process of a sandbox runs, by its pid, also when the sandbox was closed.
        remains: what there still is of all sandboxes, in words.
        cell: to make sandboxes for.
    """

    backend: Backend
    environment: Environment
    runs: Callable[[Process, int], bool]
    remains: Callable[[], list[str]]
    cell: Cell


@pytest.fixture(params=["process", "docker"])
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    """Every backend."""
    made: Kit = request.getfixturevalue(f"{request.param}_kit")
    yield made
    made.backend.close()


@pytest.fixture
def process_kit(tmp_path: Path) -> Kit:
    """The interpreter that runs the tests, on this machine."""
    versions = Versions(PythonVersion.parse(platform.python_version()), Version("1"))
    lock = Lock(
        versions=versions,
        python=Version(platform.python_version()),
        interpreter=sys.executable,
        requirements="",
        packages={},
        resolved=dt.datetime.now(dt.timezone.utc),
    )
    environment = Environment(python=sys.executable, lock=lock, reused=True, seconds=0, location=sys.prefix)
    backend = ProcessBackend(
        spec=EnvironmentSpec(rootdir=tmp_path), cache=tmp_path / "cache", fresh=False, directory=tmp_path / "run"
    )
    return Kit(
        backend=backend,
        environment=environment,
        runs=lambda _, pid: psutil.pid_exists(pid),
        remains=list,
        cell=Cell.uniform(versions),
    )


@pytest.fixture
def docker_kit(tmp_path: Path, engine: Any) -> Kit:
    """A base image of the tests without packages, on the tests' engine."""
    from pytest_modelops.backends.docker import belongings

    backend, environment = bare_backend(engine, tmp_path)
    run = f"{belongings.RUN}={backend._labels[belongings.RUN]}"
    return Kit(
        backend=backend,
        environment=environment,
        runs=lambda process, pid: process.state(pid=pid) != "gone",
        remains=lambda: [str(thing) for thing in belongings.things(engine, run)],
        cell=Cell.uniform(environment.lock.versions),
    )


@pytest.fixture
def environment(kit: Kit) -> Environment:
    """What runs on the sandbox."""
    return kit.environment


@pytest.fixture
def sandbox(kit: Kit) -> Iterator[Sandbox]:
    """A sandbox of each backend."""
    made = kit.backend.sandbox(kit.cell)
    yield made
    made.close()
