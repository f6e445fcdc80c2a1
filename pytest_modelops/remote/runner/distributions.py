"""What is installed in directories, as `importlib.metadata` says, which takes longer to import than all the rest.

Read from files as https://packaging.python.org/en/latest/specifications/recording-installed-packages/ describes them.
Standard library only, Python 3.9 and up.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import re
import sys
from collections.abc import Iterator, Sequence

WIRE = "modelops.wire"
"""Group of the entry points that name a bundle's wire function."""
_METADATA = ("METADATA", "PKG-INFO", "")  # the last for an `.egg-info` that is a file


class Distribution:
    """An installed package.

    Args:
        directory: with its metadata.
    """

    def __init__(self, directory: str, *, version: str) -> None:
        self.directory = directory
        self.version = version

    def entry_points(self, group: str) -> list[str]:
        """Return the values of its entry points in a group."""
        section, found = "", []
        for line in map(str.strip, _entry_points(self.directory).splitlines()):
            if line.startswith("[") and line.endswith("]"):
                section = line[1:-1]
            elif section == group and line and not line.startswith("#"):
                found.append(line.partition("=")[2].strip())
        return found


def installed(path: Sequence[str]) -> dict[str, Distribution]:
    """Return the packages in these directories, by canonical name; the first of each name counts."""
    found: dict[str, Distribution] = {}
    for directory in _information(path):
        headers = _headers(directory)
        if name := headers.get("name"):
            one = Distribution(directory, version=headers.get("version", ""))
            found.setdefault(_canonical(name), one)
    return found


def entry_points(path: Sequence[str], group: str) -> list[str]:
    """Return the values of a group's entry points of what is installed in these directories, each once."""
    if _only_files(path):
        if not any(group in _entry_points(directory) for directory in _information(path)):
            return []  # without a look at the packages' metadata, which may be long
        return sorted({value for one in installed(path).values() for value in one.entry_points(group)})
    import importlib.metadata

    first: dict[str, importlib.metadata.Distribution] = {}
    for one in importlib.metadata.distributions(path=list(path)):
        with contextlib.suppress(FileNotFoundError):  # the finder of `importlib_metadata`, of one without metadata
            if name := one.metadata["Name"]:
                first.setdefault(_canonical(name), one)
    return sorted({entry.value for one in first.values() for entry in one.entry_points if entry.group == group})


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _only_files(path: Sequence[str]) -> bool:
    """Return whether packages can only be in directories: not in an archive, nor where another finder looks."""
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")]
    return finders == [importlib.machinery.PathFinder] and not any(map(os.path.isfile, path))


def _information(path: Sequence[str]) -> Iterator[str]:
    for place in (place or "." for place in path):
        names = []
        with contextlib.suppress(OSError):
            names = sorted(os.listdir(place))
        yield from (os.path.join(place, name) for name in names if name.lower().endswith((".dist-info", ".egg-info")))
        if place.endswith(".egg"):
            yield os.path.join(place, "EGG-INFO")


def _headers(directory: str) -> dict[str, str]:
    """Return the first value of each field of a package's metadata, by its name in lower case."""
    text = next(filter(None, (_text(os.path.join(directory, name).rstrip(os.sep)) for name in _METADATA)), "")
    fields = (line.partition(":") for line in text.partition("\n\n")[0].splitlines() if line[:1].strip())
    found: dict[str, str] = {}
    for name, _, value in fields:
        found.setdefault(name.lower(), value.strip())
    return found


def _entry_points(directory: str) -> str:
    return _text(os.path.join(directory, "entry_points.txt"))


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
