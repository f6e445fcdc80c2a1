"""The parts of a fingerprint: each changes with what it stands for, and with nothing else."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops.environments.base import Lock
from pytest_modelops.matrix.cell import Cell, PythonVersion, Versions
from pytest_modelops.session import fingerprint
from pytest_modelops.session.configured import configure
from pytest_modelops.session.fingerprint import Fingerprints, changed_parts
from pytest_modelops.session.sources import Sources, conftests

pytest_plugins = ["pytester"]

FILE = """
[tool.modelops]
workers = 1
bundles = ["seir", { path = "sir", entrypoint = "a/run", seed = 1 }]
[tool.modelops.environment]
requirements = ["numpy", "./lib"]
constraints = "constraints.txt"
worker-args = ["--preload", "preload.py"]
env = { MODE = "{env:MODE}" }
"""


EVERYTHING = {"conftest.py", "pkg/__init__.py", "pkg/deep.py", "tests/deep.py", "tests/test_a.py"}


@pytest.fixture
def parts(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Mapping[str, str]]:
    """Return the parts of a run of this project, as it is now."""
    monkeypatch.setenv("MODE", "planted-value-4711")
    monkeypatch.setenv("TZ", "UTC")
    for name in ("seir/a.py", "sir/a.py", "lib/a.py", "lib/setup.py", "constraints.txt", "preload.py"):
        write(pytester.path / name, "1")
    write(pytester.path / "pyproject.toml", FILE)

    def parts(*arguments: str, key: str = "cache", backend: str = "process") -> Mapping[str, str]:
        config = pytester.parseconfig("--modelops-matrix", *arguments)
        return Fingerprints(pytester.path / key).of_run(configure(config), backend=backend, config=config)

    return parts


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        ("seir/a.py", ["bundle seir"]),
        ("seir/new/b.py", ["bundle seir"]),
        ("seir/__pycache__/a.cpython-312.pyc", []),
        ("lib/a.py", ["environment"]),
        ("constraints.txt", ["environment"]),
        ("preload.py", ["environment"]),
        ("README.md", []),
        ("conftest.py", []),
    ],
)
def test_a_file_is_part_of_what_names_it(
    parts: Callable[..., Mapping[str, str]], pytester: pytest.Pytester, path: str, changed: list[str]
) -> None:
    before = parts()
    assert parts() == before
    write(pytester.path / path, "2")
    assert changed_parts(before, parts()) == changed


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("workers = 1", "workers = 2", ["workers"]),
        ("workers = 1", 'workers = 1\nparallel = 2\nreport = "out"\nbudget = "9m"\ntrust-last = true', []),
        ("workers = 1", 'workers = 1\nkeep = "failed"\nbackend = "docker"', ["keep"]),
        ("workers = 1", "workers = 1\nmatrix.python = ['3.12']", []),
        ("workers = 1", "workers = 1\ndeadlines.start = 99", ["deadlines"]),
        ("seed = 1", "seed = 2", ["bundle sir"]),
        (', { path = "sir", entrypoint = "a/run", seed = 1 }', "", ["bundle sir"]),
        ('"numpy"', '"numpy>=2"', ["environment"]),
    ],
)
def test_a_setting_is_a_part_if_results_depend_on_it(
    parts: Callable[..., Mapping[str, str]], pytester: pytest.Pytester, old: str, new: str, changed: list[str]
) -> None:
    before = parts()
    write(pytester.path / "pyproject.toml", FILE.replace(old, new))
    assert changed_parts(before, parts()) == changed


def test_flags_variables_the_backend_hooks_and_this_version_are_parts_and_no_value_can_be_found_out(
    parts: Callable[..., Mapping[str, str]], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = parts()
    assert changed_parts(before, parts("--modelops-workers=3")) == ["workers"]
    assert changed_parts(before, parts(backend="docker")) == ["backend"]
    assert "planted" not in json.dumps(before)
    assert set(before) == {*changed_parts(before, parts(key="other-cache"))}, "the key is the cache's own"
    for name in ("MODE", "TZ"):
        with monkeypatch.context() as patched:
            patched.setenv(name, "Europe/Berlin")
            assert changed_parts(before, parts()) == ["variables"]
    write(pytester.path / "checks.py", "def run(cell, deadline): pass\n")
    write(pytester.path / "conftest.py", "import checks\ndef pytest_modelops_checks(checks): pass\n")
    with_hook = parts()
    assert changed_parts(before, with_hook) == ["hooks"]
    write(pytester.path / "checks.py", "def run(cell, deadline): 1 / 0\n")
    assert changed_parts(with_hook, parts()) == ["hooks"], "what it imports counts, too"
    (tmp_path / "a.py").write_text("")
    monkeypatch.setattr(fingerprint, "_PACKAGE", tmp_path)
    monkeypatch.setattr(fingerprint, "_own", fingerprint._own.__wrapped__)
    assert changed_parts(with_hook, parts()) == ["pytest-modelops", "hooks"]


def test_locks_and_interpreters_are_parts_of_a_cell(tmp_path: Path) -> None:
    versions = Versions(PythonVersion((3, 12)), Version("2024.10.0"))
    cell, prints = Cell.uniform(versions), Fingerprints(tmp_path)
    backend: Any = SimpleNamespace(indexes={"https://pypi.org/simple"})
    lock = Lock(
        versions=versions,
        python=Version("3.12.1"),
        interpreter="/usr/bin/python3.12",
        build="3.12.1 (main)",
        requirements="dask==2024.10.0 --hash=sha256:1\n",
        packages={"dask": Version("2024.10.0")},
        resolved=dt.datetime.now(dt.timezone.utc),
    )

    def changed(**fields: object) -> set[str]:
        other = dataclasses.replace(lock, **fields)  # type: ignore[arg-type]
        before, now = (prints.of_cell(cell, backend, {versions: one}) for one in (lock, other))
        return {name.partition(" ")[0] for name in changed_parts(before, now)}

    assert changed(resolved=dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)) == set()
    assert changed(requirements="dask==2024.10.0 --hash=sha256:2\n") == {"lock"}
    assert changed(build="3.12.1 (rebuilt)") == {"interpreter"}
    assert changed(interpreter="/opt/python3.12") == {"interpreter"}
    assert changed(python=Version("3.12.2")) == {"interpreter"}
    other: Any = SimpleNamespace(indexes={"https://example.org/simple"})
    before, now = (prints.of_cell(cell, one, {versions: lock}) for one in (backend, other))
    assert changed_parts(before, now) == ["indexes"]
    as_is = Cell.uniform(dataclasses.replace(versions, as_is=True))
    assert "installed packages" in prints.of_cell(as_is, backend, {})
    assert "lock of the worker" not in prints.of_cell(cell, backend, {}), "what is not resolved is missing"


def test_what_cannot_be_read_is_never_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prints = Fingerprints(tmp_path)
    (tmp_path / "file").write_text("1")
    assert prints.of(tmp_path / "file") == prints.of(tmp_path / "file")

    def refuse(_: Path) -> str:
        raise PermissionError

    monkeypatch.setattr(fingerprint, "hash_file", refuse)
    assert prints.of(tmp_path / "file") != prints.of(tmp_path / "file")


def test_a_key_is_made_once_also_without_links_and_another_users_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Path) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_links)
    assert Fingerprints(tmp_path).of(1) == Fingerprints(tmp_path).of(1)
    assert [file.name for file in tmp_path.iterdir()] == ["fingerprint.key"]

    def refuse(_: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert Fingerprints(tmp_path).of(1) != Fingerprints(tmp_path).of(1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import pkg", {"pkg/__init__.py"}),
        ("import pkg.deep", {"pkg/__init__.py", "pkg/deep.py"}),
        ("from pkg.deep import one", {"pkg/__init__.py", "pkg/deep.py"}),
        ("import importlib\nimportlib.import_module('pkg.deep')", {"pkg/__init__.py", "pkg/deep.py"}),
        ("__import__('pkg.deep')", {"pkg/__init__.py", "pkg/deep.py"}),
        ("import pytest\npytest.importorskip('pkg.deep')", {"pkg/__init__.py", "pkg/deep.py"}),
        ("import importlib\nimportlib.import_module('.deep', __package__)", {"tests/deep.py"}),
        ("import importlib\nimportlib.import_module('..pkg.deep', 'x.y')", {"pkg/__init__.py", "pkg/deep.py"}),
        ("from importlib import import_module as find\nfind('pkg.deep')", EVERYTHING),
        ("import importlib\n[importlib.import_module(f'pkg.{n}') for n in ('deep',)]", EVERYTHING),
        ("import runpy\nrunpy.run_path('pkg/deep.py')", EVERYTHING),
        ("from importlib import util\nutil.spec_from_file_location('x', 'pkg/deep.py')", EVERYTHING),
    ],
)
def test_what_is_imported_by_name_decides_too_and_everything_where_the_name_is_not_known(
    tmp_path: Path, text: str, found: set[str]
) -> None:
    for name in EVERYTHING - {"tests/test_a.py"}:
        write(tmp_path / name, "")
    write(tmp_path / "tests/test_a.py", text)
    write(tmp_path / ".venv/pyvenv.cfg", "")
    write(tmp_path / ".venv/lib.py", "")
    files = Sources(tmp_path).that_decide(tmp_path / "tests/test_a.py")
    own = {file.relative_to(tmp_path).as_posix() for file in files if file.is_relative_to(tmp_path)}
    assert own == found | {"tests/test_a.py"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("open('data.json')", {"data.json"}),
        ("open(f'tests/data/{name}.csv')", {"tests/data"}),
        ("HERE / 'data' / 'one.csv'", {"tests/data"}),
        ("Path('tests/data/one.csv')", {"tests/data/one.csv"}),
        ("(HERE / '../data.json').read_text()", {"data.json"}),
        ("Path('..', '.', '', '/', 'tests', '../tests', './')", set()),
        ("'none.json', 'a\\0b', 'data.json\\n', '../../data.json', '/data.json', " + repr("x" * 5000), set()),
        ("import helper", {"helper.py", "named-by-helper.yaml"}),
    ],
)
def test_what_strings_name_of_the_project_decides_too(tmp_path: Path, text: str, found: set[str]) -> None:
    write(tmp_path / "data.json", "{}")
    root = tmp_path / "project"
    for name in ("data.json", "tests/data/one.csv", "tests/data/two.csv", "named-by-helper.yaml"):
        write(root / name, "1")
    write(root / "helper.py", "read('named-by-helper.yaml')")
    write(root / "tests/test_a.py", text)
    files = Sources(root).that_decide(root / "tests/test_a.py")
    assert {file.relative_to(root).as_posix() for file in files} == found | {"tests/test_a.py"}


def test_data_is_compared_by_content_and_once_it_is_large_by_size_and_time(
    pytestconfig: pytest.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "_MOST_READ", 10)
    fingerprints, data = Fingerprints(tmp_path / "cache"), tmp_path / "data"
    for name in ("a", "b"):
        write(data / name, name * 8)

    def state(path: Path) -> str:
        return fingerprints.of_test([path], pytestconfig)

    for path in (data, data / "a"):
        before = state(path)
        os.utime(data / "a", (1, 1))
        assert state(path) == before
        write(data / "a", f"{path}"[-8:])
        assert state(path) != before
    before = state(data)
    os.utime(data / "b", (1, 1))
    assert state(data) != before
    assert state(tmp_path / "gone") != state(tmp_path / "gone")


def test_the_packages_that_a_test_is_in_decide_too(tmp_path: Path) -> None:
    for name in ("a/__init__.py", "a/b/__init__.py", "a/b/test_it.py", "a/c/__init__.py", "__init__.py"):
        write(tmp_path / "project" / name, "")
    files = Sources(tmp_path / "project").that_decide(tmp_path / "project/a/b/test_it.py")
    names = {file.relative_to(tmp_path / "project").as_posix() for file in files}
    assert names == {"__init__.py", "a/__init__.py", "a/b/__init__.py", "a/b/test_it.py"}


def test_the_files_of_a_test_are_all_that_it_imports(tmp_path: Path) -> None:
    for name, text in {
        "pkg/__init__.py": "",
        "pkg/deep.py": "import other\nWARNED_OF = '\\d'",
        "other.py": "",
        "named.py": "",
        "tests/conftest.py": "pytest_plugins = ['named']",
        "conftest.py": "",
        "tests/test_a.py": "from pkg import deep",
        "tests/test_b.py": "",
    }.items():
        write(tmp_path / name, text)
    test = tmp_path / "tests/test_a.py"
    found = Sources(tmp_path).with_imported(test, *conftests(test, tmp_path))
    names = {file.relative_to(tmp_path).as_posix() for file in found}
    assert names == {
        *("conftest.py", "tests/conftest.py", "tests/test_a.py", "named.py"),
        *("pkg/__init__.py", "pkg/deep.py", "other.py"),
    }
