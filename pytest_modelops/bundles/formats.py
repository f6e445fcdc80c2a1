"""Which format a bundle has, and what its files say: read from the folder, which is never written to."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from pytest_modelops.bundles import contents, metadata, requirements, wires
from pytest_modelops.bundles.metadata import Metadata, RequiresPython
from pytest_modelops.bundles.wires import Wire
from pytest_modelops.errors import MalformedBundle

__all__ = ["DETECTORS", "Detector", "Format", "RequiresPython", "Source", "Wire", "read"]


class Format(enum.Enum):
    """How a bundle says what it needs."""

    PACKAGED = "packaged"
    REQUIREMENTS = "requirements"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A bundle's folder, as read.

    Attributes:
        path: the folder, absolute.
        format: how it says what it needs.
        why: what was found that tells the format, one phrase.
        python: which Pythons it admits, and where that is written; `None` when it does not say.
        requirements: what an installer is given, one by one: names, URLs and absolute paths.
        dependencies: those that its own code declares; `None` when only a build tells.
        roots: the folders on the import path that hold its modules.
        modules: dotted name → file, absolute, of the modules that must be found once it is installed.
        wire: the function that runs its entry points; `None` when none is declared.
    """

    path: Path
    format: Format
    why: str
    python: RequiresPython | None
    requirements: tuple[str, ...]
    dependencies: tuple[str, ...] | None
    roots: tuple[Path, ...]
    modules: Mapping[str, Path]
    wire: Wire | None

    @property
    def requires_python(self) -> str | None:
        """Which Pythons it admits, as written."""
        return self.python.text if self.python else None

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256, hexadecimal, over all that a build or an installer reads. Computed once, when first needed.

        Raises:
            MalformedBundle: a file cannot be read.
        """
        return contents.digest(self.path)

    def file_of(self, module: str) -> Path | None:
        """The file of a module, also of one that no installer is asked for but that lies in the folder.

        The runner's working directory is the bundle.
        """
        if found := self.modules.get(module):
            return found
        files = (contents.file_of(module, root) for root in (*self.roots, self.path))
        return next((file for file in files if file), None)

    def owns(self, module: str) -> bool:
        """Whether a module's top-level name is one of this bundle."""
        top = module.partition(".")[0]
        return (
            any(name.partition(".")[0] == top for name in self.modules)
            or self.file_of(top) is not None
            or self.has_folder(top)
        )

    def has_folder(self, module: str) -> bool:
        """Whether there is a folder for a package, which needs no file of its own."""
        return any(root.joinpath(*module.split(".")).is_dir() for root in (*self.roots, self.path))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detector:
    """Recognises one format.

    Attributes:
        looks_for: in words, for the message when no format was recognised.
        detect: reads a folder, `None` if it is of another format; raises `MalformedBundle`.
    """

    looks_for: str
    detect: Callable[[Path], Source | None]


def _packaged(folder: Path) -> Source | None:
    told = [name for name in ("pyproject.toml", "setup.py") if (folder / name).is_file()]
    if not told:
        return None
    known = metadata.read(folder)
    roots = _roots(folder, known)
    modules: dict[str, Path] = {}
    for root in roots:
        others = {
            other.relative_to(root).parts[0]
            for other in roots
            if other != root and other.is_relative_to(root)
        }
        modules |= contents.modules(root, skip=others)
    return Source(
        path=folder,
        format=Format.PACKAGED,
        why=f"it has a {told[0]}",
        python=known.requires_python,
        requirements=(str(folder),),
        dependencies=known.dependencies,
        roots=roots,
        modules=modules,
        wire=wires.find(folder, known, roots),
    )


def _roots(folder: Path, known: Metadata) -> tuple[Path, ...]:
    """The folders that it names, else `src` where that holds modules and is no package itself, else its own."""
    named = [(folder / root).resolve() for root in known.roots if "\0" not in root]
    if inside := [root for root in named if root.is_dir() and root.is_relative_to(folder)]:
        return tuple(dict.fromkeys(inside))
    src = folder / "src"
    is_layout = src.is_dir() and not (src / "__init__.py").exists() and contents.modules(src)
    return (src,) if is_layout else (folder,)


def _requirements(folder: Path) -> Source | None:
    file = folder / "requirements.txt"
    wire = wires.find(folder, Metadata(), (folder,))
    if not file.is_file() or wire is None:
        return None
    told = requirements.requirements(file, folder)
    return Source(
        path=folder,
        format=Format.REQUIREMENTS,
        why=f"it has a requirements.txt and a wire function ({Path(wire.where.partition(':')[0]).name})",
        python=None,
        requirements=told,
        dependencies=told,
        roots=(folder,),
        modules=contents.modules(folder),
        wire=wire,
    )


DETECTORS: Mapping[Format, Detector] = {
    Format.PACKAGED: Detector(looks_for="a pyproject.toml or setup.py", detect=_packaged),
    Format.REQUIREMENTS: Detector(
        looks_for=f"a requirements.txt with a {wires.ROOT_FILE}, {wires.MANIFEST} or {wires.SETTINGS} "
        "that says where the wire function is",
        detect=_requirements,
    ),
}
"""Every format, in the order in which they are tried."""


def read(path: Path) -> Source:
    """Read a bundle's folder.

    Raises:
        MalformedBundle: it is no folder, of no known format, or a file in it is not well formed or not readable.
    """
    with contents.said_of_files():
        return _read(path)


def _read(path: Path) -> Source:
    folder = path.resolve()
    if not folder.is_dir():
        found = "it is a file" if folder.exists() else "there is nothing"
        raise MalformedBundle(f"{path} is not a bundle: a bundle is a folder, and {found}")
    for detector in DETECTORS.values():
        if source := detector.detect(folder):
            return source
    looked_for = "; ".join(detector.looks_for for detector in DETECTORS.values())
    raise MalformedBundle(f"{path} has no known format. Looked for: {looked_for}. Found: {_listing(folder)}")


_SHOWN = 12


def _listing(folder: Path) -> str:
    names = sorted(f"{file.name}/" if file.is_dir() else file.name for file in folder.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}" if names else "an empty folder"
