"""Opening the process backend: what it must not do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_modelops.backends.process import ProcessBackend
from pytest_modelops.config.model import EnvironmentSpec


def test_opening_starts_no_process_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every index is asked by a process (uv, pip), so none is asked either."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    (tmp_path / "project").mkdir()
    backend = ProcessBackend(
        spec=EnvironmentSpec(rootdir=tmp_path / "project"),
        cache=tmp_path / "cache",
        fresh=False,
        directory=tmp_path / "run",
    )
    backend.close()
    assert [path.name for path in tmp_path.iterdir()] == ["project"]
