"""Run by a bundle's environment: tells what it is, what is installed in it, and which modules are not to be found.

Modules are looked for as files on the path, and not one is imported, since a bundle's code shall not run here. Run as
`python -I look.py QUESTION`, QUESTION being a JSON file `{"modules": [dotted name], "first": directory}`;
prints one line
of JSON. Standard library only, Python 3.9 and up.
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
    """Whether the module's file is where an import would look. A regular package hides what stands behind it."""
    places = list(path)
    *packages, last = module.split(".")
    for package in packages:
        directories = [os.path.join(place, package) for place in places if os.path.isdir(os.path.join(place, package))]
        regular = [directory for directory in directories if has_module(directory, "__init__")]
        places = regular[:1] or directories
    return any(
        has_module(place, last) or has_module(os.path.join(place, last), "__init__") or _is_namespace(place, last)
        for place in places
    )


def has_module(directory: str, name: str) -> bool:
    """Whether a directory holds the module as a source, bytecode or extension file."""
    return any(os.path.isfile(os.path.join(directory, name + suffix)) for suffix in _SUFFIXES)


def _is_namespace(place: str, name: str) -> bool:
    return os.path.isdir(os.path.join(place, name))


def missing_in(source: str, files: Mapping[str, str]) -> list[str]:
    """Which modules a bundle's directory does not have, as it was brought into the cell.

    Args:
        files: module → the file that it is, or the wheel that has it, relative to the directory.
    """
    lost, held = [], {}
    for module, file in files.items():
        path = os.path.join(source, file)
        if not os.path.isfile(path):
            lost.append(module)
        elif file.endswith(".whl"):
            if path not in held:
                with zipfile.ZipFile(path) as archive:
                    held[path] = [re.sub(r"^[^/]+\.data/(?:pure|plat)lib/", "", name) for name in archive.namelist()]
            begins = module.replace(".", "/")
            if not any(name.startswith((f"{begins}.", f"{begins}/__init__.")) for name in held[path]):
                lost.append(module)
    return lost


def main() -> None:
    """Answer the question."""
    with open(sys.argv[1], encoding="utf-8") as file:
        question = json.load(file)
    path = [question["first"], *sys.path]
    packages = {
        re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower(): distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.metadata["Name"]
    }
    answer = {
        "python": sys.executable,
        "version": ".".join(map(str, sys.version_info[:3])),
        "packages": packages,
        "missing": [module for module in question["modules"] if not found(module, path)],
    }
    sys.stdout.write(f"{json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
