"""What a directory holds that somebody wants on workers: requirements, projects, wheels and loose modules.

Finds where the contents begin, which may be a directory or more below, and accounts for all that it sees.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_modelops.bundles import contents, metadata, requirements, wheel_files, wires
from pytest_modelops.bundles.contents import NO_MODULES_AT_TOP, PROJECT_FILES
from pytest_modelops.bundles.metadata import Metadata
from pytest_modelops.bundles.wheel_files import WheelFile
from pytest_modelops.errors import MalformedBundle

REQUIREMENTS = "requirements.txt"
_DEEPEST = 3
"""So many directories down contents are looked for."""
_WORDS = re.compile(r"(readme|licen[cs]e|notice|changelog|authors|manifest)\b.*|.*\.(md|rst)|\..*", re.IGNORECASE)
"""Files that say something of what lies in a directory beside them, and do nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Project:
    """Something with a build, which makes a wheel of it.

    Attributes:
        directory: its own, absolute.
        roots: the directories on the import path that hold its modules.
    """

    directory: Path
    metadata: Metadata
    roots: tuple[Path, ...]
    modules: Mapping[str, Path]

    @property
    def file(self) -> str:
        """The name of the file that tells."""
        return next(name for name in PROJECT_FILES if (self.directory / name).is_file())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What a bundle holds.

    Attributes:
        directory: where its contents begin, absolute; down: the directories on the way there.
        beside: what lies beside those directories, and says nothing to an installer.
        requirements_files: all `requirements.txt` that are read; lines: what they ask for.
        loose: dotted name → file of the modules that no project has, and that are importable from the directory.
    """

    directory: Path
    down: tuple[str, ...]
    beside: tuple[str, ...]
    requirements_files: tuple[Path, ...]
    lines: tuple[str, ...]
    projects: tuple[Project, ...]
    wheels: tuple[WheelFile, ...]
    loose: Mapping[str, Path]

    @property
    def is_nested(self) -> bool:
        """Whether everything lies in a directory, and not because it is an sdist, where it does."""
        return bool(self.down) and not (self.directory / "PKG-INFO").is_file()

    @property
    def has_wire(self) -> bool:
        """Whether a file at its top says what runs its entry points."""
        return any((self.directory / name).is_file() for name in (wires.ROOT_FILE, wires.MANIFEST, wires.SETTINGS))

    @property
    def why(self) -> str:
        """All of it in one phrase."""
        tops = {name.partition(".")[0] for name in self.loose}
        modules = sum(top in self.loose and not _is_package(self.loose[top]) for top in tops)
        parts = [f"a {project.file}{_within(project.directory, self.directory)}" for project in self.projects]
        parts += [f"a {REQUIREMENTS}{_within(file.parent, self.directory)}" for file in self.requirements_files]
        parts += _counted(len(self.wheels), "wheel")
        parts += _counted(modules, "loose module") + _counted(len(tops) - modules, "loose package")
        if not self.down:
            return _listed(parts)
        depth = "one directory" if len(self.down) == 1 else f"{len(self.down)} directories"
        beside = f" (beside it, and not taken: {', '.join(self.beside)})" if self.beside else ""
        return f"{_listed(parts)}, {depth} down in {'/'.join(self.down)}{beside}"


def look(directory: Path, name: str = "") -> Found:
    """Look into a bundle's directory.

    Args:
        directory: absolute.
        name: of the archive that was unpacked there; an only directory of that name is what was packed, not a package.

    Raises:
        MalformedBundle: something in it cannot be read, or would be left out.
        OSError: a directory cannot be read.
    """
    down: list[str] = []
    beside: list[str] = []
    here = directory
    while len(down) < _DEEPEST and (inner := _only_directory(here, name)):
        beside += [
            path.name for path in sorted(here.iterdir()) if path != inner and not contents.is_never_ours(path.name)
        ]
        down.append(inner.name)
        here = inner
    files = list(contents.files(here))
    projects = _projects(here, files)
    required = [file for place in [here, *(p.directory for p in projects)] if (file := place / REQUIREMENTS).is_file()]
    required = list(dict.fromkeys(required))
    lines = tuple(dict.fromkeys(line for file in required for line in requirements.requirements(file, here)))
    projects = [
        project
        for project in projects
        if project.directory == here or not any(_names(line, project.directory) for line in lines if ";" in line)
    ]
    if not required and not any(project.directory == here for project in projects):
        _refuse_unread(here, files)
    return Found(
        directory=here,
        down=tuple(down),
        beside=tuple(beside),
        requirements_files=tuple(required),
        lines=lines,
        projects=tuple(projects),
        wheels=_wheels(here, files, lines),
        loose=_loose(here, projects),
    )


# Where the contents begin.


def _only_directory(here: Path, name: str) -> Path | None:
    """The directory that holds everything, if there is one and it is not itself something to import."""
    entries = [path for path in sorted(here.iterdir()) if not contents.is_never_ours(path.name)]
    directories = [path for path in entries if path.is_dir()]
    others = [path for path in entries if not path.is_dir()]
    if len(directories) != 1 or any(not _WORDS.fullmatch(path.name) for path in others):
        return None
    inner = directories[0]
    if (inner / "__init__.py").exists() or inner.name.startswith("."):
        return None
    is_package = inner.name.isidentifier() and inner.name not in {name, "src"}
    return None if is_package and not _tells(inner) else inner


def _tells(directory: Path) -> bool:
    """Whether something at the top of a directory says that a bundle begins there."""
    answer = (*PROJECT_FILES, REQUIREMENTS, wires.ROOT_FILE, wires.MANIFEST, wires.SETTINGS, "PKG-INFO")
    return any((directory / name).is_file() for name in answer) or bool(list(directory.glob("*.whl")))


# What there is.


def _projects(here: Path, files: Sequence[Path]) -> list[Project]:
    """The directory itself if it has a build, else those highest below it that have one."""
    if any((here / name).is_file() for name in PROJECT_FILES):
        return [_project(here)]
    directories = sorted({file.parent for file in files if file.name in PROJECT_FILES and not _aside(file)})
    highest: list[Path] = []
    for directory in directories:
        if not any(directory.is_relative_to(other) for other in highest):
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
    """The directories that it names, else `src` where that holds modules and is no package itself, else its own."""
    named = [(directory / root).resolve() for root in known.roots if "\0" not in root]
    if inside := [root for root in named if root.is_dir() and root.is_relative_to(directory)]:
        return tuple(dict.fromkeys(inside))
    src = directory / "src"
    is_layout = src.is_dir() and not (src / "__init__.py").exists() and contents.modules(src)
    return (src,) if is_layout else (directory,)


def _wheels(here: Path, files: Sequence[Path], lines: Sequence[str]) -> tuple[WheelFile, ...]:
    """Every wheel that is not a package's data, nor asked for under a condition by a requirement."""
    found: list[WheelFile] = []
    for file in files:
        path = here / file
        if file.suffix != ".whl" or _aside(file) or (path.parent / "__init__.py").exists():
            continue
        if not any(_names(line, path) for line in lines if ";" in line):
            found.append(wheel_files.read(path))
    by_name: dict[str, WheelFile] = {}
    for wheel in found:
        other = by_name.setdefault(wheel.name, wheel)
        if other.version != wheel.version:
            raise MalformedBundle(
                f"{other.path.relative_to(here)} and {wheel.path.relative_to(here)} in {here} are two versions of "
                f"{wheel.name}; keep one"
            )
    return tuple(found)


