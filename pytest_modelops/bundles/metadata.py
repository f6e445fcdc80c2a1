"""What a package declares in pyproject.toml, setup.cfg and setup.py. Files are read; nothing is built or executed.

What only a build can tell is unknown: `None`. `packaging.metadata` and `installer` do not help here: they read the
result of a build.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from pytest_modelops.bundles.documents import Table, parse_ini, parse_python, read_text, read_toml, table
from pytest_modelops.errors import MalformedBundle

WIRE_GROUP = "modelops.wire"
"""Group of entry points: https://packaging.python.org/en/latest/specifications/entry-points/."""
_LEGACY = ("setuptools>=40.8.0",)
"""What builds a project that does not say: https://pip.pypa.io/en/stable/reference/build-system/."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RequiresPython:
    """Which Pythons a package admits.

    Attributes:
        text: as written; Poetry's own operators as Poetry writes them into a wheel.
        key: its name in the file.
        file: absolute.
    """

    text: str
    key: str
    file: Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class EntryPoint:
    """A declaration in the group `modelops.wire`.

    Attributes:
        value: `module:function`, as written.
        where: the file and place of it, for messages.
    """

    name: str
    value: str
    where: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metadata:
    """What is known of a package before it is built.

    Attributes:
        dependencies: as written, `None` when unknown.
        wires: the entry points in the group `modelops.wire`, `None` when only a build can tell.
        roots: directories that hold its modules, relative; empty when none is declared.
    """

    requires_python: RequiresPython | None = None
    dependencies: tuple[str, ...] | None = ()
    wires: tuple[EntryPoint, ...] | None = ()
    roots: tuple[str, ...] = ()


Setup = Mapping[str, tuple[object, Path]]
"""Arguments of `setup()`: name → value, `None` if only running setup.py tells, and the file that has it."""


def read(directory: Path) -> Metadata:
    """Read a package's metadata.

    Raises:
        MalformedBundle: no installer or build backend could take one of the files.
    """
    file = directory / "pyproject.toml"
    pyproject = _pyproject(directory)
    poetry = table(pyproject, "tool", "poetry")
    setup = {**_setup_cfg(directory / "setup.cfg"), **_setup_py(directory / "setup.py")}
    if "project" in pyproject:
        metadata = _of_project(file, pyproject["project"], setup)
    elif poetry:
        metadata = _of_poetry(file, poetry)
    else:
        metadata = _of_setup(directory, setup)
    roots = (*_roots(table(pyproject, "tool")), *_setup_roots(setup))
    return dataclasses.replace(metadata, roots=tuple(dict.fromkeys(roots)))


def name_of(directory: Path) -> str | None:
    """Return the name of a project's distribution; `None` when only a build can tell.

    Raises:
        MalformedBundle: as `read`.
    """
    pyproject = _pyproject(directory)
    setup = {**_setup_cfg(directory / "setup.cfg"), **_setup_py(directory / "setup.py")}
    declared = (
        table(pyproject, "project"),
        table(pyproject, "tool", "poetry"),
        {"name": setup.get("name", (None,))[0]},
    )
    return next((name for one in declared if isinstance(name := one.get("name"), str)), None)


def build_requires(directory: Path) -> tuple[str, ...]:
    """Return the requirements of a project's build.

    Raises:
        MalformedBundle: pyproject.toml cannot be read, or does not list strings.
    """
    requires = table(_pyproject(directory), "build-system").get("requires")
    where = f"{directory / 'pyproject.toml'}: [build-system] requires"
    return _LEGACY if requires is None else _requirements(requires, where)


def _pyproject(directory: Path) -> Table:
    file = directory / "pyproject.toml"
    return read_toml(file) if file.is_file() else {}


def _of_project(file: Path, project: object, setup: Setup) -> Metadata:
    """Read the standard table. Source: https://packaging.python.org/en/latest/specifications/pyproject-toml/."""
    if not isinstance(project, dict):
        raise MalformedBundle(f"{file}: project is not a table")
    dynamic = project.get("dynamic", [])
    if not isinstance(dynamic, list):
        raise MalformedBundle(f'{file}: [project] dynamic is not a list of strings, such as ["version"]')
    if not isinstance(project.get("name"), str):
        raise MalformedBundle(f'{file}: [project] has no name; write one such as name = "{file.parent.name}"')
    if "version" not in project and "version" not in dynamic:
        raise MalformedBundle(f'{file}: [project] has no version; write one such as version = "1.0"')
    of_setup = _of_setup(file.parent, setup)
    requires_python = of_setup.requires_python if "requires-python" in dynamic else None
    if "requires-python" in project:
        text = _string(project["requires-python"], f"{file}: [project] requires-python", ">=3.10")
        requires_python = RequiresPython(text=text, key="requires-python", file=file)
    dependencies = None
    if "dependencies" not in dynamic:
        dependencies = _requirements(project.get("dependencies", []), f"{file}: [project] dependencies")
    wires = of_setup.wires
    if "entry-points" in project or "entry-points" not in dynamic:
        where = f'[project.entry-points."{WIRE_GROUP}"] of {file}'
        wires = _entry_points(table(project, "entry-points").get(WIRE_GROUP, {}), where)
    return Metadata(requires_python=requires_python, dependencies=dependencies, wires=wires)


