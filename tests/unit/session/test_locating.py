"""Failures point to the line of the settings that asks for the bundle or cell."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.version import Version

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.matrix.cell import Cell, PythonVersion, Versions
from pytest_modelops.session.locating import SettingsFile

TEXT = """\
[project]
name = "sim"
python = "3.12"  # not ours

[tool.modelops]
bundles = [
  { path = "bundles/numbers", entrypoint = "wire/run" },
  { path = 'bundles/seir' },
]

[tool.modelops.matrix]
python = [
  "3.12",
  "3.13",
]
dask = ["2024.8.0", "latest"]
exclude = [{ python = "3.13", dask = "2024.8.0" }]
include = [
  { python = "3.14", dask = "2024.8.0" },
  { python = "3.12", dask = "2024.8.0", worker = { python = "3.13" } },
]

[[tool.modelops.bundle]]
path = "3.13"
"""


def versions(python: str, dask: str, request: str = "") -> Versions:
    return Versions(PythonVersion.parse(python), Version(dask), request)


PLAIN = versions("3.12", "2024.8.0")
CELLS = {
    "its Python's own line": (Cell.uniform(PLAIN), '  { python = "3.12", dask = "2024.8.0", worker'),
    "a release that was asked for by word": (Cell.uniform(versions("3.13", "2026.1.0", "latest")), '  "3.13",'),
    "an entry of include": (Cell.uniform(versions("3.14", "2024.8.0")), '  { python = "3.14", dask = "2024.8.0" },'),
    "a cell of the command line": (Cell.uniform(versions("3.10", "2023.1.0")), "[tool.modelops]"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_bundle_has_the_line_of_its_path(file: Path) -> None:
    settings = SettingsFile(file)
    for name, start in {"numbers": '  { path = "bundles/numbers"', "seir": "  { path = 'bundles/seir'"}.items():
        bundle = Bundle(name=name, path=file.parent / "bundles" / name)
        assert TEXT.splitlines()[settings.line_of(Cell.uniform(PLAIN), bundle)].startswith(start)


@pytest.mark.parametrize(("cell", "start"), CELLS.values(), ids=CELLS)
def test_a_cell_has_the_line_that_names_most_of_its_versions(file: Path, cell: Cell, start: str) -> None:
    assert TEXT.splitlines()[SettingsFile(file).line_of(cell, None)].startswith(start)


def test_a_bundle_that_the_file_does_not_name_has_the_line_of_its_cell(file: Path) -> None:
    bundle = Bundle(name="other", path=file.parent / "other")
    cell = Cell.uniform(versions("3.13", "2026.1.0"))
    assert SettingsFile(file).line_of(cell, bundle) == SettingsFile(file).line_of(cell, None)


def test_without_a_file_there_is_no_line(tmp_path: Path) -> None:
    assert not SettingsFile(tmp_path / "pyproject.toml")
