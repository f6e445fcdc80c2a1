"""States of an environment that a runner reuses: saved and restored, inspected, and broken on purpose.

Everything that a runner may remember is in one directory, `live`: environments, HOME and the temporary directory. It is
always at the same path, since scripts contain it. Each digest, Python and set of dependencies has an environment of its
own in it, as in a deployment. Standard library only, Python 3.9 and up.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Collection, Sequence
from importlib.metadata import PathDistribution
from pathlib import Path

from . import own_pip
from .environment import Commands, Failed

_OLDEST = 9  # Python 3.9: older ones cannot run what is written for workers
_NEWER = 10  # so many minor versions above the worker's are looked for
SITE = os.path.join("lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")
"""Below an environment."""
_DEPENDENCY_FILES = ("pyproject.toml", "requirements*.txt", "setup.cfg", "setup.py", "*.lock")


def key_of(digest: str, source: str) -> str:
    """Return the name of the environment's directory for a bundle of this digest, in this Python.

    Not the first digits of the digest: two digests that begin alike have two environments.
    """
    dependencies = hashlib.sha256()
    for pattern in _DEPENDENCY_FILES:
        for file in sorted(glob.glob(os.path.join(glob.escape(source), pattern))):
            dependencies.update(Path(file).read_bytes())
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return f"{hashlib.sha256(digest.encode()).hexdigest()[:12]}-py{version}-{dependencies.hexdigest()[:8]}"


class States:
    """The states of one environment, in a directory; the caller saves `bare` and `good`.

    Args:
        key: of the environment; see `key_of`.
        pip: directory of the worker's pip, whose files environments share.
    """

    def __init__(self, directory: str, key: str, pip: str) -> None:
        self._live = os.path.join(directory, "live")
        self._saved = os.path.join(directory, "saved")
        self._below = os.path.join("venvs", key)
        self._pip = pip
        self.venv = os.path.join(self._live, self._below)
        self.site = os.path.join(self.venv, SITE)
        self.variables = {"HOME": os.path.join(self._live, "home"), "TMPDIR": os.path.join(self._live, "tmp")}

    def clear(self) -> None:
        """Remove everything that is live, the environment too."""
        shutil.rmtree(self._live, ignore_errors=True)
        for path in self.variables.values():
            os.makedirs(path)

    def of(self, key: str) -> str:
        """Return the directory of another environment beside it."""
        return os.path.join(self._live, "venvs", key)

    def save(self, name: str) -> None:
        self._copy(self._live, os.path.join(self._saved, name))

    def restore(self, name: str) -> None:
        """Restore a saved state: the same contents at the same path."""
        shutil.rmtree(self._live, ignore_errors=True)
        self._copy(os.path.join(self._saved, name), self._live)

    def _copy(self, source: str, target: str) -> None:
        """Copy files, directories and links with their times, and leave sockets and the like.

        Files of the worker's pip are linked: they are most of an environment, and nobody writes to them in place.
        """
        shared = {os.lstat(os.path.join(top, name)).st_ino for top, _, names in os.walk(self._pip) for name in names}

        def special(directory: str, names: Sequence[str]) -> set[str]:
            kinds = {name: stat.S_IFMT(os.lstat(os.path.join(directory, name)).st_mode) for name in names}
            return {name for name, kind in kinds.items() if kind not in {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}}

        def copy(one: str, other: str) -> None:
            (own_pip.link if os.lstat(one).st_ino in shared else shutil.copy2)(one, other)

        shutil.copytree(source, target, symlinks=True, ignore=special, copy_function=copy)

    def packages(self) -> list[str]:
        """Return the directories of metadata that a good use added."""
        before, after = (_names(os.path.join(self._saved, name, self._below, SITE)) for name in ("bare", "good"))
        return sorted(name for name in after - before if name.endswith(".dist-info"))

    def halve(self) -> bool:
        """Restore `bare` and add the metadata of what a good use installs; `False` if it installs nothing."""
        self.restore("bare")
        for info in self.packages():
            shutil.copytree(os.path.join(self._saved, "good", self._below, SITE, info), os.path.join(self.site, info))
        return bool(self.packages())

    def empty(self) -> bool:
        """Restore `good` and remove the installed packages' files; `False` if there are none."""
        self.restore("good")
        gone = [path for info in self.packages() for path in _files_of(self.site, info)]
        for path in gone:
            os.remove(path)
        for directory in sorted({os.path.dirname(path) for path in gone}, key=len, reverse=True):
            _remove_if_empty(directory, self.site)
        return bool(gone)

    def installed(self) -> dict[str, tuple[int, int]]:
        """Return inode and time of every file of packages, apart from bytecode, which imports write."""
        found = {}
        for parent, _, names in os.walk(self.site):
            if os.path.basename(parent) != "__pycache__":
                for name in names:
                    path = os.path.join(parent, name)
                    facts = os.lstat(path)
                    found[os.path.relpath(path, self.site)] = (facts.st_ino, facts.st_mtime_ns)
        return found

    def changed_last(self, names: Collection[str]) -> float:
        """Return when the last of these installed files was created, in seconds since the epoch; 0 without files."""
        return max((os.lstat(os.path.join(self.site, name)).st_ctime for name in names), default=0.0)

    def signs(self) -> set[str]:
        """Return names of which an install adds some; without packages to install, every name in the environment."""
        places = [self.site]
        if not self.packages():
            places += [self._live, self.venv, self.variables["TMPDIR"]]
        return {name for place in places for name in _names(place)}


def _names(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory)) - {"__pycache__"}
    except OSError:
        return set()


def _files_of(site: str, info: str) -> list[str]:
    """Return the files of a package in site-packages, without its metadata, according to its RECORD."""
    listed = map(str, PathDistribution(Path(site, info)).files or ())
    paths = [os.path.join(site, name) for name in listed if not name.startswith((f"{info}/", "..", "/"))]
    return [path for path in paths if os.path.lexists(path)]


def _remove_if_empty(directory: str, top: str) -> None:
    """Remove a directory that holds nothing but bytecode, and its parents below `top`."""
    while directory != top and directory.startswith(top) and not _names(directory):
        shutil.rmtree(directory, ignore_errors=True)
        directory = os.path.dirname(directory)


def another_python(run: Commands) -> tuple[str, str]:
    """Return the nearest other Python that can make environments: interpreter and version; both empty if none can."""
    siblings = glob.glob(os.path.join(glob.escape(os.path.dirname(sys.base_prefix)), "*", "bin"))
    path = os.pathsep.join(["/usr/local/bin", "/usr/bin", os.environ.get("PATH", ""), *siblings])
    own = sys.version_info[1]
    question = "import ensurepip, venv, sys; print('.'.join(map(str, sys.version_info[:3])))"
    for minor in sorted({*range(_OLDEST, own + _NEWER)} - {own}, key=lambda minor: abs(minor - own)):
        if python := shutil.which(f"python3.{minor}", path=path):
            with contextlib.suppress(Failed):
                answer = run("asking another Python", [python, "-I", "-c", question])
                return python, answer.strip().splitlines()[-1]
    return "", ""
