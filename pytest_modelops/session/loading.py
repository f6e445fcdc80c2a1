"""How modules of this package are imported in a run of the matrix."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

import pytest


class FromBytecode:
    """Finds modules of this package before pytest does, so that they load from the bytecode beside them.

    pytest rewrites the assertions of every module of a plugin. There are none here, and where no bytecode may be
    written (`PYTHONDONTWRITEBYTECODE`, as in many images) pytest compiles all modules again in each of its processes.
    """

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, path, target) if name.startswith("pytest_modelops.") else None

    @classmethod
    def until_the_end_of(cls, config: pytest.Config) -> None:
        finder = cls()
        sys.meta_path.insert(0, finder)
        config.add_cleanup(lambda: sys.meta_path.remove(finder))
