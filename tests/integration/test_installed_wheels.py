"""What uv installs once of a bundle's wheels, by real uv and interpreters: moved, found again, verified, made again."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Installed, Into, Wheelhouse
from tests.integration.conftest import write_wheel
from tests.integration.index import HERE, UNREACHABLE, Open, Session, sessions

SITE = Path("lib", f"python{HERE}", "site-packages")
SCRIPT = "lib-1.0.data/scripts/lib-says"
MODULE = "lib/__init__.py"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Open]:
    """Sessions that reach no index."""
    with sessions(tmp_path, {**os.environ, **UNREACHABLE}) as start_one:
        yield start_one


@pytest.fixture
def house(tmp_path: Path) -> Wheelhouse:
    (tmp_path / "wheels").mkdir()
    files = {
        MODULE: "VALUE = 42\n",
        "lib/template.py": "{% not Python %}\n",
        SCRIPT: "#!python\nimport lib, sys\nprint(lib.VALUE, sys.prefix)\n",
        "lib-1.0.data/data/share/lib/table.csv": "a,b\n",
        "lib-1.0.dist-info/entry_points.txt": "[console_scripts]\nlib-code = lib:VALUE.bit_length\n",
    }
    write_wheel(tmp_path / "wheels" / "lib-1.0-py3-none-any.whl", files)
    return house_of(tmp_path / "wheels", lib="1.0")


def house_of(directory: Path, **packages: str) -> Wheelhouse:
    versions = {name: Version(version) for name, version in packages.items()}
    return Wheelhouse(directory=directory, packages=versions, reused=False, fingerprint=repr(packages))


def make(session: Session, house: Wheelhouse, into: Into = "environment") -> Installed:
    made = session.made.install_wheels(
        house, session.lock(HERE), into, deadline=Deadline(60), progress=session.said.append
    )
    assert made is not None, session.said
    return made


def output(*command: str | Path) -> str:
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout.strip()


def is_compiled(source: Path) -> bool:
    """Whether Python would take the bytecode that lies beside a source."""
    try:
        header = Path(importlib.util.cache_from_source(str(source))).read_bytes()[:16]
    except FileNotFoundError:
        return False
    facts = source.stat()
    numbers = [int.from_bytes(header[start : start + 4], "little") for start in (4, 8, 12)]
    return header[:4] == importlib.util.MAGIC_NUMBER and numbers == [0, int(facts.st_mtime), facts.st_size]


def test_a_copy_of_an_environment_works_elsewhere(start: Open, house: Wheelhouse, tmp_path: Path) -> None:
    installed = make(start(), house)
    assert installed.interpreter == Path(sys.executable).resolve()
    copy = tmp_path / "elsewhere"
    shutil.copytree(installed.directory, copy, symlinks=True)
    shutil.rmtree(installed.directory)
    question = "import importlib.metadata as m, lib, sys; print(lib.__file__, m.version('lib'), sys.prefix)"
    assert output(copy / "bin" / "python", "-I", "-c", question) == f"{copy / SITE / MODULE} 1.0 {copy}"
    assert output(copy / "bin" / "lib-says") == f"42 {copy}", "a script runs the copy's interpreter"
    assert subprocess.run([copy / "bin" / "lib-code"], check=False).returncode == 6
    assert (copy / "share" / "lib" / "table.csv").is_file()
    assert is_compiled(copy / SITE / MODULE)
    assert not is_compiled(copy / SITE / "lib" / "template.py")


def test_a_directory_of_packages_is_installed_as_pip_does_with_target(start: Open, house: Wheelhouse) -> None:
    directory = make(start(), house, "directory").directory
    assert {"lib", "lib-1.0.dist-info", "bin", "share"} <= {path.name for path in directory.iterdir()}
    assert is_compiled(directory / MODULE)
    nothing = make(start(), house_of(house.directory), "directory").directory
    assert list(nothing.iterdir()) == []


def test_it_is_made_once_and_then_found(start: Open, house: Wheelhouse) -> None:
    first = make(start(), house)
    session = start()
    again = make(session, house)
    assert (first.reused, again.reused, session.said) == (False, True, [])
    assert again.directory == first.directory
    assert make(session, dataclasses.replace(house, fingerprint="another")).directory != first.directory
    assert make(session, house, "directory").directory != first.directory
    fresh = start(fresh=True, session="fresh")
    assert [make(fresh, house).reused for _ in range(2)] == [False, True]


def _truncated(directory: Path) -> None:
    os.truncate(directory / SITE / MODULE, 3)


def _changed(directory: Path) -> None:
    file = directory / SITE / MODULE
    before = file.stat()
    file.write_text("VALUE = 43\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _bytecode(directory: Path) -> None:
    os.truncate(importlib.util.cache_from_source(str(directory / SITE / MODULE)), 20)


def _gone(directory: Path) -> None:
    (directory / "bin" / "python").unlink()


def _more(directory: Path) -> None:
    (directory / SITE / "sitecustomize.py").touch()


@pytest.mark.parametrize("damage", [_truncated, _changed, _bytecode, _gone, _more])
def test_one_that_was_damaged_is_made_again(start: Open, house: Wheelhouse, damage: Callable[[Path], None]) -> None:
    first = start()
    old = make(first, house)
    first.close()
    damage(old.directory)
    session = start()
    new = make(session, house)
    assert not new.reused
    assert "of the one in the cache was changed" in session.said[-1]
    assert output(new.directory / "bin" / "lib-says").startswith("42 ")


def test_damage_within_a_session_is_found_too(start: Open, house: Wheelhouse) -> None:
    session = start()
    _truncated(make(session, house).directory)
    assert not make(session, house).reused


def test_a_bundle_that_writes_to_its_own_files_changes_nothing_of_the_cache(
    start: Open, house: Wheelhouse, tmp_path: Path
) -> None:
    installed = make(start(), house)
    for number in range(2):
        shutil.copytree(installed.directory, tmp_path / str(number), symlinks=True)
    with (tmp_path / "0" / SITE / MODULE).open("a") as file:
        file.write("VALUE = 0\n")
    assert "VALUE = 0" not in (tmp_path / "1" / SITE / MODULE).read_text()
    assert make(start(), house).reused


def test_what_uv_cannot_install_is_left_to_pip(start: Open, tmp_path: Path) -> None:
    (tmp_path / "lib-1.0-py3-none-any.whl").write_bytes(b"no archive")
    session = start()
    house, lock = house_of(tmp_path, lib="1.0"), session.lock(HERE)
    made = session.made.install_wheels(house, lock, "environment", deadline=Deadline(60), progress=session.said.append)
    assert made is None
    assert "so pip does" in session.said[-1]


def test_what_an_edit_leaves_is_not_compiled_again(start: Open, house: Wheelhouse, tmp_path: Path) -> None:
    make(start(), house)
    store = tmp_path / "cache" / "bytecode"
    before = {path: path.stat().st_ino for path in store.rglob("*") if path.is_file()}
    write_wheel(house.directory / "more-1.0-py3-none-any.whl", {"more.py": "VALUE = 1\n"})
    make(start(), house_of(house.directory, lib="1.0", more="1.0"))
    after = {path: path.stat().st_ino for path in store.rglob("*") if path.is_file()}
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()
