"""The environments of this machine, from one hand: releases, locks, and what is installed."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Lock, Progress, Wheelhouse
from pytest_modelops.environments.cache import EnvironmentCache
from pytest_modelops.environments.index import configured_index
from pytest_modelops.environments.interpreters import Interpreters
from pytest_modelops.environments.pip import Pip, target_of
from pytest_modelops.environments.releases import PACKAGES, UvReleases
from pytest_modelops.environments.resolver import Resolver
from pytest_modelops.environments.uv import Runner, Uv
from pytest_modelops.environments.wheelhouse import Wheelhouses
from pytest_modelops.errors import CheckFailed, Unavailable
from pytest_modelops.matrix.cell import Versions
from pytest_modelops.storage.files import mark_as_cache


class Environments:
    """Makes environments for versions, with uv.

    Args:
        cache: directory for everything that is kept; several sessions may share it.
        fresh: trust nothing that an earlier session left.
        session: an id that all processes of this pytest run share, xdist's workers too.
        environ: the host's variables.
        packages: what has the cell's release in every environment.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        *,
        cache: Path,
        fresh: bool,
        run: Runner,
        session: str,
        environ: Mapping[str, str] = os.environ,
        packages: Sequence[str] = PACKAGES,
    ) -> None:
        mark_as_cache(cache)
        index = configured_index(spec.rootdir, environ=environ)
        uv = Uv(run, rootdir=spec.rootdir, settings=index.variables, environ=environ)
        self.index = index.source
        self.releases = UvReleases(
            uv, fingerprint=index.fingerprint, memory=cache / "releases.json", as_of=spec.as_of, packages=packages
        )
        self._interpreters = Interpreters(run, uv, environ=environ)
        self._resolver = Resolver(
            spec,
            cache=cache,
            uv=uv,
            interpreters=self._interpreters,
            fingerprint=index.fingerprint,
            fresh=fresh,
            session=session,
            packages=packages,
        )
        self._environments = EnvironmentCache(cache, run=run, uv=uv, fresh=fresh, session=session)
        self._run = run
        self._variables = uv.variables
        pip = Pip(run, uv, index=index, rootdir=spec.rootdir, environ=environ)
        self._wheelhouses = Wheelhouses(
            cache / "wheelhouses", uv=uv, pip=pip, as_of=spec.as_of, fresh=fresh, session=session
        )

    def python(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Version:
        """The Python that an environment of these versions has (see `Backend.python`)."""
        if versions.as_is:
            return python_here()
        return self._interpreters.find(versions.python, deadline=deadline, progress=progress).version

    def resolve(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Lock:
        """Find a solution for these versions (see `Backend.resolve`)."""
        if versions.as_is:
            return installed_here(versions)
        return self._resolver.resolve(versions, deadline=deadline, progress=progress)

    def install(self, lock: Lock, *, deadline: Deadline, progress: Progress) -> Environment:
        """Build the lock's environment, or find and verify it (see `Backend.install`)."""
        if lock.versions.as_is:
            return Environment(
                python=lock.interpreter,
                lock=lock,
                reused=True,
                seconds=0.0,
                location=f"{sys.prefix} (this interpreter)",
            )
        interpreter = self._interpreters.ask(Path(lock.interpreter), deadline)
        if interpreter is None:
            raise Unavailable(f"{lock.interpreter}, for which {lock.versions} was resolved, is gone")
        return self._environments.install(lock, interpreter, deadline=deadline, progress=progress)

    def wheelhouse(
        self, requirements: Sequence[str], lock: Lock, *, deadline: Deadline, progress: Progress
    ) -> Wheelhouse:
        """Wheels of all that these requirements need (see `Backend.wheelhouse`)."""
        interpreter = self._interpreters.ask(Path(lock.interpreter), deadline)
        if interpreter is None:
            raise CheckFailed(
                f"no wheels can be had for {lock.interpreter}: it does not answer as a CPython with a GIL"
            )
        solution = self._resolver.solve(
            requirements, interpreter, name=f"Python {interpreter.version}", deadline=deadline, progress=progress
        )
        if solution.note:
            progress(solution.note)
        target = target_of(interpreter, self._run, env=self._variables, deadline=deadline)
        return self._wheelhouses.make(solution, target, deadline=deadline, progress=progress)

    def close(self) -> None:
        """Let go of the environments and wheelhouses; they stay in the cache."""
        self._environments.close()
        self._wheelhouses.close()


def python_here() -> Version:
    """The version of this interpreter."""
    return Version(platform.python_version().rstrip("+"))  # a development build has a + at its end


def installed_here(versions: Versions) -> Lock:
    """What of dask and distributed, and all that they need, is installed beside this interpreter.

    Raises:
        CheckFailed: something that they need is missing.
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
        requirements="".join(f"{name}=={version}\n" for name, version in sorted(packages.items())),
        packages=packages,
        resolved=dt.datetime.now(dt.timezone.utc),
    )
