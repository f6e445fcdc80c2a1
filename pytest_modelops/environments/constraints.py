"""Constraints: the file that the settings name, and those that it names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from pytest_modelops.bundles.documents import logical_lines, option_of, read_text
from pytest_modelops.errors import MalformedBundle

_NAMES_A_FILE = {"--requirement", "--constraint"}


def files_of(constraints: Path | None) -> list[Path]:
    """Return a constraints file and all that it names with `-c` or `-r`, directly or not.

    Those that are not there or cannot be read name nothing; uv reports them.
    """
    return list(_read(constraints))


def requirements_of(constraints: Path | None) -> Iterator[Requirement]:
    """Yield what a constraints file, and those that it names, ask for."""
    for line in (line for lines in _read(constraints).values() for line in lines):
        with contextlib.suppress(InvalidRequirement):  # an option
            yield Requirement(line.partition(" --")[0].strip())


def _read(constraints: Path | None) -> dict[Path, list[str]]:
    """Return the lines of these files."""
    found: dict[Path, list[str]] = {}
    left = [constraints] if constraints is not None else []
    while left:
        file = left.pop()
        if file not in found:
            found[file] = _lines(file)
            options = (option_of(line) for line in found[file] if line.startswith("-"))
            left += [file.parent / value for name, value in options if name in _NAMES_A_FILE and "://" not in value]
    return found


def _lines(file: Path) -> list[str]:
    with contextlib.suppress(MalformedBundle):
        return [line for _, line in logical_lines(read_text(file))]
    return []
