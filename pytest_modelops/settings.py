"""Command line, variables, ini and `[tool.modelops]`, parsed once into one frozen `Settings`.

All parsing happens here, which makes this a long file: whoever wonders what may be written, and what is said
of what may not, looks nowhere else. Every complaint is one line that names file, key and valid values.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
import pytest
from packaging.requirements import InvalidRequirement, Requirement

from pytest_modelops.checks.base import AggregationSettings
from pytest_modelops.environments.base import EnvironmentSpec
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import PythonVersion, Role
from pytest_modelops.matrix.versions import (
    DaskRequest,
    Exclusion,
    Inclusion,
    MatrixSettings,
    RoleRequest,
    parse_specifier,
    said_of,
)
from pytest_modelops.options import Given, given, not_one_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FILE = "pyproject.toml"
BACKENDS = ("auto", "process")
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set, with defaults filled in.

    Attributes:
        rootdir: pytest's; paths in `[tool.modelops]` are relative to it.
        backend: one of `BACKENDS`.
        workers: worker processes in a cell; threads: of each; nanny: whether each has one.
        cache: folder of environments that are kept between runs.
        fresh: trust no cached environment.
        reports: files to write, absolute.
        environment: what goes into a cell besides Dask.
        worker_env: variables of the workers.
        worker_args: further arguments of `dask worker`.
        deadlines: rung → seconds, only those that were set.
    """

    rootdir: Path
    backend: str = "auto"
    workers: int = 2
    threads: int = 1
    nanny: bool = True
    cache: Path
    fresh: bool = False
    reports: tuple[Path, ...] = ()
    matrix: MatrixSettings = dataclasses.field(default_factory=MatrixSettings)
    environment: EnvironmentSpec
    worker_env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    worker_args: tuple[str, ...] = ()
    aggregation: AggregationSettings = dataclasses.field(default_factory=AggregationSettings)
    deadlines: Mapping[str, float] = dataclasses.field(default_factory=dict)


def load(config: pytest.Config, *, rungs: Collection[str]) -> Settings:
    """Read all settings of this run.

    Args:
        config: pytest's.
        rungs: names of the rungs that there are; deadlines are checked against them.

    Raises:
        WrongInput: anything that cannot be meant.
    """
    return parse(rootdir=config.rootpath, sources=given(config, os.environ), rungs=rungs)


def parse(*, rootdir: Path, sources: Mapping[str, Sequence[Given]], rungs: Collection[str]) -> Settings:
    """As `load`: from the file in `rootdir`, and what else was given by option, the strongest first."""
    elsewhere = _Elsewhere(sources)
    table = _read_file(rootdir)
    environment = table.section("environment", ["requirements", "constraints", "as-of", "env", "worker-args"])
    aggregation = table.section("aggregation", ["params", "replicates"])
    deadlines = table.section("deadlines", rungs)
    option = functools.partial(elsewhere.over, table, rootdir)
    return Settings(
        rootdir=rootdir,
        backend=option("backend", lambda it, _: _backend(it), Settings.backend),
        workers=option("workers", lambda it, _: _count(it), Settings.workers),
        threads=table.get("threads", _count, Settings.threads),
        nanny=table.get("nanny", _switch, Settings.nanny),
        cache=option("cache", _path, platformdirs.user_cache_path("pytest-modelops")),
        fresh=option("fresh", lambda it, _: _switch(it), Settings.fresh),
        reports=option("report", lambda it, folder: _each(it, lambda item: _report(item, folder)), ()),
        matrix=_matrix(table.section("matrix", ["python", "dask", "exclude", "include"]), rootdir, elsewhere),
        environment=EnvironmentSpec(
            requirements=environment.get(
                "requirements", lambda it: _each(it, lambda item: _requirement(item, rootdir)), ()
            ),
            constraints=environment.get("constraints", lambda it: _file(it, rootdir), None),
            as_of=environment.get("as-of", _day, None),
            rootdir=rootdir,
        ),
        worker_env=environment.get("env", _variables, {}),
        worker_args=environment.get("worker-args", _worker_args, ()),
        aggregation=AggregationSettings(
            params=aggregation.get("params", _count, AggregationSettings.params),
            replicates=aggregation.get("replicates", _count, AggregationSettings.replicates),
        ),
        deadlines={
            **{rung: deadlines.get(rung, _seconds, 0.0) for rung in deadlines.values},
            **elsewhere.deadlines(rungs),
        },
    )


