"""What values mean that more than one table has: read from TOML, or from the text of a flag, variable or ini setting.

Imported whenever pytest starts: what needs more than the standard library is imported where it is used.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pytest_modelops.config.setting import Kind, Type, leaf, many, not_one_of, relative, shown
from pytest_modelops.errors import WrongInput, said_of

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from pytest_modelops.matrix.cell import PythonVersion
    from pytest_modelops.matrix.versions import DaskRequest

T = TypeVar("T")

_DASK_WORKER_OPTIONS = {"--nthreads": "threads", "--nworkers": "workers", "--nanny": "nanny", "--no-nanny": "nanny"}
"""Options of `dask worker` that are keys of `[tool.modelops]`."""
_HARNESS_WORKER_OPTIONS = {
    *("--name", "--scheduler-file", "--local-directory", "--pid-file", "--host", "--interface", "--worker-port"),
    *("--nanny-port", "--listen-address", "--contact-address"),
}
"""Options of `dask worker` that say who and where a worker is. The harness sets them."""
_SWITCH_TEXTS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def string(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise WrongInput(f'{value} is a number; write it in quotes: "{value}"')
    raise WrongInput(f"{shown(value)} is not a string")


def text(value: object) -> str:
    if not string(value).strip():
        raise WrongInput(f"{value!r} is empty")
    return string(value)


STRING = {"type": "string", "minLength": 1}
TEXT = leaf(text, STRING)


def regex(value: object, flags: int = 0) -> re.Pattern[str]:
    try:
        return re.compile(text(value), flags)
    except re.error as error:
        raise WrongInput(f"{value!r} is not a regular expression of Python: {error}") from None


PATTERN = leaf(lambda value: regex(value).pattern, STRING)


def matching(pattern: str, problem: str) -> Type[str]:
    """Return the type of text that a pattern matches; `problem` is said of any other text."""

    def read(value: object) -> str:
        found = text(value)
        if not re.fullmatch(pattern, found):
            raise WrongInput(f"{found!r} {problem}")
        return found

    return leaf(read, {"type": "string", "pattern": f"^{pattern}$"})


ANY_PYTHON = "any"
EXECUTOR = matching(rf"{ANY_PYTHON}|\d+\.\d+(\.\d+)?", f'is not a Python version; write X.Y, X.Y.Z, or "{ANY_PYTHON}"')
"""Which Python a runtime or a runner may do its work with."""


EXEC, FORK, FORK_WORKERS = STARTS = ("exec", "fork", "fork-workers")
"""How the processes of a cell are started."""


def choice(what: str, valid: Collection[str]) -> Type[str]:
    """Return the type of one of a few words."""

    def read(value: object) -> str:
        if value not in valid:
            raise WrongInput(not_one_of(string(value), what, valid))
        return string(value)

    return leaf(read, {"type": "string", "enum": [*valid]})


def mapping(
    value: object,
    what: str,
    check_name: Callable[[str], object],
    read: Callable[[object], T],
    *,
    may_be_empty: bool = False,
) -> dict[str, T]:
    """Read a table whose keys are the user's own.

    Args:
        value: as it is in the file.
        what: what the table holds, with an example, for messages.
        check_name: raises `WrongInput` for a key that is not valid.
        read: of each value.
        may_be_empty: whether an empty table is valid.
    """
    if not isinstance(value, dict) or not (value or may_be_empty):
        raise WrongInput(f"{shown(value)} is not a table of {what}")
    found = {}
    for name, content in value.items():
        check_name(name)
        with said_of(name):
            found[name] = read(content)
    return found


def is_dotted(name: str) -> bool:
    """Whether it is a dotted Python name."""
    return all(part.isidentifier() for part in name.split("."))


IMPORT_PATH = {"type": "string", "pattern": r"^[\w.]+:[\w.]+$"}


def import_path(problem: str) -> Callable[[object], str]:
    """Return what reads `module:name`; `problem` is said of any other text."""

    def read(value: object) -> str:
        found = text(value)
        module, colon, name = found.partition(":")
        if not colon or not is_dotted(module) or not is_dotted(name):
            raise WrongInput(f"{found!r} {problem}")
        return found

    return read


def path(value: object, directory: Path) -> Path:
    try:
        return directory / Path(text(value)).expanduser()
    except RuntimeError:
        raise WrongInput(f"{value!r} is in the home of a user that does not exist") from None


def variable_name(value: object) -> str:
    name = text(value)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise WrongInput(f"{name!r} is not a variable's name; it has letters, digits and _ only")
    return name


def count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WrongInput(f"{shown(value)} is not a whole number from 1 up")
    return value


def _count_or_auto(value: object) -> int | None:
    if isinstance(value, str):
        if value != "auto":
            raise WrongInput(f"{value!r} is neither a whole number from 1 up nor 'auto'")
        return None
    return count(value)


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise WrongInput(f"{shown(value)} is not a number of seconds above 0")
    return float(value)


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise WrongInput(f"{shown(value)} is neither true nor false")
    return value


def _module(value: object) -> str:
    name = text(value)
    if not is_dotted(name):
        raise WrongInput(f"{name!r} is not the name of a module, such as package.module")
    return name


def _python(value: object) -> PythonVersion:
    from pytest_modelops.matrix.cell import PythonVersion

    if isinstance(value, float):
        # TOML reads 3.10 as 3.1.
        example = "3.10" if value == 3.1 else value  # noqa: PLR2004
        raise WrongInput(f'{value} is a number, of which TOML drops a last zero; write it in quotes: "{example}"')
    asked = string(value)
    try:
        return PythonVersion.parse(asked)
    except ValueError as error:
        raise WrongInput(f'{error}; write X.Y or X.Y.Z, such as "3.12"') from None


def _dask(value: object) -> DaskRequest:
    from pytest_modelops.matrix.versions import DaskRequest

    return DaskRequest.parse(string(value))


def _dask_range(value: object) -> SpecifierSet:
    from pytest_modelops.matrix.versions import parse_specifier

    return parse_specifier(text(value))


def _file(value: object, directory: Path) -> Path:
    found = path(value, directory)
    if not found.is_file():
        raise WrongInput(f"{value!r} is not a file ({found})")
    return found


def _requirement(value: object, directory: Path) -> str:
    """A PEP 508 line, or the absolute path of a project's directory or a wheel."""
    from packaging.requirements import InvalidRequirement, Requirement

    line = text(value).strip()
    if line.startswith((".", "/")) or (line.endswith(".whl") and "://" not in line):
        found = path(line, directory)
        is_project = (found / "pyproject.toml").is_file() or (found / "setup.py").is_file()
        if is_project or (found.is_file() and found.suffix == ".whl"):
            return str(found)
        if not found.exists():
            raise WrongInput(f"{line!r}: there is no such file or directory ({found})")
        raise WrongInput(f"{line!r} is neither a wheel nor a directory with a pyproject.toml or setup.py ({found})")
    try:
        Requirement(line)
    except InvalidRequirement:
        raise WrongInput(
            f"{line!r} is not a requirement; write one such as numpy>=2, or the path of a directory or wheel, "
            "such as ./libs/contracts; options are not taken"
        ) from None
    return line


