"""Names that a function uses: what a cell can import to have them, and why it cannot have the others.

Knows neither how functions are found, nor how the module that travels is put together.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import json
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pytest_modelops.shipping.definition import Definition
from pytest_modelops.shipping.values import MISSING

_NEVER_IN_CELLS = frozenset({"pytest", "_pytest", "pytest_modelops"})


def imports_of(name: str, value: Any, user: Definition) -> list[str]:
    """The statements that import a value in a cell; none if no cell can import it.

    The user's own statements come first: a submodule that was imported by name is needed too, and an object's
    `__module__` may be a private one that other versions do not have (`pathlib._local` of Python 3.13).
    """
    if found := list(_written_imports(name, value, user)):
        return found
    if isinstance(value, types.ModuleType):
        return [f"import {value.__name__} as {name}\n"] if _is_importable(value.__name__) else []
    module, attribute = str(getattr(value, "__module__", "")), str(getattr(value, "__qualname__", ""))
    if user.owns(value) or not _is_importable(module) or member_of(module, attribute) is not value:
        return []
    return [f"from {module} import {attribute} as {name}\n"]


def _written_imports(name: str, value: Any, user: Definition) -> Iterator[str]:
    """The import statements of the user's file that make the name mean this value."""
    for node in ast.walk(user.tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            if (alias.asname or alias.name.partition(".")[0]) != name:
                continue
            if isinstance(node, ast.Import):
                bound = alias.name if alias.asname else name
                if sys.modules.get(bound) is value and _is_importable(alias.name):
                    yield f"import {ast.unparse(alias)}\n"
            elif _is_importable(module := _absolute(node, user)) and member_of(module, alias.name) is value:
                yield f"from {module} import {ast.unparse(alias)}\n"


def _absolute(node: ast.ImportFrom, user: Definition) -> str:
    """The module of a `from … import`, of a relative one too; empty if that leads nowhere."""
    module = node.module or ""
    if not node.level:
        return module
    try:
        return importlib.util.resolve_name("." * node.level + module, user.globals.get("__package__"))
    except ImportError:
        return ""


def member_of(module: str, name: str) -> Any:
    """What a loaded module has under a name."""
    return getattr(sys.modules.get(module), name, MISSING)


def _is_importable(module: str) -> bool:
    """Whether a cell can have a module: it is of the standard library or of an installed distribution."""
    root = module.partition(".")[0]
    if module not in sys.modules or root in _NEVER_IN_CELLS:
        return False
    return is_library(module) or _is_editable(module)


def is_library(module: str) -> bool:
    """Whether a module lies where Python or an installer put it.

    Its name does not tell: pytest's importlib mode calls the file `platform/test_it.py` of a project
    `platform.test_it`, and some distributions have installed a package `tests`.
    """
    root, place = module.partition(".")[0], _place(module)
    if module not in sys.modules or root in _NEVER_IN_CELLS:
        return False
    in_python = place == Path() or place.is_relative_to(Path(os.__file__).parent)
    return (root in sys.stdlib_module_names and in_python) or _is_in_site(place)


def _place(module: str) -> Path:
    """The file of a loaded module, or a directory of its package; an empty path if it is built into Python."""
    loaded = sys.modules.get(module)
    return Path(getattr(loaded, "__file__", None) or next(iter(getattr(loaded, "__path__", ())), ""))


def _is_in_site(place: object) -> bool:
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(str(place)).parts)


def _is_editable(module: str) -> bool:
    """Whether a module is of a distribution that is installed from a checkout.

    Not every installer lists the names in it; then the distribution's own is taken, and all that lies in
    `src`. What else a checkout holds may be tests.
    """
    names, sources = _checkouts()
    root, place = module.partition(".")[0], _place(module)
    return root.lower() in names or any(place.is_relative_to(source) for source in sources)


@functools.lru_cache(maxsize=1)
def _checkouts() -> tuple[set[str], set[Path]]:
    """Top-level names, in lower case, and `src` directories of distributions that lie outside site-packages."""
    names, sources = set(), set()
    for distribution in importlib.metadata.distributions():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable") or not _is_in_site(distribution.locate_file("")):
            listed = distribution.read_text("top_level.txt") or str(distribution.name).replace("-", "_")
            names.update(listed.lower().split())
            sources.add(Path(url2pathname(urlsplit(origin.get("url", "")).path), "src"))
    return names, sources


def is_never_in_cells(value: Any) -> bool:
    """Whether a value is of a package that no cell has."""
    return _home(value) in _NEVER_IN_CELLS


def _home(value: Any) -> str:
    """The top-level package that a value says it is from."""
    module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    return str(module).partition(".")[0]


def why_not(name: str, value: Any) -> str:
    """Why a module's value cannot travel, and what to do."""
    if is_never_in_cells(value):
        return f"{name!r}: {_home(value).strip('_')} is in no cell, so do without it in this function"
    if isinstance(value, types.ModuleType):
        return (
            f"the module {value.__name__!r}, which belongs to neither the standard library nor an installed "
            "distribution: import functions from it by name, and they travel along"
        )
    kind = f"the class {value.__qualname__}" if isinstance(value, type) else f"an object of {type(value)!r}"
    return f"{name!r}, {kind}: only modules, functions and plain data travel; make it inside the function"
