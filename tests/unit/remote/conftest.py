"""What tests of bundles on a worker share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import filelock
import pytest

from pytest_modelops.remote.shared.bundle_messages import BundleLocation
from pytest_modelops.remote.worker import own_pip
from pytest_modelops.remote.worker.environment import Commands
from tests.integration.conftest import shared_directory

COMMAND = (
    *("{python}", "{runner}", "--bundle-path", "{bundle}"),
    *("--venv-path", "{venv}", "--bundle-digest", "{digest}"),
)


def location_in(
    directory: Path,
    *,
    install: str = "isolated",
    runner: str = "",
    command: Sequence[str] = COMMAND,
    protocol: str = "json-rpc",
) -> BundleLocation:
    """The bundle `seir` of `worker-0`: its files in `source`, its wheels in `wheels`."""
    return {
        "name": "seir",
        "digest": "f" * 64,
        "directories": {"worker-0": str(directory / "worker-0" / "bundles" / "seir")},
        "source": str(directory / "source"),
        "wheels": str(directory / "wheels"),
        "runner": runner,
        "command": list(command),
        "protocol": protocol,
        "install": install,
    }


def own_pip_in(directory: Path) -> Path:
    """Where `worker-0` unpacks its pip."""
    return directory / "worker-0" / "own-pip"


@pytest.fixture(scope="session")
def unpacked_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A worker's pip, made once for a test session. Compiling it takes longer than most tests."""
    directory = shared_directory(tmp_path_factory) / "pip"
    pip = own_pip_in(directory)
    with filelock.FileLock(f"{directory}.lock"):
        if not pip.exists():
            pip.parent.mkdir(parents=True)
            location: BundleLocation = {**location_in(directory), "pip": str(pip)}
            with Commands(str(directory / "commands"), 60) as run:
                own_pip.unpack(run, location)
    return pip


@pytest.fixture
def _pip_is_there(tmp_path: Path, unpacked_pip: Path) -> None:
    """As after the first install on a worker."""
    put_pip(tmp_path, unpacked_pip)


def put_pip(directory: Path, pip: Path) -> None:
    own_pip_in(directory).parent.mkdir(exist_ok=True)
    own_pip_in(directory).symlink_to(pip)
