"""The rules of who may import whom: downwards only, and what runs in a cell stands alone."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_modelops

ROOT = Path(pytest_modelops.__file__).parent

LAYERS = (
    ("errors", "results", "deadline", "logs", "incell"),
    ("matrix",),
    ("environments",),
    ("agent", "bundles", "cluster", "shipping"),
    ("checks",),
    ("live",),
    (
        *(
            "options",
            "readers",
            "tables",
            "bundle_settings",
            "container_settings",
            "plugin_settings",
            "settings",
        ),
        *("progress", "fixtures", "markers", "ladder", "hookspecs", "report"),
    ),
    ("matrix_run",),
    ("collecting",),
    ("running", "reporting"),
    ("plugin", "__main__"),
)
"""From the ground up. A module imports only from layers below its own, or from its own."""
ALONE: dict[str, set[str]] = {
    "incell/*.py": {"distributed", "dask"},
    "incell/ke[ep]*.py": set(),
    "incell/anchor.py": set(),
    "incell/bundles.py": set(),
    "incell/making.py": set(),
    "incell/placed.py": set(),
    "incell/[cflr]*.py": set(),  # what workers use for bundles, and what runs in a bundle's environment
}
"""Files that run where this package is not: what they may import besides the standard library."""
REPORT_KNOWS = {"results", "matrix", "report", "errors"}
ENGINE = re.compile(r"docker|testcontainers", re.IGNORECASE)
ENGINE_MAY_STAND_IN = {"environments/registry.py", "settings.py", "options.py"}
"""Besides the backend itself, which is a folder because one file would be too long: its registration, the name of its
table, and the flag's help."""

FILES = sorted(file.relative_to(ROOT).as_posix() for file in ROOT.rglob("*.py"))


def imported(file: str) -> Iterator[str]:
    """Dotted names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module is not None
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            # `from pytest_modelops import ladder` imports a module, `from pytest_modelops.ladder import NAME` a name.
            yield from names if node.module == "pytest_modelops" else [node.module]


def ours(file: str) -> set[str]:
    """The parts of this package that a file imports."""
    return {name.split(".")[1] for name in imported(file) if name.startswith("pytest_modelops.")}


def layer(part: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if part in parts)


def part_of(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


@pytest.mark.parametrize("file", [file for file in FILES if file != "__init__.py"])
def test_imports_run_downwards(file: str) -> None:
    upwards = {part for part in ours(file) if layer(part) > layer(part_of(file))}
    assert not upwards, f"{file} imports {sorted(upwards)}, which stand above it"


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("report/")])
def test_reports_know_results_and_nothing_of_how_they_came_about(file: str) -> None:
    assert ours(file) <= REPORT_KNOWS


@pytest.mark.parametrize("pattern", ALONE)
def test_what_runs_in_a_cell_stands_alone(pattern: str) -> None:
    files = [file for file in FILES if Path(file).match(pattern)]
    assert files
    for file in files:
        roots = {name.partition(".")[0] for name in imported(file)}
        assert roots <= sys.stdlib_module_names | ALONE[pattern], file


@pytest.mark.parametrize(
    "file",
    [
        file
        for file in FILES
        if file not in ENGINE_MAY_STAND_IN and not file.startswith("environments/container/")
    ],
)
def test_only_its_own_backend_knows_the_container_engine(file: str) -> None:
    assert ENGINE.findall((ROOT / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "file", ["plugin.py", "options.py", "fixtures.py", "markers.py", "hookspecs.py", "errors.py"]
)
def test_what_pytest_always_loads_imports_only_pytest_and_the_standard_library(file: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    roots = set()
    for node in tree.body:  # not those within functions, nor under TYPE_CHECKING
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            roots.add(node.module.partition(".")[0])
    assert roots <= sys.stdlib_module_names | {"pytest", "pytest_modelops"}
