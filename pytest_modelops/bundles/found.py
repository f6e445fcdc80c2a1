"""What a bundle's directory holds for workers: requirements, projects, wheels and loose modules.

Finds where the contents begin, which may be some directories down, and refuses what nothing would read.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pytest_modelops.bundles import contents, metadata, requirements, wheel_files, wires
from pytest_modelops.bundles.contents import NO_MODULES_AT_TOP, PROJECT_FILES
from pytest_modelops.bundles.metadata import Metadata
from pytest_modelops.bundles.requirements import Requirements
from pytest_modelops.bundles.wheel_files import WheelFile
from pytest_modelops.errors import MalformedBundle

REQUIREMENTS = "requirements.txt"
_WIRE_FILES = (wires.ROOT_FILE, wires.MANIFEST, wires.SETTINGS)
_BEGINNINGS = (*PROJECT_FILES, REQUIREMENTS, *_WIRE_FILES, "PKG-INFO")
"""Files at the top of a directory in which a bundle begins."""
_DEEPEST = 3
"""How many directories down the contents may begin."""
_DESCRIPTIONS = re.compile(
    r"(readme|licen[cs]e|notice|changelog|authors|manifest)\b.*|.*\.(md|rst)|\..*", re.IGNORECASE
)
"""Files that describe a directory beside them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Project:
    """Something with a build, which makes a wheel of it.

    Attributes:
        directory: its own, absolute.
        roots: the directories on the import path that hold its modules.
        modules: dotted name → file.
    """

    directory: Path
    metadata: Metadata
    roots: tuple[Path, ...]
    modules: Mapping[str, Path]

    @property
    def file(self) -> str:
        """The name of the file that makes it a project."""
        return next(name for name in PROJECT_FILES if (self.directory / name).is_file())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What a bundle holds.

    Attributes:
        directory: where its contents begin, absolute.
        down: the directories on the way there.
        beside: names of what is beside those directories, and not installed.
        requirements_files: every `requirements.txt` that is read.
        required: what they say.
        loose: dotted name → file of the modules outside of projects that are importable from the directory.
    """

    directory: Path
    down: tuple[str, ...]
    beside: tuple[str, ...]
    requirements_files: tuple[Path, ...]
    required: Requirements
    projects: tuple[Project, ...]
    wheels: tuple[WheelFile, ...]
    loose: Mapping[str, Path]

    @property
    def is_nested(self) -> bool:
        """Whether everything is in one directory. In an sdist it always is, so that does not count."""
        return bool(self.down) and not (self.directory / "PKG-INFO").is_file()

    @property
    def has_wire(self) -> bool:
        """Whether a file at the top declares a wire function."""
        return any((self.directory / name).is_file() for name in _WIRE_FILES)

    @property
    def why(self) -> str:
        """All of it in one phrase."""
        files = [project.directory / project.file for project in self.projects]
        parts = []
        for file in (*files, *self.requirements_files):
            within = "" if file.parent == self.directory else f" in {file.parent.relative_to(self.directory)}"
            parts.append(f"a {file.name}{within}")
        tops = {name.partition(".")[0] for name in self.loose}
        modules = sum(top in self.loose and not self.loose[top].name.startswith("__init__.") for top in tops)
        counts = {"wheel": len(self.wheels), "loose module": modules, "loose package": len(tops) - modules}
        parts += [f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items() if count]
        text = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)
        if not self.down:
            return text
        depth = "one directory" if len(self.down) == 1 else f"{len(self.down)} directories"
        beside = f" (beside it, and not taken: {', '.join(self.beside)})" if self.beside else ""
        return f"{text}, {depth} down in {'/'.join(self.down)}{beside}"


def look(directory: Path, name: str = "", indexes: Collection[str] | None = None) -> Found:
    """Look into a bundle's directory.

    Args:
        directory: absolute.
        name: of the archive that was unpacked there; a single directory of that name is what was packed, no package.
        indexes: see `requirements.read`.

    Raises:
        MalformedBundle: something in it is malformed, or would be left out.
        OSError: a directory cannot be read.
    """
    down: list[str] = []
    beside: list[str] = []
    here = directory
    while len(down) < _DEEPEST and (inner := _only_directory(here, name)):
        beside += [path.name for path in _entries(here) if path != inner]
        down.append(inner.name)
        here = inner
    files = list(contents.files(here))
    projects = _projects(here, files)
    places = dict.fromkeys((here, *(project.directory for project in projects)))
    files_of = tuple(place / REQUIREMENTS for place in places if (place / REQUIREMENTS).is_file())
    required = requirements.read(files_of, here, indexes)
    lines = required.lines
    projects = [one for one in projects if one.directory == here or not _is_conditional(one.directory, lines)]
    if not files_of and not any(project.directory == here for project in projects):
        _refuse_unread(here, files)
    return Found(
        directory=here,
        down=tuple(down),
        beside=tuple(beside),
        requirements_files=files_of,
        required=required,
        projects=tuple(projects),
        wheels=_wheels(here, files, lines),
        loose=_loose(here, projects),
    )


def _entries(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.iterdir()) if not contents.is_litter(path.name)]


def _only_directory(here: Path, name: str) -> Path | None:
    """Return the directory that holds everything, if there is one and it is not itself something to import."""
    directories = [path for path in _entries(here) if path.is_dir()]
    others = [path for path in _entries(here) if not path.is_dir()]
    if len(directories) != 1 or not all(_DESCRIPTIONS.fullmatch(path.name) for path in others):
        return None
    inner = directories[0]
    if (inner / "__init__.py").exists() or inner.name.startswith("."):
        return None
    begins = any((inner / file).is_file() for file in _BEGINNINGS) or any(inner.glob("*.whl"))
    is_package = inner.name.isidentifier() and inner.name not in {name, "src"}
    return inner if begins or not is_package else None


def _projects(here: Path, files: Sequence[Path]) -> list[Project]:
    """Read the directory itself if it has a build, else the highest directories below it that have one."""
    if contents.is_project(here):
        return [_project(here)]
    highest: list[Path] = []
    for directory in sorted({file.parent for file in files if file.name in PROJECT_FILES and not _is_aside(file)}):
        if contents.is_project(here / directory) and not any(directory.is_relative_to(other) for other in highest):
            highest.append(directory)
    return [_project(here / directory) for directory in highest]


def _project(directory: Path) -> Project:
    known = metadata.read(directory)
    roots = _roots(directory, known)
    modules: dict[str, Path] = {}
    for root in roots:
        others = {other.relative_to(root).parts[0] for other in roots if other != root and other.is_relative_to(root)}
        modules |= contents.modules(root, skip=others)
    return Project(directory=directory, metadata=known, roots=roots, modules=modules)


def _roots(directory: Path, known: Metadata) -> tuple[Path, ...]:
    """Return the directories that a project names; else `src` if it holds modules and is no package; else its own."""
    named = [(directory / root).resolve() for root in known.roots if "\0" not in root]
    if inside := [root for root in named if root.is_dir() and root.is_relative_to(directory)]:
        return tuple(dict.fromkeys(inside))
    src = directory / "src"
    is_layout = src.is_dir() and not (src / "__init__.py").exists() and contents.modules(src)
    return (src,) if is_layout else (directory,)


def _wheels(here: Path, files: Sequence[Path], lines: Sequence[str]) -> tuple[WheelFile, ...]:
    """Read every wheel that is neither a package's data nor required under a condition."""
    found: dict[str, list[WheelFile]] = {}
    for path in (here / file for file in files if file.suffix == ".whl" and not _is_aside(file)):
        if (path.parent / "__init__.py").exists() or _is_conditional(path, lines):
            continue
        wheel = wheel_files.read(path)
        found.setdefault(wheel.name, []).append(wheel)
        other = found[wheel.name][0]
        if other.version != wheel.version:
            raise MalformedBundle(
                f"{other.path.relative_to(here)} and {wheel.path.relative_to(here)} in {here} are two versions of "
                f"{wheel.name}; keep one"
            )
    return tuple(sorted((wheel for wheels in found.values() for wheel in wheels), key=lambda wheel: wheel.path))


def _loose(here: Path, projects: Sequence[Project]) -> dict[str, Path]:
    inside = [place for project in projects for place in (*project.roots, project.directory) if place != here]
    if any(here in project.roots for project in projects):
        return {}
    return {
        name: file
        for name, file in contents.modules(here).items()
        if not any(file.is_relative_to(directory) for directory in inside)
    }


def _refuse_unread(here: Path, files: Sequence[Path]) -> None:
    """Refuse requirements that nothing reads."""
    for file in (file for file in files if file.name == REQUIREMENTS and not _is_aside(file)):
        if not any(contents.is_project(here / parent) for parent in file.parents):
            raise MalformedBundle(
                f"{file} in {here} would be ignored, because other files are beside {file.parts[0]}; "
                f"move it to the top of the bundle, or ship {file.parent} alone"
            )


def _is_aside(file: Path) -> bool:
    """Whether a file belongs to tests, docs and the like."""
    return file.parts[0] in NO_MODULES_AT_TOP - {"setup.py"} or "tests" in file.parts


def _is_conditional(path: Path, lines: Sequence[str]) -> bool:
    """Whether a requirement with a marker names a path."""
    return any(";" in line and (str(path) in line or path.as_uri() in line) for line in lines)
