"""Where each module of a bundle must be found: in what was installed, or in the bundle's own directory.

A project is used as it was built, so its own directory must not stand on the import path: what the build leaves out
would be found there. Loose modules are installed nowhere and run from the bundle's directory.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pytest_modelops.bundles import contents, wires
from pytest_modelops.bundles.documents import read_text
from pytest_modelops.bundles.formats import Source
from pytest_modelops.remote.shared.bundle_messages import OnPath, Place

_SELDOM_SHIPPED = frozenset(
    {"ci", "bin", "util", "utils", "tool", "tools", "task", "tasks", "python", "exercise", "exercises", "site_scons"}
    | {"notebooks", "conda", "packaging", "documentation", "unit_test", "unittests", "fabfile"}
)
"""Packages beside a project's own that its build leaves out on purpose, as setuptools' discovery does."""

_FIND = re.compile(r"\bfind:|\bfind_packages\s*\(")
"""How setuptools is asked for packages that have an `__init__.py`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Places:
    """Where a bundle's modules must be found.

    Attributes:
        modules: by dotted name.
        on_path: where the bundle's own directory stands on the import path.
    """

    modules: Mapping[str, Place]
    on_path: OnPath


def of(source: Source, needed: Collection[str] = ()) -> Places:
    """Return where the modules of a bundle must be found.

    Args:
        needed: what its settings name, such as `package.module/scenario`.
    """
    names = {name.replace("/", ".").replace(":", ".").partition(".")[0] for name in needed}
    on_path: OnPath = "first" if source.loose else "last" if _has_wire_beside(source) else "never"
    if source.wire:
        names.add(source.wire.module.partition(".")[0])
    beside = {name for name, file in source.modules.items() if name not in source.loose and _is_beside(name, file)}
    return Places(
        modules={
            name: "source" if name in source.loose else _place(name, name in beside, names, on_path)
            for name in sorted(source.modules)
        },
        on_path=on_path,
    )


def namespaces_left_out(source: Source, missing: Collection[str]) -> str:
    """Return why setuptools left out modules, if they are in a package without an `__init__.py`; else nothing."""
    files = [project / name for project in source.projects for name in ("setup.cfg", "setup.py")]
    finds = [file for file in files if file.is_file() and _FIND.search(read_text(file))]
    for name in missing if finds else ():
        parts, file = name.split("."), source.modules.get(name)
        if file is None or file.suffix == ".whl":
            continue
        root = _root(parts, file)
        for count in range(1, len(parts)):
            if not (root.joinpath(*parts[:count]) / "__init__.py").is_file():
                return (
                    f"{'.'.join(parts[:count])} has no __init__.py, and `find:` or `find_packages()` in "
                    f"{finds[0].name} takes only packages that have one: use `find_namespace:` or "
                    "`find_namespace_packages()`, or add the file"
                )
    return ""


def _root(parts: Sequence[str], file: Path) -> Path:
    """Return the directory that holds the top-level package of a module."""
    return file.parents[len(parts) if file.name.startswith("__init__.") else len(parts) - 1]


def _place(name: str, is_beside: bool, needed: Collection[str], on_path: OnPath) -> Place:
    if not is_beside:
        return "installed"
    if name.partition(".")[0] not in needed:
        return "if-shipped"
    return "anywhere" if on_path == "last" else "installed"


def _has_wire_beside(source: Source) -> bool:
    """Whether a file of the bundle, and no package, declares a module beside a project's packages: it is run there."""
    wire = source.wire
    if wire is None or not wire.where.startswith(
        tuple(str(source.path / name) for name in (wires.ROOT_FILE, wires.MANIFEST, wires.SETTINGS))
    ):
        return False
    return "." not in wire.module and (source.path / f"{wire.module}.py").is_file()


def _is_beside(name: str, file: Path) -> bool:
    """Whether a module is at the top of a project and no regular package: a build may leave it out on purpose.

    A script such as `plot.py` and a directory such as `notebooks` stand beside the packages of a flat layout.
    """
    if file.suffix == ".whl":
        return False
    parts = name.split(".")
    root = _root(parts, file)
    if not any((root / project).is_file() for project in contents.PROJECT_FILES):
        return False
    is_regular = any(path.name.startswith("__init__.") for path in (root / parts[0]).glob("__init__.*"))
    return not is_regular or parts[0] in _SELDOM_SHIPPED
