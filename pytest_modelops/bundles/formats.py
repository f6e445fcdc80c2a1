"""Which format a bundle has, and what its files declare. Bundles are only read; `archive` unpacks them first."""

from __future__ import annotations

import dataclasses
import enum
import functools
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from pytest_modelops.bundles import archive, contents, wheel_tags, wires
from pytest_modelops.bundles.documents import unreadable_is_malformed
from pytest_modelops.bundles.found import REQUIREMENTS, Found, look
from pytest_modelops.bundles.metadata import EntryPoint, Metadata, RequiresPython
from pytest_modelops.bundles.requirements import Requirements
from pytest_modelops.bundles.unread import unread
from pytest_modelops.bundles.wheel_files import WheelFile
from pytest_modelops.bundles.wires import Wire
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import MalformedBundle


class Format(enum.Enum):
    """How a bundle contains what it needs. If several apply, the first is reported; see `_formats`."""

    NESTED = "nested"
    MIXED = "mixed"
    PACKAGED = "packaged"
    REQUIREMENTS = "requirements"
    EXISTING_WHEELS = "existing_wheels"
    PURE_PYTHON = "pure_python"


_LOOKED_FOR = (
    f"a pyproject.toml or setup.py; a {REQUIREMENTS}; wheels (*.whl), at any depth; "
    "modules and packages whose names can be imported; one directory that holds any of these"
)
_SHOWN = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A bundle, as read.

    Attributes:
        path: the directory in which its contents begin, absolute; of an archive, below the one it was unpacked into.
        format: the first that applies.
        why: what makes it that format, one phrase.
        pythons: which Pythons its projects admit, and where each says so.
        requirements: what is installed: names, URLs and absolute paths; see `requirements_for`.
        required: what its requirements files say, with constraints and hashes.
        dependencies: what its own code declares; `None` when only a build can tell.
        roots: the directories on the import path that hold its modules.
        modules: dotted name → file, absolute, of the modules that must be found once it is installed. The file of a
            module in a wheel is the wheel.
        loose: those modules that are not installed, but found when the bundle's directory is on the path.
        projects: the directories of what has a build.
        wheels: the wheels in it.
        wire: the function that runs its entry points; `None` when none is declared.
        others: what may declare it instead, which its files do not show: dependencies, or its build.
        unpacked: of an archive, the directory that it was unpacked into, and the archive.
    """

    path: Path
    format: Format
    why: str
    pythons: tuple[RequiresPython, ...]
    requirements: tuple[str, ...]
    required: Requirements
    dependencies: tuple[str, ...] | None
    roots: tuple[Path, ...]
    modules: Mapping[str, Path]
    loose: Mapping[str, Path]
    projects: tuple[Path, ...]
    wheels: tuple[WheelFile, ...]
    wire: Wire | None
    others: tuple[str, ...]
    unpacked: tuple[Path, Path] | None = None

    @property
    def top_level(self) -> tuple[str, ...]:
        """The names that a user imports, sorted."""
        return tuple(sorted({name.partition(".")[0] for name in self.modules}))

    def requirements_for(self, python: Version) -> tuple[str, ...]:
        """Return what an installer gets for workers with this Python; of each distribution's wheels, one.

        Lines of a requirements file, see `Backend.wheelhouse`.
        """
        unchosen = {wheel.path for wheel in self.wheels}
        unchosen -= {wheel.path for wheel in wheel_tags.chosen(self.wheels, python)}
        return self.required.for_installer([line for line in self.requirements if Path(line) not in unchosen])

    def shown(self, text: str) -> str:
        """Return a text for people; a file of an archive is named as that, not as the copy that was unpacked."""
        return _as_of_archive(text, *self.unpacked) if self.unpacked else text

    @functools.cached_property
    def unread(self) -> tuple[str, ...]:
        """The lists of packages in it that no installer reads, each with what it lists."""
        places = dict.fromkeys((self.path, *self.projects))
        return tuple(text for place in places for text in unread(place, self.required.files))

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256, hexadecimal, of all that a build or an installer reads.

        Raises:
            MalformedBundle: a file cannot be read.
        """
        return contents.digest(self.path)

    def file_of(self, module: str) -> Path | None:
        """Return the file of a module, also of one that is not installed; runners work in the bundle's directory."""
        files = (contents.file_of(module, root) for root in (*self.roots, self.path))
        return self.modules.get(module) or next(filter(None, files), None)

    def owns(self, module: str) -> bool:
        """Whether no other distribution has a module's top-level name."""
        top = module.partition(".")[0]
        return (
            module in self.modules
            or any(name.partition(".")[0] == top for name, file in self.modules.items() if file.suffix != ".whl")
            or self.file_of(top) is not None
            or self.has_directory(top)
        )

    def split(self, path: str) -> tuple[str, str]:
        """Split `package.module.Class` into a module of the bundle, the longest that it has, and the rest."""
        parts = path.split(".")
        for count in range(len(parts), 0, -1):
            module = ".".join(parts[:count])
            if self.file_of(module) is not None or self.has_directory(module):
                return module, ".".join(parts[count:])
        return path, ""

    def has_directory(self, module: str) -> bool:
        """Whether a package has a directory; it needs no file of its own."""
        return any(root.joinpath(*module.split(".")).is_dir() for root in (*self.roots, self.path))


