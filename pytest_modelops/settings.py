"""Command line, variables, ini and `[tool.modelops]`, parsed once into one frozen `Settings`.

All parsing happens here, which makes this a long file: whoever wonders what may be written, and what is said
of what may not, looks nowhere else. Every complaint is one line that names file, key and valid values.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
import pytest

from pytest_modelops import readers
from pytest_modelops.checks.base import AggregationSettings
from pytest_modelops.environments.base import EnvironmentSpec
from pytest_modelops.environments.container.settings import ContainerSettings
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import Role
from pytest_modelops.matrix.versions import (
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
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set, with defaults filled in.

    Attributes:
        rootdir: pytest's; paths in `[tool.modelops]` are relative to it.
        backend: one of `environments.registry.NAMES`.
        workers: worker processes in a cell; threads: of each; nanny: whether each has one.
        cache: folder of environments that are kept between runs.
        fresh: trust no cached environment.
        reports: files to write, absolute.
        environment: what goes into a cell besides Dask.
        worker_env: variables of the workers.
        worker_args: further arguments of `dask worker`.
        deadlines: rung → seconds, only those that were set.
        containers: of cells in containers; when they are left up, too.
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
    containers: ContainerSettings = dataclasses.field(default_factory=ContainerSettings)


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
        backend=option("backend", lambda it, _: readers.backend(it), Settings.backend),
        workers=option("workers", lambda it, _: readers.count(it), Settings.workers),
        threads=table.get("threads", readers.count, Settings.threads),
        nanny=table.get("nanny", readers.switch, Settings.nanny),
        cache=option("cache", readers.path, platformdirs.user_cache_path("pytest-modelops")),
        fresh=option("fresh", lambda it, _: readers.switch(it), Settings.fresh),
        reports=option(
            "report", lambda it, folder: readers.each(it, lambda item: readers.report(item, folder)), ()
        ),
        matrix=_matrix(table.section("matrix", ["python", "dask", "exclude", "include"]), rootdir, elsewhere),
        environment=EnvironmentSpec(
            requirements=environment.get(
                "requirements",
                lambda it: readers.each(it, lambda item: readers.requirement(item, rootdir)),
                (),
            ),
            constraints=environment.get("constraints", lambda it: readers.file(it, rootdir), None),
            as_of=environment.get("as-of", readers.day, None),
            rootdir=rootdir,
        ),
        worker_env=environment.get("env", readers.variables, {}),
        worker_args=environment.get("worker-args", readers.worker_args, ()),
        aggregation=AggregationSettings(
            params=aggregation.get("params", readers.count, AggregationSettings.params),
            replicates=aggregation.get("replicates", readers.count, AggregationSettings.replicates),
        ),
        deadlines={
            **{rung: deadlines.get(rung, readers.seconds, 0.0) for rung in deadlines.values},
            **elsewhere.deadlines(rungs),
        },
        containers=_containers(
            table.section("docker", _CONTAINER_KEYS),
            keep=option(
                "keep", lambda it, _: readers.one_of(it, "a time to keep cells", KEEP), ContainerSettings.keep
            ),
        ),
    )


KEEP = ("never", "failed", "always")
"""When a cell is left up."""
_CONTAINER_KEYS = (
    *("image", "finished", "require-modules", "memory", "cpus", "pids", "disk", "user"),
    *("network", "read-only", "writable", "capabilities", "new-privileges", "pass-env"),
)


def _containers(table: _Table, *, keep: str) -> ContainerSettings:
    default = ContainerSettings()
    images = table.get("image", readers.images, {})
    finished = table.get("finished", readers.images, {})
    if both := [role.value for role in Role if role in images and role in finished]:
        raise WrongInput(
            f"{table.place}: {' and '.join(both)} have both image and finished; packages are added to the one, and the "
            "other is run as it is; write one of them, for all or by role"
        )

    def each(key: str, read: Callable[[Any], T]) -> tuple[T, ...]:
        return table.get(key, lambda value: readers.each(value, read), ())

    return ContainerSettings(
        images={**default.images, **images},
        finished=finished,
        require_modules=each("require-modules", readers.module),
        memory=table.get("memory", readers.size, default.memory),
        cpus=table.get("cpus", readers.cpus, default.cpus),
        pids=table.get("pids", readers.count, default.pids),
        disk=table.get("disk", readers.size, default.disk),
        user=table.get("user", readers.user, default.user),
        network=table.get("network", readers.switch, default.network),
        read_only=table.get("read-only", readers.switch, default.read_only),
        writable=each("writable", readers.folder_in_image),
        capabilities=each("capabilities", readers.capability),
        new_privileges=table.get("new-privileges", readers.switch, default.new_privileges),
        pass_env=each("pass-env", readers.variable_name),
        keep=keep,
    )


def _matrix(table: _Table, rootdir: Path, elsewhere: _Elsewhere) -> MatrixSettings:
    exclude = tuple(map(_exclusion, table.entries("exclude", ["python", "dask"])))
    include = tuple(
        map(_inclusion, table.entries("include", ["python", "dask", *(role.value for role in Role)]))
    )
    axis_given = elsewhere.origin("python") or elsewhere.origin("dask")
    return MatrixSettings(
        python=elsewhere.over(table, rootdir, "python", lambda it, _: readers.axis(it, readers.python), ()),
        dask=elsewhere.over(table, rootdir, "dask", lambda it, _: readers.axis(it, readers.dask), ()),
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
        python=entry.get("python", readers.python, None),
        dask=entry.get("dask", lambda value: parse_specifier(readers.text(value)), None),
        text=readers.as_toml(entry.values),
    )


def _inclusion(entry: _Table) -> Inclusion:
    python, dask = entry.get("python", readers.python, None), entry.get("dask", readers.dask, None)
    if python is None or dask is None:
        raise WrongInput(f"{entry.place}: {readers.as_toml(entry.values)} does not have both python and dask")
    roles = {
        role: _role(entry.inner(role.value, ["python", "dask"]))
        for role in Role
        if role.value in entry.values
    }
    return Inclusion(python=python, dask=dask, roles=roles, origin=entry.place)


def _role(table: _Table) -> RoleRequest:
    if not table.values:
        raise WrongInput(f"{table.place}: says nothing; write python, dask or both")
    return RoleRequest(
        python=table.get("python", readers.python, None), dask=table.get("dask", readers.dask, None)
    )


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
                f"{table.place}: {readers.shown(values)} is not a table; its keys are {', '.join(sorted(keys))}"
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
            raise WrongInput(f"{self.name(key)}: {readers.shown(found)} is not a list of tables")
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
    keys = ["backend", "workers", "threads", "nanny", "cache", "fresh", "report", "keep"]
    sections = ["matrix", "environment", "aggregation", "deadlines", "docker"]
    modelops = tool.get("modelops", {}) if isinstance(tool, dict) else {}
    return _Table.checked(modelops, [*keys, *sections], "tool.modelops")


# Texts of the command line, of variables and of the ini file: to what they would be in the file, if they can.


def _as_in_file(name: str, source: Given) -> object:
    match name:
        case "workers":
            return int(source.text) if source.text.isdecimal() else source.text
        case "fresh":
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(
                source.text.lower(), source.text
            )
        case "backend" | "cache" | "keep":
            return source.text
    return list(source.texts)


def _deadline(text: str, rungs: Collection[str]) -> tuple[str, float]:
    rung, equals, seconds = text.partition("=")
    if not equals:
        raise WrongInput(f"{text!r} is not RUNG=SECONDS, such as start=120")
    if rung not in rungs:
        raise WrongInput(not_one_of(rung, "a rung", rungs))
    return rung, readers.seconds(float(seconds) if re.fullmatch(r"\d*\.?\d+", seconds) else seconds)
