"""A bundle in a process that runs already: installed, run, harmless, and uninstalled again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.remote.shared.bundle_messages import (
    BundleLocation,
    InstalledWheels,
    OnPath,
    ProcessContents,
    ProcessInstall,
)
from pytest_modelops.remote.worker import in_process
from pytest_modelops.remote.worker.bundles import Bundles
from pytest_modelops.remote.worker.in_process import BundleInProcess
from tests.integration.conftest import write_wheel
from tests.unit.remote.conftest import location_in, put_pip

WIRE = """
import inside_wheel

def wire(entrypoint, params, seed):
    print("a print is harmless")
    if seed == 0:
        raise ValueError("no seed")
    return {"reported.txt": f"{entrypoint} {seed} {inside_wheel.VALUE}".encode()}
"""
TARGETS = "def loss(returns, data):\n    return {'loss': len(returns) + data['more']}\n"


@pytest.fixture(autouse=True)
def path_as_before() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith(("inside_", "wire", "targets")):
            del sys.modules[name]


def make_location(directory: Path) -> BundleLocation:
    (directory / "source").mkdir()
    (directory / "source" / "wire.py").write_text(WIRE)
    (directory / "source" / "targets.py").write_text(TARGETS)
    (directory / "wheels").mkdir()
    write_wheel(
        directory / "wheels" / "inside_wheel-1.5-py3-none-any.whl",
        {"inside_wheel/__init__.py": "VALUE = 'one and a half'\n"},
    )
    return location_in(directory, install="workers")


@pytest.fixture
def location(tmp_path: Path, _pip_is_there: None) -> BundleLocation:
    return make_location(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, unpacked_pip: Path) -> InstalledWheels:
    """What pip installs for the bundle, which tests of what comes after that copy; pip takes seconds."""
    directory = tmp_path_factory.mktemp("made")
    put_pip(directory, unpacked_pip)
    location = make_location(directory)
    assert install(Bundles("worker-0"), location)["failure"] is None
    directory = Path(location["directories"]["worker-0"], "inside")
    return {"directory": str(directory), "interpreter": os.path.realpath(sys.executable)}


def install(bundles: Bundles, location: BundleLocation, *requirements: str) -> ProcessInstall:
    return bundles.install_in_process(location, requirements=requirements or ("inside-wheel==1.5",), seconds=60)


def inspect(bundles: Bundles, location: BundleLocation) -> ProcessContents:
    contents = bundles.inspect_process(location, **ASKED)["contents"]
    assert contents is not None
    return contents


ASKED: dict[str, Any] = {
    "modules": {"wire": "source", "targets": "source"},
    "packages": {"inside-wheel": "1.5"},
    "imports": ["inside_wheel", "wire"],
}


def test_it_is_installed_found_run_and_uninstalled(location: BundleLocation) -> None:
    bundles = Bundles("worker-0")
    before = list(sys.path)
    assert bundles.inspect_process(location, **ASKED) == {"pid": os.getpid(), "setup": None, "contents": None}
    installed: ProcessInstall = {"touched": [], "done": True, "failure": None, "installer": "pip"}
    assert install(bundles, location) == installed
    assert bundles.inspect_process(location, **ASKED)["setup"] == installed
    found = inspect(bundles, location)
    assert (found["missing"], found["imports"], found["hidden"], found["conflicts"]) == ([], {}, {}, [])
    assert found["packages"] == {"inside-wheel": "1.5"}
    given: dict[str, Any] = {"entrypoint": "a/b", "params": {}, "end": time.time() + 60}
    executed = bundles.execute(location, "0-0", seed=7, **given)
    assert executed["outputs"]["reported.txt"]["size"] == len("a/b 7 one and a half")
    assert (executed["error"], executed["outside"], executed["pid"]) == (None, "", os.getpid())
    failed = bundles.execute(location, "0-1", seed=0, **given)["error"]
    assert failed is not None
    assert failed["error"]["data"]["exc"] == "no seed"
    aggregate = bundles.aggregate(
        location, [executed], target="targets:loss", target_data={"more": 0.5}, end=time.time() + 60
    )
    assert aggregate["result"]["loss"] == 1.5
    bundles.uninstall("seir")
    assert sys.path == before
    assert not {"wire", "targets", "inside_wheel"} & sys.modules.keys()
    gone = bundles.execute(location, "0-2", seed=7, **given)["error"]
    assert gone is not None
    assert "does not have the bundle" in gone["unstarted"]


def test_the_same_bundle_is_not_installed_again(location: BundleLocation) -> None:
    bundles = Bundles("worker-0")
    install(bundles, location)
    installed = Path(location["directories"]["worker-0"], "inside", "inside_wheel", "__init__.py")
    stamp = installed.stat().st_ino
    install(bundles, location)
    assert installed.stat().st_ino == stamp
    assert sys.path.count(str(installed.parents[1])) == 1
    install(bundles, {**location, "digest": "abcd"})
    assert installed.stat().st_ino != stamp or installed.stat().st_mtime > time.time() - 60


def test_what_is_installed_already_is_copied(location: BundleLocation, made: InstalledWheels) -> None:
    bundles = Bundles("worker-0")
    here: BundleLocation = {**location, "installed": made}
    installed = install(bundles, here, "no-such-package==1")
    assert (installed["failure"], installed["installer"]) == (None, "uv")
    assert inspect(bundles, here)["packages"] == {"inside-wheel": "1.5"}
    assert inspect(bundles, here)["changed"] == []
    bundles.uninstall("seir")


def test_what_cannot_be_installed_is_reported_and_nothing_is_put_on_the_path(location: BundleLocation) -> None:
    bundles = Bundles("worker-0")
    before = list(sys.path)
    reported = install(bundles, location, "inside-wheel==9")
    assert reported["failure"] is not None
    assert (reported["failure"]["cause"] or "").endswith("inside-wheel==9 (from versions: 1.5)")
    assert sys.path == before
    answer = bundles.inspect_process(location, **ASKED)
    assert (answer["setup"], answer["contents"]) == (reported, None)
    assert install(bundles, location)["failure"] is None, "a failed install is not used again"


def test_a_worker_without_a_directory_uses_its_working_directory(
    location: BundleLocation, made: InstalledWheels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    location["installed"] = made
    bundles = Bundles("another")
    install(bundles, location)
    assert inspect(bundles, location)["missing"] == []
    assert (tmp_path / "bundles" / "seir" / "inside").is_dir()
    bundles.uninstall("seir")


def test_a_change_of_the_environment_is_reported(
    location: BundleLocation, made: InstalledWheels, monkeypatch: pytest.MonkeyPatch
) -> None:
    location["installed"] = made
    listings = iter([{"a": (1, 1), "b": (1, 1)}, {"a": (1, 2), "c": (1, 1)}])
    monkeypatch.setattr(in_process, "listing", lambda directories: next(listings))
    assert install(Bundles("worker-0"), location)["touched"] == ["a", "b", "c"]


def test_every_file_of_an_environment_is_listed_but_bytecode(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").touch()
    (tmp_path / "a.py").write_text("1")
    assert [*in_process.listing([str(tmp_path)])] == [str(tmp_path / "a.py")]
    assert in_process.listing([str(tmp_path)])[str(tmp_path / "a.py")][0] == 1


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[BundleInProcess]:
    for directory in ("bundle", "site", "elsewhere"):
        (tmp_path / directory).mkdir()
    sys.path.append(str(tmp_path / "elsewhere"))
    made = BundleInProcess(bundle=str(tmp_path / "bundle"), site=str(tmp_path / "site"), digest="abc")
    yield made
    made.uninstall()


def add_package(directory: Path, version: str) -> None:
    info = directory / f"inside_lib-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Inside.Lib\nVersion: {version}\n")
    (info / "RECORD").write_text("inside_lib/__init__.py,,\n")
    (directory / "inside_lib").mkdir()
    (directory / "inside_lib" / "__init__.py").touch()


@pytest.mark.parametrize("imported", [True, False])
def test_a_package_of_another_version_is_a_conflict(inside: BundleInProcess, tmp_path: Path, imported: bool) -> None:
    add_package(tmp_path / "elsewhere", "1.1")
    if imported:
        __import__("inside_lib")
    add_package(tmp_path / "site", "1.0")
    [conflict] = inside.inspect({}, {"inside-lib": "1.0"}, [])["conflicts"]
    assert conflict == {"name": "inside-lib", "here": "1.1", "wanted": "1.0", "imported": imported}


def test_a_package_of_the_same_version_is_no_conflict(inside: BundleInProcess, tmp_path: Path) -> None:
    add_package(tmp_path / "elsewhere", "1.0")
    add_package(tmp_path / "site", "1.0")
    assert inside.inspect({}, {"inside-lib": "1.0"}, [])["conflicts"] == []


def test_a_module_that_another_one_hides_is_reported_with_its_file(inside: BundleInProcess, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "inside_hidden.py").touch()
    __import__("inside_hidden")
    for name in ("inside_hidden.py", "inside_own.py", "sys.py"):
        (tmp_path / "bundle" / name).touch()
    __import__("inside_own")
    hidden = inside.inspect(dict.fromkeys(("inside_hidden", "inside_own", "sys"), "source"), {}, [])["hidden"]
    assert hidden == {"inside_hidden": str(tmp_path / "elsewhere" / "inside_hidden.py"), "sys": "Python itself"}


@pytest.mark.parametrize("on_path", ["never", "last", "first"])
def test_what_a_build_leaves_out_is_missing_and_not_imported_from_the_source(tmp_path: Path, on_path: OnPath) -> None:
    for place in ("bundle", "site"):
        (tmp_path / place / "inside_flat").mkdir(parents=True)
        (tmp_path / place / "inside_flat" / "__init__.py").touch()
    (tmp_path / "bundle" / "inside_flat" / "deep.py").touch()
    made = BundleInProcess(bundle=str(tmp_path / "bundle"), site=str(tmp_path / "site"), digest="abc", on_path=on_path)
    try:
        found = made.inspect({"inside_flat.deep": "installed"}, {}, ["inside_flat.deep"])
    finally:
        made.uninstall()
    assert found["missing"] == ["inside_flat.deep"]
    assert [*found["imports"]] == ([] if on_path == "first" else ["inside_flat.deep"])


RAISES = ("inside_raises", "inside_raises.sub", "inside_no")


def test_modules_are_found_without_being_imported(inside: BundleInProcess, tmp_path: Path) -> None:
    (tmp_path / "bundle" / "inside_raises.py").write_text("raise RuntimeError\n")
    assert inside.inspect(dict.fromkeys(RAISES, "source"), {}, [])["missing"] == ["inside_raises.sub", "inside_no"]


def test_an_import_that_fails_or_ends_the_process_is_reported(inside: BundleInProcess, tmp_path: Path) -> None:
    (tmp_path / "bundle" / "inside_raises.py").write_text("import inside_nobody\n")
    (tmp_path / "bundle" / "inside_exits.py").write_text("import sys\nsys.exit(0)\n")
    reported = inside.inspect({}, {}, ["inside_raises", "inside_exits", "json"])["imports"]
    assert reported.keys() == {"inside_raises", "inside_exits"}
    assert reported["inside_raises"].startswith("ModuleNotFoundError: No module named 'inside_nobody'")
    assert reported["inside_exits"].startswith("SystemExit: 0")


def test_a_bundle_without_a_wire_function_is_reported_as_a_runner_would(inside: BundleInProcess) -> None:
    request = {"entrypoint": "a/b", "params": {}, "seed": 0}
    error = inside.answer("execute", request)["error"]
    assert error["code"] == -32000
    assert error["data"]["exc"].startswith("the bundle has no wire function")
