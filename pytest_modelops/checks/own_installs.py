"""What a runner that installs a bundle by itself gets in the cell: the bundle's files, and wheels for them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from pytest_modelops.bundles import contents, formats, metadata
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Lock, Wheelhouse
from pytest_modelops.errors import CheckFailed
from pytest_modelops.remote.runner.installing import PINS


def copy(source: formats.Source, directory: Path) -> Path:
    """Copy a bundle's files, without caches and environments, into a directory; returns the copy."""
    target = directory / source.path.name
    for file in contents.files(source.path):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source.path / file, target / file)
    return target


def build_wheels(source: formats.Source, lock: Lock, cell: CheckedCell, deadline: Deadline) -> Wheelhouse | None:
    """Make the wheels that building a bundle needs on the workers; `None` if nothing of it is built.

    Raises:
        CheckFailed: the index does not have them.
        TimedOut: the deadline passed.
    """
    needed = build_requires(source)
    if not needed:
        return None
    try:
        return cell.backend.wheelhouse(needed, lock, deadline=deadline, progress=cell.progress)
    except CheckFailed as error:
        raise CheckFailed(
            f"no runner can install {source.path.name!r} by itself, because what building it takes "
            f"({', '.join(needed)}) cannot be had: {error}"
        ) from error


def wheels(house: Wheelhouse, builds: Wheelhouse | None, directory: Path) -> Path:
    """Make a directory, in another, of a bundle's wheels, those that building it needs, and `PINS`: what to install."""
    target = directory / "wheels"
    target.mkdir()
    for one in filter(None, (house, builds)):
        for wheel in one.directory.iterdir():
            shutil.copyfile(wheel, target / wheel.name)
    (target / PINS).write_text("".join(f"{line}\n" for line in house.requirements), encoding="utf-8")
    return target


def build_requires(source: formats.Source) -> tuple[str, ...]:
    """Return what installing the bundle's projects needs, according to their `[build-system]`."""
    found: list[str] = []
    for project in (Path(re.sub(r"\[[^/]*\]$", "", line)) for line in source.requirements):
        if project.is_absolute() and project.is_dir():
            found += metadata.build_requires(project)
    return tuple(dict.fromkeys(found))
