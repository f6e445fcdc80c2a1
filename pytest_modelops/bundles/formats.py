"""Which format a bundle has, and what its files say. It is only read; an archive is unpacked elsewhere first."""

from __future__ import annotations

import dataclasses
import enum
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.version import Version

from pytest_modelops.bundles import archive, contents, wheel_tags, wires
from pytest_modelops.bundles.found import REQUIREMENTS, Found, look
from pytest_modelops.bundles.metadata import WIRE_GROUP, Metadata, RequiresPython
from pytest_modelops.bundles.wheel_files import WheelFile
from pytest_modelops.bundles.wires import Wire
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import MalformedBundle

__all__ = ["Format", "RequiresPython", "Source", "Wire", "read"]


class Format(enum.Enum):
    """How a bundle brings what it needs."""

    PACKAGED = "packaged"
    REQUIREMENTS = "requirements"
    EXISTING_WHEELS = "existing_wheels"
    PURE_PYTHON = "pure_python"
    MIXED = "mixed"
    NESTED = "nested"


LOOKS_FOR: Mapping[Format, str] = {
    Format.PACKAGED: "a pyproject.toml or setup.py",
    Format.REQUIREMENTS: f"a {REQUIREMENTS}",
    Format.EXISTING_WHEELS: "wheels (*.whl), at any depth",
    Format.PURE_PYTHON: "modules and packages whose names can be imported",
    Format.NESTED: "one directory that holds any of these",
}
"""What tells a format, in words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A bundle, as read.

    Attributes:
        path: the directory in which its contents begin, absolute; of an archive, the one that it was unpacked into.
        format: the one that says most of it.
        why: what was found that tells so, one phrase.
        pythons: which Pythons its projects admit, and where each says so.
        requirements: all that an installer is given, one by one: names, URLs and absolute paths; see
            `requirements_for`.
        dependencies: those that its own code declares; `None` when only a build tells.
        roots: the directories on the import path that hold its modules.
        modules: dotted name → file, absolute, of the modules that must be found once it is installed. Those of a wheel
            have the wheel as their file.
        loose: those of them that no installer is given, and that are found where the bundle's directory is on the path.
        wheels: those that it brings along.
        wire: the function that runs its entry points; `None` when none is declared.
    """

    path: Path
    format: Format
    why: str
    pythons: tuple[RequiresPython, ...]
    requirements: tuple[str, ...]
    dependencies: tuple[str, ...] | None
    roots: tuple[Path, ...]
    modules: Mapping[str, Path]
    loose: Mapping[str, Path]
    wheels: tuple[WheelFile, ...]
    wire: Wire | None

    @property
    def top_level(self) -> tuple[str, ...]:
        """The names that a user imports, sorted."""
        return tuple(sorted({name.partition(".")[0] for name in self.modules}))

    def requirements_for(self, python: Version) -> tuple[str, ...]:
        """What an installer is given for workers with this Python: of wheels of one distribution, the one for them."""
        unchosen = {wheel.path for wheel in self.wheels}
        unchosen -= {wheel.path for wheel in wheel_tags.chosen(self.wheels, python)}
        return tuple(line for line in self.requirements if Path(line) not in unchosen)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256, hexadecimal, over all that a build or an installer reads. Computed once, when first needed.

        Raises:
            MalformedBundle: a file cannot be read.
        """
        return contents.digest(self.path)

    def file_of(self, module: str) -> Path | None:
        """The file of a module, also of one that no installer is asked for but that lies in the directory.

        The runner's working directory is the bundle.
        """
        if found := self.modules.get(module):
            return found
        files = (contents.file_of(module, root) for root in (*self.roots, self.path))
        return next((file for file in files if file), None)

    def owns(self, module: str) -> bool:
        """Whether a module's top-level name is one of this bundle, alone."""
        top = module.partition(".")[0]
        return (
            module in self.modules
            or any(name.partition(".")[0] == top for name, file in self.modules.items() if file.suffix != ".whl")
            or self.file_of(top) is not None
            or self.has_directory(top)
        )

    def has_directory(self, module: str) -> bool:
        """Whether there is a directory for a package, which needs no file of its own."""
        return any(root.joinpath(*module.split(".")).is_dir() for root in (*self.roots, self.path))


def read(path: Path, kept: Path | None = None, *, deadline: Deadline | None = None) -> Source:
    """Read a bundle: a directory, an archive, a wheel or an sdist.

    Args:
        path: of it.
        kept: the directory for what is unpacked of archives; by default in the user's cache.
        deadline: how long another process is awaited that unpacks the same; see `archive.unpack`.

    Raises:
        MalformedBundle: it is neither, of no known format, or something in it is not well formed or not readable.
        TimedOut: another process was unpacking it until the deadline.
    """
    if not path.exists():
        raise MalformedBundle(f"{path} is not a bundle: a bundle is a directory or an archive, and there is nothing")
    with contents.said_of_files():
        if path.is_dir():
            found = look(path.resolve())
        else:
            found = look(archive.unpack(path, kept, deadline=deadline).resolve(), archive.name_of(path))
        return _source(path, found)