def read(
    path: Path,
    unpacked: Path | None = None,
    *,
    indexes: Collection[str] | None = None,
    deadline: Deadline | None = None,
) -> Source:
    """Read a bundle: a directory, an archive, a wheel or an sdist.

    Args:
        unpacked, deadline: see `archive.unpack`.
        indexes: see `requirements.read`.

    Raises:
        MalformedBundle: it has no known format, or something in it is malformed or cannot be read.
        TimedOut: another process was unpacking it until the deadline.
    """
    if not path.exists():
        raise MalformedBundle(f"{path} does not exist; a bundle is a directory or an archive")
    with unreadable_is_malformed():
        if path.is_dir():
            return _source(path, look(path.resolve(), indexes=indexes))
        directory = archive.unpack(path, unpacked, deadline=deadline).resolve()
        try:
            source = _source(path, look(directory, archive.name_of(path), indexes))
        except MalformedBundle as error:
            raise MalformedBundle(_as_of_archive(str(error), directory, path)) from None
        return dataclasses.replace(source, unpacked=(directory, path))


def _as_of_archive(text: str, directory: Path, path: Path) -> str:
    return text.replace(f"{directory}/", f"{path}/").replace(str(directory), str(path))


def _source(path: Path, found: Found) -> Source:
    formats = _formats(found)
    if not formats - {Format.NESTED}:
        raise MalformedBundle(f"{path} has no known format. Looked for: {_LOOKED_FOR}. Found: {_listing(found)}")
    is_package = (found.directory / "__init__.py").exists() and not found.has_wire
    if is_package and formats <= {Format.NESTED, Format.PURE_PYTHON}:
        raise MalformedBundle(
            f"{path} is itself a package, since it has an __init__.py, and cannot be imported by its name; "
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
        format=next(one for one in Format if one in formats),
        why=f"it has {found.why}",
        pythons=tuple(one.requires_python for one in metadatas if one.requires_python),
        requirements=_requirements(found),
        required=found.required,
        dependencies=_dependencies(found, metadatas),
        roots=roots,
        modules={**modules, **found.loose},
        loose=found.loose,
        projects=tuple(project.directory for project in found.projects),
        wheels=found.wheels,
        wire=wires.find(found.directory, _wires(found, metadatas), roots),
        others=_others(found, metadatas),
    )


def _formats(found: Found) -> set[Format]:
    """Return every format that applies."""
    applies = {
        Format.NESTED: found.is_nested,
        Format.MIXED: found.projects and found.requirements_files,
        Format.PACKAGED: found.projects,
        Format.REQUIREMENTS: found.requirements_files,
        Format.EXISTING_WHEELS: found.wheels,
        Format.PURE_PYTHON: found.loose,
    }
    return {one for one, reason in applies.items() if reason}


def _requirements(found: Found) -> tuple[str, ...]:
    """Return every project, every wheel and every line of requirements, each once."""
    lines = found.required.lines
    paths = [*(project.directory for project in found.projects), *(wheel.path for wheel in found.wheels)]
    mentioned = {re.sub(r"\[[^/]*\]$", "", line) for line in lines} | {line.partition(" @ ")[2] for line in lines}
    own = [str(path) for path in paths if not {str(path), path.as_uri()} & mentioned]
    return tuple(dict.fromkeys([*own, *lines]))


def _dependencies(found: Found, metadatas: Sequence[Metadata]) -> tuple[str, ...] | None:
    known = [*found.required.lines, *(line for wheel in found.wheels for line in (wheel.name, *wheel.dependencies))]
    for one in metadatas:
        if one.dependencies is None:
            return None
        known += one.dependencies
    return tuple(known)


def _others(found: Found, metadatas: Sequence[Metadata]) -> tuple[str, ...]:
    dependencies = _dependencies(found, metadatas)
    built = dependencies is None or any(one.wires is None for one in metadatas)
    own = {wheel.name for wheel in found.wheels}
    names = {distribution_of(line) for line in dependencies or ()}
    return (*(["what its build declares"] if built else []), *sorted(names - own))


def distribution_of(requirement: str) -> str:
    """Return the canonical name of what a requirement asks for."""
    try:
        return canonicalize_name(Requirement(requirement).name)
    except InvalidRequirement:  # a path, or the bare name in Poetry's table
        return canonicalize_name(Path(requirement).name)


def _wires(found: Found, metadatas: Sequence[Metadata]) -> list[EntryPoint]:
    """Return the entry points of all that is installed, since a runner finds every one of them."""
    declared = [*(one.wires or () for one in metadatas), *(wheel.wires for wheel in found.wheels)]
    return list({point.value: point for points in declared for point in points}.values())


def _listing(found: Found) -> str:
    names = sorted(f"{file.name}/" if file.is_dir() else file.name for file in found.directory.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    where = f", in {'/'.join(found.down)}" if found.down else ""
    return f"{', '.join(names[:_SHOWN])}{more}{where}" if names else f"an empty directory{where}"
