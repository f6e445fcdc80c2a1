"""The store of bytecode: what is taken from it, and what is compiled again."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_modelops.remote.runner import compiling


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "site" / "package").mkdir(parents=True)
    (tmp_path / "site" / "one.py").write_text("def where():\n    return where.__code__.co_filename\n")
    (tmp_path / "site" / "package" / "__init__.py").write_text("")
    (tmp_path / "site" / "package" / "template.py").write_text("{% no Python %}\n")
    return tmp_path / "site"


def run(tmp_path: Path) -> None:
    compiling.main(str(tmp_path / "store"), str(tmp_path / "site"))


def entries(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "store").rglob("*") if path.is_file())


def bytecode_of(source: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(source)))


def test_python_takes_the_bytecode_and_a_copy_has_the_path_of_its_own_source(tmp_path: Path, sources: Path) -> None:
    run(tmp_path)
    assert len(entries(tmp_path)) == 2, "a template is not compiled"
    other = tmp_path / "other"
    other.mkdir()
    (other / "one.py").write_bytes((sources / "one.py").read_bytes())
    os.utime(other / "one.py", (1_000_000, 1_000_000))
    before = [path.stat().st_ino for path in entries(tmp_path)]
    compiling.main(str(tmp_path / "store"), str(other))
    assert [path.stat().st_ino for path in entries(tmp_path)] == before, "nothing was compiled"
    written = bytecode_of(other / "one.py").stat().st_ino
    code = f"import sys; sys.path.insert(0, {str(other)!r}); import one; print(one.where())"
    done = subprocess.run([sys.executable, "-I", "-v", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(other / "one.py")
    assert f"matches {other / 'one.py'}" in done.stderr
    assert bytecode_of(other / "one.py").stat().st_ino == written


def test_modules_of_tests_are_left_to_python(tmp_path: Path, sources: Path) -> None:
    (sources / "package" / "tests").mkdir()
    (sources / "package" / "tests" / "test_one.py").write_text("value = 1\n")
    run(tmp_path)
    assert not bytecode_of(sources / "package" / "tests" / "test_one.py").exists()
    assert bytecode_of(sources / "package" / "__init__.py").exists()
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize("damage", [b"", b"x" * 100])
def test_a_damaged_entry_is_compiled_again(tmp_path: Path, sources: Path, damage: bytes) -> None:
    run(tmp_path)
    good = bytecode_of(sources / "one.py").read_bytes()
    for entry in entries(tmp_path):
        entry.write_bytes(damage)
    run(tmp_path)
    assert bytecode_of(sources / "one.py").read_bytes() == good
    assert all(len(entry.read_bytes()) > compiling._DIGEST_BYTES for entry in entries(tmp_path))


def test_an_edited_source_is_compiled(tmp_path: Path, sources: Path) -> None:
    run(tmp_path)
    (sources / "one.py").write_text("VALUE = 2\n")
    run(tmp_path)
    assert len(entries(tmp_path)) == 3
    assert b"VALUE" in bytecode_of(sources / "one.py").read_bytes()


def test_many_are_compiled_on_every_core(tmp_path: Path, sources: Path) -> None:
    for number in range(compiling._PARALLEL):
        (sources / f"many_{number}.py").write_text(f"VALUE = {number}\n")
    run(tmp_path)
    assert all(bytecode_of(sources / f"many_{number}.py").exists() for number in range(compiling._PARALLEL))


def test_what_was_not_used_for_long_is_removed(tmp_path: Path, sources: Path) -> None:
    run(tmp_path)
    old = time.time() - 31 * 24 * 3600
    unused, used = entries(tmp_path)
    for entry in (unused, used):
        os.utime(entry, (old, old))
    (sources / ("one.py" if _is_of(unused, sources / "one.py") else "package/__init__.py")).unlink()
    (sources / "new.py").write_text("VALUE = 1\n")
    run(tmp_path)
    assert used in entries(tmp_path)
    assert unused not in entries(tmp_path)


def _is_of(entry: Path, source: Path) -> bool:
    return entry.name == hashlib.sha256(source.read_bytes()).hexdigest()
