"""What a package says of itself in pyproject.toml, setup.cfg and setup.py; read only, nothing is built or executed.

What only a build can tell is `None`, for unknown.
"""

from __future__ import annotations

import ast
import configparser
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from pytest_modelops.bundles.contents import parse_python, read_text, read_toml
from pytest_modelops.errors import MalformedBundle

WIRE_GROUP = "modelops.wire"
"""Group of entry points: https://packaging.python.org/en/latest/specifications/entry-points/."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RequiresPython:
    """Which Pythons a package admits.

    Attributes:
        text: as written; what Poetry writes its own way, as Poetry puts it into a wheel.
        key: what it is called in its file; file: which that is, absolute.
    """

    text: str
    key: str
    file: Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metadata:
    """What is known of a package before it is built.

    Attributes:
        dependencies: as written, `None` when unknown.
        wires: entry points of the group `modelops.wire`: name → `module:function`.
        wires_in: the file and place of them, for messages.
        roots: directories that hold its modules, relative; empty when it does not say.
    """

    requires_python: RequiresPython | None = None
    dependencies: tuple[str, ...] | None = ()
    wires: Mapping[str, str] = dataclasses.field(default_factory=dict)
    wires_in: str = ""
    roots: tuple[str, ...] = ()


def read(directory: Path) -> Metadata:
    """Read a package's metadata.

    Raises:
        MalformedBundle: a file is not what an installer or a build backend could take.
    """
    pyproject = read_toml(directory / "pyproject.toml") if (directory / "pyproject.toml").is_file() else {}
    tool = table(pyproject, "tool")
    setup = _setup_cfg(directory) | _setup_py(directory)
    roots = tuple(dict.fromkeys((*_roots(tool), *_setup_roots(setup))))
    if "project" in pyproject:
        return _of_project(directory, pyproject["project"], setup, roots)
    if poetry := table(tool, "poetry"):
        return _of_poetry(directory, poetry, roots)
    return _of_setup(directory, setup, roots)


def _of_project(directory: Path, project: Any, setup: Mapping[str, Any], roots: tuple[str, ...]) -> Metadata:
    """The standard table. Source: https://packaging.python.org/en/latest/specifications/pyproject-toml/."""
    file = directory / "pyproject.toml"
    if not isinstance(project, dict):
        raise MalformedBundle(f"{file}: project is not a table")
    dynamic = project.get("dynamic", [])
    if not isinstance(dynamic, list):
        raise MalformedBundle(f'{file}: [project] dynamic is not a list of strings, such as ["version"]')
    if not isinstance(project.get("name"), str):
        raise MalformedBundle(f'{file}: [project] has no name; write one such as name = "{directory.name}"')
    if "version" not in project and "version" not in dynamic:
        raise MalformedBundle(f'{file}: [project] has no version; write one such as version = "1.0"')
    of_setup = _of_setup(directory, setup, roots)
    requires_python = None
    if "requires-python" in project:
        text = _string(project["requires-python"], f"{file}: [project] requires-python", ">=3.10")
        requires_python = RequiresPython(text=text, key="requires-python", file=file)
    elif "requires-python" in dynamic:
        requires_python = of_setup.requires_python
    dependencies: tuple[str, ...] | None = None
    if "dependencies" not in dynamic:
        dependencies = _dependencies(project.get("dependencies", []), f"{file}: [project] dependencies")
    wires, wires_in = of_setup.wires, of_setup.wires_in
    if "entry-points" in project or "entry-points" not in dynamic:
        wires_in = f'[project.entry-points."{WIRE_GROUP}"] of {file}'
        wires = _strings(table(project, "entry-points").get(WIRE_GROUP, {}), wires_in)
    return Metadata(
        requires_python=requires_python, dependencies=dependencies, wires=wires, wires_in=wires_in, roots=roots
    )


