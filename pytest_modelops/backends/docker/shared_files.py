"""The volume that all containers of a cell read and none can write to: our own programs and the user's files."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path

from pytest_modelops.backends.docker import belongings
from pytest_modelops.backends.docker.archives import copied_into
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
        for directory in self._programs:
            self._copy_in(directory / NAME, f"remote/{NAME}")
        if not self._programs:
            with resources.as_file(resources.files("pytest_modelops") / "remote") as source:
                self._copy_in(source, f"remote/{NAME}", without="__pycache__")

    def put_pips(self) -> str:
        """Copy in the unpacked pip of each of its Pythons; return their directory, empty if there is none."""
        found = [pip for directory in self._programs for pip in sorted((directory / PIP).glob("*/*"))]
        for pip in found:
            self.put(pip, f"{PIP}/{pip.parent.name}/{pip.name}")
        return f"{SHARED}/put/{PIP}" if found else ""

    def put(self, source: Path, name: str) -> str:
        """Copy a file or directory in, unless that was done before; return its path in the containers."""
        with self._lock:
            if name not in self._put:
                self._copy_in(source, f"put/{name}")
                self._put.add(name)
        return f"{SHARED}/put/{name}"

    def _copy_in(self, source: Path, name: str, *, without: str = "") -> None:
        doing = f"put {source} into cell {self._cell}"
        with copied_into(self._engine, self.writer, SHARED, doing, follow_links=True) as archive:
            for parent in reversed(Path(name).parents[:-1]):
                archive.directory(parent.as_posix())
            archive.tree(source, name, without=without)
