"""Where each module of a bundle must be found: in what was installed, or in the bundle's own directory.

A project is used as it was built, so its own directory must not stand on the import path: what the build leaves out
would be found there. Loose modules are installed nowhere and run from the bundle's directory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path

from pytest_modelops.bundles import contents, wires
from pytest_modelops.bundles.formats import Source
from pytest_modelops.remote.shared.bundle_messages import OnPath, Place

_SELDOM_SHIPPED = frozenset(
    {"ci", "bin", "util", "utils", "tool", "tools", "task", "tasks", "python", "exercise", "exercises", "site_scons"}
    | {"notebooks", "conda", "packaging", "documentation", "unit_test", "unittests", "fabfile"}
)
"""Packages beside a project's own that its build leaves out on purpose, as setuptools' discovery does."""


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
    root = file.parents[len(parts) if file.name.startswith("__init__.") else len(parts) - 1]
    if not any((root / project).is_file() for project in contents.PROJECT_FILES):
        return False
    is_regular = any(path.name.startswith("__init__.") for path in (root / parts[0]).glob("__init__.*"))
    return not is_regular or parts[0] in _SELDOM_SHIPPED
