"""The volume that all containers of a cell read and none can write to: our own programs and the user's files."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path

from pytest_modelops.backends.docker import belongings
from pytest_modelops.backends.docker.archives import Archive, copied_into
from pytest_modelops.backends.docker.engine import Engine, translated
from pytest_modelops.backends.docker.programs import PIP
from pytest_modelops.environments.remote_package import NAME

SHARED = "/modelops/shared"
"""Where containers see it."""
REMOTE = f"{SHARED}/remote"
"""Holds the package `modelops_remote`."""


class SharedFiles:
    """A cell's volume of shared files.

    Args:
        prefix: of names on the engine.
        image: id of any image that the engine has.
        programs: of its Pythons, as `Programs` makes them.
    """

    def __init__(
        self,
        engine: Engine,
        prefix: str,
        cell: str,
        labels: Mapping[str, str],
        *,
        image: str,
        programs: Collection[Path],
    ) -> None:
        self._engine = engine
        self._cell = cell
        self._labels = labels
        self._image = image
        self._programs = programs
        self._lock = threading.Lock()
        self._put: set[str] = set()
        self.volume = f"{prefix}-shared"
        self.writer = ""
        """Id of a container that is never started: the API writes into volumes only through a container."""

    def make(self) -> None:
        """Create the volume and copy `modelops_remote` into it."""
        api = self._engine.api
        with translated(self._engine, f"make the volume of cell {self._cell}"):
            api.create_volume(self.volume, labels=dict(self._labels))
            config = api.create_host_config(network_mode="none", binds={self.volume: {"bind": SHARED, "mode": "rw"}})
            created = api.create_container(
                self._image,
                ["never", "started"],
                name=self.volume.replace("-shared", "-files"),
                labels={**self._labels, belongings.ROLE: "files"},
                host_config=config,
            )
            self.writer = created["Id"]
        doing = f"put programs into cell {self._cell}"
        with self._archive(doing) as archive:
            archive.directory("remote")
            for directory in self._programs:
                archive.tree(directory / NAME, f"remote/{NAME}")
            if not self._programs:
                with resources.as_file(resources.files("pytest_modelops") / "remote") as source:
                    archive.tree(source, f"remote/{NAME}", without="__pycache__")

    def put_pips(self) -> str:
        """Copy in the unpacked pip of each of its Pythons; return their directory, empty if there is none."""
        found = [pip for directory in self._programs for pip in sorted((directory / PIP).glob("*/*"))]
        self.put({f"{PIP}/{pip.parent.name}/{pip.name}": pip for pip in found})
        return f"{SHARED}/put/{PIP}" if found else ""

    def put(self, sources: Mapping[str, Path]) -> Mapping[str, str]:
        """Copy files and directories in, by their names, unless that was done before; return the path of each."""
        with self._lock:
            new = {name: source for name, source in sources.items() if name not in self._put}
            if new:
                with self._archive(f"put {', '.join(map(str, new.values()))} into cell {self._cell}") as archive:
                    for name, source in new.items():
                        for parent in reversed(Path("put", name).parents[:-1]):
                            archive.directory(parent.as_posix())
                        archive.tree(source, f"put/{name}")
                self._put.update(new)
        return {name: f"{SHARED}/put/{name}" for name in sources}

    def _archive(self, doing: str) -> contextlib.AbstractContextManager[Archive]:
        return copied_into(self._engine, self.writer, SHARED, doing, follow_links=True)
