"""The backend: locks and images for versions, and sandboxes on an engine (see `base.Backend`)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pytest_modelops.backends.docker import audit, belongings, confinement, ryuk
from pytest_modelops.backends.docker.engine import Engine, connect
from pytest_modelops.backends.docker.images import ENVIRONMENT, Contents, Image, Images
from pytest_modelops.backends.docker.sandbox import ContainerEnvironment, ContainerSandbox
from pytest_modelops.backends.docker.target import fits, target_of
from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Lock, Progress, Wheelhouse
from pytest_modelops.environments.commands import Commands
from pytest_modelops.environments.index import configured_index
from pytest_modelops.environments.interpreters import Interpreter, Interpreters
from pytest_modelops.environments.pip import Pip, Target
from pytest_modelops.environments.releases import PACKAGES, UvReleases, as_of_options
from pytest_modelops.environments.resolver import Resolver, Solution
from pytest_modelops.environments.uv import NoAnswer, Uv, UvFailed
from pytest_modelops.environments.wheelhouse import Wheelhouses
from pytest_modelops.errors import CheckFailed, ModelopsError
from pytest_modelops.matrix.cell import Cell, Role, Versions
from pytest_modelops.matrix.versions import Releases
from pytest_modelops.storage.files import mark_as_cache
from pytest_modelops.storage.toml import tomllib


class ContainerBackend:
    """Environments in images, and sandboxes of containers (see `base.Backend`).

    Args:
        cache: directory of what is kept between runs.
        directory: of this run, in which each cell gets one of its own.
        engine: where; the first that answers, if not given.

    Raises:
        Unavailable: no engine answers.
        CheckFailed, TimedOut: one answers, and cannot say what runs that are over have left on it.
    """

    name = "docker"

    def __init__(
        self,
        *,
        spec: EnvironmentSpec,
        cache: Path,
        fresh: bool,
        directory: Path,
        settings: ContainerSettings | None = None,
        engine: Engine | None = None,
    ) -> None:
        self._engine = engine or connect()
        try:
            self._removed = belongings.sweep(self._engine)
        except ModelopsError:
            self._engine.api.close()
            raise
        self._settings = settings or ContainerSettings()
        self._spec = spec
        self._cache = cache
        self._directory = directory
        self._fresh = fresh
        mark_as_cache(cache)
        index = configured_index(spec.rootdir)
        self._commands = Commands(directory / f"commands-{os.getpid()}")
        self._uv = Uv(self._commands, rootdir=spec.rootdir, settings=index.variables)
        self.releases: Releases = UvReleases(
            self._uv, fingerprint=index.fingerprint, memory=cache / "releases.json", as_of=spec.as_of, packages=PACKAGES
        )
        self._resolver = Resolver(
            spec,
            cache=cache,
            uv=self._uv,
            interpreters=Interpreters(self._commands, self._uv, environ=os.environ),
            fingerprint=index.fingerprint,
            fresh=fresh,
            session=directory.name,
        )
        self._wheelhouses = Wheelhouses(
            cache / "wheelhouses",
            uv=self._uv,
            pip=Pip(self._commands, self._uv, index=index, rootdir=spec.rootdir, environ=os.environ),
            as_of=spec.as_of,
            fresh=fresh,
            session=directory.name,
        )
        self._labels = belongings.labels(directory.name)
        if self._settings.keep == "never":  # Ryuk would take what is left up as well
            self._labels |= ryuk.labels(self._engine, cache / "ryuk.json")
        self._images = Images(
            self._engine,
            self._settings,
            directory=cache / "images",
            labels=self._labels,
            fresh=fresh,
            session=directory.name,
        )
        self._bases: dict[str, tuple[Image, Contents]] = {}
        self._environments: dict[str, ContainerEnvironment] = {}
        self._sandboxes: list[ContainerSandbox] = []

    @property
    def variants(self) -> Mapping[Role, str]:
        """Names of the roles, where they have different images."""
        return self._settings.variants

    def describe(self) -> str:
        """For pytest's header."""
        parts = [f"{self.name} backend ({self._engine.name} at {self._engine.address}), cache {self._cache}"]
        if self._removed.things:
            parts.append(f"removed what dead runs had left: {', '.join(self._removed.things)}")
        if self._removed.left:
            parts.append(f"could not remove: {', '.join(self._removed.left)}")
        return "; ".join(parts)

    def _image_of(self, versions: Versions) -> tuple[str, bool]:
        template, prebuilt = self._settings.image_of(Role(versions.variant) if versions.variant else Role.CLIENT)
        name = template.replace("{python}", str(versions.python)).replace("{dask}", versions.dask_text)
        return name, prebuilt

    def resolve(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Lock:
        """A solution for the image's own Python and platform; of a prebuilt image, what is in it."""
        image, contents, prebuilt = self._look(versions, deadline, progress)
        if prebuilt:
            return _lock_of(versions, image, contents)
        if not versions.python.admits(contents.python):
            # `versions` says the same of what runs; here it saves building what nobody asked for.
            raise CheckFailed(f"image {image.name} has Python {contents.python}, and {versions.python} was asked for")
        if versions.dask is None:
            raise CheckFailed(
                f"no index answered when it was asked which Dask {versions.dask_request!r} is; "
                "connect to one, or name a release that was used here before"
            )
        solution = self._solve(
            self._spec.requirements,
            image,
            contents,
            besides=[f"{name}=={versions.dask}" for name in PACKAGES],
            constraints=self._spec.constraints,
            deadline=deadline,
            progress=progress,
        )
        return Lock(
            versions=versions,
            python=contents.python,
            interpreter=image.id,
            requirements=solution.requirements,
            packages=solution.packages,
            resolved=solution.resolved,
            note=solution.note,
        )

    def _look(self, versions: Versions, deadline: Deadline, progress: Progress) -> tuple[Image, Contents, bool]:
        """The image for these versions, what is in it, and whether it is a prebuilt one."""
        name, prebuilt = self._image_of(versions)
        image = self._images.find(name, deadline=deadline, progress=progress)
        contents = self._images.ask(image, deadline=deadline, progress=progress)
        self._bases[image.id] = image, contents
        return image, contents, prebuilt

    def python(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Version:
        """That of the image."""
        return self._look(versions, deadline, progress)[1].python

    def _solve(
        self,
        requirements: Sequence[str],
        image: Image,
        contents: Contents,
        *,
        besides: Sequence[str] = (),
        constraints: Path | None = None,
        deadline: Deadline,
        progress: Progress,
    ) -> Solution:
        """A solution for an image: of wheels, and only where that cannot be, of sources too, which it says."""
        target = target_of(image, contents)
        here = Interpreter(
            path=Path(sys.executable), version=contents.python, build=image.id, platform=contents.platform
        )
        where = f"image {image.name} (Python {contents.python}, {contents.platform})"
        solve = functools.partial(
            self._resolver.solve,
            requirements,
            here,
            name=where,
            besides=besides,
            constraints=constraints,
            deadline=deadline,
            progress=progress,
        )
        elsewhere = target.uv_options[2:]
        try:
            return solve(elsewhere=(*elsewhere, "--only-binary", ":all:"))
        except NoAnswer:
            raise
        except UvFailed:  # not only NoSolution: of a repository uv says that it may not build it
            solution = solve(elsewhere=elsewhere)
        names = self._without_wheels(solution, target, deadline)
        note = (
            f"only a source distribution exists of {', '.join(names)} for {where}; it is built on this machine, and "
            "serves there if it is pure Python"
        )
        return dataclasses.replace(solution, note="; ".join(filter(None, [solution.note, note])))

    def _without_wheels(self, solution: Solution, target: Target, deadline: Deadline) -> list[str]:
        answer = self._uv.compile(
            solution.requirements.splitlines(),
            *("--format", "pylock.toml", "--no-deps"),
            *target.uv_options,
            *as_of_options(self._spec.as_of),
            deadline=deadline,
        )
        return [
            f"{package['name']} {package.get('version', '')}".strip()
            for package in tomllib.loads(answer.stdout)["packages"]
            if not fits(package, target)
        ]

    def install(self, lock: Lock, *, deadline: Deadline, progress: Progress) -> ContainerEnvironment:
        """The image with the lock's packages: found by its content, or built. A prebuilt one is only audited."""
        base, contents = self._bases[lock.interpreter]
        _, prebuilt = self._image_of(lock.versions)
        started = deadline.remaining
        image, python, reused = base, contents.executable, True
        if not prebuilt:
            image, reused = self._layered(base, contents, lock, deadline, progress)
            python = f"{ENVIRONMENT}/bin/python"
        elif "distributed" not in lock.packages:
            raise CheckFailed(
                f"image {base.name} is run as it is, and its Python ({contents.executable}, {contents.python}) has no "
                "distributed. Put it in, or use it as a base (`image` in [tool.modelops.docker])."
            )
        missing = [name for name in self._settings.require_modules if not contents.modules[name]]
        unmet = audit.unmet(self._spec, base, contents, lock.packages) if prebuilt else ()
        unreported = audit.unreported(self._spec, base) if prebuilt else ()
        environment = ContainerEnvironment(
            python=python,
            lock=lock,
            reused=reused,
            seconds=started - deadline.remaining,
            location=f"image {image.name}" + ("" if prebuilt else f" ({base.name} and packages)"),
            identity=image.digest,
            warnings=tuple(
                filter(None, [base.warning, confinement.lowered_cpus(self._settings, self._engine), *unreported])
            ),
            faults=(
                *(f"image {base.name} has no module {name}, which require-modules asks for" for name in missing),
                *unmet,
            ),
            image=image.id,
            path=image.path,
            user=confinement.user_of(self._settings, str(image.config.get("User") or "")),
            uid=contents.uid,
            gid=contents.gid,
        )
        self._environments[image.id] = environment
        return environment

    def _layered(
        self, base: Image, contents: Contents, lock: Lock, deadline: Deadline, progress: Progress
    ) -> tuple[Image, bool]:
        key = self._images.key_of(base, lock.requirements)
        with self._images.locked(key, deadline):
            if image := self._images.built(key):
                return image, True
            self._cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._cache, prefix="layer-") as name:
                packages = Path(name, "packages")
                self._fetch(packages, base, contents, lock, deadline, progress)
                built = self._images.build(base, contents, packages, key=key, deadline=deadline, progress=progress)
                shutil.rmtree(packages, ignore_errors=True)
            return built, False

    def _fetch(  # noqa: PLR0917 - one call, above
        self, packages: Path, base: Image, contents: Contents, lock: Lock, deadline: Deadline, progress: Progress
    ) -> None:
        """Lay the lock's packages out on the host, for the image's Python: only the host talks to an index."""
        progress(f"fetching packages for {base.name}")
        requirements = packages.parent / "requirements.txt"
        requirements.write_text(lock.requirements, encoding="utf-8")
        target = target_of(base, contents)
        try:
            self._uv(
                *("pip", "install", "--no-deps", "--target", str(packages)),
                *target.uv_options,
                *("--requirement", str(requirements)),
                deadline=deadline,
            )
        except UvFailed as error:
            raise type(error)(
                f"could not get the packages for image {base.name} (Python {contents.python}, {contents.platform}): "
                f"{error}" + (f"\n{lock.note}" if lock.note else ""),
                error.output,
            ) from error

    def wheelhouse(
        self, requirements: Sequence[str], lock: Lock, *, deadline: Deadline, progress: Progress
    ) -> Wheelhouse:
        """A directory of wheels in the cache, for the image's Python; projects are built here, and have to be pure."""
        image, contents = self._bases[lock.interpreter]
        solution = self._solve(requirements, image, contents, deadline=deadline, progress=progress)
        if solution.note:
            progress(solution.note)
        return self._wheelhouses.make(solution, target_of(image, contents), deadline=deadline, progress=progress)

    def sandbox(self, cell: Cell) -> ContainerSandbox:
        """A network of its own for the cell."""
        directory = self._directory / cell.id
        number = 1
        while directory.exists():  # a cell that is started again keeps the logs of the first time
            number += 1
            directory = self._directory / f"{cell.id}-{number}"
        sandbox = ContainerSandbox(
            self._engine,
            self._settings,
            directory,
            cell=directory.name,
            labels=self._labels,
            image=next(iter(self._environments)),
        )
        self._sandboxes.append(sandbox)
        return sandbox

    def close(self) -> None:
        """End what still runs for this session, and let go of the engine."""
        self._commands.close()
        for sandbox in self._sandboxes:
            sandbox.close()
        self._wheelhouses.close()
        self._engine.api.close()


def _lock_of(versions: Versions, image: Image, contents: Contents) -> Lock:
    """What is in a prebuilt image."""
    packages = {}
    for name, text in contents.packages.items():
        try:
            packages[str(canonicalize_name(name))] = Version(text)
        except InvalidVersion:
            continue  # some distributions patch their own packages' versions
    return Lock(
        versions=versions,
        python=contents.python,
        interpreter=image.id,
        requirements="".join(f"{name}=={version}\n" for name, version in sorted(packages.items())),
        packages=packages,
        resolved=dt.datetime.now(dt.timezone.utc),
    )