def _source(path: Path, found: Found) -> Source:
    parts = _parts(found)
    if not parts:
        looked_for = "; ".join(LOOKS_FOR.values())
        raise MalformedBundle(f"{path} has no known format. Looked for: {looked_for}. Found: {_listing(found)}")
    if parts == {Format.PURE_PYTHON} and (found.directory / "__init__.py").exists() and not found.has_wire:
        raise MalformedBundle(
            f"{path} is itself a package, since it has an __init__.py, and nobody could import it by its name; "
            "ship the directory that it is in"
        )
    metadatas = [project.metadata for project in found.projects]
    own_roots = [root for project in found.projects for root in project.roots]
    is_project = any(project.directory == found.directory for project in found.projects)
    roots = tuple(dict.fromkeys(own_roots if is_project else [found.directory, *own_roots]))
    modules: dict[str, Path] = {}
    for wheel in found.wheels:
        same = [set(other.modules) for other in found.wheels if other.name == wheel.name]
        modules |= {name: wheel.path for name in wheel.modules if all(name in each for each in same)}
    for project in found.projects:
        modules |= project.modules
    return Source(
        path=found.directory,
        format=_format(parts, found),
        why=f"it has {found.why}",
        pythons=tuple(one.requires_python for one in metadatas if one.requires_python),
        requirements=_requirements(found),
        dependencies=_dependencies(found, metadatas),
        roots=roots,
        modules={**modules, **found.loose},
        loose=found.loose,
        wheels=found.wheels,
        wire=wires.find(found.directory, _with_all_wires(found, metadatas), roots),
    )


def _parts(found: Found) -> set[Format]:
    there = {
        Format.PACKAGED: found.projects,
        Format.REQUIREMENTS: found.requirements_files,
        Format.EXISTING_WHEELS: found.wheels,
        Format.PURE_PYTHON: found.loose,
    }
    return {kind for kind, things in there.items() if things}


def _kinds(parts: set[Format], found: Found) -> frozenset[Format]:
    both = {Format.MIXED} if parts >= {Format.PACKAGED, Format.REQUIREMENTS} else set()
    return frozenset(parts | both | ({Format.NESTED} if found.is_nested else set()))


def _format(parts: set[Format], found: Found) -> Format:
    kinds = _kinds(parts, found)
    first = (Format.NESTED, Format.MIXED, Format.PACKAGED, Format.REQUIREMENTS, Format.EXISTING_WHEELS)
    return next((kind for kind in first if kind in kinds), Format.PURE_PYTHON)


def _requirements(found: Found) -> tuple[str, ...]:
    """The sum: every project, every line and every wheel, each once."""
    answer = list(found.lines)
    paths = [*(project.directory for project in found.projects), *(wheel.path for wheel in found.wheels)]
    mentioned = {re.sub(r"\[[^/]*\]$", "", line) for line in answer} | {line.partition(" @ ")[2] for line in answer}
    own = [str(path) for path in paths if not {str(path), path.as_uri()} & mentioned]
    return tuple(dict.fromkeys([*own, *answer]))


def _dependencies(found: Found, metadatas: Sequence[Metadata]) -> tuple[str, ...] | None:
    known = [*found.lines, *(line for wheel in found.wheels for line in (wheel.name, *wheel.dependencies))]
    for one in metadatas:
        if one.dependencies is None:
            return None
        known += one.dependencies
    return tuple(known)


def _with_all_wires(found: Found, metadatas: Sequence[Metadata]) -> Metadata:
    """The entry points of all that is installed, since a runner finds every one of them."""
    declared: dict[str, tuple[str, str]] = {}
    for one in metadatas:
        declared |= {value: (name, one.wires_in) for name, value in one.wires.items()}
    for wheel in found.wheels:
        declared |= {value: (name, f"[{WIRE_GROUP}] of {wheel.path}") for name, value in wheel.wires.items()}
    places = list(dict.fromkeys(where for _, where in declared.values()))
    names = [name for name, _ in declared.values()]
    if len(set(names)) < len(names):
        raise MalformedBundle(f"{' and '.join(places)} have {len(names)} entries ({', '.join(names)}); keep one")
    return Metadata(wires={name: value for value, (name, _) in declared.items()}, wires_in=" and ".join(places))


_SHOWN = 12


def _listing(found: Found) -> str:
    names = sorted(f"{file.name}/" if file.is_dir() else file.name for file in found.directory.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    where = f", in {'/'.join(found.down)}" if found.down else ""
    return f"{', '.join(names[:_SHOWN])}{more}{where}" if names else f"an empty directory{where}"
