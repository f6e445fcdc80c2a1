"""Command line, variables, ini and `[tool.modelops]`, parsed once into one frozen `Settings`.

All parsing happens here, which makes this a long file: whoever wonders what may be written, and what is said
of what may not, looks nowhere else. Every complaint is one line that names file, key and valid values.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
import pytest

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.config import bundle_table, docker_table, readers, worker_plugin
from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.config.model import (
    FAILED_WHEN,
    AggregationSettings,
    EnvironmentSpec,
    PluginSettings,
    RunnerSettings,
)
from pytest_modelops.config.options import Given, given, not_one_of
from pytest_modelops.config.tables import Table, read_file
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import Role
from pytest_modelops.matrix.versions import Exclusion, Inclusion, MatrixSettings, RoleRequest, parse_specifier, said_of

KEYS = (
    *("backend", "workers", "threads", "nanny", "cache", "fresh", "report", "bundles", "keep"),
    *("matrix", "environment", "aggregation", "deadlines", "runner", "worker-plugin", "docker"),
)
"""Of `[tool.modelops]`."""
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set, with defaults filled in.

    Attributes:
        rootdir: pytest's; paths in `[tool.modelops]` are relative to it.
        backend: one of `config.model.BACKENDS`.
        workers: worker processes in a cell; threads: of each; nanny: whether each has one.
        cache: directory of environments that are kept between runs.
        fresh: trust no cached environment.
        reports: files to write, absolute.
        environment: what goes into a cell besides Dask.
        worker_env: variables of the workers.
        worker_args: further arguments of `dask worker`.
        deadlines: check → seconds, only those that were set.
        bundles: what is to be shipped to the workers.
        known_bundles: those, and those of the file, whose settings a test's marker inherits.
        runner: how a bundle's runner is started.
        plugin: the worker plugin, if there is one.
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
    bundles: tuple[Bundle, ...] = ()
    known_bundles: tuple[Bundle, ...] = ()
    runner: RunnerSettings = dataclasses.field(default_factory=RunnerSettings)
    plugin: PluginSettings | None = None
    containers: ContainerSettings = dataclasses.field(default_factory=ContainerSettings)


def load(config: pytest.Config, *, check_names: Collection[str]) -> Settings:
    """Read all settings of this run.

    Args:
        config: pytest's.
        checks: names of the checks that there are; deadlines are checked against them.

    Raises:
        WrongInput: anything that cannot be meant.
    """
    return parse(rootdir=config.rootpath, sources=given(config, os.environ), check_names=check_names)


def parse(*, rootdir: Path, sources: Mapping[str, Sequence[Given]], check_names: Collection[str]) -> Settings:
    """As `load`: from the file in `rootdir`, and what else was given by option, the strongest first."""
    elsewhere = _Elsewhere(sources)
    table = read_file(rootdir, KEYS)
    environment = table.section("environment", ["requirements", "constraints", "as-of", "env", "worker-args"])
    aggregation = table.section("aggregation", ["params", "replicates", "failed-when"])
    deadlines = table.section("deadlines", check_names)
    option = functools.partial(elsewhere.over, table, rootdir)
    bundles = bundle_table.bundles(table, rootdir, sources.get("bundle", ()))
    return Settings(
        rootdir=rootdir,
        backend=option("backend", lambda it, _: readers.backend(it), Settings.backend),
        workers=option("workers", lambda it, _: readers.count(it), Settings.workers),
        threads=table.get("threads", readers.count, Settings.threads),
        nanny=table.get("nanny", readers.switch, Settings.nanny),
        cache=option("cache", readers.path, platformdirs.user_cache_path("pytest-modelops")),
        fresh=option("fresh", lambda it, _: readers.switch(it), Settings.fresh),
        reports=option(
            "report", lambda it, directory: readers.each(it, lambda item: readers.report(item, directory)), ()
        ),
        matrix=_matrix(table.section("matrix", ["python", "dask", "exclude", "include"]), rootdir, elsewhere),
        environment=EnvironmentSpec(
            requirements=environment.get(
                "requirements", lambda it: readers.each(it, lambda item: readers.requirement(item, rootdir)), ()
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
            failed_when=aggregation.get("failed-when", bundle_table.failed_when, FAILED_WHEN),
        ),
        deadlines={
            **{check_name: deadlines.get(check_name, readers.seconds, 0.0) for check_name in deadlines.values},
            **elsewhere.deadlines(check_names),
        },
        bundles=bundles,
        known_bundles=(*bundles, *bundle_table.others(bundles, bundle_table.bundles(table, rootdir, ()))),
        runner=bundle_table.runner(table.section("runner", bundle_table.RUNNER_KEYS), rootdir),
        plugin=worker_plugin.plugin(table),
        containers=docker_table.containers(
            table.section("docker", docker_table.KEYS),
            keep=option(
                "keep",
                lambda it, _: readers.one_of(it, "a time to keep cells", docker_table.KEEP),
                ContainerSettings.keep,
            ),
        ),
    )


def load_objects(config: pytest.Config) -> tuple[tuple[Bundle, ...], PluginSettings | None]:
    """Only the bundles and the worker plugin, which say what checks there are.

    Raises:
        WrongInput: anything of them that cannot be meant.
    """
    table = read_file(config.rootpath, KEYS)
    sources = given(config, os.environ).get("bundle", ())
    return bundle_table.bundles(table, config.rootpath, sources), worker_plugin.plugin(table)


def load_runner(config: pytest.Config) -> RunnerSettings:
    """Only how runners are started, which says whether there is a check about that.

    Raises:
        WrongInput: anything of it that cannot be meant.
    """
    table = read_file(config.rootpath, KEYS)
    return bundle_table.runner(table.section("runner", bundle_table.RUNNER_KEYS), config.rootpath)


def _matrix(table: Table, rootdir: Path, elsewhere: _Elsewhere) -> MatrixSettings:
    exclude = tuple(map(_exclusion, table.entries("exclude", ["python", "dask"])))
    include = tuple(map(_inclusion, table.entries("include", ["python", "dask", *(role.value for role in Role)])))
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


def _exclusion(entry: Table) -> Exclusion:
    if not entry.values:
        raise WrongInput(f"{entry.place}: says nothing; write python, dask or both")
    return Exclusion(
        python=entry.get("python", readers.python, None),
        dask=entry.get("dask", lambda value: parse_specifier(readers.text(value)), None),
        text=readers.as_toml(entry.values),
    )


def _inclusion(entry: Table) -> Inclusion:
    python, dask = entry.get("python", readers.python, None), entry.get("dask", readers.dask, None)
    if python is None or dask is None:
        raise WrongInput(f"{entry.place}: {readers.as_toml(entry.values)} does not have both python and dask")
    roles = {role: _role(entry.inner(role.value, ["python", "dask"])) for role in Role if role.value in entry.values}
    return Inclusion(python=python, dask=dask, roles=roles, origin=entry.place)


def _role(table: Table) -> RoleRequest:
    if not table.values:
        raise WrongInput(f"{table.place}: says nothing; write python, dask or both")
    return RoleRequest(python=table.get("python", readers.python, None), dask=table.get("dask", readers.dask, None))


# Where values stand, and what is said of wrong ones.


@dataclasses.dataclass(frozen=True)
class _Elsewhere:
    """What was given on the command line, in variables and in the ini file."""

    sources: Mapping[str, Sequence[Given]]

    def over(self, table: Table, rootdir: Path, name: str, read: Callable[[Any, Path], T], default: T) -> T:
        """Read an option from the strongest place that has it, the table being the last.

        What the table says is read in any case, so that it cannot be wrong unnoticed. `read` is given a value
        as it is in the file, and the directory that paths are relative to.
        """
        configured = table.get(name, lambda value: read(value, rootdir), default)
        for source in self.sources.get(name, ()):
            with said_of(source.origin):
                return read(_as_in_file(name, source), source.directory)
        return configured

    def texts(self, name: str) -> tuple[str, ...]:
        """What the strongest source of an option says."""
        return next((source.texts for source in self.sources.get(name, ())), ())

    def origin(self, name: str) -> str:
        """Where the strongest source of an option is; empty if there is none."""
        return next((source.origin for source in self.sources.get(name, ())), "")

    def deadlines(self, check_names: Collection[str]) -> dict[str, float]:
        """What all sources say; for each check the strongest wins."""
        merged: dict[str, float] = {}
        for source in reversed(self.sources.get("deadline", ())):
            with said_of(source.origin):
                merged.update(_deadline(text, check_names) for text in source.texts)
        return merged


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


def _deadline(text: str, check_names: Collection[str]) -> tuple[str, float]:
    check_name, equals, seconds = text.partition("=")
    if not equals:
        raise WrongInput(f"{text!r} is not CHECK=SECONDS, such as start=120")
    if check_name not in check_names:
        raise WrongInput(not_one_of(check_name, "a check", check_names))
    return check_name, readers.seconds(float(seconds) if re.fullmatch(r"\d*\.?\d+", seconds) else seconds)
