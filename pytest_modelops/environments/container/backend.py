"""The backend: locks and images for versions, and stages on an engine (see `base.Backend`)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import EnvironmentSpec, Lock, Progress, Wheelhouse
from pytest_modelops.environments.commands import Commands
from pytest_modelops.environments.container import belongings, confinement, ryuk
from pytest_modelops.environments.container.engine import Engine, connect
from pytest_modelops.environments.container.images import ENVIRONMENT, Contents, Image, Images
from pytest_modelops.environments.container.settings import ContainerSettings
from pytest_modelops.environments.container.stage import ContainerEnvironment, ContainerStage
from pytest_modelops.environments.container.target import interpreter_of
from pytest_modelops.environments.files import mark_as_cache
from pytest_modelops.environments.index import configured_index
from pytest_modelops.environments.interpreters import Interpreter
from pytest_modelops.environments.releases import PACKAGES, UvReleases
from pytest_modelops.environments.resolver import Resolver
from pytest_modelops.environments.uv import Uv, UvFailed
from pytest_modelops.errors import CheckFailed
from pytest_modelops.matrix.cell import Cell, Role, Versions
from pytest_modelops.matrix.versions import Releases


@dataclasses.dataclass(frozen=True)
class _OneImage:
    """Answers the resolver's question for a Python: the image's, whatever was asked."""

    interpreter: Interpreter

    def find(self, version: object, *, deadline: Deadline, progress: Progress) -> Interpreter:
        """The image's."""
        del version, deadline, progress
        return self.interpreter


class ContainerBackend:
    """Environments in images, and stages of containers (see `base.Backend`).

    Args:
        cache: folder of what is kept between runs.
        folder: of this run, in which each cell gets one of its own.
        engine: where; the first that answers, if not given.

    Raises:
        Unavailable: no engine answers.
    """

    name = "docker"

    def __init__(
        self,
        *,
        spec: EnvironmentSpec,
        cache: Path,
        fresh: bool,
        folder: Path,
        settings: ContainerSettings | None = None,
        engine: Engine | None = None,
    ) -> None:
        self._engine = engine or connect()
        self._settings = settings or ContainerSettings()
        self._spec = spec
        self._cache = cache
        self._folder = folder
        self._fresh = fresh
        mark_as_cache(cache)
        index = configured_index(spec.rootdir)
        self._fingerprint = index.fingerprint
        self._commands = Commands(folder / f"commands-{os.getpid()}")
        self._uv = Uv(self._commands, rootdir=spec.rootdir, settings=index.variables)
        self.releases: Releases = UvReleases(
            self._uv,
            fingerprint=index.fingerprint,
            memory=cache / "releases.json",
            as_of=spec.as_of,
            packages=PACKAGES,
        )
        self._removed = belongings.sweep(self._engine)
        self._labels = belongings.labels(folder.name)
        if self._settings.keep == "never":  # Ryuk would take what is left up as well
            self._labels |= ryuk.labels(self._engine, cache / "ryuk.json")
        self._images = Images(
            self._engine,
            self._settings,
            folder=cache / "images",
            labels=self._labels,
            fresh=fresh,
            session=folder.name,
        )
        self._bases: dict[str, tuple[Image, Contents]] = {}
        self._environments: dict[str, ContainerEnvironment] = {}
        self._stages: list[ContainerStage] = []
        self._cells = 0

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
        template, finished = self._settings.image_of(Role(versions.variant) if versions.variant else Role.CLIENT)
        name = template.replace("{python}", str(versions.python)).replace("{dask}", versions.dask_text)
        return name, finished

    def resolve(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Lock:
        """A solution for the image's own Python and platform; of a finished image, what is in it."""
        name, finished = self._image_of(versions)
        image = self._images.find(name, deadline=deadline, progress=progress)
        contents = self._images.ask(image, deadline=deadline, progress=progress)
        self._bases[image.id] = image, contents
        if finished:
            return _lock_of(versions, image, contents)
        resolver = Resolver(
            self._spec,
            cache=self._cache,
            uv=self._uv,
            interpreters=_OneImage(interpreter_of(image, contents)),
            fingerprint=self._fingerprint,
            fresh=self._fresh,
            session=self._folder.name,
        )
        try:
            lock = resolver.resolve(versions, deadline=deadline, progress=progress)
        except UvFailed as error:
            raise type(error)(
                f"for image {image.name} (Python {contents.python}, {contents.platform}): {error}", error.output
            ) from error
        if not versions.python.admits(contents.python):
            # `versions` says the same of what runs; here it saves building what nobody asked for.
            raise CheckFailed(f"image {image.name} has Python {contents.python}, and {versions.python} was asked for")
        return dataclasses.replace(lock, interpreter=image.id)

    def install(self, lock: Lock, *, deadline: Deadline, progress: Progress) -> ContainerEnvironment:
        """The image with the lock's packages: found by its content, or built. A finished one is only audited."""
        base, contents = self._bases[lock.interpreter]
        _, finished = self._image_of(lock.versions)
        started = deadline.remaining
        image, python, reused = base, contents.executable, True
        if not finished:
            image, reused = self._layered(base, contents, lock, deadline, progress)
            python = f"{ENVIRONMENT}/bin/python"
        elif "distributed" not in map(canonicalize_name, contents.packages):
            raise CheckFailed(
                f"image {base.name} is run as it is, and its Python ({contents.executable}, {contents.python}) has no "
                "distributed. Put it in, or use it as a base (`image` in [tool.modelops.docker])."
            )
        missing = [name for name in self._settings.require_modules if not contents.modules[name]]
        environment = ContainerEnvironment(
            python=python,
            lock=lock,
            reused=reused,
            seconds=started - deadline.remaining,
            location=f"image {image.name}" + ("" if finished else f" ({base.name} and packages)"),
            identity=image.digest,
            warnings=(base.warning,) if base.warning else (),
            faults=tuple(
                f"image {base.name} has no module {name}, which require-modules asks for" for name in missing
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

    def _fetch(
        self, packages: Path, base: Image, contents: Contents, lock: Lock, deadline: Deadline, progress: Progress
    ) -> None:
        """Lay the lock's packages out on the host, for the image's Python: only the host talks to an index."""
        progress(f"fetching packages for {base.name}")
        requirements = packages.parent / "requirements.txt"
        requirements.write_text(lock.requirements, encoding="utf-8")
        interpreter = interpreter_of(base, contents)
        try:
            self._uv(
                *("pip", "install", "--no-deps", "--target", str(packages), "--python", str(interpreter.path)),
                *interpreter.target,
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
        """Wheels for the image's Python."""
        raise NotImplementedError

    def stage(self, cell: Cell) -> ContainerStage:
        """A network of its own for the cell."""
        folder = self._folder / cell.id
        number = 1
        while folder.exists():  # a cell that is started again keeps the logs of the first time
            number += 1
            folder = self._folder / f"{cell.id}-{number}"
        self._cells += 1
        stage = ContainerStage(
            self._engine,
            self._settings,
            folder,
            cell=folder.name,
            labels=self._labels,
            image=next(iter(self._environments)),
        )
        self._stages.append(stage)
        return stage

    def close(self) -> None:
        """End what still runs for this session, and let go of the engine."""
        self._commands.close()
        for stage in self._stages:
            stage.close()
        self._engine.api.close()


def _lock_of(versions: Versions, image: Image, contents: Contents) -> Lock:
    """What is in a finished image."""
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


