"""The table of backends: what a setting's word for one opens."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pytest_modelops.backends.base import Backend
from pytest_modelops.backends.process import ProcessBackend
from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.errors import CheckFailed, TimedOut, Unavailable, WrongInput
from pytest_modelops.matrix.versions import Releases


def check_settings(name: str, containers: ContainerSettings) -> None:
    """Refuse settings that a backend cannot honour, as opening it does; opens nothing."""
    if name == ProcessBackend.name and containers.keep != "never":
        raise WrongInput(
            f"--modelops-keep {containers.keep}: the process backend cannot leave cells up, since all of a "
            "cell ends with pytest; use --modelops-backend docker"
        )


def _process(containers: ContainerSettings, **common: Any) -> Backend:
    check_settings(ProcessBackend.name, containers)
    return ProcessBackend(**common)


def _docker(containers: ContainerSettings, **common: Any) -> Backend:
    from pytest_modelops.backends.docker.backend import ContainerBackend

    return ContainerBackend(settings=containers, **common)


BACKENDS: dict[str, Callable[..., Backend]] = {"docker": _docker, "process": _process}
"""Each is called with `containers`, `spec`, `cache`, `fresh` and `directory` (of the run)."""


@dataclasses.dataclass(frozen=True)
class Opened:
    """A backend, and why it is this one where that was left open."""

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
    """Open a backend by its name; `auto` is the best there is on this machine.

    Args:
        as_it_is: nothing is configured, so the only cell is this very interpreter, for which nothing is built.

    Raises:
        WrongInput: it was asked for by name and is not to be had here.
    """
    common: dict[str, Any] = {
        "containers": containers, "spec": spec, "cache": cache, "fresh": fresh, "directory": directory,
    }  # fmt: skip
    if name != "auto":
        try:
            return Opened(BACKENDS[name](**common))
        except (Unavailable, CheckFailed, TimedOut) as error:
            raise WrongInput(f"--modelops-backend {name}: {error}") from None
    if as_it_is:
        return Opened(BACKENDS["process"](**common), "auto: this interpreter as it is")
    try:
        return Opened(BACKENDS["docker"](**common), "auto: an engine answers")
    except Unavailable:
        return Opened(BACKENDS["process"](**common), "auto: no container engine answers")
    except (CheckFailed, TimedOut) as error:
        return Opened(BACKENDS["process"](**common), f"auto: an engine answers, but fails: {error}")


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
    """What was removed, and what could not be, in words."""

    things: tuple[str, ...]
    left: tuple[str, ...]


def prune_engine(*, images: bool) -> Pruned:
    """Remove what runs that are over have left on the container engine, cells that were left up among it.

    Args:
        images: also those that were built for cells.

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