def _loose(here: Path, projects: Sequence[Project]) -> dict[str, Path]:
    roots = [root for project in projects for root in project.roots]
    if here in roots:
        return {}
    inside = [*roots, *(project.directory for project in projects if project.directory != here)]
    return {
        name: file
        for name, file in contents.modules(here).items()
        if not any(file.is_relative_to(directory) for directory in inside)
    }


def _refuse_unread(here: Path, files: Sequence[Path]) -> None:
    """Refuse requirements that lie where nothing reads them."""
    for file in files:
        if file.name == REQUIREMENTS and not _aside(file) and not _in_project(here, file):
            raise MalformedBundle(
                f"{file} in {here} is read by nothing, since other things lie beside {file.parts[0]}; "
                f"move it to the top of the bundle, or ship {file.parent} alone"
            )


def _in_project(here: Path, file: Path) -> bool:
    return any((here / parent / name).is_file() for parent in file.parents for name in PROJECT_FILES)


def _aside(file: Path) -> bool:
    """Whether a file belongs to tests, docs and the like."""
    return file.parts[0] in NO_MODULES_AT_TOP - {"setup.py"} or "tests" in file.parts


def _names(line: str, path: Path) -> bool:
    """Whether a requirement is a path or the URL of one."""
    return str(path) in line or path.as_uri() in line


# In words.


def _is_package(file: Path) -> bool:
    return file.name.startswith("__init__.")


def _within(directory: Path, top: Path) -> str:
    return "" if directory == top else f" in {directory.relative_to(top)}"


def _counted(count: int, what: str) -> list[str]:
    return [f"{count} {what}{'' if count == 1 else 's'}"] if count else []


def _listed(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)