def _matrix(table: _Table, rootdir: Path, elsewhere: _Elsewhere) -> MatrixSettings:
    exclude = tuple(map(_exclusion, table.entries("exclude", ["python", "dask"])))
    include = tuple(
        map(_inclusion, table.entries("include", ["python", "dask", *(role.value for role in Role)]))
    )
    axis_given = elsewhere.origin("python") or elsewhere.origin("dask")
    return MatrixSettings(
        python=elsewhere.over(table, rootdir, "python", lambda it, _: _axis(it, _python), ()),
        dask=elsewhere.over(table, rootdir, "dask", lambda it, _: _axis(it, _dask), ()),
        exclude=exclude,
        include=() if axis_given else include,
        select=elsewhere.texts("cell"),
        python_origin=elsewhere.origin("python") or table.name("python"),
        dask_origin=elsewhere.origin("dask") or table.name("dask"),
        exclude_origin=table.name("exclude"),
        select_origin=elsewhere.origin("cell"),
    )


def _exclusion(entry: _Table) -> Exclusion:
    if not entry.values:
        raise WrongInput(f"{entry.place}: says nothing; write python, dask or both")
    return Exclusion(
        python=entry.get("python", _python, None),
        dask=entry.get("dask", lambda value: parse_specifier(_text(value)), None),
        text=_toml(entry.values),
    )


def _inclusion(entry: _Table) -> Inclusion:
    python, dask = entry.get("python", _python, None), entry.get("dask", _dask, None)
    if python is None or dask is None:
        raise WrongInput(f"{entry.place}: {_toml(entry.values)} does not have both python and dask")
    roles = {
        role: _role(entry.inner(role.value, ["python", "dask"]))
        for role in Role
        if role.value in entry.values
    }
    return Inclusion(python=python, dask=dask, roles=roles, origin=entry.place)


def _role(table: _Table) -> RoleRequest:
    if not table.values:
        raise WrongInput(f"{table.place}: says nothing; write python, dask or both")
    return RoleRequest(python=table.get("python", _python, None), dask=table.get("dask", _dask, None))


# Where values stand, and what is said of wrong ones.


@dataclasses.dataclass(frozen=True)
class _Elsewhere:
    """What was given on the command line, in variables and in the ini file."""

    sources: Mapping[str, Sequence[Given]]

    def over(self, table: _Table, rootdir: Path, name: str, read: Callable[[Any, Path], T], default: T) -> T:
        """Read an option from the strongest place that has it, the table being the last.

        What the table says is read in any case, so that it cannot be wrong unnoticed. `read` is given a value
        as it is in the file, and the folder that paths are relative to.
        """
        configured = table.get(name, lambda value: read(value, rootdir), default)
        for source in self.sources.get(name, ()):
            with said_of(source.origin):
                return read(_as_in_file(name, source), source.folder)
        return configured

    def texts(self, name: str) -> tuple[str, ...]:
        """What the strongest source of an option says."""
        return next((source.texts for source in self.sources.get(name, ())), ())

    def origin(self, name: str) -> str:
        """Where the strongest source of an option is; empty if there is none."""
        return next((source.origin for source in self.sources.get(name, ())), "")

    def deadlines(self, rungs: Collection[str]) -> dict[str, float]:
        """What all sources say; for each rung the strongest wins."""
        merged: dict[str, float] = {}
        for source in reversed(self.sources.get("deadline", ())):
            with said_of(source.origin):
                merged.update(_deadline(text, rungs) for text in source.texts)
        return merged


