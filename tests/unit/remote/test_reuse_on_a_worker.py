"""Uses of an environment, with real processes, by a runner that never installs."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops.checks import reuse_messages
from pytest_modelops.remote.shared import canary
from pytest_modelops.remote.shared.canary_messages import Variant
from pytest_modelops.remote.worker.environment import Commands, make_bare
from pytest_modelops.remote.worker.location import command_of, pip_of, python_of, variables_of
from pytest_modelops.remote.worker.reuse import Reuse, took_too_long
from pytest_modelops.remote.worker.states import SITE, States, key_of
from tests.unit.remote.conftest import own_pip_in

pytestmark = pytest.mark.usefixtures("_pip_is_there")

SERVERS = Path(__file__).parents[2] / "servers"
RUNNER, KEEPING = SERVERS / "users_runner.py", SERVERS / "keeping_runner.py"
DIGESTS = {"A": "0" * 64, "B": "1" * 64}


def location_in(tmp_path: Path, *, runner: Path = RUNNER, more: tuple[str, ...] = ()) -> Any:
    """A bundle on a worker, and its two canaries."""
    for name in DIGESTS:
        (tmp_path / name).mkdir()
        wire = canary.code("wire", variant=name)
        (tmp_path / name / "wire.py").write_text(f"def wire(entrypoint, params, seed):\n    return {{}}\n{wire}")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "worker-0" / "reuse").mkdir(parents=True)
    return {
        "name": "b",
        "digest": "0" * 64,
        "directory": str(tmp_path / "worker-0"),
        "runner": str(runner),
        "command": [
            *("{python}", "{runner}", "--bundle-path", "{bundle}", "--venv-path", "{venv}"),
            *("--bundle-digest", "{digest}", *more),
        ],
        "protocol": "json-rpc",
        "installs": True,
        "install": "isolated",
        "wheels": str(tmp_path / "wheels"),
    }


def reuse_of(location: Any, tmp_path: Path) -> Reuse:
    variants: dict[str, Variant] = {
        name: {"source": str(tmp_path / name), "wheels": str(tmp_path / "wheels"), "digest": digest}
        for name, digest in DIGESTS.items()
    }
    return Reuse(location, variants=variants, forced=None, seconds=120)


@pytest.fixture
def reuse(tmp_path: Path) -> Reuse:
    return reuse_of(location_in(tmp_path), tmp_path)


def test_a_killed_runner_counts_only_if_its_install_was_seen(reuse: Reuse) -> None:
    assert "result" in reuse._first_use()["uses"][0]["answers"][0]
    second = reuse._second_use()
    assert (second["install_seconds"], second["files"] > 0) == (0.0, True)
    assert reuse._dead_holder() == {"untried": "nothing of an install was seen, so that none was interrupted"}


def took(*seconds: float) -> Any:
    return [{"seconds": each, "answers": [{"result": {}}]} for each in seconds]


def test_a_second_use_is_slow_only_against_a_first_that_was_mostly_an_install() -> None:
    unanswered: Any = [{"seconds": 9.0, "answers": []}]
    assert took_too_long(took(4.0), 4.0, 2.1)
    assert not took_too_long(took(3.9), 4.0, 2.1)
    assert not took_too_long(took(9.0), 4.0, 2.0)
    assert not took_too_long(took(9.0, 1.0), 4.0, 3.0)
    assert not took_too_long(unanswered, 4.0, 3.0)


@pytest.mark.parametrize(
    ("store", "edited", "common_prefix"),
    [
        ("{venv}/kept", "B", "B"),  # each digest has an environment of its own
        ("~/kept", "A", "A"),  # the command fixes a layout, which is the runner's to look after
        ("~/PREFIX", "B", "A"),
    ],
)
def test_a_layout_is_the_runner_s_fault_only_if_it_is_the_runner_s(
    tmp_path: Path, store: str, edited: str, common_prefix: str
) -> None:
    reuse = reuse_of(location_in(tmp_path, runner=KEEPING, more=("--store", store)), tmp_path)
    reuse._first_use()
    reuse._second_use()
    for scenario, expected in (("edited-code", edited), ("common-prefix", common_prefix)):
        tried = reuse._scenarios[scenario]()
        faults = reuse_messages.faults(scenario, tried, Version(platform.python_version()))
        answer = canary.read(tried["uses"][0]["answers"][0].get("result"))
        assert answer is not None
        assert answer["variant"] == expected
        assert bool(faults) is (expected == "A"), faults


def test_a_runner_that_is_not_told_the_python_cannot_compare_it(reuse: Reuse) -> None:
    assert "has none of {version}, {worker-python}" in reuse._another_python()["untried"]


def test_each_digest_python_and_set_of_dependencies_has_a_directory(tmp_path: Path) -> None:
    digests = ["0" * 64, "0" * 60 + "1111"]
    keys = {key_of(digest, str(tmp_path)) for digest in digests}
    (tmp_path / "requirements.txt").write_text("numpy\n")
    keys.add(key_of(digests[0], str(tmp_path)))
    assert len(keys) == 3
    assert all(f"-py{sys.version_info[0]}.{sys.version_info[1]}-" in key for key in keys)


def test_the_wheels_are_found_by_pip_in_isolation_and_the_worker_s_python_is_named(tmp_path: Path) -> None:
    location = location_in(tmp_path)
    location |= {"venv": str(tmp_path / "venv"), "command": ["{worker-python}", "{version}"]}
    info = "lib-1.dist-info"
    with zipfile.ZipFile(tmp_path / "wheels" / "lib-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("lib.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: lib\nVersion: 1\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    with Commands(str(tmp_path / "commands"), 60) as run:
        make_bare(run, location)
    argv = [python_of(location), "-m", "pip", "--isolated", "install", "lib"]
    ran = subprocess.run(argv, env=variables_of(location), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert command_of(location)[0] == sys.executable


def test_environments_share_the_files_of_one_pip_but_not_what_replaces_them(tmp_path: Path) -> None:
    own_pip_in(tmp_path).unlink()  # this one unpacks it
    location = location_in(tmp_path)
    environments = [tmp_path / name for name in ("one", "other")]
    with Commands(str(tmp_path / "commands"), 60) as run:
        for venv in environments:
            make_bare(run, location | {"venv": str(venv)})
    ours, theirs, worker_s = (
        tmp_path / place / "pip"
        for place in (f"one/{SITE}", f"other/{SITE}", Path(pip_of(location)).relative_to(tmp_path))
    )
    bytecode = Path(importlib.util.cache_from_source("__init__.py"))
    for file in (Path("__init__.py"), bytecode):
        assert (ours / file).samefile(worker_s / file)
        assert (theirs / file).samefile(worker_s / file)
    python = str(environments[0] / "bin/python")
    removed = subprocess.run([python, "-m", "pip", "uninstall", "-qy", "pip"], capture_output=True, check=True)
    assert not removed.stderr
    assert not (ours / "__init__.py").exists()
    for venv, code in zip(environments, (1, 0), strict=True):
        found = subprocess.run([str(venv / "bin/python"), "-m", "pip", "--version"], capture_output=True, check=False)
        assert found.returncode == code, found
    assert str(theirs) in found.stdout.decode()


def test_a_saved_state_shares_pip_alone(tmp_path: Path) -> None:
    location = location_in(tmp_path)
    states = States(str(tmp_path / "states"), "key", pip_of(location))
    with Commands(str(tmp_path / "commands"), 60) as run:
        make_bare(run, location | {"venv": states.venv})
    (Path(states.site) / "own.py").write_text("before")
    states.save("good")
    (Path(states.site) / "own.py").write_text("after")
    states.restore("good")
    assert (Path(states.site) / "own.py").read_text() == "before"
    assert (Path(states.site) / "pip/__init__.py").samefile(Path(pip_of(location)) / "pip/__init__.py")