def _of_poetry(file: Path, poetry: Table) -> Metadata:
    """Read Poetry's own table, of a project without the standard one."""
    dependencies = table(poetry, "dependencies")
    python = dependencies.get("python")
    if isinstance(python, dict):
        python = python.get("version")
    requires_python = None
    if python is not None:
        text = _string(python, f"{file}: [tool.poetry.dependencies] python", "^3.10")
        if "|" not in text:  # alternatives cannot be written in another way; the installer judges them
            requires_python = RequiresPython(text=_from_poetry(text), key="python", file=file)
    where = f'[tool.poetry.plugins."{WIRE_GROUP}"] of {file}'
    return Metadata(
        requires_python=requires_python,
        dependencies=tuple(name for name in dependencies if name != "python"),
        wires=_entry_points(table(poetry, "plugins").get(WIRE_GROUP, {}), where),
    )


def _from_poetry(text: str) -> str:
    """Rewrite `^3.10` as `>=3.10,<4`; standard operators stay. Source: Poetry's "dependency specification"."""
    parts = []
    for part in (part.strip() for part in text.split(",")):
        match = re.fullmatch(r"([~^]?)\s*(\d+(?:\.\d+)*)(\.\*)?", part)
        if match is None:
            parts += [part] if part != "*" else []
            continue
        operator, version, wildcard = match.groups()
        if not operator:
            parts.append(f"=={version}{wildcard or ''}")
            continue
        *same, last = version.split(".")[: 1 if operator == "^" else 2]
        parts.append(f">={version},<{'.'.join([*same, str(int(last) + 1)])}")
    return ",".join(parts)


def _of_setup(directory: Path, setup: Setup) -> Metadata:
    """Read setup.cfg, or the call of `setup` where it can be read without running it."""
    nothing = (None, directory / "setup.py")
    python, file = setup.get("python_requires", nothing)
    dependencies, _ = setup.get("install_requires", ([], directory))
    if isinstance(dependencies, str):
        dependencies = [line.strip() for line in dependencies.splitlines() if line.strip()]
    known = tuple(item for item in _list(dependencies) if isinstance(item, str))
    entry_points, declared_in = setup.get("entry_points", ({}, directory / "setup.py"))
    return Metadata(
        requires_python=(
            RequiresPython(text=python, key="python_requires", file=file) if isinstance(python, str) else None
        ),
        dependencies=known if dependencies in (known, list(known)) else None,
        wires=(
            None
            if entry_points is None
            else _setup_wires(table(entry_points).get(WIRE_GROUP), f"the entry points {WIRE_GROUP} of {declared_in}")
        ),
    )


