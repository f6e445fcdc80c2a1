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
    found: dict[Path, None] = {}
    left = [constraints] if constraints is not None else []
    while left:
        file = left.pop()
        if file not in found:
            found[file] = None
            options = (option_of(line) for line in _lines(file) if line.startswith("-"))
            left += [file.parent / value for name, value in options if name in _NAMES_A_FILE and "://" not in value]
    return list(found)


def requirements_of(constraints: Path | None) -> Iterator[Requirement]:
    """Yield what a constraints file, and those that it names, ask for."""
    for line in (line for file in files_of(constraints) for line in _lines(file)):
        with contextlib.suppress(InvalidRequirement):  # an option
            yield Requirement(line.partition(" --")[0].strip())


def _lines(file: Path) -> list[str]:
    with contextlib.suppress(MalformedBundle):
        return [line for _, line in logical_lines(read_text(file))]
    return []
