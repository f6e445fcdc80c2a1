"""Which pip a worker installs bundles with: one that the cell has ready, or its own, unpacked and compiled."""

from __future__ import annotations

import compileall
import importlib.util
import sys
import sysconfig
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


def test_bytecode_of_the_same_sources_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.base_prefix", str(tmp_path / "python"))
    site = Path(sysconfig.get_path("purelib", "posix_prefix", {"base": str(tmp_path / "python")}))
    unpacked = tmp_path / "pip"
    for directory in (site / "pip", unpacked / "pip"):
        directory.mkdir(parents=True)
        for name in ("same", "changed", "uncompiled"):
            (directory / f"{name}.py").write_text("A = 1\n")
    (site / "pip" / "changed.py").write_text("A = 2\n")
    compileall.compile_dir(site, quiet=1)
    Path(importlib.util.cache_from_source(str(site / "pip" / "uncompiled.py"))).unlink()

    own_pip.take_bytecode(str(unpacked))
    taken = {path.name.partition(".")[0]: path.read_bytes() for path in unpacked.rglob("*.pyc")}
    assert taken.keys() == {"same"}
    compileall.compile_dir(unpacked, quiet=1)
    after = {path.name.partition(".")[0]: path.read_bytes() for path in unpacked.rglob("*.pyc")}
    assert after == {**after, **taken}, "it is not compiled again"
    assert after.keys() == {"same", "changed", "uncompiled"}