def _setup_wires(lines: object, where: str) -> tuple[EntryPoint, ...]:
    """Parse setuptools' lines `name = module:function`, a list or one text."""
    wires: dict[str, str] = {}
    for line in lines.splitlines() if isinstance(lines, str) else _list(lines):
        if isinstance(line, str) and line.strip():
            name, equals, value = line.partition("=")
            if not equals:
                raise MalformedBundle(
                    f"{where}: {line.strip()!r} is not of the form name = module:function, such as wire = pkg.wire:wire"
                )
            wires[name.strip()] = value.strip()
    return _entry_points(wires, where)


def _setup_cfg(file: Path) -> dict[str, tuple[object, Path]]:
    if not file.is_file():
        return {}
    parser = parse_ini(read_text(file), str(file))
    sections = {
        **dict.fromkeys(("python_requires", "install_requires", "package_dir"), "options"),
        "where": "options.packages.find",
        WIRE_GROUP: "options.entry_points",
    }
    found = {key: parser.get(name, key).strip() for key, name in sections.items() if parser.has_option(name, key)}
    declared = None if parser.has_option("options", "entry_points") else found  # in another file
    return {key: (value, file) for key, value in found.items()} | {"entry_points": (declared, file)}


def _setup_py(file: Path) -> dict[str, tuple[object, Path]]:
    found: dict[str, tuple[object, Path]] = {}
    tree = parse_python(file) if file.is_file() else None
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Call) and "setup" in {getattr(node.func, "id", ""), getattr(node.func, "attr", "")}:
            for keyword in node.keywords:
                if keyword.arg is None:  # `**arguments`
                    found |= {name: (None, file) for name in ("install_requires", "entry_points") if name not in found}
                elif keyword.arg in {"python_requires", "install_requires", "package_dir", "entry_points"}:
                    try:
                        value = ast.literal_eval(keyword.value)
                    except (ValueError, TypeError, RecursionError):
                        value = None
                    found[keyword.arg] = (value, file)
    return found


def _roots(tool: Table) -> list[str]:
    """Return the directories that hold modules, from the settings of each build backend."""
    wheel = table(tool, "hatch", "build", "targets", "wheel")
    packages = _list(table(tool, "poetry").get("packages"))
    found: list[object] = [
        table(tool, "setuptools", "package-dir").get(""),
        *_list(table(tool, "setuptools", "packages", "find").get("where")),
        *(str(Path(name).parent) for name in _list(wheel.get("packages")) if isinstance(name, str)),
        *_list(wheel.get("sources")),
        *(package.get("from", ".") for package in packages if isinstance(package, dict)),
        table(tool, "maturin").get("python-source"),
        table(tool, "pdm", "build").get("package-dir"),
        table(tool, "uv", "build-backend").get("module-root"),
    ]
    return [root or "." for root in found if isinstance(root, str)]


def _setup_roots(setup: Setup) -> list[str]:
    found: list[object] = []
    match setup.get("package_dir"):
        case [dict() as directories, _]:
            found.append(directories.get(""))
        case [str() as text, _]:
            pairs = (line.partition("=") for line in text.splitlines())
            found += [directory.strip() for package, _, directory in pairs if not package.strip() and directory.strip()]
    found += setup.get("where", ())[:1]
    return [root for root in found if isinstance(root, str)]


def _list(value: object) -> Iterable[object]:
    return value if isinstance(value, list | tuple) else ()


def _requirements(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise MalformedBundle(f'{where} is not a list of strings, such as ["numpy>=2"]')
    for item in value:
        try:
            Requirement(_string(item, where, "numpy>=2"))
        except InvalidRequirement:
            raise MalformedBundle(f"{where}: {item!r} is not a requirement; write one such as numpy>=2") from None
    return tuple(value)


def _string(value: object, where: str, example: str) -> str:
    if isinstance(value, str):
        return value
    raise MalformedBundle(f'{where}: {value!r} is not a string; write one such as "{example}"')


def _entry_points(value: object, where: str) -> tuple[EntryPoint, ...]:
    if not isinstance(value, dict):
        raise MalformedBundle(f'{where} is not a table, such as wire = "package.module:function"')
    return tuple(
        EntryPoint(name=str(name), value=_string(item, where, "package.module:function"), where=where)
        for name, item in value.items()
    )
