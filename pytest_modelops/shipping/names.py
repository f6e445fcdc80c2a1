"""The names that a function uses: what a cell imports to have them, and why it cannot have the others.

Does not know how functions are found, nor how the module that travels is made.
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
    """Return the statements that import a value in a cell; empty if no cell can import it.

    The user's own statements come first: they also import submodules, and an object's `__module__` may be private to
    one version (`pathlib._local` of Python 3.13).
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
    """Yield the import statements of the user's file that bind the name to this value."""
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
    """Return the absolute module of a `from … import`; empty if a relative one cannot be resolved."""
    module = node.module or ""
    if not node.level:
        return module
    try:
        return importlib.util.resolve_name("." * node.level + module, user.globals.get("__package__"))
    except ImportError:
        return ""


def member_of(module: str, name: str) -> Any:
    """Return an attribute of a loaded module; `MISSING` if there is none."""
    return getattr(sys.modules.get(module), name, MISSING)


def _is_importable(module: str) -> bool:
    """Return whether a cell can have a module: it is from the standard library or an installed distribution."""
    root = module.partition(".")[0]
    if module not in sys.modules or root in _NEVER_IN_CELLS:
        return False
    return is_library(module) or _is_editable(module)


def is_library(module: str) -> bool:
    """Return whether a module is in a directory of Python's or an installer's.

    Its name is not enough: pytest's importlib mode names a project's file `platform/test_it.py` `platform.test_it`, and
    some distributions install a package `tests`.
    """
    root, place = module.partition(".")[0], _place(module)
    if module not in sys.modules or root in _NEVER_IN_CELLS:
        return False
    in_python = place == Path() or place.is_relative_to(Path(os.__file__).parent)
    return (root in sys.stdlib_module_names and in_python) or _is_in_site(place)


def _place(module: str) -> Path:
    """Return the file of a loaded module, or a directory of its package; an empty path if Python contains it."""
    loaded = sys.modules.get(module)
    return Path(getattr(loaded, "__file__", None) or next(iter(getattr(loaded, "__path__", ())), ""))


def _is_in_site(place: object) -> bool:
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(str(place)).parts)


def _is_editable(module: str) -> bool:
    """Return whether a module is from a distribution that is installed from a checkout.

    If the installer does not list the top-level names, the distribution's own name counts, and everything in `src`. The
    rest of a checkout may be tests.
    """
    names, sources = _checkouts()
    root, place = module.partition(".")[0], _place(module)
    return root.lower() in names or any(place.is_relative_to(source) for source in sources)


@functools.lru_cache(maxsize=1)
def _checkouts() -> tuple[set[str], set[Path]]:
    """Return top-level names, in lower case, and `src` directories of distributions outside site-packages."""
    names, sources = set(), set()
    for distribution in importlib.metadata.distributions():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable") or not _is_in_site(distribution.locate_file("")):
            listed = distribution.read_text("top_level.txt") or str(distribution.name).replace("-", "_")
            names.update(listed.lower().split())
            sources.add(Path(url2pathname(urlsplit(origin.get("url", "")).path), "src"))
    return names, sources


def is_never_in_cells(value: Any) -> bool:
    """Return whether a value is from a package that no cell has."""
    return _home(value) in _NEVER_IN_CELLS


def _home(value: Any) -> str:
    """Return the top-level package of a value, by its `__module__`."""
    module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    return str(module).partition(".")[0]


def why_not(name: str, value: Any) -> str:
    """Return why a module's value cannot travel, and what to do."""
    if is_never_in_cells(value):
        return f"{name!r}: {_home(value).strip('_')} is in no cell, so do without it in this function"
    if isinstance(value, types.ModuleType):
        return (
            f"the module {value.__name__!r}, which belongs to neither the standard library nor an installed "
            "distribution: import functions from it by name, and they travel along"
        )
    kind = f"the class {value.__qualname__}" if isinstance(value, type) else f"an object of {type(value)!r}"
    return f"{name!r}, {kind}: only functions, plain data and what is installed travel; make it inside the function"
