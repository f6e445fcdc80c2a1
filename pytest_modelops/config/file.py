"""Which file has the settings: the nearest `pyproject.toml` with `[tool.modelops]`, or the one that is named.

Imported whenever pytest starts, so it needs nothing but the standard library.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pytest_modelops.config.setting import FILE
from pytest_modelops.errors import WrongInput

TABLE = "modelops"
_MISTAKEN = {"pytestmodelops", "modelopspytest", "modelop", "modelopsmatrix", "pytestmodelopsmatrix", TABLE}
"""Names of other tables that mean ours, in small letters and without punctuation."""
NO_FILE = (
    "none; no pyproject.toml from {start} upwards has [tool.modelops], so the only cell is this interpreter. To "
    'configure cells, write [tool.modelops.matrix] with python = ["3.12", "3.13"] and dask = ["latest"] there, or name '
    "a file with --modelops-config=PATH"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """Where the settings come from.

    Attributes:
        path: absolute; `None` if there is no such file.
        directory: what relative paths of the table are relative to.
        table: `[tool.modelops]`; empty without a file.
        origin: the file's name in messages, as seen from where pytest was called.
        description: the file, or that there is none and how to get one; for people.
    """

    path: Path | None
    directory: Path
    table: object
    origin: str
    description: str


def named(path: Path, start: Path) -> ConfigFile:
    """Return the file that was asked for by its path; `WrongInput` if it has no `[tool.modelops]`."""
    shown = _seen_from(start, path)
    if not path.is_file():
        raise WrongInput(f"--modelops-config: {path} is not a file; name a TOML file with [tool.modelops]")
    tool = _tool(path, shown)
    if TABLE not in tool:
        raise WrongInput(f"--modelops-config: {path} has no [tool.modelops]; add it, or name another file")
    return _found(path, tool, shown)


def nearest(start: Path, *, otherwise: Iterable[Path], directory: Path) -> ConfigFile:
    """Return the nearest file from a directory upwards.

    Args:
        start: where pytest was called.
        otherwise: what else may be the project: tests that were named, and pytest's rootdir. If only that has a
            file, the run is refused: the user means that one, but it is not where they are.
        directory: what paths are relative to if there is no file.

    Raises:
        WrongInput: a file on the way cannot be read or has a table that is meant to be ours.
    """
    if found := _upwards(start, start):
        return found
    for place in otherwise:
        if other := _upwards(place, start):
            raise WrongInput(
                f"{other.path} has [tool.modelops], but pytest was called in {start}, outside of its directory; "
                f"call it in {other.directory}, or add --modelops-config={other.origin}"
            )
    return ConfigFile(path=None, directory=directory, table={}, origin=FILE, description=NO_FILE.format(start=start))


def _upwards(directory: Path, start: Path) -> ConfigFile | None:
    for place in (directory, *directory.parents):
        path = place / FILE
        shown = _seen_from(start, path)
        tool = _tool(path, shown) if os.access(place, os.X_OK) else {}
        if TABLE in tool:
            return _found(path, tool, shown)
    return None


def _found(path: Path, tool: Mapping[str, object], shown: str) -> ConfigFile:
    return ConfigFile(path=path, directory=path.parent, table=tool[TABLE], origin=shown, description=str(path))


def _tool(path: Path, shown: str) -> Mapping[str, object]:
    """Return `[tool]` of a file, empty without one; `WrongInput` for a table that is meant to be ours."""
    from pytest_modelops.storage.toml import tomllib

    try:
        content = tomllib.loads(path.read_bytes().decode())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise WrongInput(f"{shown}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # also of text that is not UTF-8
        raise WrongInput(f"{shown}: not valid TOML: {error}") from None
    tool = content.get("tool")
    tool = tool if isinstance(tool, dict) else {}
    for header in _mistaken(content, tool):
        raise WrongInput(f"{shown}: [{header}] is not read by pytest-modelops; its table is [tool.modelops]")
    return tool


def _mistaken(content: Mapping[str, object], tool: Mapping[str, object]) -> Iterator[str]:
    """Yield the tables that are meant to be `[tool.modelops]`."""
    pytest_table = tool.get("pytest")
    places = {"": content, "tool.": tool, "tool.pytest.": pytest_table if isinstance(pytest_table, dict) else {}}
    for prefix, tables in places.items():
        for name, value in tables.items():
            plain = "".join(filter(str.isalnum, name)).lower()
            if plain in _MISTAKEN and f"{prefix}{name}" != f"tool.{TABLE}" and isinstance(value, dict):
                yield f"{prefix}{name}"


def _seen_from(start: Path, path: Path) -> str:
    """Return a path as it is shorter: below or above where pytest was called, or absolute."""
    return min(os.path.relpath(path, start), str(path), key=len)
