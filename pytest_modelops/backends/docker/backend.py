"""The backend: locks and images for versions, and sandboxes on an engine (see `base.Backend`)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import os
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pytest_modelops.backends.docker import audit, belongings, confinement, ryuk
from pytest_modelops.backends.docker.containers import ContainerEnvironment
from pytest_modelops.backends.docker.contents import Inspector
from pytest_modelops.backends.docker.engine import Engine
from pytest_modelops.backends.docker.images import Image, Images, cannot_be_pulled
from pytest_modelops.backends.docker.layers import ENVIRONMENT, Layers
from pytest_modelops.backends.docker.one_off import OneOff
from pytest_modelops.backends.docker.packages import Base, Packages
from pytest_modelops.backends.docker.programs import Programs
from pytest_modelops.backends.docker.sandbox import ContainerSandbox
from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Into, Lock, Progress, Wheelhouse
from pytest_modelops.environments.commands import Commands
from pytest_modelops.environments.toolbox import Toolbox
from pytest_modelops.errors import CheckFailed
from pytest_modelops.matrix.cell import Cell, Role, Versions
from pytest_modelops.matrix.versions import Releases
from pytest_modelops.storage.files import unused_path


class ContainerBackend:
    """Environments in images, and sandboxes of containers (see `base.Backend`).

    Making one reads and changes nothing: not the engine, no file. `prepare` does, before the first cell.

    Args:
        engine: an engine that has answered.
        dead: what dead runs have left on it, for the header.
        cache: directory that sessions share.
        directory: of this run; each cell gets a directory in it.
    """

    name = "docker"

    def __init__(
        self,
        *,
        engine: Engine,
        settings: ContainerSettings,
        spec: EnvironmentSpec,
        cache: Path,
        fresh: bool,
        directory: Path,
        dead: Sequence[str] = (),
    ) -> None:
        self._engine = engine
        self._dead = dead
        self._settings = settings
        self._spec = spec
        self._cache = cache
        self._directory = directory
        self._fresh = fresh
        self._prepared = False
        self._preparing = threading.Lock()
        self._could_not_remove = ""
        self._bases: dict[str, Base] = {}
        self._environments: dict[str, ContainerEnvironment] = {}
        self._sandboxes: list[ContainerSandbox] = []
        self._commands = Commands(directory / f"commands-{os.getpid()}")
        self._labels = belongings.labels(directory.name)
        self._images = Images(engine)
        self._one_off = OneOff(engine, settings, self._labels)
        self._inspector = Inspector(engine, settings, self._one_off, directory=cache / "images", fresh=fresh)
        self._layers = Layers(engine, self._one_off, directory=cache / "images", fresh=fresh, session=directory.name)

    @functools.cached_property
    def _tools(self) -> Toolbox:
        return Toolbox(
            self._spec, cache=self._cache, fresh=self._fresh, run=self._commands, session=self._directory.name
        )

    @functools.cached_property
    def _packages(self) -> Packages:
        return Packages(self._tools, self._spec)

    @property
    def releases(self) -> Releases:
        return self._tools.releases

    @property
    def indexes(self) -> Collection[str]:
        return self._tools.indexes

    @property
    def variants(self) -> Mapping[Role, str]:
        return self._settings.variants

    def describe(self) -> str:
        parts = [f"{self.name} backend ({self._engine.name} at {self._engine.address}), cache {self._cache}"]
        if self._dead:
            parts.append(f"dead runs have left {', '.join(self._dead)}, removed before the first cell starts")
        return "; ".join(parts)

    def prepare(self) -> None:
        """Remove what dead runs have left on the engine, and start Ryuk; a second call does nothing.

        Raises:
            CheckFailed, TimedOut, Unavailable: the engine cannot list what is on it.
        """
        with self._preparing:
            if self._prepared:
                return
            removed = belongings.sweep(self._engine)
            if removed.left:
                self._could_not_remove = f"could not remove what dead runs have left: {', '.join(removed.left)}"
            if self._settings.keep == "never":  # Ryuk would also remove what is kept
                self._labels.update(ryuk.labels(self._engine, self._cache / "ryuk.json"))
            _ = self._packages  # made once, although several threads use it
            self._prepared = True

    def _look(self, versions: Versions, deadline: Deadline, progress: Progress) -> tuple[Base, bool]:
        """Return the image for these versions, and whether it is a prebuilt one."""
        self.prepare()
        name, prebuilt = self._image_of(versions)
        image = self._images.find(name, deadline=deadline, progress=progress)
        base = Base(image, self._inspector.contents(image, deadline=deadline, progress=progress))
        self._bases[image.id] = base
        return base, prebuilt

    def _image_of(self, versions: Versions) -> tuple[str, bool]:
        template, prebuilt = self._settings.image_of(Role(versions.variant) if versions.variant else Role.CLIENT)
        name = template.replace("{python}", str(versions.python)).replace("{dask}", versions.dask_text)
        return name, prebuilt

    def obstacle(self, cells: Iterable[Cell]) -> str:
        """Return why the engine cannot get the base images of these cells; empty if it can. Pulls nothing.

        Empty with a prebuilt image, too: what is in it cannot be had elsewhere.
        """
        roles = (versions for cell in cells for versions in cell.with_variants(self.variants).needed)
        images = dict.fromkeys(map(self._image_of, roles))
        if any(prebuilt for _, prebuilt in images):
            return ""
        return next(filter(None, (cannot_be_pulled(self._engine, name) for name, _ in images)), "")

    def python(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Version:
        base, _ = self._look(versions, deadline, progress)
        return base.contents.python

    def resolve(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Lock:
        """Resolve for the image's own Python and platform; the lock of a prebuilt image is what is in it."""
        base, prebuilt = self._look(versions, deadline, progress)
        if prebuilt:
            return self._lock_of(versions, base)
        python = base.contents.python
        if not versions.python.admits(python):
            # The check `versions` would find this too; here nothing is built for it.
            raise CheckFailed(f"image {base.image.name} has Python {python}, and {versions.python} was asked for")
        lock = self._packages.lock(versions, base, deadline=deadline, progress=progress)
        return dataclasses.replace(lock, note="; ".join(filter(None, [lock.note, self._first_note()])))

    def _first_note(self) -> str:
        """Return what `prepare` could not remove, once."""
        note, self._could_not_remove = self._could_not_remove, ""
        return note

    def _lock_of(self, versions: Versions, base: Base) -> Lock:
        packages = {}
        for name, text in base.contents.facts["packages"].items():
            try:
                packages[str(canonicalize_name(name))] = Version(text)
            except InvalidVersion:
                continue  # some distributions patch their own packages' versions
        return Lock(
            versions=versions,
            python=base.contents.python,
            interpreter=base.image.id,
            requirements="".join(f"{name}=={version}\n" for name, version in sorted(packages.items())),
            packages=packages,
            resolved=dt.datetime.now(dt.timezone.utc),
            note=self._first_note(),
        )

    def install(self, lock: Lock, *, deadline: Deadline, progress: Progress) -> ContainerEnvironment:
        """Find or build the image with the lock's packages. A prebuilt image is only audited."""
        base = self._bases[lock.interpreter]
        contents, name = base.contents, base.image.name
        _, prebuilt = self._image_of(lock.versions)
        started = deadline.remaining
        image, python, reused = base.image, contents.facts["executable"], True
        location, warnings, unmet, programs = f"image {name}", [base.image.warning], [], None
        if not prebuilt:
            image, reused = self._layered(base, lock, deadline, progress)
            python, location = f"{ENVIRONMENT}/bin/python", f"image {image.name} ({name} and packages)"
            programs = Programs(self._engine, self._one_off, self._tools.remote_packages).obtain(base, deadline)
        elif "distributed" not in lock.packages:
            raise CheckFailed(
                f"image {name} is run as it is, and its Python ({python}, {contents.python}) has no "
                "distributed. Add it to the image, or use the image as a base (`image` in [tool.modelops.docker])."
            )
        else:
            unmet = list(audit.unmet(self._spec, base.image, contents, lock.packages))
            warnings += audit.unreported(self._spec, base.image)
        warnings.append(confinement.lowered_cpus(self._settings, self._engine))
        missing = [module for module in self._settings.require_modules if not contents.facts["modules"][module]]
        environment = ContainerEnvironment(
            python=python,
            lock=lock,
            reused=reused,
            seconds=started - deadline.remaining,
            location=location,
            identity=image.digest,
            warnings=tuple(filter(None, warnings)),
            faults=(
                *(f"image {name} has no module {module}, which require-modules asks for" for module in missing),
                *unmet,
            ),
            image=image.id,
            path=image.path,
            user=confinement.user_of(self._settings, image.user),
            uid=contents.facts["uid"],
            gid=contents.facts["gid"],
            programs=programs,
        )
        self._environments[image.id] = environment
        return environment

    def _layered(self, base: Base, lock: Lock, deadline: Deadline, progress: Progress) -> tuple[Image, bool]:
        """Return the image with the lock's packages, and whether it was there before."""
        key = self._layers.key_of(base.image, lock.requirements)
        with self._layers.locked(key, deadline):
            if image := self._layers.built(key):
                return image, True
            self._cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._cache, prefix="layer-") as name:
                packages = Path(name, "packages")
                self._packages.fetch(packages, base, lock, deadline=deadline, progress=progress)
                built = self._layers.build(
                    base.image, base.contents, packages, key=key, deadline=deadline, progress=progress
                )
                shutil.rmtree(packages, ignore_errors=True)
            return built, False

    def wheelhouse(
        self, requirements: Sequence[str], lock: Lock, *, deadline: Deadline, progress: Progress
    ) -> Wheelhouse:
        return self._packages.wheelhouse(
            requirements, self._bases[lock.interpreter], deadline=deadline, progress=progress
        )

    def install_wheels(
        self, house: Wheelhouse, lock: Lock, into: Into, *, deadline: Deadline, progress: Progress
    ) -> None:
        """Return nothing: this machine's uv does not run the image's Python."""

    def sandbox(self, cell: Cell) -> ContainerSandbox:
        """Make a network and a volume for the cell."""
        directory = unused_path(self._directory, cell.id)  # a cell that is started again keeps its first logs
        pythons = {versions.python for versions in cell.with_variants(self.variants).needed}
        used = [one for one in self._environments.values() if one.lock.versions.python in pythons]
        sandbox = ContainerSandbox(
            self._engine,
            self._settings,
            directory,
            cell=directory.name,
            labels=self._labels,
            image=next(iter(self._environments)),
            programs=dict.fromkeys(one.programs for one in used if one.programs is not None),
        )
        self._sandboxes.append(sandbox)
        return sandbox

    def interrupt(self) -> None:
        self._commands.interrupt()

    def close(self) -> None:
        """End what still runs for this session, and disconnect from the engine."""
        self._commands.close()
        for sandbox in self._sandboxes:
            sandbox.close()
        if "_tools" in self.__dict__:
            self._tools.wheelhouses.close()
            self._tools.remote_packages.close()
        self._engine.api.close()
