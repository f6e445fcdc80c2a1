"""Bundles that come into running processes: configuration, checks, and what is said of each process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import all_checks, bundle_in_workers, in_order
from pytest_modelops.cluster.cluster import LATE
from pytest_modelops.config.bundle_table import BUNDLES
from pytest_modelops.config.setting import Place
from pytest_modelops.environments.base import Wheelhouse
from pytest_modelops.errors import CheckFailed, RunnerTimedOut, WrongInput

PYTHON = Version("3.12.1")
HOUSE = Wheelhouse(directory=Path("/w"), packages={"lib": Version("1.0")}, reused=False, fingerprint="")


def bundle_of(directory: Path, **more: object) -> Bundle:
    (directory / "seir").mkdir(exist_ok=True)
    [bundle] = BUNDLES.read([{"path": "seir", **more}], Place(origin="pyproject.toml", directory=directory))
    return bundle


def test_a_bundle_is_isolated_unless_it_says_otherwise(tmp_path: Path) -> None:
    assert not bundle_of(tmp_path).in_workers
    assert not bundle_of(tmp_path, install="isolated").in_workers
    assert bundle_of(tmp_path, install="workers").in_workers
    assert not bundle_of(tmp_path, install="workers").in_scheduler
    everywhere = bundle_of(tmp_path, install="everywhere", submits="seir:run")
    assert (everywhere.in_workers, everywhere.in_scheduler, everywhere.submits) == (True, True, ("seir:run",))


@pytest.mark.parametrize("settings", [{"submits": "seir:run"}, {"submits": ["seir/run"], "install": "workers"}])
def test_functions_that_no_process_has_or_that_are_none_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(WrongInput, match="submits"):
        bundle_of(tmp_path, **settings)


@pytest.mark.parametrize("value", ["both", "", 1, ["workers"]])
def test_another_way_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(WrongInput, match="install") as raised:
        bundle_of(tmp_path, install=value)
    assert "\n" not in str(raised.value)
    if value == "both":
        assert "everywhere, isolated, workers" in str(raised.value)


def test_it_has_all_checks_but_the_handshake(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, install="workers", entrypoint="a/b", target="t:f")
    check_names = in_order(all_checks([bundle]))
    names = [check.name for check in check_names if check.bundle]
    assert names == ["preflight", "bundle-install", "execute", "bundle-aggregation"]
    assert check_names[-2].needs == ("bundle-install[seir]",)


DONE = {"done": True, "touched": [], "failure": None, "installer": "uv"}


def answer(*, setup: Any = DONE, **more: Any) -> Any:
    """The answer of a process that has all that it should, unless it says otherwise."""
    contents = {
        "python": "/python",
        "version": "3.12.1",
        "packages": {"lib": "1.0"},
        "missing": [],
        "changed": [],
        "imports": {},
        "hidden": {},
        "conflicts": [],
        **more,
    }
    return {"setup": setup, "contents": None if setup is None or setup["failure"] else contents}


def heads(reported: Any, error: str = "") -> list[str]:
    return [fault.head for fault in bundle_in_workers._faults(reported, HOUSE, PYTHON, error)]


def test_nothing_is_said_of_a_process_that_has_it_all() -> None:
    assert heads(answer()) == []
    assert heads(answer(), "registering raised, and yet all is there") == []
    conflict = {"name": "numpy", "here": "1", "wanted": "2", "imported": False}
    assert heads(answer(conflicts=[conflict])) == [], "it is shadowed"


@pytest.mark.parametrize(
    ("reported", "words"),
    [
        (answer(setup=None), "it did not get the plugin that installs the bundle; registering it raised Oh: no"),
        (answer(setup={**DONE, "done": False}), "still being set up"),
        (answer(setup={**DONE, "touched": ["/site/x.py"]}), "changed the environment of the process: /site/x.py"),
        (
            answer(
                setup={
                    **DONE,
                    "failure": {
                        "failed": "installing: pip exited with code 1",
                        "cause": "No matching distribution found for lib",
                        "last": [],
                        "timed_out": False,
                    },
                }
            ),
            "installing: pip exited with code 1. No matching distribution found for lib",
        ),
        (
            answer(conflicts=[{"name": "msgpack", "here": "1.1", "wanted": "1.0", "imported": True}]),
            "the bundle brings msgpack 1.0, and this process has already imported msgpack 1.1, which stays",
        ),
        (
            answer(hidden={"config": "/app/config.py"}),
            "its module config cannot be imported: this process has already imported another config (/app/config.py)",
        ),
        (answer(missing=["seir.models"]), "1 module of it is not found after the install: seir.models"),
        (
            answer(changed=["lib.py"]),
            "a file that was installed is missing or not what the package's RECORD says: lib.py",
        ),
        (answer(imports={"seir": "ImportError: x"}), "import seir failed: ImportError: x"),
        (answer(packages={}), "lib 1.0 was installed, and is not there"),
    ],
)
def test_what_is_wrong_in_a_process_is_said(reported: Any, words: str) -> None:
    [head] = heads(reported, "Oh: no")
    assert words in head


def judge(*wrong: str, setup: Any = DONE) -> None:
    reported = {name: answer(setup=setup) for name in ("worker-0", "client", LATE)}
    found = {name: list(bundle_in_workers._faults(answer(missing=["x"]), HOUSE, PYTHON, "")) for name in wrong}
    location: Any = {"directories": {"worker-0": "/w/bundles/seir"}}
    bundle_in_workers._judge(Bundle(name="seir", path=Path("/seir")), location, reported, found)


def test_all_processes_are_judged_together() -> None:
    judge()
    with pytest.raises(CheckFailed, match=r"'seir' was not installed into 2 of 3 processes: 1 module"):
        judge("worker-0", "client")
    with pytest.raises(CheckFailed, match=r"into worker-late, which joined after the others; those have it"):
        judge(LATE)
    with pytest.raises(RunnerTimedOut):
        judge("client", setup={**DONE, "failure": {"timed_out": True}})
