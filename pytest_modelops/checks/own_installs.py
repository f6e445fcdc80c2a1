"""What a runner that installs a bundle by itself finds in the cell: files, and wheels for every way to do it."""

from __future__ import annotations

import shutil
from pathlib import Path

from pytest_modelops.bundles import contents, formats, metadata
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Wheelhouse
from pytest_modelops.errors import CheckFailed

PINS = "requirements.txt"
"""File beside the wheels: what the bundle needs of them, `name==version` a line (see `remote/runner/installing.py`)."""


def copy(source: formats.Source, directory: Path) -> Path:
    """Copy what belongs to a bundle into a directory, and not the caches and environments beside; returns the copy."""
    target = directory / source.path.name
    for file in contents.files(source.path):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source.path / file, target / file)
    return target


def build_wheels(source: formats.Source, cell: CheckedCell, deadline: Deadline) -> Wheelhouse | None:
    """Wheels of what building a bundle takes on the workers; `None` where nothing of it is built.

    Raises:
        CheckFailed: they cannot be had.
        TimedOut: the deadline passed.
    """
    needed = build_requires(source)
    lock = cell.environments[cell.cell.worker].lock
    try:
        return cell.backend.wheelhouse(needed, lock, deadline=deadline, progress=cell.progress) if needed else None
    except CheckFailed as error:
        raise CheckFailed(
            f"what building {source.path.name!r} takes ({', '.join(needed)}) cannot be had, so that no runner can "
            f"install it by itself: {error}"
        ) from error


def wheels(house: Wheelhouse, builds: Wheelhouse | None, directory: Path) -> Path:
    """A directory with a bundle's wheels, those that building it takes, and a file that says which are the bundle's.

    Args:
        directory: where to make it.
    """
    target = directory / "wheels"
    target.mkdir()
    for one in filter(None, (house, builds)):
        for wheel in one.directory.iterdir():
            shutil.copyfile(wheel, target / wheel.name)
    (target / PINS).write_text("".join(f"{line}\n" for line in house.requirements), encoding="utf-8")
    return target


def build_requires(source: formats.Source) -> tuple[str, ...]:
    """What installing the bundle's projects from their directories takes, as their `[build-system]` says."""
    found: list[str] = []
    for requirement in source.requirements:
        project = Path(requirement)
        if project.is_absolute() and project.is_dir():
            found += metadata.build_requires(project)
    return tuple(dict.fromkeys(found))
