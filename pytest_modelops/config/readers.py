"""What a value of `[tool.modelops]` means: one function for each kind of value.

Each returns the value as a type, or raises `WrongInput` with what it should be; where it stands, the caller says.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from packaging.requirements import InvalidRequirement, Requirement

from pytest_modelops.config.model import BACKENDS
from pytest_modelops.config.options import not_one_of
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import PythonVersion, Role
from pytest_modelops.matrix.versions import DaskRequest, said_of
from pytest_modelops.report import WRITERS

_DASK_WORKER_OPTIONS = {
    "--nthreads": "threads",
    "--nworkers": "workers",
    "--nprocs": "workers",
    "--nanny": "nanny",
    "--no-nanny": "nanny",
}
"""Options of `dask worker` that are keys of `[tool.modelops]`."""
_HARNESS_WORKER_OPTIONS = {
    "--name",
    "--scheduler-file",
    "--local-directory",
    "--pid-file",
    "--host",
    "--interface",
    "--worker-port",
    "--nanny-port",
    "--listen-address",
    "--contact-address",
}
"""Options of `dask worker` that say who and where a worker is: the harness's own."""


T = TypeVar("T")


def as_toml(value: object) -> str:
    """A value as it may stand in the file, on one line."""
    match value:
        case dict():
            return "{ " + ", ".join(f"{key} = {as_toml(item)}" for key, item in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(as_toml, value)) + "]"
        case str() | bool():
            return json.dumps(value, ensure_ascii=False)
    return str(value)


def shown(value: object) -> str:
    """A wrong value, for messages."""
    return repr(value) if isinstance(value, str) else as_toml(value)


def string(value: object) -> str:
    """Text; a number is reported to be written in quotes."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise WrongInput(f'{value} is a number; write it in quotes: "{value}"')
    raise WrongInput(f"{shown(value)} is not a string")


def text(value: object) -> str:
    """Text that says something."""
    if not string(value).strip():
        raise WrongInput(f"{value!r} is empty")
    return string(value)


def each(value: object, read: Callable[[object], T]) -> tuple[T, ...]:
    """Read a list, or a single value as a list of one."""
    return tuple(read(item) for item in (value if isinstance(value, list) else [value]))


def axis(value: object, read: Callable[[object], T]) -> tuple[T, ...]:
    """A list of versions, or one."""
    if value == []:
        raise WrongInput("the list is empty; name at least one version, or remove the key")
    return each(value, read)


def python(value: object) -> PythonVersion:
    """A Python version."""
    if isinstance(value, float):
        # 3.10 has become 3.1 by now.
        example = "3.10" if value == 3.1 else value  # noqa: PLR2004
        raise WrongInput(f'{value} is a number, of which TOML drops a last zero; write it in quotes: "{example}"')
    asked = string(value)
    try:
        return PythonVersion.parse(asked)
    except ValueError as error:
        raise WrongInput(f'{error}; write X.Y or X.Y.Z, such as "3.12"') from None


def dask(value: object) -> DaskRequest:
    """A release, `latest`, `installed` or a range."""
    return DaskRequest.parse(string(value))


def backend(value: object) -> str:
    """A backend's name."""
    if value not in BACKENDS:
        raise WrongInput(not_one_of(string(value), "a backend", BACKENDS))
    return str(value)


def one_of(value: object, what: str, valid: Sequence[str]) -> str:
    """One of a few words."""
    if value not in valid:
        raise WrongInput(not_one_of(string(value), what, valid))
    return str(value)


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


_LEAST_BYTES = 6 * 2**20
"""Engines refuse less."""


def size(value: object) -> int:
    """A number of bytes, as text with a unit; those of 1024, as container engines take them."""
    match = _SIZE.fullmatch(text(value).strip()) if isinstance(value, str) else None
    count = int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " ")) if match else 0
    if count < _LEAST_BYTES:
        raise WrongInput(f'{shown(value)} is not a size from 6m up; write one such as "512m" or "2g"')
    return count


_LEAST_CPUS = 0.01


