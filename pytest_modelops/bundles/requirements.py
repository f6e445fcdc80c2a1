"""The requirements in a `requirements.txt`, as an installer gets them one by one.

Format: https://pip.pypa.io/en/stable/reference/requirements-file-format/. Options are refused by name: to ignore an
index, a constraint or a switch would give another environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from packaging.requirements import InvalidRequirement, Requirement

from pytest_modelops.bundles.contents import PROJECT_FILES
from pytest_modelops.bundles.documents import read_text
from pytest_modelops.errors import MalformedBundle

_FOLLOWED = re.compile(r"(?:-r\s*|--requirement[\s=]+)(.+)")
_ARCHIVES = (".whl", ".tar.gz", ".zip")
_INSTEAD = {
    **dict.fromkeys(("-c", "--constraint"), "write the versions into the requirements themselves"),
    **dict.fromkeys(("-e", "--editable"), "write the path alone; workers get a wheel of it"),
    **dict.fromkeys(
        ("-i", "--index-url", "--extra-index-url", "--no-index", "-f", "--find-links", "--trusted-host"),
        "remove it; where packages come from is the host's configuration of uv or pip",
    ),
    "--pre": "name the pre-release in its requirement, such as numpy>=2.0rc1",
    "--require-hashes": "remove it; hashes are not compared",
}


def requirements(file: Path, directory: Path) -> tuple[str, ...]:
    """Return the requirements of a file and of those that it names with `-r`.

    Hashes are dropped: what is pinned stays pinned. Paths become absolute; those outside of the bundle's directory are
    refused, since workers do not get them.

    Raises:
        MalformedBundle: a line is no requirement, or has an option.
    """
    return tuple(dict.fromkeys(_read(file.resolve(), directory.resolve(), ())))


def _read(file: Path, directory: Path, readers: tuple[Path, ...]) -> Iterator[str]:
    for number, line in _lines(read_text(file)):
        where = f"{file.relative_to(directory)}, line {number}"
        followed = _FOLLOWED.fullmatch(line)
        if followed is None:
            yield _requirement(line, file.parent, directory, where)
            continue
        other = _inside(followed[1].strip("'\" "), file.parent, directory, where)
        if other in (*readers, file):
            raise MalformedBundle(f"{where}: {line!r} names a file that is being read already")
        if not other.is_file():
            raise MalformedBundle(f"{where}: {line!r} names a file that is not there ({other})")
        yield from _read(other, directory, (*readers, file))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield logical lines without comments, each with the number of its first."""
    pending, start = "", 1
    for number, line in enumerate([*text.splitlines(), ""], 1):
        start = start if pending else number
        # A comment ends a continued line, as in pip.
        without = re.sub(r"(^|\s)#.*$", "", line)
        pending += without.removesuffix("\\")
        if without.endswith("\\"):
            continue
        if pending.strip():
            yield start, pending.strip()
        pending = ""


def _requirement(line: str, here: Path, directory: Path, where: str) -> str:
    requirement, *options = re.split(r"\s+(?=--?[A-Za-z])", line)
    for option in [requirement] if requirement.startswith("-") else options:
        name = re.split(r"[\s=]", option)[0]
        name = name if name.startswith("--") else name[:2]
        if name != "--hash":
            instead = _INSTEAD.get(name, "remove it")
            raise MalformedBundle(f"{where}: the option {name} is not supported in a bundle; {instead}")
    if variable := re.search(r"\$\{\w+\}", requirement):
        raise MalformedBundle(f"{where}: {variable[0]} is not filled in; write its value")
    if _is_path(requirement):
        path = re.sub(r"\[[\w\s,.-]*\]$", "", requirement)
        extras = requirement[len(path) :]
        return f"{_project(path, here, directory, where)}{extras}"
    if re.match(r"[a-z+]+://", requirement):
        return requirement
    try:
        parsed = Requirement(requirement)
    except InvalidRequirement:
        raise MalformedBundle(
            f"{where}: {requirement!r} is not a requirement; write one such as numpy>=2, "
            "or the path of a directory or wheel, such as ./libs/contracts"
        ) from None
    if parsed.url and (parsed.url.startswith("file:") or "://" not in parsed.url):
        parsed.url = _project(parsed.url, here, directory, where).as_uri()
        return str(parsed)
    return requirement


def _is_path(requirement: str) -> bool:
    if requirement.startswith((".", "/")):
        return True
    if "@" in requirement:
        return False  # a name and its location
    text = requirement.partition(";")[0].strip()
    is_local = "://" not in text and (text.endswith(_ARCHIVES) or "/" in text)
    return is_local or requirement.startswith(("~", "file:"))


def _project(text: str, here: Path, directory: Path, where: str) -> Path:
    """Return the absolute path of the project's directory or archive that a requirement names."""
    if ";" in text:
        raise MalformedBundle(f"{where}: {text!r}: a path cannot have a marker here; write 'name @ path ; marker'")
    path = _inside(unquote(re.sub(r"^file:(//)?", "", text)), here, directory, where)
    is_project = any((path / name).is_file() for name in PROJECT_FILES)
    if not is_project and not (path.is_file() and path.name.endswith(_ARCHIVES)):
        raise MalformedBundle(
            f"{where}: {text!r} is neither a wheel, an sdist nor a directory with a pyproject.toml or setup.py ({path})"
        )
    return path


def _inside(text: str, here: Path, directory: Path, where: str) -> Path:
    """Return the absolute path that a file names."""
    try:
        path = (here / text).resolve()
    except (OSError, ValueError, RuntimeError):
        raise MalformedBundle(f"{where}: {text!r} is not a path") from None
    if not path.is_relative_to(directory):
        raise MalformedBundle(
            f"{where}: {text!r} lies outside the bundle ({directory}), so workers do not get it; "
            "move it into the bundle"
        )
    return path
