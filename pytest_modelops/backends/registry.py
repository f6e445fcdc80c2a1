"""The table of backends: opens one by its name in the settings."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from pytest_modelops.backends.base import Backend
from pytest_modelops.backends.process import ProcessBackend
from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.errors import CheckFailed, TimedOut, Unavailable, WrongInput
from pytest_modelops.matrix.versions import Releases
from pytest_modelops.storage.files import mark_as_cache


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
    spec: EnvironmentSpec
    cache: Path
    fresh: bool
    directory: Path


def check_settings(name: str, containers: ContainerSettings) -> None:
    """Refuse settings that a backend cannot honour, as opening it does; opens nothing."""
    if name == ProcessBackend.name and containers.keep != "never":
        raise WrongInput(
            f"--modelops-keep {containers.keep}: the process backend cannot leave cells up, since their "
            "processes end with pytest; use --modelops-backend docker"
        )


def _process(options: Options) -> Backend:
    check_settings(ProcessBackend.name, options.containers)
    return ProcessBackend(spec=options.spec, cache=options.cache, fresh=options.fresh, directory=options.directory)


def _docker(options: Options) -> Backend:
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


BACKENDS: dict[str, Callable[[Options], Backend]] = {"docker": _docker, "process": _process}


@dataclasses.dataclass(frozen=True)
class Opened:
    """A backend, and for `auto` why it is this one."""

    backend: Backend
    why: str = ""


def open_backend(
    name: str,
    *,
    containers: ContainerSettings,
    as_it_is: bool,
    spec: EnvironmentSpec,
    cache: Path,
    fresh: bool,
    directory: Path,
) -> Opened:
    """Open a backend by its name; `auto` is the best one on this machine. Nothing is started, pulled or removed.

    Args:
        as_it_is: nothing is configured, so the only cell is this very interpreter, for which nothing is built.

    Raises:
        WrongInput: it was asked for by name, and this machine does not have it.
        OSError: the cache directory cannot be used.
    """
    options = Options(containers=containers, spec=spec, cache=cache, fresh=fresh, directory=directory)
    mark_as_cache(cache)
    if name != "auto":
        try:
            return Opened(BACKENDS[name](options))
        except (Unavailable, CheckFailed, TimedOut) as error:
            raise WrongInput(f"--modelops-backend {name}: {error}") from None
    why = "auto: this interpreter as it is"
    if not as_it_is:
        try:
            return Opened(_docker(options), "auto: an engine answers")
        except Unavailable:
            why = "auto: no container engine answers"
        except (CheckFailed, TimedOut) as error:
            why = f"auto: an engine answers, but fails: {error}"
    return Opened(_process(options), why)


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
