"""The sandbox of a cell whose cluster a class makes: what the maker is asked, and whose configuration it has."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops.backends.cluster import ClusterSandbox
from pytest_modelops.config.cluster import Adaptive, ClassSettings
from pytest_modelops.errors import CheckFailed
from pytest_modelops.matrix.cell import Cell, PythonVersion, Role, Versions

NEW, OLD = (Versions(PythonVersion.parse(python), Version("2024.10.0")) for python in ("3.13", "3.12"))
SKEW = Cell(base=OLD, client=OLD, scheduler=OLD, worker=NEW)
SETTINGS = ClassSettings(
    path="dask_jobqueue:SLURMCluster",
    options={
        "python": "{python}",
        "scheduler": "{scheduler-python}",
        "extra": ["{image}", "{directory}", "{log-directory}", "{dask-version} on {python-version}"],
        "n": "{workers}",
    },
    image="app:py{python-version}-dask{dask-version}",
    adaptive=Adaptive(minimum=2, maximum=5),
    directory=Path("/project"),
)


def environments(cell: Cell) -> dict[Role, Any]:
    def of(versions: Versions) -> Any:
        lock = SimpleNamespace(python=Version(f"{versions.python}.1"), packages={"distributed": versions.dask})
        return SimpleNamespace(python=f"/envs/{versions.python}/bin/python", lock=lock)

    return {role: of(cell[role]) for role in Role}


def test_what_the_maker_is_asked(tmp_path: Path) -> None:
    with contextlib.closing(ClusterSandbox(tmp_path, SETTINGS, SKEW, lambda _: tmp_path)) as sandbox:
        asked = sandbox.question(environments(SKEW), 2)
        logs = tmp_path / "logs" / "cluster"
        assert asked["options"] == {
            "python": "/envs/3.13/bin/python",
            "scheduler": "/envs/3.12/bin/python",
            "extra": ["app:py3.13-dask2024.10.0", sandbox.cell_directory(), str(logs), "2024.10.0 on 3.13"],
            "n": 2,
        }
        assert (asked["path"], asked["directory"]) == ("dask_jobqueue:SLURMCluster", "/project")
        assert (asked["workers"], asked["maximum"]) == (2, 5)
        (logs / "job-1.out").write_text("up")
        assert sandbox.logs() == {"cluster-job-1.out": logs / "job-1.out"}


@pytest.mark.parametrize(
    "path", ["distributed:LocalCluster", "dask_gateway:GatewayCluster", "dask_kubernetes.operator:KubeCluster"]
)
def test_a_cell_that_the_class_cannot_make_is_refused_by_name(tmp_path: Path, path: str) -> None:
    settings = dataclasses.replace(SETTINGS, path=path, options={})
    with contextlib.closing(ClusterSandbox(tmp_path, settings, SKEW, lambda _: tmp_path)) as sandbox:
        with pytest.raises(CheckFailed, match=f"^{path} cannot have workers that differ from the scheduler: "):
            sandbox.question(environments(SKEW), 2)
        for address, reached in {"tcp://h:1": "tcp://h:1", "gateway://h:1/x": None, "tls://h:1": None}.items():
            assert sandbox.host_address(address) == reached
    other_client = Cell(base=OLD, client=NEW, scheduler=OLD, worker=OLD)
    with contextlib.closing(ClusterSandbox(tmp_path / "2", settings, other_client, lambda _: tmp_path)) as sandbox:
        assert sandbox.question(environments(other_client), 1)["path"] == path
