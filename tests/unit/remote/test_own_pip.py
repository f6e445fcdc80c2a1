"""The worker's pip takes the bytecode that Python has of the same sources."""

from __future__ import annotations

import compileall
import importlib.util
import sysconfig
from pathlib import Path

import pytest

from pytest_modelops.remote.worker import own_pip


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
