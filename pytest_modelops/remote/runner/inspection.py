"""Run by a bundle's environment: reports what it is, what is installed in it, and which modules are missing.

Modules are looked for as files on the path and never imported, because the bundle's code must not run here. Run as
`python -I inspection.py QUESTION`, where QUESTION is a JSON file, `{"modules": [dotted name], "first": directory}`;
prints an `Inspection` (`shared/bundle_messages.py`) as one line of JSON. Standard library only, Python 3.9 and up.
"""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import json
import os
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence

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


def distributions(path: Sequence[str]) -> dict[str, importlib.metadata.Distribution]:
    """Return what is installed in these directories, by canonical name; the first of each name counts."""
    installed: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions(path=list(path)):
        name = distribution.metadata["Name"]
        if name:
            installed.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution)
    return installed


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
                with zipfile.ZipFile(path) as archive:
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
    path = [question["first"], *sys.path]
    answer = {
        "python": sys.executable,
        "version": ".".join(map(str, sys.version_info[:3])),
        "packages": {name: distribution.version for name, distribution in distributions(sys.path).items()},
        "missing": [module for module in question["modules"] if not found(module, path)],
    }
    sys.stdout.write(f"{json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
