"""Reads back what an environment really holds, whatever its installer said.

After a build every file is compared with what the packages themselves record, content included. Before each further use
files are compared by size and time with what was found then, which is fast.
"""

from __future__ import annotations

import base64
import collections
import csv
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Lock
from pytest_modelops.environments.uv import Runner
from pytest_modelops.errors import CheckFailed, TimedOut

_QUESTION = "import json, sys; print(json.dumps([list(sys.version_info[:3]), sys.version, sys.prefix]))"
_ANSWER_SECONDS = 30.0


class Facts(TypedDict):
    """What was found in an environment when it was built; on disk as JSON.

    Attributes:
        build: `sys.version` of its Python.
        top: names in `site-packages`, sorted.
        files: [size in bytes, time in whole seconds (archives keep no more)] of each recorded file, by its path
            relative to the environment.
    """

    build: str
    top: list[str]
    files: dict[str, list[int]]


class Mismatch(CheckFailed):
    """An environment differs from its lock or record; the message says in what."""


def python_of(directory: Path) -> Path:
    """Return the interpreter of a virtual environment (POSIX)."""
    return directory / "bin" / "python"


def read_back(directory: Path, lock: Lock, run: Runner, deadline: Deadline) -> Facts:
    """Compare a new environment with its lock and with its packages' own records.

    Raises:
        Mismatch: something differs.
        TimedOut: the deadline passed.
    """
    build = _ask_python(directory, lock, run, deadline)
    site = site_packages(directory, lock)
    _compare_packages(site, lock)
    claims = collections.defaultdict(list)
    for record in sorted(site.glob("*.dist-info/RECORD")):
        with record.open(newline="", encoding="utf-8") as lines:
            for name, digest, size in csv.reader(lines):
                if not name.endswith(".pyc"):  # they are compiled again
                    claims[os.path.normpath(site / name)].append((digest, size))
    files = {os.path.relpath(path, directory): _compare_file(path, claims[path]) for path in claims}
    files["pyvenv.cfg"] = _size_and_time(f"{directory}/pyvenv.cfg")
    return Facts(build=build, top=_top(site), files=files)


def verify(directory: Path, lock: Lock, facts: Facts, run: Runner, deadline: Deadline) -> None:
    """Compare an environment with its lock and with what was found when it was built; takes at most 0.15 s.

    Raises:
        Mismatch: something differs.
        TimedOut: the deadline passed.
    """
    if _ask_python(directory, lock, run, deadline) != facts["build"]:
        raise Mismatch("its Python was rebuilt since then")
    site = site_packages(directory, lock)
    _compare_packages(site, lock)
    for path, expected in facts["files"].items():
        if _size_and_time(f"{directory}/{path}") != expected:
            raise Mismatch(f"{path} was changed")
    if differing := sorted({*_top(site)} ^ {*facts["top"]}):
        raise Mismatch(f"site-packages has other entries than when it was built: {', '.join(differing)}")


def _ask_python(directory: Path, lock: Lock, run: Runner, deadline: Deadline) -> str:
    """Ask the environment's Python for its release and location; return its `sys.version`."""
    python = python_of(directory)
    limit = deadline.at_most(_ANSWER_SECONDS)
    try:
        finished = run([str(python), "-I", "-c", _QUESTION], env={}, cwd=directory, deadline=limit)
        release, build, prefix = json.loads(finished.stdout)
    except TimedOut as error:
        deadline.check("asking the environment's Python for its version")
        raise Mismatch(f"its Python does not answer: {error}") from error
    except (CheckFailed, OSError, ValueError) as error:
        raise Mismatch(f"its Python does not run ({error})") from error
    if tuple(release) != lock.python.release:
        raise Mismatch(f"its Python is {'.'.join(map(str, release))}, not {lock.python}")
    if Path(prefix).resolve() != directory.resolve():
        raise Mismatch(f"its Python reports to be in {prefix}")
    return str(build)


def site_packages(directory: Path, lock: Lock) -> Path:
    return directory / "lib" / f"python{lock.python.major}.{lock.python.minor}" / "site-packages"


def _top(site: Path) -> list[str]:
    return sorted(path.name for path in site.iterdir() if path.name != "__pycache__")


def _compare_packages(site: Path, lock: Lock) -> None:
    """Compare names and versions in the packages' metadata with the lock; neither may have more than the other."""
    found = dict(_metadata(path) for path in site.glob("*.dist-info"))
    wanted = {name: str(version) for name, version in lock.packages.items()}
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise Mismatch(f"{name} is {found.get(name, 'missing')}, the lock says {wanted.get(name, 'no version')}")


def _metadata(dist_info: Path) -> tuple[str, str]:
    """Return canonical name and version of an installed package; only the head of its metadata is read.

    Source: https://packaging.python.org/en/latest/specifications/core-metadata/.
    """
    head: dict[str, str] = {}
    try:
        with (dist_info / "METADATA").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.isspace():
                    break
                key, _, value = line.partition(":")
                head.setdefault(key.lower(), value.strip())
        return canonicalize_name(head["name"]), str(Version(head["version"]))
    except (OSError, KeyError, InvalidVersion):
        return dist_info.name, "unreadable"


def _compare_file(file: str, claims: Sequence[tuple[str, str]]) -> list[int]:
    """Compare a file with its hash and size in the RECORDs that name it; return its size and time.

    Packages that have the same file, such as `tests/__init__.py`, overwrite each other: one RECORD must be right.
    Source: https://packaging.python.org/en/latest/specifications/recording-installed-packages/.
    """
    found = _size_and_time(file)
    content = Path(file).read_bytes()
    for digest, size in claims:
        algorithm, _, expected = digest.partition("=")
        actual = hashlib.new(algorithm, content).digest() if expected else b""
        if size in {"", str(len(content))} and base64.urlsafe_b64encode(actual).decode().rstrip("=") == expected:
            return found
    raise Mismatch(f"{file} is not the file that its package recorded")


def _size_and_time(file: str) -> list[int]:
    try:
        status = os.stat(file)  # noqa: PTH116 - with thousands of files a Path takes four times as long
    except OSError:
        raise Mismatch(f"{file} is missing") from None
    return [status.st_size, int(status.st_mtime)]