def cpus(value: object) -> float:
    """A number of CPUs, fractions too."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not _LEAST_CPUS <= value < math.inf:
        raise WrongInput(f"{shown(value)} is not a number of CPUs from 0.01 up")
    return float(value)


def image(value: object) -> str:
    """The name of an image, in which `{python}` and `{dask}` may stand."""
    name = text(value)
    without = name.replace("{python}", "3.12").replace("{dask}", "2024.10.0")
    if not _IMAGE.fullmatch(without):
        raise WrongInput(
            f"{name!r} is not an image's name; write one such as python:{{python}}-slim or registry.example/app:1.2; "
            "{python} and {dask} may stand in it"
        )
    return name


_IMAGE = re.compile(r"[a-z0-9][\w.-]*(:\d+)?(/[a-z0-9][a-z0-9._-]*)*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?")


def images(value: object) -> dict[Role, str]:
    """By role, the name of an image: one for all, or a table."""
    if not isinstance(value, dict):
        return dict.fromkeys(Role, image(value))
    roles = {role.value: role for role in Role}
    found = {}
    for name, content in value.items():
        if name not in roles:
            raise WrongInput(not_one_of(name, "a role", roles))
        with said_of(name):
            found[roles[name]] = image(content)
    return found


def module(value: object) -> str:
    """The dotted name of a module."""
    name = text(value)
    if not all(part.isidentifier() for part in name.split(".")):
        raise WrongInput(f"{name!r} is not the name of a module, such as modelops.worker.plugin")
    return name


def user(value: object) -> str:
    """Who processes run as: `UID`, `UID:GID`, or names in the image."""
    name = text(value)
    if not re.fullmatch(r"[\w.-]+(:[\w.-]+)?", name):
        raise WrongInput(f'{name!r} is not a user; write "1000:1000", or a name that is in the image')
    return name


def directory_in_image(value: object) -> str:
    """An absolute path in an image."""
    name = text(value)
    if not re.fullmatch(r"(/[^/:\0]+)+", name) or ".." in name.split("/") or name.startswith("/modelops"):
        raise WrongInput(f"{name!r} is not the absolute path of a directory in an image, such as /var/cache/app")
    return name


def capability(value: object) -> str:
    """A Linux capability."""
    name = text(value).upper().removeprefix("CAP_")
    if not re.fullmatch(r"[A-Z][A-Z_]+", name):
        raise WrongInput(f"{value!r} is not a Linux capability, such as SYS_PTRACE")
    return name


def variable_name(value: object) -> str:
    """The name of an environment variable."""
    name = text(value)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise WrongInput(f"{name!r} is not a variable's name; it has letters, digits and _ only")
    return name


def count(value: object) -> int:
    """A whole number from 1 up."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WrongInput(f"{shown(value)} is not a whole number from 1 up")
    return value


def seconds(value: object) -> float:
    """A time span, in seconds."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise WrongInput(f"{shown(value)} is not a number of seconds above 0")
    return float(value)


def switch(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise WrongInput(f"{shown(value)} is neither true nor false")
    return value


def path(value: object, directory: Path) -> Path:
    """A path, absolute; relative ones are meant from `directory`."""
    try:
        return directory / Path(text(value)).expanduser()
    except RuntimeError:
        raise WrongInput(f"{value!r} is in the home of a user that there is not") from None


def file(value: object, directory: Path) -> Path:
    """The path of a file that is there."""
    found = path(value, directory)
    if not found.is_file():
        raise WrongInput(f"{value!r} is not a file ({found})")
    return found


def report(value: object, directory: Path) -> Path:
    """The path of a report, whose ending names its format."""
    found = path(value, directory)
    if found.suffix not in WRITERS:
        raise WrongInput(f"{value!r} does not end in a report's format; valid: {', '.join(WRITERS)}")
    return found


def requirement(value: object, rootdir: Path) -> str:
    """A PEP 508 line, or the absolute path of a project's directory or a wheel."""
    line = text(value).strip()
    if line.startswith((".", "/")) or (line.endswith(".whl") and "://" not in line):
        found = path(line, rootdir)
        if found.is_file() and found.suffix == ".whl":
            return str(found)
        if (found / "pyproject.toml").is_file() or (found / "setup.py").is_file():
            return str(found)
        raise WrongInput(f"{line!r} is neither a wheel nor a directory with a pyproject.toml or setup.py ({found})")
    try:
        Requirement(line)
    except InvalidRequirement:
        raise WrongInput(
            f"{line!r} is not a requirement; write one such as numpy>=2, or the path of a directory or wheel, "
            "such as ./libs/contracts; options are not taken"
        ) from None
    return line


def day(value: object) -> dt.date:
    """A date, also as text."""
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        with contextlib.suppress(ValueError):
            return dt.date.fromisoformat(value)
    raise WrongInput(f"{shown(value)} is not a day; write YYYY-MM-DD, such as 2024-11-01")


def variables(value: object) -> dict[str, str]:
    """Environment variables."""
    if not isinstance(value, dict):
        raise WrongInput(f'{shown(value)} is not a table of strings, such as {{ NAME = "value" }}')
    for name, content in value.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise WrongInput(f"{name!r} is not a variable's name; it has letters, digits and _ only")
        with said_of(name):
            if "\0" in string(content):
                raise WrongInput("a variable cannot hold a NUL character")
    return value


def worker_args(value: object) -> tuple[str, ...]:
    """Arguments of `dask worker`, without those that are set otherwise."""
    if not isinstance(value, list):
        raise WrongInput(f'{shown(value)} is not a list of strings, such as ["--resources", "aggregation=1"]')
    arguments = each(value, string)
    for argument in arguments:
        option = argument.partition("=")[0]
        if option in _DASK_WORKER_OPTIONS:
            raise WrongInput(f"{option!r} has a key of its own: {_DASK_WORKER_OPTIONS[option]} in [tool.modelops]")
        if option in _HARNESS_WORKER_OPTIONS:
            raise WrongInput(f"{option!r} is set for each worker by the harness; remove it")
    return arguments
