"""`python -m pytest_modelops lock`: from the lock that real uv made for an environment to a file that uv installs.

The index is our own, on loopback. It has moved on when the file is written: there is a newer release, and one more
file of a release that is locked.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.pylock import Pylock
from packaging.utils import canonicalize_name

from pytest_modelops.__main__ import main
from pytest_modelops.environments.base import Lock
from pytest_modelops.environments.pins import pins
from pytest_modelops.report.model import EnvironmentReport, Status
from pytest_modelops.storage.toml import tomllib
from tests.integration.conftest import write_wheel
from tests.integration.index import Index, Upload, sessions, variables
from tests.unit.report.made import broken, cell, check, run

CELL = "py3.12-dask2024.10.0"


def make_wheel(directory: Path, name: str, version: str) -> Path:
    requires = ["helper>=2"] if name == "dask" else []
    path = directory / f"{name}-{version}-py3-none-any.whl"
    return write_wheel(path, {f"{name}/__init__.py": f"version = '{version}'\n"}, requires=requires)


class Locked:
    """A lock of an environment, an index that has moved on since, and reports."""

    def __init__(self, directory: Path, lock: Lock, index: Index) -> None:
        self.directory = directory
        self.lock = lock
        self.index = index
        self.environment = EnvironmentReport(
            python=str(lock.python),
            dask="2024.10.0",
            reused=False,
            roles=["client", "scheduler", "worker"],
            requirements=lock.requirements,
        )

    def report(self, *environments: EnvironmentReport, configuration: str = "~/sim/pyproject.toml") -> Path:
        """Write a report with a green cell and a broken one."""
        file = self.directory / "report.json"
        made = run(
            cell(environments=environments or (self.environment,)),
            broken(environments=(self.environment,)),
            configuration=configuration,
        )
        file.write_text(json.dumps(made.to_json()), encoding="utf-8")
        return file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    directory = tmp_path_factory.mktemp("wheels")
    names = [("dask", "2024.10.0"), ("distributed", "2024.10.0"), ("helper", "2.1")]
    uploads = [Upload(make_wheel(directory, *one)) for one in names]
    index = Index(uploads)
    root = tmp_path_factory.mktemp("session")
    with sessions(root, variables(index, tmp_path_factory)) as start:
        lock = start().resolve()
    index.close()
    new = [make_wheel(directory, "helper", version) for version in ("2.1-1", "2.2")]
    later = Index([*uploads, *map(Upload, new)])
    yield Locked(root, lock, later)
    later.close()


@pytest.fixture
def locked(made: Locked, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Locked:
    for name, value in variables(made.index, tmp_path_factory).items():
        if name.startswith("UV_"):
            monkeypatch.setenv(name, value)
    (made.directory / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(made.directory / "here")
    return made


def hashes(lock: Lock) -> dict[tuple[str, str], set[str]]:
    return {(pin.name, str(pin.version)): set(pin.hashes) for pin in pins(lock.requirements)}


def test_both_files_have_the_versions_and_hashes_of_the_cell_and_install_offline_from_them(
    locked: Locked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, toml, text = locked.report(), tmp_path / "pylock.toml", tmp_path / "requirements.txt"
    wanted = hashes(locked.lock)
    assert set(wanted) == {("dask", "2024.10.0"), ("distributed", "2024.10.0"), ("helper", "2.1")}
    for output in (toml, text):
        assert main(["lock", CELL, str(report), "-o", str(output)]) == 0, capsys.readouterr().err
    assert "was checked with on 2026-11-20" in capsys.readouterr().out

    plain = tomllib.loads(toml.read_text(encoding="utf-8"))
    pylock = Pylock.from_dict(plain)  # validates it as PEP 751 wants it
    found = {
        (canonicalize_name(package.name), str(package.version)): {
            f"{name}:{digest}" for file in package.wheels or () for name, digest in file.hashes.items()
        }
        for package in pylock.packages
    }
    assert found == wanted
    assert plain["tool"]["pytest-modelops"]["cell"] == CELL
    assert plain["requires-python"] == f"=={locked.lock.python.major}.{locked.lock.python.minor}.*"

    written = text.read_text(encoding="utf-8")
    assert {(pin.name, str(pin.version)): set(pin.hashes) for pin in pins(written)} == wanted

    for number, output in enumerate((toml, text)):
        target = tmp_path / f"target-{number}"
        command = ["-m", "uv", "pip", "install", "--target", str(target), "--require-hashes", "-r", str(output)]
        finished = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
        assert {path.name for path in target.glob("*.dist-info")} == {f"{n}-{v}.dist-info" for n, v in wanted}


def test_a_file_that_was_replaced_on_the_index_is_not_locked(
    locked: Locked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    helper = next(pin for pin in pins(locked.lock.requirements) if pin.name == "helper")
    other = "sha256:" + hashlib.sha256(b"as it was when the cell ran").hexdigest()
    before = {**locked.environment, "requirements": locked.lock.requirements.replace(helper.hashes[0], other)}
    report = locked.report(EnvironmentReport(**before))  # type: ignore[typeddict-item]
    assert main(["lock", CELL, str(report), "-o", str(tmp_path / "pylock.toml")]) == 2
    assert "the files of helper==2.1 any more" in capsys.readouterr().err
    assert not (tmp_path / "pylock.toml").exists()


def test_what_has_no_lock_is_refused_in_one_line(
    locked: Locked, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_MODELOPS_CACHE", str(tmp_path / "cache"))
    output = tmp_path / "pylock.toml"

    def refusal(cell_id: str, *arguments: str, to: Path = output) -> str:
        assert main(["lock", cell_id, *arguments, "-o", str(to)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert not to.exists()
        return str(line)

    report = str(locked.report())
    assert f"has no cell py3.9-dask1; it has {CELL}, py3.13-dask2024.10.0" in refusal("py3.9-dask1", report)
    assert "is failed in" in (line := refusal("py3.13-dask2024.10.0", report))
    assert "lambda broke" in line
    assert "pylock.toml, pylock.NAME.toml or" in refusal(CELL, report, to=tmp_path / "lock.json")
    assert "name a report" in refusal(CELL)
    assert "none.json" in refusal(CELL, str(tmp_path / "none.json"))

    installed = {**locked.environment, "requirements": "dask==2024.10.0\nhelper==2.1\n"}
    assert "no hashes are known of dask==2024.10.0" in refusal(
        CELL,
        str(locked.report(EnvironmentReport(**installed))),  # type: ignore[typeddict-item]
    )
    assert "`install` has to run" in refusal(CELL, str(locked.report(EnvironmentReport(python="3.12"))))

    worker = {**locked.environment, "python": "3.13.0", "roles": ["worker"]}
    others = {**locked.environment, "roles": ["client", "scheduler"]}
    differ = str(locked.report(*(EnvironmentReport(**one) for one in (others, worker))))  # type: ignore[typeddict-item]
    assert "worker: Python 3.13.0, Dask 2024.10.0); add --role ROLE" in refusal(CELL, differ)
    text = tmp_path / "worker.txt"
    assert main(["lock", CELL, differ, "--role", "worker", "-o", str(text)]) == 0
    assert "# python: 3.13.0\n" in text.read_text(encoding="utf-8")


def test_the_last_run_of_this_configuration_is_meant_and_what_did_not_run_is_said(
    locked: Locked, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, cache = tmp_path / "project", tmp_path / "cache"
    project.mkdir()
    (project / "pyproject.toml").write_text("[tool.modelops]\n", encoding="utf-8")
    monkeypatch.chdir(project)
    monkeypatch.setenv("PYTEST_MODELOPS_CACHE", str(cache))
    local = f"contracts @ {(tmp_path / 'contracts-0.1-py3-none-any.whl').as_uri()}\n"
    mine = {**locked.environment, "requirements": locked.lock.requirements + local}
    here = cell("3.12", "2024.10.0", check("start"), check("lambda", Status.NOT_RUN, selected=False))
    for number, (configuration, environment) in enumerate(
        [(str(project / "pyproject.toml"), mine), ("~/other/pyproject.toml", locked.environment)]
    ):
        kept = cache / "runs" / f"2026-11-2{number}" / "report.json"
        kept.parent.mkdir(parents=True)
        changed = {**here.to_json(), "environments": [environment]}
        plain = {**run(here, configuration=configuration).to_json(), "cells": [changed]}
        kept.write_text(json.dumps(plain), encoding="utf-8")
    output = tmp_path / "requirements.txt"
    assert main(["lock", CELL, "-o", str(output)]) == 0
    notes = capsys.readouterr().err.splitlines()
    assert notes == [
        "not run in that cell: lambda",
        "only on this machine, so publish or copy it and change its line: contracts",
    ]
    assert local in output.read_text(encoding="utf-8")
