"""The containers of a cell's processes: created, given a place to write, started, and removed.

Each container sees two directories besides its image: `/modelops/shared` (see `shared_files`) and `/modelops/own`, a
volume of its own that is writable and executable, for HOME, temporary files and working directories.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from pytest_modelops.backends.docker import belongings, confinement
from pytest_modelops.backends.docker.archives import copied_into
from pytest_modelops.backends.docker.engine import Engine, translated
from pytest_modelops.backends.docker.link import Link
from pytest_modelops.backends.docker.process import Container
from pytest_modelops.backends.docker.shared_files import REMOTE, SHARED
from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.environments.base import Environment

OWN = "/modelops/own"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContainerEnvironment(Environment):
    """An environment in an image.

    Attributes:
        image: its id.
        path: PATH of its processes.
        user: of its processes, as the engine takes it; uid, gid: the user's numbers in the image.
        programs: what they run, compiled (see `Programs`); without it, as in a prebuilt image, the sources.
    """

    image: str
    path: str
    user: str
    uid: int
    gid: int
    programs: Path | None = None


class CellContainers:
    """The containers of one cell, by the names of their processes. Different processes may be started in parallel.

    Args:
        prefix: of names on the engine.
        labels: of the cell; also an attribute.
        shared: name of the volume of shared files.

    Attributes:
        network: id of the cell's network.
        ids: id of each container that was created.
        names: name of each container on the engine.
        volumes: name of each own volume, including one of a container that could not be created.
        links: connections to all containers, removed ones too.
    """

    def __init__(
        self, engine: Engine, settings: ContainerSettings, *, prefix: str, labels: Mapping[str, str], shared: str
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._prefix = prefix
        self.labels = labels
        self._shared = shared
        self.network = ""
        self.ids: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.volumes: dict[str, str] = {}
        self.links: list[Link] = []

    def start(
        self,
        name: str,
        environment: ContainerEnvironment,
        arguments: Sequence[str],
        *,
        variables: Mapping[str, str],
        log: Path,
        attached: IO[bytes] | None,
    ) -> Container:
        """Start the environment's Python in a new container.

        Args:
            log: file for its output.
            attached: where its stdout goes instead, if its stdin and stdout are attached. Closed if the start fails, so
                that no reader waits forever.
        """
        try:
            self._remove_earlier(name)
            with translated(self._engine, f"start {environment.python}"):
                self._make_own_volume(name, environment)
                container = self._create(name, environment, arguments, variables, attached=attached is not None)
                self.ids[name] = container
                if self._settings.disk is None:
                    self._make_directories(container, environment)
                link = Link(self._engine, container, log=log, attached=attached)
                self.links.append(link)
                self._engine.api.start(container)
        except BaseException:
            if attached is not None:
                with contextlib.suppress(OSError):
                    attached.close()
            raise
        return Container(container, link)

    def _remove_earlier(self, name: str) -> None:
        """Remove what an earlier process of that name has left: a worker may join late, end, and join again."""
        if (earlier := self.ids.pop(name, None)) is not None:
            belongings.remove(self._engine, "container", earlier)
            belongings.remove(self._engine, "volume", self.volumes[name])

    def _make_own_volume(self, name: str, environment: ContainerEnvironment) -> None:
        """Create a container's own volume. With a size limit it is in memory, since the engine limits no other."""
        volume = self.volumes[name] = f"{self._prefix}-{name}"
        options = {}
        if self._settings.disk is not None:
            owner = f"uid={environment.uid},gid={environment.gid},mode=0700"
            options = {"type": "tmpfs", "device": "tmpfs", "o": f"size={self._settings.disk},{owner}"}
        self._engine.api.create_volume(volume, driver="local", driver_opts=options, labels=dict(self.labels))

    def _create(
        self,
        name: str,
        environment: ContainerEnvironment,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        *,
        attached: bool,
    ) -> str:
        api = self._engine.api
        config = confinement.host_config(
            self._engine,
            self._settings,
            network=self.network,
            mounts={self._shared: (SHARED, "ro"), self.volumes[name]: (OWN, "rw")},
            log="json-file" if self._settings.keep != "never" and not attached else "none",
        )
        init = [environment.python, "-I", "-S", f"{REMOTE}/modelops_remote/supervisor/init.py"]
        self.names[name] = f"{self._prefix}-{name}"
        created = api.create_container(
            environment.image,
            [*init, *(["--attached"] if attached else []), environment.python, *arguments],
            name=self.names[name],
            hostname=name,
            user=environment.user,
            environment=self._variables(environment, variables),
            working_dir=OWN,
            labels={**self.labels, belongings.ROLE: name},
            stdin_open=True,
            detach=False,  # the end of our connection is the end of its stdin
            host_config=config,
            networking_config=api.create_networking_config({self.network: api.create_endpoint_config(aliases=[name])}),
        )
        return str(created["Id"])

    def _make_directories(self, container: str, environment: ContainerEnvironment) -> None:
        """Make directories that the container's user can write to: the root of a new volume belongs to root."""
        with copied_into(self._engine, container, OWN, "make directories in its volume") as archive:
            for directory in ("home", "tmp", "work", "cell"):
                archive.directory(directory, mode=0o700, uid=environment.uid, gid=environment.gid)

    def _variables(self, environment: ContainerEnvironment, variables: Mapping[str, str]) -> dict[str, str]:
        directory = os.path.dirname(environment.python)  # noqa: PTH120 - a path of the image
        return {
            "PATH": f"{directory}:{environment.path}",
            "HOME": f"{OWN}/home",  # the user may have no HOME and no passwd entry in the image
            "TMPDIR": f"{OWN}/tmp",  # noqa: S108 - in the container's own volume
            "PYTHONNOUSERSITE": "1",
            "PYTHONUNBUFFERED": "1",  # the last output before a crash reaches the log
            "PYTHONFAULTHANDLER": "1",
            **confinement.passed_on(self._settings),
            **variables,
        }