@dataclasses.dataclass(frozen=True)
class _Table:
    """A table of the file, with no keys but valid ones.

    Attributes:
        place: `pyproject.toml: [tool.modelops.matrix]`, or with ` include[0]` behind it.
        path: its name (`tool.modelops.matrix`), or that of the table that it is an entry of.
        entry: which entry it is, if it is one.
    """

    values: Mapping[str, Any]
    path: str
    entry: str = ""

    @classmethod
    def checked(cls, values: object, keys: Collection[str], path: str, entry: str = "") -> _Table:
        table = cls(values if isinstance(values, dict) else {}, path, entry)
        if not isinstance(values, dict):
            raise WrongInput(
                f"{table.place}: {_shown(values)} is not a table; its keys are {', '.join(sorted(keys))}"
            )
        for key in values:
            if key not in keys:
                raise WrongInput(f"{table.place}: {not_one_of(key, 'a key', keys)}")
        return table

    @property
    def place(self) -> str:
        return f"{_FILE}: [{self.path}]" + (f" {self.entry}" if self.entry else "")

    def name(self, key: str) -> str:
        """The place of a key, for messages."""
        return f"{self.place}{'.' if self.entry else ' '}{key}"

    def get(self, key: str, read: Callable[[Any], T], otherwise: T) -> T:
        """Read the key's value, if it is there."""
        if key not in self.values:
            return otherwise
        with said_of(self.name(key)):
            return read(self.values[key])

    def section(self, key: str, keys: Collection[str]) -> _Table:
        """The table `[….key]`, empty if it is not there."""
        return _Table.checked(self.values.get(key, {}), keys, f"{self.path}.{key}")

    def entries(self, key: str, keys: Collection[str]) -> list[_Table]:
        """The tables in the list `key`."""
        found = self.values.get(key, [])
        if not isinstance(found, list):
            raise WrongInput(f"{self.name(key)}: {_shown(found)} is not a list of tables")
        return [
            _Table.checked(value, keys, self.path, f"{key}[{index}]") for index, value in enumerate(found)
        ]

    def inner(self, key: str, keys: Collection[str]) -> _Table:
        """The table `key` in an entry."""
        return _Table.checked(self.values[key], keys, self.path, f"{self.entry}.{key}")


