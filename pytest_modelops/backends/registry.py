"""The table of backends: opens one by its name in the settings."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_modelops.backends.attach import AttachBackend
from pytest_modelops.backends.base import Backend
from pytest_modelops.backends.cluster import ClusterBackend
from pytest_modelops.backends.process import ProcessBackend
from pytest_modelops.config.attach import AttachSettings
from pytest_modelops.config.cluster import ClassSettings
from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.errors import CheckFailed, TimedOut, Unavailable, WrongInput
from pytest_modelops.matrix.cell import Cell
from pytest_modelops.matrix.versions import Releases

if TYPE_CHECKING:
    from pytest_modelops.backends.docker.backend import ContainerBackend


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What every backend is opened with.

    Attributes:
        spec: what goes into environments.
        cache: directory that several runs share.
        fresh: use nothing that an earlier run made.
        directory: of this run.
    """

    containers: ContainerSettings
    attach: AttachSettings
    cluster: ClassSettings
    spec: EnvironmentSpec
    cache: Path
    fresh: bool
    directory: Path


def check_settings(name: str, containers: ContainerSettings) -> None:
    """Refuse settings that a backend cannot honour, as opening it does; opens nothing."""
    if name in {ProcessBackend.name, ClusterBackend.name} and containers.keep != "never":
        raise WrongInput(
            f"--modelops-keep {containers.keep}: the {name} backend cannot leave cells up, since their "
            "processes end with pytest; use --modelops-backend docker"
        )


def _process(options: Options) -> Backend:
    check_settings(ProcessBackend.name, options.containers)
    return ProcessBackend(spec=options.spec, cache=options.cache, fresh=options.fresh, directory=options.directory)


def _docker(options: Options) -> ContainerBackend:
    from pytest_modelops.backends.docker.backend import ContainerBackend
    from pytest_modelops.backends.docker.belongings import dead
    from pytest_modelops.backends.docker.engine import connect

    engine = connect()
    try:
        left = [str(thing) for thing in dead(engine)]
    except BaseException:
        engine.api.close()
        raise
    return ContainerBackend(
        engine=engine,
        settings=options.containers,
        spec=options.spec,
        cache=options.cache,
        fresh=options.fresh,
        directory=options.directory,
        dead=left,
    )


def _attach(options: Options) -> Backend:
    return AttachBackend(
        options.attach, spec=options.spec, cache=options.cache, fresh=options.fresh, directory=options.directory
    )


def _cluster(options: Options) -> Backend:
    check_settings(ClusterBackend.name, options.containers)
    return ClusterBackend(
        options.cluster, spec=options.spec, cache=options.cache, fresh=options.fresh, directory=options.directory
    )


BACKENDS: dict[str, Callable[[Options], Backend]] = {
    "attach": _attach,
    "cluster": _cluster,
    "docker": _docker,
    "process": _process,
}


@dataclasses.dataclass(frozen=True)
class Opened:
    """A backend, and for `auto` why it is this one.

    Attributes:
        note: for people, if `auto` could not use what answers.
        obstacle: says why the backend cannot get what cells need; see `settled`.
        instead: opens the backend that is used then.
    """

    backend: Backend
    why: str = ""
    note: str = ""
    obstacle: Callable[[Iterable[Cell]], str] | None = None
    instead: Callable[[], Backend] | None = None


def open_backend(name: str, options: Options, *, as_it_is: bool) -> Opened:
    """Open a backend by its name; `auto` is the best one on this machine. Nothing is started, pulled or removed.

    Args:
        as_it_is: nothing is configured, so the only cell is this very interpreter, for which nothing is built.

    Raises:
        WrongInput: it was asked for by name, and this machine does not have it.
        OSError: the cache directory cannot be used.
    """
    if name != "auto":
        try:
            return Opened(BACKENDS[name](options))
        except (Unavailable, CheckFailed, TimedOut) as error:
            raise WrongInput(f"--modelops-backend {name}: {error}") from None
    why = "auto: this interpreter as it is"
    if not as_it_is:
        try:
            backend = _docker(options)
            instead = functools.partial(_process, options)
            return Opened(backend, "auto: an engine answers", obstacle=backend.obstacle, instead=instead)
        except Unavailable:
            why = "auto: no container engine answers"
        except (CheckFailed, TimedOut) as error:
            why = f"auto: an engine answers, but fails: {error}"
    return Opened(_process(options), why)


def settled(opened: Opened, cells: Iterable[Cell]) -> Opened:
    """Return the backend, or local environments if `auto` took an engine that cannot get the cells' base images."""
    obstacle = opened.obstacle(cells) if opened.obstacle else ""
    if not obstacle or opened.instead is None:
        return opened
    opened.backend.close()
    return Opened(
        opened.instead(),
        f"auto: an engine answers, but {obstacle}",
        note=f"cells run in local environments, not in containers: an engine answers, but {obstacle}",
    )


@contextlib.contextmanager
def index_releases(spec: EnvironmentSpec, cache: Path, directory: Path) -> Iterator[Releases]:
    """Yield the releases of the configured index, which are the same for all backends; opens no engine."""
    backend = ProcessBackend(spec=spec, cache=cache, fresh=False, directory=directory)
    try:
        yield backend.releases
    finally:
        backend.close()
        if directory.exists() and not any(directory.iterdir()):
            directory.rmdir()


@dataclasses.dataclass(frozen=True)
class Pruned:
    """What was removed, and what could not be removed; for people."""

    things: tuple[str, ...]
    left: tuple[str, ...]


def prune_engine(*, images: bool) -> Pruned:
    """Remove what earlier runs have left on the container engine, including cells that were left up on purpose.

    Args:
        images: also remove the images that were built for cells.

    Raises:
        Unavailable: no engine answers.
    """
    from pytest_modelops.backends.docker.belongings import remove_images, sweep
    from pytest_modelops.backends.docker.engine import connect

    engine = connect()
    done = [sweep(engine, kept_too=True), *([remove_images(engine)] if images else [])]
    return Pruned(
        tuple(thing for removed in done for thing in removed.things),
        tuple(thing for removed in done for thing in removed.left),
    )
