"""The environments of this machine: releases, locks, and what is installed."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Installed, Into, Lock, Progress, Wheelhouse
from pytest_modelops.environments.cache import EnvironmentCache
from pytest_modelops.environments.interpreters import Interpreter
from pytest_modelops.environments.releases import PACKAGES
from pytest_modelops.environments.resolver import dask_pins
from pytest_modelops.environments.target import Target, target_of
from pytest_modelops.environments.toolbox import Toolbox
from pytest_modelops.environments.uv import Runner, UvFailed
from pytest_modelops.errors import CheckFailed, Unavailable
from pytest_modelops.matrix.cell import Versions
from pytest_modelops.matrix.versions import Releases

_COMPILE_SECONDS = 60.0


class Environments:
    """Makes virtual environments with uv (see `Toolbox` for the arguments, `backends.base.Backend` for the methods)."""

    def __init__(
        self,
        spec: EnvironmentSpec,
        *,
        cache: Path,
        fresh: bool,
        run: Runner,
        session: str,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._spec = spec
        self._tools = Toolbox(spec, cache=cache, fresh=fresh, run=run, session=session, environ=environ)
        self._environments = EnvironmentCache(
            cache,
            run=run,
            uv=self._tools.uv,
            bytecode=self._tools.bytecode,
            others=bool(spec.requirements),
            fresh=fresh,
            session=session,
        )
        self._targets: dict[Path, Target] = {}

    @property
    def releases(self) -> Releases:
        return self._tools.releases

    @property
    def indexes(self) -> Collection[str]:
        return self._tools.indexes

    def python(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Version:
        if versions.as_is:
            return python_here()
        return self._tools.interpreters.find(versions.python, deadline=deadline, progress=progress).version

    def resolve(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Lock:
        if versions.as_is:
            return installed_here(versions)
        besides = dask_pins(versions, self.releases)
        interpreter = self._tools.interpreters.find(versions.python, deadline=deadline, progress=progress)
        solution = self._tools.resolver.solve(
            self._spec.requirements,
            interpreter,
            name=str(versions),
            besides=besides,
            constraints=self._spec.constraints,
            deadline=deadline,
            progress=progress,
        )
        return Lock(
            versions=versions,
            python=interpreter.version,
            interpreter=str(interpreter.path),
            build=f"{interpreter.build} {interpreter.platform}",
            **vars(solution),
        )

    def install(self, lock: Lock, *, deadline: Deadline, progress: Progress) -> Environment:
        if lock.versions.as_is:
            location = f"{sys.prefix} (this interpreter)"
            return Environment(python=lock.interpreter, lock=lock, reused=True, seconds=0.0, location=location)
        interpreter = self._tools.interpreters.ask(Path(lock.interpreter), deadline)
        if interpreter is None:
            raise Unavailable(f"{lock.interpreter}, for which {lock.versions} was resolved, is gone")
        return self._environments.install(lock, interpreter, deadline=deadline, progress=progress)

    def wheelhouse(
        self, requirements: Sequence[str], lock: Lock, *, deadline: Deadline, progress: Progress
    ) -> Wheelhouse:
        interpreter = self._interpreter(lock, deadline)
        solution = self._tools.resolver.solve(
            requirements, interpreter, name=f"Python {interpreter.version}", deadline=deadline, progress=progress
        )
        if interpreter.path not in self._targets:
            self._targets[interpreter.path] = target_of(
                interpreter, self._tools.run, env=self._tools.uv.variables, deadline=deadline
            )
        target = self._targets[interpreter.path]
        return self._tools.wheelhouses.make(solution, target, deadline=deadline, progress=progress)

    def install_wheels(
        self, house: Wheelhouse, lock: Lock, into: Into, *, deadline: Deadline, progress: Progress
    ) -> Installed | None:
        interpreter = self._interpreter(lock, deadline)
        try:
            return self._tools.installs.make(house, interpreter, into, deadline=deadline, progress=progress)
        except UvFailed as error:
            progress(f"uv cannot install these wheels, so pip does: {error}")
            return None

    def remote_package(self, environment: Environment) -> Path:
        """Return the directory with the package `modelops_remote`, compiled for an environment's interpreter.

        Raises:
            CheckFailed: it could not be compiled.
            TimedOut: it took too long.
        """
        lock, deadline = environment.lock, Deadline(_COMPILE_SECONDS)

        def compile_in(directory: Path) -> None:
            self._tools.bytecode.compile(Path(environment.python), directory, deadline)

        return self._tools.remote_packages.obtain(lock.python, lock.build, compile_in, deadline)

    def _interpreter(self, lock: Lock, deadline: Deadline) -> Interpreter:
        interpreter = self._tools.interpreters.ask(Path(lock.interpreter), deadline)
        if interpreter is None:
            raise CheckFailed(
                f"could not get wheels for {lock.interpreter}: it does not answer as a CPython with a GIL"
            )
        return interpreter

    def close(self) -> None:
        """Release what it made; it stays in the cache."""
        self._environments.close()
        self._tools.remote_packages.close()
        self._tools.installs.close()
        self._tools.wheelhouses.close()


def python_here() -> Version:
    return Version(platform.python_version().rstrip("+"))  # a development build has a + at its end


def installed_here(versions: Versions) -> Lock:
    """Return dask, distributed and everything that they need, as installed beside this interpreter.

    Raises:
        CheckFailed: something that they need is not installed.
    """
    packages: dict[str, Version] = {}
    wanted = [(Requirement(name), "pytest-modelops") for name in PACKAGES]
    seen = set()
    while wanted:
        requirement, parent = wanted.pop()
        name = canonicalize_name(requirement.name)
        asked = (name, frozenset(requirement.extras))
        if asked in seen:
            continue
        seen.add(asked)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise CheckFailed(f"{parent} needs {requirement}, which is not installed beside {sys.executable}") from None
        packages[name] = Version(found.version)
        for line in found.requires or ():
            needed = Requirement(line)
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append((needed, name))
    return Lock(
        versions=versions,
        python=python_here(),
        interpreter=sys.executable,
        build=sys.version,
        requirements="".join(f"{name}=={version}\n" for name, version in sorted(packages.items())),
        packages=packages,
        resolved=dt.datetime.now(dt.timezone.utc),
    )
