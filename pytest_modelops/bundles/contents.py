"""A bundle's files: those that an installer reads, a digest of them, and the modules among them.

Knows no format. Only reads.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath
from typing import Any

from pytest_modelops.errors import MalformedBundle
from pytest_modelops.storage.files import CACHE_TAG
from pytest_modelops.storage.toml import tomllib

_NEVER = {
    *(".git", ".hg", ".svn", ".tox", ".nox", ".venv", ".eggs", "__pycache__", "node_modules", ".idea", ".vscode"),
    *(".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".ipynb_checkpoints", "__MACOSX"),
}
_LITTER = {".DS_Store"}
_MADE_AT_TOP = {"build", "dist"}
"""What builders leave in a project; a package of the user's with that name has an `__init__.py`."""
PROJECT_FILES = ("pyproject.toml", "setup.py")
NO_MODULES_AT_TOP = {
    *("test", "doc", "docs", "example", "examples", "benchmark", "benchmarks", "scripts"),
    *("setup.py", "noxfile.py"),
}
_MODULE_FILE = re.compile(r"(?P<name>[^.]+)(?P<suffix>\.py|\.pyx|\.pyi|(\.[\w-]+)?\.(so|pyd))")
_FOUND_AFTER_INSTALL = {".pyx", ".pyi"}
"""Sources and stubs of modules that a build makes, or does not: enough to believe in a module, not to expect it."""


def files(directory: Path) -> Iterator[Path]:
    """Every file that a build or an installer may read, relative to the directory.

    Neither caches, environments, build results nor what version control keeps. Links are followed, a directory
    that was seen is not entered again.

    Raises:
        OSError: a directory cannot be read.
    """
    seen = {directory.resolve()}
    for parent, directories, names in os.walk(directory, followlinks=True, onerror=_refuse):
        here = Path(parent)
        kept = []
        for name in sorted(directories):
            inner = here / name
            if _is_made(inner, at_top=here == directory):
                continue
            if (real := inner.resolve()) not in seen:
                seen.add(real)
                kept.append(name)
        directories[:] = kept
        yield from (
            (here / name).relative_to(directory)
            for name in sorted(names)
            if not name.endswith((".pyc", ".pyo")) and name not in _LITTER and (here / name).is_file()
        )


def _refuse(error: OSError) -> None:
    """Not to leave out in silence what cannot be read."""
    raise error


@contextlib.contextmanager
def said_of_files() -> Iterator[None]:
    """Turn a file or directory that cannot be read into a malformed bundle that names it."""
    try:
        yield
    except OSError as error:
        raise MalformedBundle(f"{error.filename} cannot be read: {error.strerror}") from None


def is_never_ours(name: str) -> bool:
    """Whether a file or directory of this name is what tools and desktops leave, wherever it lies."""
    return name in _NEVER or name in _LITTER or name.startswith("._")


def _is_made(directory: Path, *, at_top: bool) -> bool:
    """Whether a directory holds what tools made, not what people wrote."""
    if directory.name in _NEVER or directory.name.endswith(".egg-info"):
        return True
    if at_top and directory.name in _MADE_AT_TOP and not (directory / "__init__.py").exists():
        # Without a build, whoever made it put something there to be used, such as wheels.
        return any((directory.parent / name).is_file() for name in PROJECT_FILES)
    return (directory / CACHE_TAG).exists() or (directory / "pyvenv.cfg").exists()


def digest(directory: Path) -> str:
    """SHA-256, hexadecimal, over names and contents: the same on every machine, whatever the times and modes.

    Raises:
        MalformedBundle: something cannot be read.
    """
    total = hashlib.sha256()
    with said_of_files():
        found = sorted(files(directory), key=Path.as_posix)
    for file in found:
        name = os.fsencode(file.as_posix())
        content = hashlib.sha256(read_bytes(directory / file)).digest()
        total.update(len(name).to_bytes(4, "big") + name + content)
    return total.hexdigest()


def modules(root: Path, *, skip: Collection[str] = ()) -> dict[str, Path]:
    """Dotted name → file of every module under a directory that is on the import path.

    A package is its `__init__.py`; one without has no file, so that only its modules are reported. Tests, docs and
    the like are left out, which an installer may leave out as well.

    Args:
        root: the directory.
        skip: further names to leave out, of directories right in it.

    Raises:
        OSError: a directory cannot be read.
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
    """The dotted name of the module that a file is, seen from a directory on the import path; `None` if it is none.

    Also none is a source of which only a build makes a module.
    """
    match = _MODULE_FILE.fullmatch(file.name)
    if match is None or match["suffix"] in _FOUND_AFTER_INSTALL:
        return None
    parts = file.parts[:-1] if match["name"] == "__init__" else (*file.parts[:-1], match["name"])
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else None


def file_of(module: str, root: Path) -> Path | None:
    """The file that a module would be of under a directory that is on the import path, also one left out above."""
    place = root.joinpath(*module.split("."))
    for directory, name in ((place, "__init__"), (place.parent, place.name)):
        if directory.is_dir():
            for file in sorted(directory.glob(f"{name}.*")):
                match = _MODULE_FILE.fullmatch(file.name)
                if match and match["name"] == name:
                    return file
    return None


def read_bytes(file: Path) -> bytes:
    """A file's content.

    Raises:
        MalformedBundle: it cannot be read.
    """
    with said_of_files():
        return file.read_bytes()


def read_text(file: Path) -> str:
    """A text file's content; UTF-16 with its mark too, which PowerShell writes.

    Raises:
        MalformedBundle: it cannot be read, or is no UTF-8.
    """
    content = read_bytes(file)
    try:
        return content.decode("utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig")
    except UnicodeDecodeError:
        raise MalformedBundle(f"{file} is not text in UTF-8; save it as such") from None


def read_toml(file: Path) -> dict[str, Any]:
    """A TOML file's table.

    Raises:
        MalformedBundle: it is none.
    """
    try:
        return tomllib.loads(read_bytes(file).decode())
    except (ValueError, RecursionError) as error:
        raise MalformedBundle(f"{file} is not valid TOML: {error}") from None


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file's object.

    Raises:
        MalformedBundle: it is none.
    """
    try:
        value = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise MalformedBundle(f"{file} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise MalformedBundle(f"{file} holds no JSON object, such as {{}}")
    return value


def parse_python(file: Path, feature_version: tuple[int, int] | None = None) -> ast.Module | None:
    """A Python file's syntax tree, `None` where this Python's parser gives up on its depth.

    Args:
        file: what to parse.
        feature_version: the Python, X and Y, that the syntax must suit, as far as the parser knows; `None` for any.

    Raises:
        MalformedBundle: it is not valid Python; the message has file and line.
    """
    content = read_bytes(file)
    which = f" {feature_version[0]}.{feature_version[1]}" if feature_version else ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape is the bundle's own business
            return ast.parse(content, str(file), feature_version=feature_version)
    except SyntaxError as error:
        raise MalformedBundle(f"{file}:{error.lineno or 1}: invalid Python{which}: {error.msg}") from None
    except ValueError as error:  # NUL characters, in Python 3.10 and 3.11
        raise MalformedBundle(f"{file}: invalid Python{which}: {error}") from None
    except (RecursionError, MemoryError):
        return None
