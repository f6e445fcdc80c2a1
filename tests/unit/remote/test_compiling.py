"""The store of bytecode: what is taken from it, and what is compiled again."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
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
    return sorted(path for path in (tmp_path / "store").rglob("*") if path.is_file() and path.name != "lock")


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


def run_selected(tmp_path: Path, site: Path, *, others: str = "") -> None:
    """As the host runs it, for modules of which one is not there."""
    command = [compiling.__file__, str(tmp_path / "store"), str(site), "package,no.module,second", others]
    code = (
        "import runpy, sys; del sys.argv[0]; sys.path.insert(0, sys.argv[2]); runpy.run_path(sys.argv[0], None, {!r})"
    )
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-I", "-c", code.format("__main__"), *command], check=True, env=environ, timeout=60)


@pytest.fixture
def selected(tmp_path: Path) -> Path:
    site = tmp_path / "selected"
    files = {
        "package/__init__.py": "import pathlib\nfrom . import used\n(pathlib.Path.home() / 'imported').touch()\n",
        "package/used.py": f"open({str(tmp_path / 'log')!r}, 'a').write('+')\n",
        "package/unused.py": "",
        "second.py": "",
        "other/__init__.py": "",
        "other/tests/test_other.py": "",
    }
    for name, text in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    return site


def compiled(site: Path) -> set[str]:
    return {str(path.relative_to(site)) for path in site.rglob("*.py") if bytecode_of(path).exists()}


LOADED = {"package/__init__.py", "package/used.py", "second.py"}


@pytest.mark.parametrize("others", ["", "others"])
def test_only_what_is_loaded_is_compiled_and_it_is_imported_only_once(
    tmp_path: Path, selected: Path, others: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(selected, copy)
    expected = {*LOADED, "other/__init__.py"} if others else LOADED
    for site in (selected, copy):
        run_selected(tmp_path, site, others=others)
        assert compiled(site) == expected
    assert (tmp_path / "log").read_text() == "+"
    [known] = (tmp_path / "store" / "loaded").iterdir()
    known.write_text("{")
    run_selected(tmp_path, copy, others=others)
    assert (tmp_path / "log").read_text() == "++", "a damaged list is made again"
    assert not (tmp_path / "imported").exists(), "what is imported has no access to the home directory"
    stored = [path for path in entries(tmp_path) if path.parent.name != "loaded"]
    assert len(stored) == len({(site / name).read_bytes() for name in expected}), "each content once"


@pytest.mark.parametrize(
    "end", ["raise ImportError", "import os; os._exit(1)", "import os, signal; os.kill(os.getpid(), signal.SIGALRM)"]
)
def test_what_cannot_be_imported_is_no_fault_of_compiling(tmp_path: Path, selected: Path, end: str) -> None:
    (selected / "package" / "used.py").write_text(f"{end}\n")
    run_selected(tmp_path, selected, others="others")
    assert {"package/__init__.py", "package/used.py"} < compiled(selected)
    assert not list((tmp_path / "store").glob("loaded/*")), "the next environment may do better"


def test_processes_that_import_the_rest_at_once_leave_whole_bytecode(tmp_path: Path, selected: Path) -> None:
    run_selected(tmp_path, selected)
    (selected / "package" / "unused.py").write_text("VALUE = [\n" + "    (1, 'one'),\n" * 20_000 + "]\n")
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(selected)!r}); import package.unused"]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert list((selected / "package" / "__pycache__").glob("unused.*")) == [
        bytecode_of(selected / "package" / "unused.py")
    ]


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
