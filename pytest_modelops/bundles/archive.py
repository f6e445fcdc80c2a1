"""Archives as bundles: their names, and the directories that they are unpacked into.

An archive is unpacked once, as a whole or not at all (see `unpacking`), into a directory that its content names.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import zlib
from pathlib import Path

import platformdirs
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

from pytest_modelops.bundles.containers import BLOCK, SUFFIXES
from pytest_modelops.bundles.unpacking import LIMITS, Limits, refuse_unsafe_wheel, unpack_into
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import MalformedBundle
from pytest_modelops.storage.files import hash_file
from pytest_modelops.storage.generations import Generations

_LAYOUT = 2  # version of how archives are unpacked
_FILES = "files"
_UNPACK_SECONDS = 600.0


def suffix_of(path: Path) -> str | None:
    """Return the suffix that makes a file an archive, one of `SUFFIXES`."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def name_of(path: Path) -> str:
    """Return the distribution's name of a wheel or an sdist; of another archive, its name without the suffix."""
    suffix = suffix_of(path) or ""
    with contextlib.suppress(InvalidWheelFilename, InvalidSdistFilename):
        if suffix == ".whl":
            return parse_wheel_filename(path.name)[0]
        if suffix == ".tar.gz" and _is_sdist(path):
            return parse_sdist_filename(path.name)[0]
    return path.name[: len(path.name) - len(suffix)]


def _is_sdist(path: Path) -> bool:
    """Look for the file that every sdist has: `<name>-<version>/PKG-INFO`, https://peps.python.org/pep-0625/."""
    wanted = os.fsencode(f"{path.name[: -len('.tar.gz')]}/PKG-INFO\0")
    tail = b""
    # Damage is reported when the archive is unpacked.
    with contextlib.suppress(OSError, EOFError, zlib.error), gzip.open(path) as stream:
        while stream.tell() < LIMITS.small and (block := stream.read(BLOCK)):
            if wanted in tail + block:
                return True
            tail = block[-len(wanted) :]
    return False


def unpack(
    path: Path, unpacked: Path | None = None, *, limits: Limits = LIMITS, deadline: Deadline | None = None
) -> Path:
    """Return the directory of an archive's contents, unpacked once. A wheel is copied there as it is.

    Args:
        unpacked: the parent of all such directories; by default in the user's cache. They are not held (see
            `Generations`): one is removed only after a long time without use, or when its files were changed.
        deadline: how long to wait for another process that unpacks the same archive; 600 s by default.

    Raises:
        MalformedBundle: the file is no archive, damaged or refused; nothing of it was written.
        TimedOut: another process was unpacking it until the deadline.
    """
    unpacked = unpacked or platformdirs.user_cache_path("pytest-modelops") / "bundles"
    suffix = suffix_of(path)
    if suffix is None:
        raise MalformedBundle(f"{path} is neither a directory nor an archive ({', '.join(SUFFIXES)})")
    try:
        readable = re.sub(r"[^\w.+-]", "_", name_of(path), flags=re.ASCII)[:60]
        name = f"{readable}-{_LAYOUT}-{hash_file(path)[:32]}"
    except OSError as error:
        raise MalformedBundle(f"{path} cannot be read: {error.strerror}") from None

    def make(directory: Path) -> dict[str, str]:
        (directory / _FILES).mkdir(parents=True)
        if suffix == ".whl":
            refuse_unsafe_wheel(path, limits=limits)
            shutil.copyfile(path, directory / _FILES / path.name)
        else:
            unpack_into(directory / _FILES, path, SUFFIXES[suffix], limits=limits)
        return _facts(directory / _FILES)

    with contextlib.closing(Generations(unpacked)) as generations:
        directory, *_ = generations.obtain(
            name,
            what=f"unpacking {path.name}",
            fault=lambda directory, facts: "" if facts == _facts(directory / _FILES) else "it was changed",
            make=make,
            deadline=deadline or Deadline(_UNPACK_SECONDS),
        )
    return directory / _FILES


def _facts(directory: Path) -> dict[str, str]:
    """Return path → hash of a file, `-> target` of a link, an empty text of a directory."""

    def fact(path: Path) -> str:
        if path.is_symlink():
            return f"-> {path.readlink()}"
        return hash_file(path) if path.is_file() else ""

    return {path.relative_to(directory).as_posix(): fact(path) for path in directory.rglob("*")}