def _read_file(rootdir: Path) -> _Table:
    try:
        content = tomllib.loads((rootdir / _FILE).read_bytes().decode())
    except FileNotFoundError:
        content = {}
    except OSError as error:
        raise WrongInput(f"{_FILE}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # also of text that is not UTF-8
        raise WrongInput(f"{_FILE}: not valid TOML: {error}") from None
    tool = content.get("tool", {})
    keys = ["backend", "workers", "threads", "nanny", "cache", "fresh", "report"]
    sections = ["matrix", "environment", "aggregation", "deadlines"]
    modelops = tool.get("modelops", {}) if isinstance(tool, dict) else {}
    return _Table.checked(modelops, [*keys, *sections], "tool.modelops")


def _toml(value: object) -> str:
    """A value as it may stand in the file, on one line."""
    match value:
        case dict():
            return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case str() | bool():
            return json.dumps(value, ensure_ascii=False)
    return str(value)


def _shown(value: object) -> str:
    """A wrong value, for messages."""
    return repr(value) if isinstance(value, str) else _toml(value)


# Readers: what a value of the file means. `WrongInput` says what it should be; where it is, said_of knows.


def _string(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise WrongInput(f'{value} is a number; write it in quotes: "{value}"')
    raise WrongInput(f"{_shown(value)} is not a string")


def _text(value: object) -> str:
    if not _string(value).strip():
        raise WrongInput(f"{value!r} is empty")
    return _string(value)


def _each(value: object, read: Callable[[object], T]) -> tuple[T, ...]:
    """Read a list, or a single value as a list of one."""
    return tuple(read(item) for item in (value if isinstance(value, list) else [value]))


def _axis(value: object, read: Callable[[object], T]) -> tuple[T, ...]:
    if value == []:
        raise WrongInput("the list is empty; name at least one version, or remove the key")
    return _each(value, read)


def _python(value: object) -> PythonVersion:
    if isinstance(value, float):
        # 3.10 has become 3.1 by now.
        example = "3.10" if value == 3.1 else value  # noqa: PLR2004
        raise WrongInput(
            f'{value} is a number, of which TOML drops a last zero; write it in quotes: "{example}"'
        )
    text = _string(value)
    try:
        return PythonVersion.parse(text)
    except ValueError as error:
        raise WrongInput(f'{error}; write X.Y or X.Y.Z, such as "3.12"') from None


def _dask(value: object) -> DaskRequest:
    return DaskRequest.parse(_string(value))


def _backend(value: object) -> str:
    if value not in BACKENDS:
        raise WrongInput(not_one_of(_string(value), "a backend", BACKENDS))
    return str(value)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WrongInput(f"{_shown(value)} is not a whole number from 1 up")
    return value


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise WrongInput(f"{_shown(value)} is not a number of seconds above 0")
    return float(value)


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise WrongInput(f"{_shown(value)} is neither true nor false")
    return value


def _path(value: object, folder: Path) -> Path:
    try:
        return folder / Path(_text(value)).expanduser()
    except RuntimeError:
        raise WrongInput(f"{value!r} is in the home of a user that there is not") from None


def _file(value: object, folder: Path) -> Path:
    path = _path(value, folder)
    if not path.is_file():
        raise WrongInput(f"{value!r} is not a file ({path})")
    return path


def _report(value: object, folder: Path) -> Path:
    path = _path(value, folder)
    if path.suffix != ".json":
        raise WrongInput(f"{value!r} does not end in a report's format; valid: .json")
    return path


def _requirement(value: object, rootdir: Path) -> str:
    """A PEP 508 line, or the absolute path of a project's folder or a wheel."""
    text = _text(value).strip()
    if text.startswith((".", "/")) or (text.endswith(".whl") and "://" not in text):
        path = _path(text, rootdir)
        if path.is_file() and path.suffix == ".whl":
            return str(path)
        if (path / "pyproject.toml").is_file() or (path / "setup.py").is_file():
            return str(path)
        raise WrongInput(
            f"{text!r} is neither a wheel nor a folder with a pyproject.toml or setup.py ({path})"
        )
    try:
        Requirement(text)
    except InvalidRequirement:
        raise WrongInput(
            f"{text!r} is not a requirement; write one such as numpy>=2, or the path of a folder or wheel, "
            "such as ./libs/contracts; options are not taken"
        ) from None
    return text


def _day(value: object) -> dt.date:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        with contextlib.suppress(ValueError):
            return dt.date.fromisoformat(value)
    raise WrongInput(f"{_shown(value)} is not a day; write YYYY-MM-DD, such as 2024-11-01")


def _variables(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise WrongInput(f'{_shown(value)} is not a table of strings, such as {{ NAME = "value" }}')
    for name, content in value.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise WrongInput(f"{name!r} is not a variable's name; it has letters, digits and _ only")
        with said_of(name):
            _string(content)
    return value


def _worker_args(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise WrongInput(
            f'{_shown(value)} is not a list of strings, such as ["--resources", "aggregation=1"]'
        )
    arguments = _each(value, _string)
    for argument in arguments:
        option = argument.partition("=")[0]
        if option in _DASK_WORKER_OPTIONS:
            raise WrongInput(
                f"{option!r} has a key of its own: {_DASK_WORKER_OPTIONS[option]} in [tool.modelops]"
            )
        if option in _HARNESS_WORKER_OPTIONS:
            raise WrongInput(f"{option!r} is set for each worker by the harness; remove it")
    return arguments


# Texts of the command line, of variables and of the ini file: to what they would be in the file, if they can.


def _as_in_file(name: str, source: Given) -> object:
    match name:
        case "workers":
            return int(source.text) if source.text.isdecimal() else source.text
        case "fresh":
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(
                source.text.lower(), source.text
            )
        case "backend" | "cache":
            return source.text
    return list(source.texts)


def _deadline(text: str, rungs: Collection[str]) -> tuple[str, float]:
    rung, equals, seconds = text.partition("=")
    if not equals:
        raise WrongInput(f"{text!r} is not RUNG=SECONDS, such as start=120")
    if rung not in rungs:
        raise WrongInput(not_one_of(rung, "a rung", rungs))
    return rung, _seconds(float(seconds) if re.fullmatch(r"\d*\.?\d+", seconds) else seconds)
