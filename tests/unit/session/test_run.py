"""What constructing a run does, and does not do."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.session.run import MatrixRun

pytest_plugins = ["pytester"]


def test_it_reads_the_file_once_and_neither_starts_nor_asks_anything(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyprojecttoml('[tool.modelops]\nbackend = "docker"\ncache = "cache"\nmatrix.dask = "latest"\n')
    config = pytester.parseconfig("--modelops-matrix")
    read = []
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path.name)
        return read_bytes(path)

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("constructing a run does no I/O")

    monkeypatch.setattr(Path, "read_bytes", counted)
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    monkeypatch.setattr(socket, "socket", forbidden)
    run = MatrixRun(config)
    assert read.count("pyproject.toml") == 1
    assert run.settings.backend == "docker"
    assert not run.directory.parent.parent.exists()
