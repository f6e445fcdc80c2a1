"""States of an environment, for runners that use it again: saved and brought back, looked at, and broken on purpose.

All that a runner may remember lies in one directory, `live`: the environment (`live/venv`, always at the same
path, since
scripts hold it), HOME and the temporary directory. Standard library only, Python 3.9 and up.
"""

from __future__ import annotations

import csv
import glob
import os
import re
import shutil
import stat
import sys
from collections.abc import Collection, Sequence

from .environment import Commands, Failed

_OLDEST = 9
"""Python 3.9: older ones are not asked to run what is written for workers."""


class States:
    """The states of one environment; `bare` and `good` are saved by whoever makes them.

    Args:
        directory: for `live` and what is saved of it.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._live = os.path.join(directory, "live")
        self.venv = os.path.join(self._live, "venv")
        self.variables = {"HOME": os.path.join(self._live, "home"), "TMPDIR": os.path.join(self._live, "tmp")}

    def clear(self) -> None:
        """Nothing is there, not even an environment."""
        shutil.rmtree(self._live, ignore_errors=True)
        for path in self.variables.values():
            os.makedirs(path)

    def save(self, name: str) -> None:
        """Remember what there is."""
        _copy(self._live, self._saved(name))

    def restore(self, name: str) -> None:
        """Bring it back: the same contents at the same path."""
        shutil.rmtree(self._live, ignore_errors=True)
        _copy(self._saved(name), self._live)

    def forget(self) -> None:
        """Remove all."""
        for name in ("live", "saved"):
            shutil.rmtree(os.path.join(self._directory, name), ignore_errors=True)

    def _saved(self, name: str) -> str:
        return os.path.join(self._directory, "saved", name)

    @property
    def site(self) -> str:
        """The directory that packages are installed into, of what there is."""
        return self._site(self._live)

    def _site(self, live: str) -> str:
        python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        return os.path.join(live, "venv", "lib", python, "site-packages")

    def packages(self) -> list[str]:
        """The directories of metadata that a good use has left."""
        before, after = (_names(self._site(self._saved(name))) for name in ("bare", "good"))
        return sorted(name for name in after - before if name.endswith(".dist-info"))

    def halve(self) -> bool:
        """Bare, but with the metadata of what a good use installs; `False` where that is nothing."""
        self.restore("bare")
        for info in self.packages():
            shutil.copytree(os.path.join(self._site(self._saved("good")), info), os.path.join(self.site, info))
        return bool(self.packages())

    def empty(self) -> bool:
        """Good, but the installed packages' files are gone; `False` where there are none."""
        self.restore("good")
        gone = [path for info in self.packages() for path in _files_of(self.site, info)]
        for path in gone:
            os.remove(path)
        for directory in sorted({os.path.dirname(path) for path in gone}, key=len, reverse=True):
            _remove_if_empty(directory, self.site)
        return bool(gone)

    def installed(self) -> dict[str, tuple[int, int]]:
        """Inode and time of every file of packages, without bytecode, which imports write."""
        found = {}
        for parent, _, names in os.walk(self.site):
            if os.path.basename(parent) != "__pycache__":
                for name in names:
                    path = os.path.join(parent, name)
                    facts = os.lstat(path)
                    found[os.path.relpath(path, self.site)] = (facts.st_ino, facts.st_mtime_ns)
        return found

    def changed_last(self, names: Collection[str]) -> float:
        """When the last of these files of packages came to be where it is, in seconds since the epoch; 0 of none."""
        return max((os.lstat(os.path.join(self.site, name)).st_ctime for name in names), default=0.0)

    def signs(self) -> set[str]:
        """Names by whose coming an install shows; where nothing is to be installed, any in the environment."""
        places = [self.site]
        if not self.packages():
            places += [self._live, self.venv, self.variables["TMPDIR"]]
        return {name for place in places for name in _names(place)}


def _copy(source: str, target: str) -> None:
    """Copy a directory, times and links as they are; sockets and the like are nobody's memory."""

    def special(directory: str, names: Sequence[str]) -> set[str]:
        kinds = {name: os.lstat(os.path.join(directory, name)).st_mode for name in names}
        plain = (stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK)
        return {name for name, mode in kinds.items() if not any(is_plain(mode) for is_plain in plain)}

    shutil.copytree(source, target, symlinks=True, ignore=special)


def _names(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory)) - {"__pycache__"}
    except OSError:
        return set()


def _files_of(site: str, info: str) -> list[str]:
    """The files of a package in site-packages, without its metadata, by its own record."""
    try:
        with open(os.path.join(site, info, "RECORD"), encoding="utf-8", newline="") as file:
            listed = [row[0] for row in csv.reader(file) if row]
    except OSError:
        return []
    kept = (f"{info}/", "..", "/")
    paths = [os.path.join(site, name) for name in listed if not name.startswith(kept)]
    return [path for path in paths if os.path.lexists(path)]


def _remove_if_empty(directory: str, top: str) -> None:
    """Remove a directory that has nothing but bytecode, and those above it, below `top`."""
    while directory != top and directory.startswith(top) and not _names(directory):
        shutil.rmtree(directory, ignore_errors=True)
        directory = os.path.dirname(directory)


def another_python(run: Commands) -> tuple[str, str]:
    """An interpreter of another minor version that can make environments, and its version; the nearest one.

    Both are empty where there is none.
    """
    siblings = glob.glob(os.path.join(glob.escape(os.path.dirname(sys.base_prefix)), "*", "bin"))
    searched = ["/usr/local/bin", "/usr/bin", *os.environ.get("PATH", "").split(os.pathsep), *siblings]
    found: dict[int, str] = {}
    for directory in searched:
        for name in _names(directory):
            match = re.fullmatch(r"python3\.(\d+)", name)
            if match and int(match[1]) not in {sys.version_info[1], *found} and int(match[1]) >= _OLDEST:
                found[int(match[1])] = os.path.join(directory, name)
    question = "import ensurepip, venv, sys; print('.'.join(map(str, sys.version_info[:3])))"
    for minor in sorted(found, key=lambda minor: abs(minor - sys.version_info[1])):
        try:
            answer = run("asking another Python", [found[minor], "-I", "-c", question])
        except Failed:
            continue
        return found[minor], answer.strip().splitlines()[-1]
    return "", ""
