"""Making the backend of containers touches neither the engine nor a file; the first cell does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.backends.docker.backend import ContainerBackend
from pytest_modelops.backends.docker.engine import Engine
from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.deadline import Deadline
from pytest_modelops.matrix.cell import PythonVersion, Versions


class Asked(Exception):
    """The engine was asked something."""


class Api:
    """Fails at every call."""

    def __getattr__(self, name: str) -> Any:
        raise Asked(name)

    def close(self) -> None: ...


def backend(tmp_path: Path, api: Any, *dead: str) -> ContainerBackend:
    engine = Engine(address="unix:///engine", api=api, name="Docker Engine 28.0", cpus=2, architecture="amd64")
    return ContainerBackend(
        engine=engine,
        settings=ContainerSettings(),
        spec=EnvironmentSpec(rootdir=tmp_path),
        cache=tmp_path / "cache",
        fresh=False,
        directory=tmp_path / "run",
        dead=dead,
    )


def test_it_is_made_described_and_closed_without_any_input_or_output(tmp_path: Path) -> None:
    made = backend(tmp_path, Api(), "container c", "volume v")
    assert made.describe() == (
        f"docker backend (Docker Engine 28.0 at unix:///engine), cache {tmp_path / 'cache'}; "
        "dead runs have left container c, volume v, removed before the first cell starts"
    )
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_the_first_cell_sweeps_once_and_reports_what_could_not_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_modelops.backends.docker import belongings, ryuk

    swept: list[Engine] = []

    def sweep(engine: Engine) -> belongings.Removed:
        swept.append(engine)
        return belongings.Removed(("volume v",), ("container c (in use)",))

    monkeypatch.setattr(belongings, "sweep", sweep)
    monkeypatch.setattr(ryuk, "labels", lambda *_: {"ryuk": "1"})
    made = backend(tmp_path, Api())
    for _ in range(2):
        with pytest.raises(Asked):
            made.resolve(Versions(PythonVersion.parse("3.12"), None), deadline=Deadline(1), progress=lambda _: None)
    assert len(swept) == 1
    assert made._labels["ryuk"] == "1"
    assert made._first_note() == "could not remove what dead runs have left: container c (in use)"
    assert made._first_note() == ""
    made.close()
