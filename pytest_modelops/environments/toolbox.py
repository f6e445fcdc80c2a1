"""The parts by which every backend makes environments, put together once for one run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.environments.bytecode import Bytecode
from pytest_modelops.environments.index import configured_index
from pytest_modelops.environments.installs import Installs
from pytest_modelops.environments.interpreters import Interpreters
from pytest_modelops.environments.pip import Pip
from pytest_modelops.environments.releases import UvReleases
from pytest_modelops.environments.remote_package import RemotePackages
from pytest_modelops.environments.resolver import Resolver
from pytest_modelops.environments.uv import Runner, Uv
from pytest_modelops.environments.wheelhouse import Wheelhouses


class Toolbox:
    """uv, pip, interpreters, releases, resolver, wheelhouses, installs and bytecode of one run.

    Constructing it reads configuration files; it writes nothing, starts no process and asks no index.

    Args:
        spec: what goes into environments.
        cache: directory that several sessions may share.
        fresh: use nothing that an earlier session made.
        run: runs the host's commands.
        session: an id that all processes of this pytest run share, xdist's workers too.
        environ: the host's variables.

    Attributes:
        index: whose configuration names the index, for people.
        indexes: see `Index.places`.
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
    ) -> None:
        index = configured_index(spec.rootdir, environ=environ)
        self.index = index.source
        self.indexes = index.places
        self.run = run
        self.uv = Uv(run, rootdir=spec.rootdir, settings=index.variables, environ=environ)
        self.releases = UvReleases(
            self.uv, fingerprint=index.fingerprint, memory=cache / "releases.json", as_of=spec.as_of
        )
        self.interpreters = Interpreters(run, self.uv, environ=environ)
        self.resolver = Resolver(
            spec, cache=cache, uv=self.uv, fingerprint=index.fingerprint, fresh=fresh, session=session
        )
        pip = Pip(run, self.uv, index=index, rootdir=spec.rootdir, environ=environ)
        self.bytecode = Bytecode(cache / "bytecode", run=run, variables=self.uv.variables)
        self.remote_packages = RemotePackages(cache / "remote", fresh=fresh, session=session)
        self.installs = Installs(cache / "installs", uv=self.uv, bytecode=self.bytecode, fresh=fresh, session=session)
        self.wheelhouses = Wheelhouses(
            cache / "wheelhouses", uv=self.uv, pip=pip, as_of=spec.as_of, fresh=fresh, session=session
        )
