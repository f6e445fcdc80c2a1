"""The sandbox of a client of a deployment: where it finds it, and whose Dask configuration it has."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_modelops.backends.attach import AttachBackend, AttachSandbox
from pytest_modelops.config.attach import AttachSettings, GatewaySettings
from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.errors import WrongInput

ANYWHERE = AttachSettings(directory=Path("/project"), gateway=None, kubernetes=None)
ENVIRONMENT: Any = SimpleNamespace(python="/python/bin/python")


@pytest.mark.parametrize(
    ("key", "value", "contact"),
    [
        ("address", "tcp://h:1", {"address": "tcp://h:1"}),
        ("scheduler_file", Path("/s.json"), {"scheduler_file": "/s.json"}),
        ("factory", "a:b", {"factory": "a:b", "directory": "/project"}),
        (
            "gateway",
            GatewaySettings(address="http://g", cluster="c"),
            {"gateway": {"address": "http://g", "auth": "", "cluster": "c"}},
        ),
    ],
)
def test_where_the_deployment_is(tmp_path: Path, key: str, value: Any, contact: dict[str, str]) -> None:
    attach = dataclasses.replace(ANYWHERE, **{key: value})
    with contextlib.closing(AttachSandbox(tmp_path, lambda _: tmp_path, attach)) as sandbox:
        limits = {"tasks": 1000, "bytes": 10_000_000, "seconds": 900.0, "force": False}
        assert sandbox.deployment() == {**contact, **limits, "files": f"{tmp_path}/scratch"}


def test_dasks_configuration_is_that_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HOME": "/home/me", "DASK_LOGGING": "a", "DASK_MINE": "host", "SECRET": "no"}.items():
        monkeypatch.setenv(name, value)
    for name in ("DASK_CONFIG", "DASK_ROOT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    with contextlib.closing(AttachSandbox(tmp_path, lambda _: tmp_path, ANYWHERE)) as sandbox:
        found = sandbox._variables(ENVIRONMENT, {"DASK_MINE": "client-env", "OTHER": "1"})
        assert found["DASK_CONFIG"] == "/home/me/.config/dask"
        assert (found["DASK_LOGGING"], found["DASK_MINE"], found["OTHER"]) == ("a", "client-env", "1")
        assert not {"DASK_ROOT_CONFIG", "SECRET"} & found.keys()
        assert found["HOME"].startswith(str(tmp_path))
        monkeypatch.setenv("DASK_CONFIG", "/elsewhere")
        assert sandbox._variables(ENVIRONMENT, {})["DASK_CONFIG"] == "/elsewhere"


def test_a_scheduler_file_has_to_exist(tmp_path: Path) -> None:
    attach = dataclasses.replace(ANYWHERE, scheduler_file=tmp_path / "s.json")
    with pytest.raises(WrongInput, match=r"scheduler-file: there is no file .*s\.json"):
        AttachBackend(attach, spec=EnvironmentSpec(), cache=tmp_path, fresh=False, directory=tmp_path / "run")


def test_what_is_to_be_copied_to_workers_is_relative_to_their_directory(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    with contextlib.closing(AttachSandbox(tmp_path / "cell", lambda _: tmp_path, ANYWHERE)) as sandbox:
        assert sandbox.put(tmp_path / "wheels", "bundles/seir/wheels") == "put/bundles/seir/wheels"
        assert sandbox.files == ["bundles/seir/wheels"]
        assert (tmp_path / "cell" / "scratch" / "put" / "bundles" / "seir" / "wheels").is_dir()