def _day(value: object) -> dt.date:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    try:
        if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            return dt.date.fromisoformat(value)
    except ValueError:
        pass
    raise WrongInput(f"{shown(value)} is not a day; write YYYY-MM-DD, such as 2024-11-01")


def variables(value: object) -> Mapping[str, str]:
    def content(value: object) -> str:
        if "\0" in string(value):
            raise WrongInput("a variable cannot hold a NUL character")
        return string(value)

    return mapping(value, 'strings, such as { NAME = "value" }', variable_name, content, may_be_empty=True)


def _worker_args(value: object, directory: Path) -> tuple[str, ...]:
    from pytest_modelops.config import argument_paths

    if not isinstance(value, list):
        raise WrongInput(f'{shown(value)} is not a list of strings, such as ["--resources", "aggregation=1"]')
    arguments = tuple(map(string, value))
    for argument in arguments:
        option = argument.partition("=")[0]
        if option in _DASK_WORKER_OPTIONS:
            raise WrongInput(f"{option!r} has a key of its own: {_DASK_WORKER_OPTIONS[option]} in [tool.modelops]")
        if option in _HARNESS_WORKER_OPTIONS:
            raise WrongInput(f"{option!r} is set for each worker by the harness; remove it")
    argument_paths.check(arguments, directory)
    return arguments


_STRINGS = {"type": "array", "items": {"type": "string"}}
_VERSION_PROBLEM = "the list is empty; name at least one version, or remove the key"

COUNT = leaf(
    count, {"type": "integer", "minimum": 1}, from_text=lambda given: int(given) if given.isdecimal() else given
)
COUNT_OR_AUTO: Type[int | None] = leaf(
    _count_or_auto, {"anyOf": [COUNT.schema, {"enum": ["auto"]}]}, from_text=COUNT.from_text
)
"""A number, or `auto`, which is `None`."""
SECONDS = leaf(
    _seconds,
    {"type": "number", "exclusiveMinimum": 0},
    from_text=lambda given: float(given) if re.fullmatch(r"\d*\.?\d+", given) else given,
)
SWITCH = leaf(
    _switch, {"type": "boolean"}, from_text=lambda given: _SWITCH_TEXTS.get(given.lower(), given), kind=Kind.SWITCH
)
MODULE = leaf(_module, STRING)
PATH = relative(path, STRING)
FILE = relative(_file, STRING)
PYTHON = leaf(_python, {"type": "string", "pattern": r"^\d+\.\d+(\.\d+)?$"})
PYTHONS = many(PYTHON, if_empty=_VERSION_PROBLEM)
DASK = leaf(_dask, STRING)
DASKS = many(DASK, if_empty=_VERSION_PROBLEM)
DASK_RANGE = leaf(_dask_range, STRING)
REQUIREMENTS = many(relative(_requirement, STRING))
DAY = leaf(_day, {"type": "string", "format": "date"})
VARIABLES = leaf(variables, {"type": "object", "additionalProperties": {"type": "string"}})
WORKER_ARGS = relative(_worker_args, _STRINGS)
GLOBS = many(leaf(string, STRING))
