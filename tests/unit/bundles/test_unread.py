"""What lists packages in a bundle and is read by no installer of it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops.bundles import formats
from pytest_modelops.bundles.bundle import Bundle, Patterns
from pytest_modelops.bundles.unread import options_in_dependencies, unread
from pytest_modelops.checks.preflight import run
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import MalformedBundle
from tests.unit.bundles.files import PROJECT, WIRE, write_files
from tests.unit.bundles.test_preflight import Check, check  # noqa: F401 - a fixture

CONDA = "name: model\nchannels: [conda-forge]\ndependencies:\n  - python=3.12\n  - numpy\n  - pip:\n      - scipy>=1\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"environment.yml": CONDA}, ["environment.yml (python, numpy, scipy)"]),
        ({"requirements.in": "numpy>=2\n", "Pipfile": ""}, ["Pipfile", "requirements.in (numpy)"]),
        (
            {"pyproject.toml": PROJECT + '[dependency-groups]\nrun = ["numpy>=2"]\ndev = [{include-group = "run"}]'},
            ["[dependency-groups] of pyproject.toml (numpy>=2)"],
        ),
        (
            {"pyproject.toml": PROJECT + '[project.optional-dependencies]\nfast = ["numba"]'},
            ["[project.optional-dependencies] of pyproject.toml (numba)"],
        ),
        (
            {"pyproject.toml": PROJECT + '[tool.uv.workspace]\nmembers = ["libs/*"]\n[tool.uv.sources.a]\npath = "a"'},
            ["[tool.uv.sources] of pyproject.toml (a)", "[tool.uv.workspace] of pyproject.toml (libs/*)"],
        ),
        (
            {"pyproject.toml": "[tool.poetry.group.dev.dependencies]\nx = 1"},
            ["[tool.poetry.group] of pyproject.toml (x)"],
        ),
        ({"pyproject.toml": "[broken", "requirements.txt": "numpy"}, []),
    ],
)
def test_lists_of_packages_that_are_not_read(tmp_path: Path, files: dict[str, str], expected: list[str]) -> None:
    assert list(unread(write_files(tmp_path, files))) == expected


def test_a_file_that_is_followed_is_read(tmp_path: Path) -> None:
    write_files(tmp_path, {"requirements.txt": "-r requirements-run.txt", "requirements-run.txt": "numpy"})
    source = formats.read(tmp_path)
    assert source.unread == ()
    assert unread(tmp_path) == ("requirements-run.txt (numpy)",)


SOURCES = PROJECT + 'dependencies = ["Own-Lib>=1", "numpy"]\n[tool.uv.sources]\nown_lib = '


@pytest.mark.parametrize(
    "source", ['{ path = "../own" }', '{ git = "https://example.org/own" }', "{ workspace = true }"]
)
def test_a_source_that_no_wheel_carries_is_reported(check: Check, source: str) -> None:  # noqa: F811
    reported = check({"pyproject.toml": SOURCES + source, "x.py": ""})
    kind = source.split()[1]
    assert reported.startswith(f"the dependency 'Own-Lib' comes from {kind} = ")
    assert "[tool.uv.sources] in <bundle>/pyproject.toml, which no wheel carries" in reported


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ('{ index = "internal" }', {}),
        (
            '{ path = "libs/own" }',
            {"requirements.txt": "./libs/own", "libs/own/pyproject.toml": '[project]\nname="own-lib"'},
        ),
        ('{ git = "https://example.org/own" }', {"requirements.txt": "own_lib @ git+https://example.org/own"}),
    ],
)
def test_a_package_that_is_the_one_that_is_meant_is_not(check: Check, source: str, files: dict[str, str]) -> None:  # noqa: F811
    assert check({"pyproject.toml": SOURCES + source, "x.py": "", **files}) == ""


def test_options_among_dynamic_dependencies_are_named_by_line(tmp_path: Path) -> None:
    dynamic = '[tool.setuptools.dynamic]\ndependencies = { file = ["needs.txt"] }'
    write_files(
        tmp_path, {"pyproject.toml": dynamic, "needs.txt": "# all\nnumpy\n\n--index-url https://example.org/\n"}
    )
    [problem] = options_in_dependencies(tmp_path)
    assert problem.startswith("needs.txt, line 4: '--index-url https://example.org/' is an option of pip.")


# Files of an archive.


@pytest.mark.parametrize("files", [{"requirements.txt": "../lib"}, {"pyproject.toml": PROJECT, "setup.py": "("}])
def test_messages_about_an_archive_name_no_file_of_the_cache(tmp_path: Path, files: dict[str, str]) -> None:
    from tests.unit.bundles.files import PACKERS

    path = tmp_path / "model.zip"
    path.write_bytes(
        PACKERS[".zip"](*{name: text.encode() for name, text in {**files, "wire.py": WIRE}.items()}.items())
    )
    with pytest.raises(MalformedBundle) as raised:
        formats.read(path, tmp_path / "cache")
    assert str(tmp_path / "cache") not in str(raised.value)
    (tmp_path / "good.zip").write_bytes(PACKERS[".zip"](("pyproject.toml", PROJECT.encode()), ("x.py", b"")))
    source = formats.read(tmp_path / "good.zip", tmp_path / "cache")
    assert source.shown(f"see {source.path / 'x.py'} in {source.path}") == re.sub(
        "DIR", str(tmp_path / "good.zip"), "see DIR/x.py in DIR"
    )


@pytest.mark.parametrize(
    ("files", "noted"),
    [
        ({"environment.yml": "dependencies:\n  - toolz\n"}, True),
        ({"environment.yml": "dependencies:\n  - toolz\n", "requirements.txt": "toolz\n"}, False),
        ({"pyproject.toml": f"{PROJECT}[dependency-groups]\ndev = ['pytest']\n"}, False),
    ],
)
def test_what_alone_lists_what_runs_is_noted(tmp_path: Path, files: dict[str, str], noted: bool) -> None:
    path = write_files(tmp_path / "bundle", {"wire.py": WIRE, **files})
    backend = SimpleNamespace(python=lambda *_, **__: Version("3.12.1"), indexes=None)
    ids = SimpleNamespace(id="py3.12", worker=None)
    cell: Any = SimpleNamespace(backend=backend, cell=ids, progress=print, unpacked=None, patterns=Patterns())
    note = str(run(Bundle(name="b", path=path), cell, Deadline(30)).get("note", ""))
    assert ("no installer reads environment.yml (toolz)" in note) is noted
