"""Which pip a worker installs bundles with: one that the cell has ready, or its own, unpacked and compiled."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.remote.runner.installing import ensured_pip
from pytest_modelops.remote.shared.bundle_messages import BundleLocation
from pytest_modelops.remote.worker import own_pip
from tests.unit.remote.conftest import location_in, own_pip_in


class Recorded:
    """Notes commands instead of running them."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []

    def __call__(self, what: str, argv: Sequence[str], **_: Any) -> str:
        self.commands.append([what, *argv])
        return ""


@pytest.fixture
def location(tmp_path: Path) -> BundleLocation:
    (tmp_path / "seir").mkdir()
    directory = str(tmp_path / "seir")
    return {
        **location_in(tmp_path),
        "directory": directory,
        "venv": f"{directory}/venv",
        "pip": str(own_pip_in(tmp_path)),
    }


def test_a_pip_that_the_cell_has_ready_is_used_and_copied(tmp_path: Path, location: BundleLocation) -> None:
    ready = tmp_path / "pips" / str(sys.implementation.cache_tag) / Path(ensured_pip()).stem
    (ready / "pip").mkdir(parents=True)
    (ready / "pip" / "ready.py").write_text("")
    location["pips"] = str(tmp_path / "pips")
    run: Any = Recorded()
    own_pip.install(run, location, ["a==1"])
    [[_, _, pip, *_]] = run.commands
    assert pip == str(ready / "pip")
    assert not own_pip_in(tmp_path).exists()
    own_pip_in(tmp_path).parent.mkdir()
    assert (Path(own_pip.unpack(run, location)) / "pip" / "ready.py").exists()
    assert len(run.commands) == 1, "it is compiled already"


@pytest.mark.parametrize("pips", ["", "nowhere"])
def test_without_it_a_worker_unpacks_its_own(tmp_path: Path, location: BundleLocation, pips: str) -> None:
    location["pips"] = pips
    own_pip_in(tmp_path).parent.mkdir()
    run: Any = Recorded()
    own_pip.install(run, location, ["a==1"])
    assert [what for what, *_ in run.commands] == ["compiling pip", "installing seir from its wheels"]
    assert run.commands[1][2] == str(own_pip_in(tmp_path) / "pip")
