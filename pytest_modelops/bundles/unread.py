"""What in a bundle says what it needs, and is read by no installer of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from pytest_modelops.bundles.documents import Table, read_text, read_toml, table
from pytest_modelops.errors import MalformedBundle

_FILES = ("environment*.y*ml", "conda*.y*ml", "Pipfile", "pixi.toml", "requirements*.in", "requirements[-_]*.txt")
_SHOWN = 6
_ELSEWHERE = ("path", "git", "url", "workspace")
"""Kinds of `[tool.uv.sources]` that name other code than an index has. https://docs.astral.sh/uv/concepts/projects/dependencies/"""


def unread(directory: Path, read: Collection[Path] = ()) -> tuple[str, ...]:
    """Return the files and tables that list packages and are not read, each with what it lists.

    Args:
        read: requirements files that are.
    """
    found = []
    files = {file for pattern in _FILES for file in directory.glob(pattern) if file.is_file()} - set(read)
    for file in sorted(files):
        try:
            listed = re.findall(r"^\s*(?:- )?([A-Za-z][\w.-]*)\s*(?:[=<>~!].*)?$", read_text(file), re.MULTILINE)
        except MalformedBundle:
            listed = []
        found.append(_shown(file.name, listed))
    pyproject = _pyproject(directory)
    tool = table(pyproject, "tool")
    groups = {
        "[dependency-groups]": table(pyproject, "dependency-groups"),
        "[project.optional-dependencies]": table(pyproject, "project", "optional-dependencies"),
        "[tool.poetry.group]": {
            name: [*table(group, "dependencies")] for name, group in table(tool, "poetry", "group").items()
        },
        "[tool.pdm.dev-dependencies]": table(tool, "pdm", "dev-dependencies"),
        "[tool.uv.sources]": {name: [name] for name in table(tool, "uv", "sources")},
        "[tool.uv.workspace]": {"members": table(tool, "uv", "workspace").get("members")},
    }
    for name, group in groups.items():
        listed = [
            item for items in group.values() if isinstance(items, list) for item in items if isinstance(item, str)
        ]
        if listed:
            found.append(_shown(f"{name} of pyproject.toml", listed))
    return tuple(found)


def _shown(what: str, listed: Sequence[str]) -> str:
    names = list(dict.fromkeys(listed))
    more = ", …" if len(names) > _SHOWN else ""
    return f"{what} ({', '.join(names[:_SHOWN])}{more})" if names else what


def sources_of_uv(directory: Path, requirements: Sequence[str]) -> Iterator[str]:
    """Yield each dependency of a project that `[tool.uv.sources]` takes from elsewhere than from an index.

    A wheel does not carry that: whoever installs it gets the package of that name from an index.

    Args:
        requirements: of the bundle; a package that is named there by path or URL is the one that is meant.
    """
    pyproject = _pyproject(directory)
    sources = table(pyproject, "tool", "uv", "sources")
    given = {canonicalize_name(one.name) for one in map(_parsed, requirements) if one and one.url}
    given |= {canonicalize_name(_name(Path(line))) for line in requirements if line.startswith("/")}
    listed = table(pyproject, "project").get("dependencies")
    for line in listed if isinstance(listed, list) else ():
        name = parsed.name if isinstance(line, str) and (parsed := _parsed(line)) and not parsed.url else None
        known = {canonicalize_name(key): value for key, value in sources.items()}
        source = known.get(canonicalize_name(name or ""))
        kind = next((kind for kind in _ELSEWHERE if isinstance(source, dict) and kind in source), None)
        if name and kind and isinstance(source, dict) and canonicalize_name(name) not in given:
            yield (
                f"the dependency {name!r} comes from {kind} = {source[kind]!r} by [tool.uv.sources] in "
                f"{directory / 'pyproject.toml'}, which no wheel carries: workers would get the {name} of an index; "
                f"copy it into the bundle and name its path in a requirements.txt, such as ./{name}, or ship its wheel"
            )


def options_in_dependencies(directory: Path) -> Iterator[str]:
    """Yield each option of pip in a file that setuptools reads as the project's dependencies."""
    dynamic = table(_pyproject(directory), "tool", "setuptools", "dynamic")
    for name in ("dependencies", *table(dynamic, "optional-dependencies")):
        place = table(dynamic, name) or table(dynamic, "optional-dependencies", name)
        files = place.get("file", [])
        for file in [files] if isinstance(files, str) else files if isinstance(files, list) else []:
            if not isinstance(file, str) or not (directory / file).is_file():
                continue
            for number, line in enumerate(read_text(directory / file).splitlines(), 1):
                if line.strip().startswith("-"):
                    yield (
                        f"{file}, line {number}: {line.strip()!r} is an option of pip. setuptools reads this file as "
                        "dependencies ([tool.setuptools.dynamic]) and takes requirements only; remove the line."
                    )


def _pyproject(directory: Path) -> Table:
    file = directory / "pyproject.toml"
    try:
        return read_toml(file) if file.is_file() else {}
    except MalformedBundle:  # reported by what reads the project
        return {}


def _parsed(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def _name(path: Path) -> str:
    """Return the name of the package in a directory, a wheel or an sdist."""
    if path.is_dir():
        return str(table(_pyproject(path), "project").get("name") or path.name)
    return path.name.partition("-")[0]