def _dependencies(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise MalformedBundle(f'{where} is not a list of strings, such as ["numpy>=2"]')
    for item in value:
        try:
            Requirement(_string(item, where, "numpy>=2"))
        except InvalidRequirement:
            raise MalformedBundle(f"{where}: {item!r} is not a requirement; write one such as numpy>=2") from None
    return tuple(value)


def _of_poetry(directory: Path, poetry: Mapping[str, Any], roots: tuple[str, ...]) -> Metadata:
    """Poetry's own table, of a project without the standard one."""
    file = directory / "pyproject.toml"
    dependencies = table(poetry, "dependencies")
    python = dependencies.get("python")
    if isinstance(python, dict):
        python = python.get("version")
    requires_python = None
    if python is not None:
        text = _string(python, f"{file}: [tool.poetry.dependencies] python", "^3.10")
        if "|" not in text:  # alternatives have no other way to be written; the installer judges them
            requires_python = RequiresPython(text=_from_poetry(text), key="python", file=file)
    wires_in = f'[tool.poetry.plugins."{WIRE_GROUP}"] of {file}'
    return Metadata(
        requires_python=requires_python,
        dependencies=tuple(name for name in dependencies if name != "python"),
        wires=_strings(table(poetry, "plugins").get(WIRE_GROUP, {}), wires_in),
        wires_in=wires_in,
        roots=roots,
    )


def _from_poetry(text: str) -> str:
    """`^3.10` as `>=3.10,<4`; what is written the common way stays. Source: Poetry's "dependency specification"."""
    parts = []
    for part in text.split(","):
        match = re.fullmatch(r"([~^]?)\s*(\d+(?:\.\d+)*)(\.\*)?", part.strip())
        if part.strip() == "*":
            continue
        if match is None:
            parts.append(part.strip())
            continue
        operator, version, wildcard = match.groups()
        numbers = [int(number) for number in version.split(".")]
        if not operator:
            parts.append(f"=={version}{wildcard or ''}")
            continue
        kept = numbers[:1] if operator == "^" else numbers[:2]
        upper = ".".join(map(str, [*kept[:-1], kept[-1] + 1]))
        parts.append(f">={version},<{upper}")
    return ",".join(parts)


def _of_setup(directory: Path, setup: Mapping[str, Any], roots: tuple[str, ...]) -> Metadata:
    """What setup.cfg says, or the call of `setup` where it can be read without running it."""
    python = None
    if isinstance(text := setup.get("python_requires"), str):
        python = RequiresPython(text=text, key="python_requires", file=directory / setup["python_requires_in"])
    dependencies = setup.get("install_requires", [])
    if isinstance(dependencies, str):
        dependencies = [line.strip() for line in dependencies.splitlines() if line.strip()]
    known = isinstance(dependencies, list | tuple) and all(isinstance(item, str) for item in dependencies)
    wires_in = f"the entry points {WIRE_GROUP} of {directory / setup.get('entry_points_in', 'setup.py')}"
    return Metadata(
        requires_python=python,
        dependencies=tuple(dependencies) if known else None,
        wires=_named(setup.get("entry_points"), wires_in),
        wires_in=wires_in,
        roots=roots,
    )


def _named(entry_points: Any, where: str) -> dict[str, str]:
    """Setuptools' lines `name = module:function`, as a list or one text."""
    lines = entry_points.get(WIRE_GROUP, []) if isinstance(entry_points, dict) else []
    lines = lines.splitlines() if isinstance(lines, str) else lines
    pairs = {}
    for line in lines if isinstance(lines, list | tuple) else []:
        if isinstance(line, str) and line.strip():
            name, equals, value = line.partition("=")
            if not equals:
                raise MalformedBundle(
                    f"{where}: {line.strip()!r} is not as name = module:function, such as wire = pkg.wire:wire"
                )
            pairs[name.strip()] = value.strip()
    return pairs


def _setup_cfg(directory: Path) -> dict[str, Any]:
    file = directory / "setup.cfg"
    if not file.is_file():
        return {}
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    try:
        parser.read_string(read_text(file))
    except configparser.Error as error:
        raise MalformedBundle(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    found: dict[str, Any] = {}
    for key in ("python_requires", "install_requires", "package_dir"):
        if parser.has_option("options", key):
            found[key] = parser.get("options", key).strip()
            found[f"{key}_in"] = "setup.cfg"
    if parser.has_option("options.packages.find", "where"):
        found["where"] = parser.get("options.packages.find", "where")
    if parser.has_option("options.entry_points", WIRE_GROUP):
        found["entry_points"] = {WIRE_GROUP: parser.get("options.entry_points", WIRE_GROUP)}
        found["entry_points_in"] = "setup.cfg"
    return found


def _setup_py(directory: Path) -> dict[str, Any]:
    """Arguments of `setup(…)`: values that are literals, `None` for those that only running it tells."""
    file = directory / "setup.py"
    if not file.is_file():
        return {}
    found: dict[str, Any] = {}
    tree = parse_python(file)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Call) and "setup" in {getattr(node.func, "id", ""), getattr(node.func, "attr", "")}:
            for keyword in node.keywords:
                if keyword.arg in {"python_requires", "install_requires", "package_dir", "entry_points"}:
                    try:
                        found[keyword.arg] = ast.literal_eval(keyword.value)
                    except (ValueError, TypeError, RecursionError):
                        found[keyword.arg] = None
                    found[f"{keyword.arg}_in"] = "setup.py"
    return found


def _roots(tool: Mapping[str, Any]) -> list[str]:
    """Directories that hold modules, as each build backend is reported."""
    setuptools = table(tool, "setuptools")
    found = [table(setuptools, "package-dir").get("")]
    find = table(table(setuptools, "packages"), "find") if "packages" in setuptools else {}
    found += _list(find.get("where"))
    wheel = table(table(table(table(tool, "hatch"), "build"), "targets"), "wheel")
    found += [str(Path(name).parent) for name in _list(wheel.get("packages")) if isinstance(name, str)]
    found += _list(wheel.get("sources"))
    for package in _list(table(tool, "poetry").get("packages")):
        if isinstance(package, dict):
            found.append(package.get("from", "."))
    found.append(table(tool, "maturin").get("python-source"))
    found.append(table(table(tool, "pdm"), "build").get("package-dir"))
    found.append(table(table(tool, "uv"), "build-backend").get("module-root"))
    return [root or "." for root in found if isinstance(root, str)]


def _setup_roots(setup: Mapping[str, Any]) -> list[str]:
    found = []
    match setup.get("package_dir"):
        case dict() as directories:
            found.append(directories.get(""))
        case str() as text:
            pairs = (line.partition("=") for line in text.splitlines())
            found += [directory.strip() for package, _, directory in pairs if not package.strip() and directory.strip()]
    found.append(setup.get("where"))
    return [root for root in found if isinstance(root, str)]


def table(value: Any, key: str) -> dict[str, Any]:
    """A table in a table, an empty one when it is not there or is something else."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _string(value: Any, where: str, example: str) -> str:
    if isinstance(value, str):
        return value
    raise MalformedBundle(f'{where}: {value!r} is not a string; write one such as "{example}"')


def _strings(value: Any, where: str) -> dict[str, str]:
    if isinstance(value, dict):
        return {str(name): _string(item, where, "package.module:function") for name, item in value.items()}
    raise MalformedBundle(f'{where} is not a table, such as wire = "package.module:function"')
