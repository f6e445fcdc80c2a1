"""Run by a bundle's environment: reports what it is, what is installed in it, and which modules are missing.

Modules are looked for as files on the path and never imported, because the bundle's code must not run here. Run as
`python -I inspection.py QUESTION`, where QUESTION is a JSON file, `{"modules": {dotted name: Place}, "source":
directory}`; prints an `Inspection` (`shared/bundle_messages.py`) as one line of JSON. Standard library only,
Python 3.9 and up.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.machinery
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import Distribution

_SUFFIXES = tuple(importlib.machinery.all_suffixes())


def found(module: str, path: Sequence[str]) -> bool:
    """Return whether the module's file is where an import would look. A regular package hides those after it."""
    places = list(path)
    *packages, last = module.split(".")
    for package in packages:
        directories = [os.path.join(place, package) for place in places if os.path.isdir(os.path.join(place, package))]
        regular = [directory for directory in directories if has_module(directory, "__init__")]
        places = regular[:1] or directories
    # A directory without an `__init__` is a namespace package.
    return any(has_module(place, last) or os.path.isdir(os.path.join(place, last)) for place in places)


def has_module(directory: str, name: str) -> bool:
    """Return whether a directory holds the module as a source, bytecode or extension file."""
    return any(os.path.isfile(os.path.join(directory, name + suffix)) for suffix in _SUFFIXES)


def missing(modules: Mapping[str, str], installed: Sequence[str], source: str) -> tuple[list[str], list[str]]:
    """Return the modules that are missing, and those that a build has left out on purpose.

    Args:
        modules: dotted name → where it must be found (`Place`).
        installed: the import path, without the bundle's own directory.
        source: that directory.
    """
    paths = {"source": [source, *installed], "anywhere": [*installed, source]}
    absent = [name for name, place in modules.items() if not found(name, paths.get(place, installed))]
    of_build = {name for name, place in modules.items() if place in {"installed", "if-shipped"}}
    shipped = {name.partition(".")[0] for name in of_build.difference(absent)}
    left_out = [
        name for name in absent if modules[name] == "if-shipped" and shipped and name.partition(".")[0] not in shipped
    ]
    return [name for name in absent if name not in left_out], left_out


def distributions(path: Sequence[str]) -> dict[str, Distribution]:
    """Return what is installed in these directories, by canonical name; the first of each name counts."""
    installed: dict[str, Distribution] = {}
    if not any(map(_may_have_packages, path)):
        return installed
    from importlib import metadata  # whose import takes half of the time of an environment without packages

    for distribution in metadata.distributions(path=list(path)):
        name = distribution.metadata["Name"]
        if name:
            installed.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution)
    return installed


def _may_have_packages(place: str) -> bool:
    """Return whether there may be metadata of a package: it is an archive, or holds a `.dist-info` or the like."""
    try:
        return any(name.endswith(("-info", ".egg")) for name in os.listdir(place or "."))
    except NotADirectoryError:
        return True
    except OSError:
        return False


def wires(path: Sequence[str]) -> list[str]:
    """Return the entry points in the group `modelops.wire` of what is installed in these directories."""
    declared = (entry for distribution in distributions(path).values() for entry in distribution.entry_points)
    return sorted({entry.value for entry in declared if entry.group == "modelops.wire"})


def changed(sites: Sequence[str], top: str) -> list[str]:
    """Return the installed files that are missing, or are not what a package recorded, relative to `top`.

    Packages that have the same file overwrite each other: one of them is right. Bytecode is not compared, nor what
    packages list outside of `top`, where `pip install --target` leaves nothing.

    Args:
        sites: directories of installed packages.
        top: the environment, or the only directory.
    """
    claims: dict[str, set[str]] = {}
    for site in sites:
        for name in sorted(os.listdir(site)):
            record = os.path.join(site, name, "RECORD")
            if name.endswith(".dist-info") and os.path.isfile(record):
                with open(record, newline="", encoding="utf-8") as lines:
                    for path, digest, *_ in csv.reader(lines):
                        if digest and not path.endswith(".pyc"):
                            claims.setdefault(os.path.normpath(os.path.join(site, path)), set()).add(digest)
    return [
        os.path.relpath(path, top)
        for path, digests in sorted(claims.items())
        if path.startswith(top + os.sep) and not any(_is_content(path, digest) for digest in digests)
    ]


def _is_content(path: str, digest: str) -> bool:
    algorithm, _, expected = digest.partition("=")
    try:
        with open(path, "rb") as file:
            actual = hashlib.new(algorithm, file.read()).digest()
    except OSError:
        return False
    return base64.urlsafe_b64encode(actual).decode().rstrip("=") == expected


def missing_in(source: str, files: Mapping[str, str]) -> list[str]:
    """Return the modules that the copy of a bundle in the cell lacks.

    Args:
        source: directory of the copy.
        files: module → its file, or the wheel that contains it, relative to the directory.
    """
    lost, contents = [], {}
    for module, file in files.items():
        path = os.path.join(source, file)
        if not os.path.isfile(path):
            lost.append(module)
        elif file.endswith(".whl"):
            if path not in contents:
                from zipfile import ZipFile

                with ZipFile(path) as archive:
                    contents[path] = [
                        re.sub(r"^[^/]+\.data/(?:pure|plat)lib/", "", name) for name in archive.namelist()
                    ]
            begins = module.replace(".", "/")
            if not any(name.startswith((f"{begins}.", f"{begins}/__init__.")) for name in contents[path]):
                lost.append(module)
    return lost


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        question = json.load(file)
    absent, left_out = missing(question["modules"], sys.path, question["source"])
    sites = [path for path in sys.path if path.startswith(sys.prefix + os.sep) and os.path.isdir(path)]
    answer = {
        "python": sys.executable,
        "version": ".".join(map(str, sys.version_info[:3])),
        "packages": {name: distribution.version for name, distribution in distributions(sys.path).items()},
        "wires": wires(sys.path),
        "missing": absent,
        "left_out": left_out,
        "changed": changed(sites, sys.prefix),
    }
    sys.stdout.write(f"{json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
