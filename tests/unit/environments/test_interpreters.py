"""Interpreters that are asked what they are; each is a process."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments import interpreters
from pytest_modelops.environments.commands import Commands
from pytest_modelops.environments.interpreters import Interpreters
from pytest_modelops.environments.uv import Uv
from pytest_modelops.errors import Unavailable
from pytest_modelops.matrix.cell import PythonVersion

SERIES = ".".join(platform.python_version_tuple()[:2])


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    made = Commands(tmp_path / "commands")
    yield made
    made.close()


def silent(_: str) -> None:
    """Nobody waits."""


def test_one_that_was_too_slow_is_asked_again_and_one_that_is_none_is_not(
    tmp_path: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreters, "_ANSWER_SECONDS", 3.0)
    directory = tmp_path / "prefix" / "bin"
    directory.mkdir(parents=True)
    (directory / f"python{SERIES}").write_text(
        f'#!/bin/sh\n[ -e {tmp_path}/ready ] || exec sleep 60\nexec {sys.executable} "$@"\n'
    )
    (directory / f"python{SERIES}").chmod(0o755)
    environ = {**os.environ, "PATH": "", "UV_PYTHON_DOWNLOADS": "never", "PYENV_ROOT": str(tmp_path / "none")}
    settings = {**environ, "UV_PYTHON_INSTALL_DIR": str(tmp_path / "managed"), "UV_PYTHON_PREFERENCE": "only-managed"}
    uv = Uv(commands, rootdir=tmp_path, settings=settings)
    found = Interpreters(commands, uv, environ=environ, prefix=directory.parent)
    with pytest.raises(Unavailable, match=f"There is no Python {SERIES} on this machine"):
        found.find(PythonVersion.parse(SERIES), deadline=Deadline(60), progress=silent)
    (tmp_path / "ready").touch()
    reported = found.find(PythonVersion.parse(SERIES), deadline=Deadline(60), progress=silent)
    assert reported.version == Version(platform.python_version())
