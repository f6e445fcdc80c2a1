"""Wheels in a bundle: which workers can install them, and whether their RECORD can verify them."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.tags import parse_tag
from packaging.version import Version

from pytest_modelops.bundles import wheel_files, wheel_tags
from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.bundles.preflight import preflight
from pytest_modelops.errors import CheckFailed
from tests.integration.conftest import write_wheel
from tests.unit.bundles.files import CELL, rewrite, without_hashes

MACHINE = platform.machine()
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="workers elsewhere may be containers")

FILES = {"one/__init__.py": "", "one/two.py": "x = 2\n"}


def reported(directory: Path, python: str = "3.12.1") -> str:
    """What preflight says of a bundle with this name; empty when it passes."""
    try:
        preflight(Bundle(name="b", path=directory), worker_python=Version(python), cell_id=CELL)
    except CheckFailed as error:
        return str(error).removeprefix("bundle 'b': ")
    return ""


# For whom they are.


@pytest.mark.parametrize(
    ("tag", "pythons", "reason"),
    [
        ("py3-none-any", {"3.10", "3.11", "3.12", "3.13", "3.14"}, ""),
        ("py2-none-any", set(), "is for Python 2"),
        ("py312-none-any", {"3.12", "3.13", "3.14"}, "is for Python 3.12 and newer"),
        ("cp311-cp311-linux_{m}", {"3.11"}, "is for CPython 3.11"),
        ("cp312-cp312-manylinux_2_17_{m}.manylinux2014_{m}", {"3.12"}, "is for CPython 3.12"),
        ("cp311-abi3-manylinux_2_17_{m}", {"3.11", "3.12", "3.13", "3.14"}, "is for CPython 3.11 and newer"),
        ("cp313-cp313t-linux_{m}", {"3.13"}, "is for CPython 3.13 without a global lock"),
        ("pp39-pypy39_pp73-linux_{m}", set(), "is for PyPy 3.9"),
    ],
)
def test_a_wheel_is_for_some_pythons(tmp_path: Path, tag: str, pythons: set[str], reason: str) -> None:
    tag = tag.format(m=MACHINE)
    wheel = wheel_files.read(write_wheel(tmp_path / f"one-1.0-{tag}.whl", FILES))
    assert wheel.tags == parse_tag(tag)
    for python in ("3.10", "3.11", "3.12", "3.13", "3.14"):
        unfit = wheel_tags.unfit(wheel, Version(f"{python}.1"))
        assert unfit == ("" if python in pythons else reason), python


@on_linux
@pytest.mark.parametrize("platform_tag", ["win_amd64", "macosx_11_0_arm64", "manylinux_2_17_s390x"])
def test_a_wheel_for_another_machine_is_reported(tmp_path: Path, platform_tag: str) -> None:
    name = f"one-1.0-py3-none-{platform_tag}.whl"
    write_wheel(tmp_path / name, FILES)
    assert reported(tmp_path) == (
        f"{name} is for {platform_tag}; this cell's workers run 3.12.1 on linux_{MACHINE}; "
        f"ship a wheel for Python 3.12, or its name in a requirements.txt instead, or drop the cell {CELL}."
    )


def test_a_wheel_for_another_python_is_reported(tmp_path: Path) -> None:
    name = f"one-1.0-cp311-cp311-manylinux_2_17_{MACHINE}.whl"
    write_wheel(tmp_path / name, FILES)
    assert reported(tmp_path, "3.11.7") == ""
    assert reported(tmp_path).startswith(f"{name} is for CPython 3.11; this cell's workers run 3.12.1")


def test_the_requires_python_of_a_wheel_counts(tmp_path: Path) -> None:
    path = write_wheel(tmp_path / "one-1.0-py3-none-any.whl", {})
    metadata = "one-1.0.dist-info/METADATA"
    rewrite(path, lambda files: {**files, metadata: files[metadata] + b"Requires-Python: >=3.13\n"})
    first = reported(tmp_path).splitlines()[0]
    assert first.startswith(
        "one-1.0-py3-none-any.whl requires Python >=3.13, but this cell's workers run 3.12.1; ship a wheel for "
    )


def test_a_dependency_on_a_path_of_another_machine_is_reported(tmp_path: Path) -> None:
    here = (tmp_path / "lib").as_uri()
    (tmp_path / "lib").mkdir()
    needs = ["numpy", f"near @ {here}", "far @ file:///home/ci/build/libs/far"]
    write_wheel(tmp_path / "one-1.0-py3-none-any.whl", FILES, requires=needs)
    assert reported(tmp_path).startswith(
        "one-1.0-py3-none-any.whl depends on far @ file:///home/ci/build/libs/far, a path that is not on this machine"
    )


def test_one_fitting_wheel_of_a_distribution_is_enough(tmp_path: Path) -> None:
    for tag in ("cp311-cp311", "cp312-cp312"):
        write_wheel(tmp_path / f"one-1.0-{tag}-linux_{MACHINE}.whl", FILES)
    assert reported(tmp_path) == ""
    assert "is for CPython 3.1" in reported(tmp_path, "3.13.0")


# Whether they can be verified.


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return write_wheel(tmp_path / "one-1.0-py3-none-any.whl", FILES)


RECORD = "one-1.0.dist-info/RECORD"


REBUILD = "build it again, such as with `python -m build --wheel` or `pip wheel`"
Contents = dict[str, bytes]


def without(files: Contents, *names: str) -> Contents:
    return {name: content for name, content in files.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda files: files, ""),
        # A signed record needs no hash of its signature.
        (lambda files: {**files, f"{RECORD}.jws": b"", f"{RECORD}.p7s": b""}, ""),
        (
            without_hashes,
            (
                "the RECORD of one-1.0-py3-none-any.whl has no hash of 4 of its 4 files (one-1.0.dist-info/METADATA, "
                "one-1.0.dist-info/WHEEL, one/__init__.py and 1 more), so nothing can verify what was installed of it; "
                f"{REBUILD}"
            ),
        ),
        # A weak hash is none.
        (
            lambda files: {**files, RECORD: files[RECORD].replace(b"sha256=", b"md5=")},
            "has no hash of 4 of its 4 files",
        ),
        (lambda files: without(files, RECORD), f"one-1.0-py3-none-any.whl has no RECORD; {REBUILD}"),
        (
            lambda files: {**files, "one/two.py": b"x = 3\n"},
            "was changed after it was built: one/two.py is not what its RECORD says",
        ),
        (lambda files: {**files, "more.py": b""}, "holds files that its RECORD does not list (more.py)"),
        (lambda files: without(files, "one/two.py"), "lists files that are not in it (one/two.py)"),
    ],
)
def test_a_record_that_cannot_verify_the_wheel_is_a_problem(
    wheel: Path, change: Callable[[Contents], Contents], problem: str
) -> None:
    rewrite(wheel, change)
    found = list(wheel_files.problems_of_record(wheel_files.read(wheel)))
    assert len(found) == bool(problem)
    assert problem in "".join(found)
    assert reported(wheel.parent) == "".join(found)
