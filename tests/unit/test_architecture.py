"""The rules of who may import whom: downwards only, no cycles, and what runs in a cell stands alone."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

import pytest_modelops

ROOT = Path(pytest_modelops.__file__).parent

LAYERS = (
    ("errors", "deadline", "remote"),
    ("matrix", "storage"),
    ("bundles", "report", "shipping"),
    ("config",),
    ("environments",),
    ("backends",),
    ("cluster",),
    ("checks",),
    ("cell",),
    ("fixtures", "markers", "hookspecs"),
    ("session",),
    ("plugin", "__main__"),
)
"""Directories and top-level modules, from the ground up.

Each imports only from layers below its own, or from itself.
"""
REMOTE: dict[str, tuple[set[str], set[str]]] = {
    "remote/shared": (set(), set()),
    "remote/supervisor": (set(), {"shared"}),
    "remote/runner": (set(), {"shared"}),
    "remote/worker": ({"distributed", "dask", "psutil"}, {"shared", "runner"}),
    "remote/client": ({"distributed", "dask"}, {"shared", "runner", "worker"}),
}
"""By the place where it runs.

Packages besides the standard library, and directories of `remote`, that it may import.
"""
REPORT_KNOWS = {"matrix", "report", "errors"}
ENGINE = re.compile(r"docker|testcontainers", re.IGNORECASE)
ENGINE_MAY_STAND_IN = ("backends/docker/", "backends/registry.py", "config/")
"""The backend, its registration and its settings."""
TOP_LEVEL_MODULES = 8

FILES = sorted(file.relative_to(ROOT).as_posix() for file in ROOT.rglob("*.py"))


def module_of(file: str) -> str:
    """Dotted name of a file's module below the package: `checks.base`; `checks` for `checks/__init__.py`."""
    return file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


def imports(file: str) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements of a file, wherever in it, but for those that only a type checker sees."""
    waiting: list[ast.AST] = [ast.parse((ROOT / file).read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def imported(file: str, *, typing: bool = True) -> Iterator[str]:
    """Dotted names of all that a file imports; those of this package resolved to `pytest_modelops.…`."""
    tree = ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))) if typing else imports(file)
    for node in tree:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                package = ["pytest_modelops", *file.split("/")[:-1]][: -node.level + 1 or None]
                module = ".".join([*package, *([module] if module else [])])
            for alias in node.names:
                name = f"{module}.{alias.name}"
                yield name if name.removeprefix("pytest_modelops.") in MODULES else module


def ours(file: str, *, typing: bool = True) -> set[str]:
    """Modules of this package that a file imports, without the package's name."""
    found = imported(file, typing=typing)
    return {name.removeprefix("pytest_modelops.") for name in found if name.startswith("pytest_modelops.")}


def part_of(module: str) -> str:
    return module.partition(".")[0]


def layer(module: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if part_of(module) in parts)


def cycles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The shortest cycle through each node that is on one."""
    found = []
    for start in graph:
        paths = [[start]]
        seen: set[str] = set()
        while paths:
            path = paths.pop(0)
            for after in graph.get(path[-1], ()):
                if after == start:
                    found.append([*path, start])
                    paths = []
                    break
                if after not in seen:
                    seen.add(after)
                    paths.append([*path, after])
    return found


def test_imports_run_downwards() -> None:
    for file in FILES:
        if file != "__init__.py":
            mine = module_of(file)
            others = {name for name in ours(file) if part_of(name) != part_of(mine)}
            upwards = {name for name in others if layer(name) >= layer(mine) and layer(name) > 0}
            assert not upwards, f"{file} imports {sorted(upwards)}, which do not stand below it"


def test_no_modules_import_each_other_in_a_cycle() -> None:
    assert cycles({module: ours(file, typing=False) for module, file in MODULES.items()}) == []


def test_a_cycle_would_be_found() -> None:
    assert cycles({"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": []})[0] == ["a", "b", "c", "a"]


def test_reports_know_results_and_nothing_of_how_they_came_about() -> None:
    files = [file for file in FILES if file.startswith("report/")]
    assert files
    for file in files:
        assert {part_of(module) for module in ours(file)} <= REPORT_KNOWS, file


@pytest.mark.parametrize("directory", REMOTE)
def test_what_runs_in_a_cell_stands_alone(directory: str) -> None:
    packages, directories = REMOTE[directory]
    own = directory.removeprefix("remote/")
    files = [file for file in FILES if file.startswith(f"{directory}/")]
    assert files
    for file in files:
        names = set(imported(file))
        remote = {name.split(".")[2] for name in names if name.startswith("pytest_modelops.remote.")}
        assert remote <= directories | {own}, file
        roots = {name.partition(".")[0] for name in names} - {"pytest_modelops"}
        assert roots <= sys.stdlib_module_names | packages, file
        assert {part_of(module) for module in ours(file)} <= {"remote"}, file


def test_everything_remote_has_a_place_where_it_runs() -> None:
    places = {file.rpartition("/")[0] for file in FILES if file.startswith("remote/")}
    assert places == {"remote", *REMOTE}


def test_only_its_own_backend_knows_the_container_engine() -> None:
    for file in FILES:
        if not file.startswith(ENGINE_MAY_STAND_IN):
            assert ENGINE.findall((ROOT / file).read_text(encoding="utf-8")) == [], file


def test_the_top_level_holds_what_pytest_and_users_import() -> None:
    assert len([file for file in FILES if "/" not in file]) <= TOP_LEVEL_MODULES


def loaded_always() -> set[str]:
    """`plugin.py` and all of this package that it imports at its top, and those in turn."""
    found: set[str] = set()
    waiting = ["plugin"]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        tree = ast.parse((ROOT / MODULES[module]).read_text(encoding="utf-8"))
        for node in tree.body:  # not those within functions, nor under TYPE_CHECKING
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pytest_modelops"):
                base = (node.module or "").removeprefix("pytest_modelops").removeprefix(".")
                for alias in node.names:
                    name = f"{base}.{alias.name}".removeprefix(".")
                    waiting.append(name if name in MODULES else base)
    return found


def test_what_pytest_always_loads_imports_only_pytest_and_the_standard_library() -> None:
    for module in loaded_always():
        tree = ast.parse((ROOT / MODULES[module]).read_text(encoding="utf-8"))
        roots = set()
        for node in tree.body:
            if isinstance(node, ast.Import):
                roots |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                roots.add(node.module.partition(".")[0])
        assert roots <= sys.stdlib_module_names | {"pytest", "pytest_modelops"}, module
