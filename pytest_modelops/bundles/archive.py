"""Archives as bundles: what they are called, and how they become directories. Nobody who made one is trusted.

An archive is unpacked whole or not at all (see `unpacking`), once, into a directory of our own that its content names.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import platformdirs
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

from pytest_modelops.bundles.containers import BLOCK, SUFFIXES
from pytest_modelops.bundles.unpacking import LIMITS, Limits, refuse_unsafe_wheel, unpack_into
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import MalformedBundle
from pytest_modelops.storage.files import hash_file
from pytest_modelops.storage.generations import Generations

_LAYOUT = 1
"""Version of how archives are unpacked; part of the name of what is kept."""
_FILES = "files"
_UNPACK_SECONDS = 600.0


def suffix_of(path: Path) -> str | None:
    """The ending that makes a file an archive, as in `SUFFIXES`; `None` if it is none."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def name_of(path: Path) -> str:
    """What an archive is called: the distribution that a wheel or an sdist is of, else its name without the ending."""
    suffix = suffix_of(path) or ""
    try:
        if suffix == ".whl":
            return parse_wheel_filename(path.name)[0]
        if suffix == ".tar.gz" and _is_sdist(path):
            return parse_sdist_filename(path.name)[0]
    except (InvalidWheelFilename, InvalidSdistFilename):
        pass
    return path.name[: len(path.name) - len(suffix)]


def _is_sdist(path: Path) -> bool:
    """Whether it has the file that every sdist has: `<name>-<version>/PKG-INFO`, https://peps.python.org/pep-0625/."""
    wanted = os.fsencode(f"{path.name[: -len('.tar.gz')]}/PKG-INFO\0")
    tail = b""
    try:
        with gzip.open(path) as stream:
            for _ in range(LIMITS.small // BLOCK):
                block = stream.read(BLOCK)
                if wanted in tail + block:
                    return True
                if not block:
                    break
                tail = block[-len(wanted) :]
    except (OSError, EOFError, zlib.error):
        pass  # what is wrong with it is said when it is unpacked
    return False


def unpack(path: Path, kept: Path | None = None, *, limits: Limits = LIMITS, deadline: Deadline | None = None) -> Path:
    """Return the directory of an archive's contents, unpacked once. A wheel is copied there as it is.

    Args:
        path: the archive.
        kept: the directory for all that is unpacked; by default in the user's cache. What lies there is not held (see
            `Generations.hold`): it is removed only when it was not used for long, or is not what it was.
        deadline: how long another process that is at it is awaited; by default, 600 s.

    Raises:
        MalformedBundle: it is no archive, is damaged, or has a member that is refused, which is named; nothing of it
            was written.
        TimedOut: another process was at it until the deadline.
    """
    kept = kept or platformdirs.user_cache_path("pytest-modelops") / "bundles"
    if suffix_of(path) is None:
        raise MalformedBundle(f"{path} is neither a directory nor an archive ({', '.join(SUFFIXES)})")
    try:
        readable = re.sub(r"[^\w.+-]", "_", name_of(path), flags=re.ASCII)[:60]
        name = f"{readable}-{_LAYOUT}-{hash_file(path)[:32]}"
    except OSError as error:
        raise MalformedBundle(f"{path} cannot be read: {error.strerror}") from None
    made = Generations(kept)
    with made.locked(name, deadline or Deadline(_UNPACK_SECONDS), f"what is unpacked of {path.name}"):
        newest = made.newest(name)
        if newest and made.marker(newest) == _facts(newest / _FILES):
            os.utime(newest / "complete.json")  # what is not used for long is removed
            return newest / _FILES
        with made.making(name) as directory:
            (directory / _FILES).mkdir(parents=True)
            if suffix_of(path) == ".whl":
                refuse_unsafe_wheel(path, limits=limits)
                shutil.copyfile(path, directory / _FILES / path.name)
            else:
                unpack_into(directory / _FILES, path, SUFFIXES[suffix_of(path) or ""], limits=limits)
            made.complete(directory, _facts(directory / _FILES))
    made.prune()
    return directory / _FILES


def _facts(directory: Path) -> dict[str, Any]:
    """Size and hash of each file, and where each link goes."""
    facts: dict[str, Any] = {}
    for parent, directories, names in os.walk(directory):
        for path in (Path(parent, name) for name in sorted((*directories, *names))):
            key = path.relative_to(directory).as_posix()
            if path.is_symlink():
                facts[key] = str(path.readlink())
            elif path.is_file():
                facts[key] = [path.stat().st_size, hash_file(path)]
            else:
                facts[key] = None
    return facts
