"""How a red cell differs from a green one, as changes that can be made one by one, and the cells between the two."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping

from packaging.version import Version

from pytest_modelops.environments.pins import pins
from pytest_modelops.environments.releases import PACKAGES
from pytest_modelops.errors import WrongInput
from pytest_modelops.report.changes import Drift
from pytest_modelops.report.model import CellReport

PYTHON, DASK, CELL = "Python", "Dask", "Cell"
"""Names of changes that are none of a package, whose names are in small letters."""
_Versions = Mapping[str, str]
"""Versions of a package, by the minor version of the Python of its environment."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
    """A cell with some of the changes.

    Attributes:
        id: of the cell.
        python, dask: its versions; empty for a cell that has to be in the configuration, because its roles may differ.
        constraints: lines of a constraints file.
    """

    id: str
    python: str = ""
    dask: str = ""
    constraints: tuple[str, ...]


class Difference:
    """How two cells differ.

    Python and Dask are changes of their own if neither cell is a skew cell; else the versions of all roles are one
    change. A package that only one of the two has follows from other changes, so it is none.

    Attributes:
        changes: in the order in which they are tried: packages first, since a new package fits an old Python more often
            than an old package a new Python.
        beyond: packages that differ and that no constraint changes, since they come from a file or a repository.

    Raises:
        WrongInput: the report does not have what is installed in one of them, or they do not differ.
    """

    def __init__(self, green: CellReport, red: CellReport) -> None:
        self._green, self._red = green, red
        self._before, self._after = _packages(green), _packages(red)
        self._skew = green.skew or red.skew
        self._pythons = _pythons(green, red)
        outside = _from_elsewhere(green) | _from_elsewhere(red)
        self._pinned = sorted((self._before.keys() | self._after.keys()) - outside - set(PACKAGES))
        both = [name for name in self._pinned if name in self._before and name in self._after]
        found = [Drift(name, _shown(self._before[name]), _shown(self._after[name])) for name in both]
        if self._skew:
            found.append(Drift(CELL, green.id, red.id))
        else:
            found += [Drift(DASK, green.dask, red.dask), Drift(PYTHON, *self._pythons)]
        self.changes = tuple(one for one in found if one.old != one.new)
        versions = [(_shown(self._before.get(name, {})), _shown(self._after.get(name, {}))) for name in sorted(outside)]
        self.beyond = tuple(
            Drift(name, old, new) for name, (old, new) in zip(sorted(outside), versions, strict=True) if old != new
        )
        if not self.changes:
            raise WrongInput(
                f"{red.id} and the green {green.id} have the same Python, Dask and versions of packages, so there is "
                "nothing to bisect"
            )

    def mixture(self, chosen: Collection[Drift]) -> Mixture:
        """Return the green cell with some of the changes."""
        names = {change.name for change in chosen}
        lines = [
            line
            for name in self._pinned
            for line in _lines(name, self._after if name in names or name not in self._before else self._before)
        ]
        if self._skew:
            cell = self._red if CELL in names else self._green
            return Mixture(id=cell.id, constraints=tuple(lines))
        python = self._pythons[PYTHON in names]
        dask = (self._red if DASK in names else self._green).dask
        return Mixture(id=f"py{python}-dask{dask}", python=python, dask=dask, constraints=tuple(lines))


def _packages(cell: CellReport) -> Mapping[str, _Versions]:
    found: dict[str, dict[str, str]] = {}
    for python, name, version in _installed(cell):
        versions = found.setdefault(name, {})
        if versions.setdefault(python, version) != version:
            raise WrongInput(
                f"roles of {cell.id} have both {name} {versions[python]} and {version} for Python {python}, which no "
                "constraint can ask for"
            )
    if not found:
        raise WrongInput(f"the report has no lock of {cell.id}: its check `resolve` has to pass")
    return found


def _installed(cell: CellReport) -> Iterator[tuple[str, str, str]]:
    """Yield minor version of Python, name and version of each package in each environment."""
    known = [one for one in cell.environments if "requirements" in one]
    for environment in known:
        for pin in pins(environment["requirements"]):
            yield _minor(environment["python"]), pin.name, str(pin.version or pin.requirement.url)
    if not known:  # it broke at `install`
        for line in cell.lock:
            name, _, version = line.partition("==")
            yield _minor(cell.python), name, version


def _from_elsewhere(cell: CellReport) -> set[str]:
    """Return the packages whose file is named by a URL or a path, which no constraint on a version changes."""
    requirements = (one.get("requirements", "") for one in cell.environments)
    return {pin.name for text in requirements for pin in pins(text) if pin.requirement.url}


def _pythons(green: CellReport, red: CellReport) -> tuple[str, str]:
    """Return the Pythons of both as they were planned, or to the patch release if only that differs."""
    if green.python == red.python:
        before, after = ({one["python"] for one in cell.environments if "python" in one} for cell in (green, red))
        if len(before) == len(after) == 1 and before != after:
            return before.pop(), after.pop()
    return green.python, red.python


def _minor(python: str) -> str:
    return ".".join(map(str, Version(python).release[:2]))


def _shown(versions: _Versions) -> str | None:
    distinct = sorted(set(versions.values()))
    if len(distinct) > 1:
        return ", ".join(f"{version} (Python {python})" for python, version in sorted(versions.items()))
    return distinct[0] if distinct else None


def _lines(name: str, packages: Mapping[str, _Versions]) -> Iterator[str]:
    versions = packages[name]
    if len(set(versions.values())) == 1:
        yield f"{name}=={next(iter(versions.values()))}"
        return
    for python, version in sorted(versions.items()):
        yield f"{name}=={version} ; python_version == '{python}'"
