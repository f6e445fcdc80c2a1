"""What every backend is asked by the contract tests: a sandbox of its own, and an environment to run on it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import platform
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from packaging.version import Version

from pytest_modelops.backends.base import Backend, Process, Sandbox
from pytest_modelops.backends.process import ProcessBackend
from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Lock
from pytest_modelops.matrix.cell import Cell, PythonVersion, Role, Versions


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


def _silent(_: str) -> None:
    """Nobody waits."""


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
    """A base image of the tests, run without packages, on the engine at hand."""
    from pytest_modelops.backends.docker import belongings
    from pytest_modelops.backends.docker.backend import ContainerBackend
    from pytest_modelops.backends.docker.confinement import user_of
    from pytest_modelops.backends.docker.sandbox import ContainerEnvironment
    from pytest_modelops.config.docker import ContainerSettings

    image = f"modelops-fixture/python:{sys.version_info[0]}.12"
    if not engine.api.images(image):
        pytest.skip(f"the engine has no image {image}; make it with python3 fixtures/images/make.py")
    settings = ContainerSettings(prebuilt=dict.fromkeys(Role, image))
    backend = ContainerBackend(
        spec=EnvironmentSpec(rootdir=tmp_path),
        cache=tmp_path / "cache",
        fresh=False,
        directory=tmp_path / "run" / uuid.uuid4().hex,  # a run's name, which others on the engine must not have
        settings=settings,
    )
    versions = Versions(PythonVersion.parse("3.12"), Version("1"))
    lock = backend.resolve(versions, deadline=Deadline(60), progress=_silent)
    found, contents = backend._bases[lock.interpreter]
    environment = ContainerEnvironment(
        python=contents.executable,
        lock=lock,
        reused=True,
        seconds=0,
        location=image,
        image=found.id,
        path=found.path,
        user=user_of(settings, ""),
        uid=contents.uid,
        gid=contents.gid,
    )
    backend._environments[found.id] = environment
    run = backend._labels[belongings.RUN]

    def remains() -> list[str]:
        only = {"label": [f"{belongings.RUN}={run}"]}
        return [
            *(f"container {thing['Names']}" for thing in engine.api.containers(all=True, filters=only)),
            *(f"network {thing['Name']}" for thing in engine.api.networks(filters=only)),
            *(f"volume {thing['Name']}" for thing in engine.api.volumes(filters=only)["Volumes"] or ()),
        ]

    return Kit(
        backend=backend,
        environment=environment,
        runs=lambda process, pid: process.state(pid=pid) != "gone",
        remains=remains,
        cell=Cell.uniform(versions),
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
