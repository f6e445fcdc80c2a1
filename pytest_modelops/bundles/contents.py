"""A bundle's files: those that an installer reads, a digest of them, and the modules among them. Knows no format."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath

from pytest_modelops.bundles.documents import read_bytes, read_text, table, unreadable_is_malformed
from pytest_modelops.storage.files import CACHE_TAG
from pytest_modelops.storage.toml import tomllib

_TOOLS = {
    *(".git", ".hg", ".svn", ".tox", ".nox", ".venv", ".eggs", "__pycache__", "node_modules", ".idea", ".vscode"),
    *(".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".ipynb_checkpoints", "__MACOSX"),
}
_LITTER = {".DS_Store"}
_BUILT_AT_TOP = {"build", "dist"}
PROJECT_FILES = ("pyproject.toml", "setup.py")
_BUILDS = (
    *("project", "build-system", "tool.setuptools", "tool.poetry", "tool.flit", "tool.maturin", "tool.hatch.build"),
    *("tool.pdm.build", "tool.uv.build-backend", "tool.scikit-build", "tool.meson-python"),
)
"""Tables of a pyproject.toml that a build reads."""
NO_MODULES_AT_TOP = {
    *("test", "doc", "docs", "example", "examples", "benchmark", "benchmarks", "scripts"),
    *("setup.py", "noxfile.py"),
}
_MODULE_FILE = re.compile(r"(?P<name>[^.]+)(?P<suffix>\.py|\.pyx|\.pyi|(\.[\w-]+)?\.(so|pyd))")
_FOUND_AFTER_INSTALL = {".pyx", ".pyi"}
"""Sources and stubs: a build may make a module of them, so the module may exist, but is not required to."""


def files(directory: Path) -> Iterator[Path]:
    """Yield every file that a build or an installer may read, relative to the directory, in a stable order.

    Skips caches, environments, build results and what version control keeps. Links are followed; a directory is
    entered once.

    Raises:
        OSError: a directory cannot be read.
    """
    for here, names in _walk(directory):
        for name in sorted(names):
            if not name.endswith((".pyc", ".pyo")) and name not in _LITTER and (here / name).is_file():
                yield (here / name).relative_to(directory)


def places(path: Path) -> set[Path]:
    """Return where a file or directory really is, and with it what links in it lead to, also if that is gone.

    Raises:
        OSError: a directory cannot be read.
    """
    found = {path.resolve()}
    for here, names in _walk(path) if path.is_dir() else ():
        found |= {one.resolve() for one in (here, *(here / name for name in names)) if one.is_symlink()}
    return found


def _walk(directory: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each directory, and the names of what is in it besides directories; see `files`."""
    seen = {directory.resolve()}
    for parent, directories, names in os.walk(directory, followlinks=True, onerror=_raise):
        here = Path(parent)
        entered = []
        for inner in (here / name for name in sorted(directories)):
            if not _is_generated(inner, at_top=here == directory) and (real := inner.resolve()) not in seen:
                seen.add(real)
                entered.append(inner.name)
        directories[:] = entered
        yield here, names


def is_project(directory: Path) -> bool:
    """Whether a directory has a build. A pyproject.toml that only configures other tools makes none.

    One that is not valid counts, so that its reader says what is wrong.

    Raises:
        MalformedBundle: a file cannot be read.
    """
    if (directory / "setup.py").is_file():
        return True
    file, cfg = directory / "pyproject.toml", directory / "setup.cfg"
    if not file.is_file():
        return False
    try:
        content = tomllib.loads(read_bytes(file).decode())
    except (ValueError, RecursionError):
        return True
    if cfg.is_file() and re.search(r"^\[(metadata|options)", read_text(cfg), re.MULTILINE):
        return True
    tables = (name.split(".") for name in _BUILDS)
    return any(last in (table(content, *keys) if keys else content) for *keys, last in tables)


def _raise(error: OSError) -> None:
    raise error


def is_litter(name: str) -> bool:
    """Whether tools and desktops leave files or directories of this name in any directory."""
    return name in _TOOLS or name in _LITTER or name.startswith("._")


def _is_generated(directory: Path, *, at_top: bool) -> bool:
    """Whether tools made what a directory holds."""
    if directory.name in _TOOLS or directory.name.endswith(".egg-info"):
        return True
    if at_top and directory.name in _BUILT_AT_TOP and not (directory / "__init__.py").exists():
        # Without a build, a person put something there to be used, such as wheels.
        return is_project(directory.parent)
    return (directory / CACHE_TAG).exists() or (directory / "pyvenv.cfg").exists()


def digest(directory: Path) -> str:
    """Return a SHA-256, hexadecimal, of names and contents: the same on every machine, whatever the times and modes.

    Raises:
        MalformedBundle: something cannot be read.
    """
    total = hashlib.sha256()
    with unreadable_is_malformed():
        found = sorted(files(directory), key=Path.as_posix)
    for file in found:
        name = os.fsencode(file.as_posix())
        content = hashlib.sha256(read_bytes(directory / file)).digest()
        total.update(len(name).to_bytes(4, "big") + name + content)
    return total.hexdigest()


def modules(root: Path, *, skip: Collection[str] = ()) -> dict[str, Path]:
    """Return dotted name → file of every module under a directory that is on the import path.

    A package's file is its `__init__.py`; of a package without one, only its modules are returned. Tests, docs and
    the like are left out, as an installer may do, and so are the directories `skip`.
    """
    found: dict[str, Path] = {}
    for file in files(root):
        if file.parts[0] in NO_MODULES_AT_TOP or file.parts[0] in skip or file.name == "conftest.py":
            continue
        name = None if "tests" in file.parts else module_of(file)
        # Where a package and a module have one name, Python takes the package.
        if name and (name not in found or file.name.startswith("__init__.")):
            found[name] = root / file
    return found


def module_of(file: PurePath) -> str | None:
    """Return the dotted name of the module in a file, relative to the import path; `None` if no module is certain."""
    match = _MODULE_FILE.fullmatch(file.name)
    if match is None or match["suffix"] in _FOUND_AFTER_INSTALL:
        return None
    parts = file.parts[:-1] if match["name"] == "__init__" else (*file.parts[:-1], match["name"])
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else None


def file_of(module: str, root: Path) -> Path | None:
    """Return the file that holds a module under a directory on the import path, also one that `modules` leaves out."""
    place = root.joinpath(*module.split("."))
    for directory, name in ((place, "__init__"), (place.parent, place.name)):
        for file in sorted(directory.glob(f"{name}.*")) if directory.is_dir() else ():
            match = _MODULE_FILE.fullmatch(file.name)
            if match and match["name"] == name:
                return file
    return None
