"""A cell's network and containers. Nothing is published, and no path of the host is mounted.

Each container has two places besides its image. `/modelops/shared` is one volume of the whole cell, which none of them
can write to: our own program and what is put there are in it. `/modelops/own` is a volume of its own, writable and
executable: HOME, temporary files, working directories.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import io
import os
import re
import secrets
import shlex
import tarfile
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import IO, Any

from pytest_modelops.backends.docker import belongings, confinement
from pytest_modelops.backends.docker.engine import Engine, NotFound, translated
from pytest_modelops.backends.docker.link import Gone, Link, StdinOf, pipe
from pytest_modelops.backends.docker.process import Container, ContainerProcess
from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.environments.base import Environment
from pytest_modelops.errors import CheckFailed, ModelopsError

SHARED, OWN = "/modelops/shared", "/modelops/own"
_PORT = 8786
_SUBNET_TRIES = 20
"""An engine refuses a subnet that it has given away already."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContainerEnvironment(Environment):
    """An environment in an image.

    Attributes:
        image: its id.
        path: PATH of its processes.
        user: who they run as, as the engine takes it; uid, gid: the numbers that this is in the image.
    """

    image: str
    path: str
    user: str
    uid: int
    gid: int


class ContainerSandbox:
    """A cell's processes in containers (see `base.Sandbox`).

    Args:
        directory: the cell's own on the host, for logs.
        cell: what it is called on the engine; unique in the run.
        labels: of this run.
        image: id of an image that the engine has.
    """

    def __init__(
        self,
        engine: Engine,
        settings: ContainerSettings,
        directory: Path,
        *,
        cell: str,
        labels: Mapping[str, str],
        image: str,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._logs = directory / "logs"
        self._logs.mkdir(parents=True)
        self._run = labels[belongings.RUN]
        self._cell = cell
        self._labels = {**labels, belongings.CELL: cell}
        self._image = image
        # Engines shared by many machines have names once only, and those of networks even twice.
        self._prefix = f"modelops-{secrets.token_hex(4)}-" + re.sub(r"[^a-zA-Z0-9_.-]+", "-", cell)[:80]
        self._network = ""
        self._shared = f"{self._prefix}-shared"
        self._supervisor = ""
        """Id of a container that never starts: only through one does the API write into a volume."""
        self._started: dict[str, ContainerProcess] = {}
        self._log_files: dict[str, Path] = {}
        self._containers: dict[str, str] = {}
        self._volumes: dict[str, str] = {}
        """Of containers, by name; also of one that could not be created."""
        self._names: dict[str, str] = {}
        self._pythons: dict[str, str] = {}
        self._links: list[Link] = []
        self._put: set[str] = set()
        self._lock = threading.Lock()
        self._pool = concurrent.futures.ThreadPoolExecutor(8, thread_name_prefix="starting")
        self._closed: Sequence[str] | None = None
        self.kept = False
        self.remote = f"{SHARED}/remote"
        try:
            self._open()
        except BaseException:
            with contextlib.suppress(ModelopsError):
                self.close()
            raise

    def _open(self) -> None:
        """Make the network and the shared volume, both at once."""
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            network = pool.submit(self._make_network)
            shared = pool.submit(self._make_shared)
            for made in (network, shared):
                made.result()

    def _make_network(self) -> None:
        """A network without a way out, unless one is wanted."""
        if self._settings.network:
            with translated(self._engine, f"make the network of cell {self._cell}"):
                self._network = self._create_network()
            return
        for _ in range(_SUBNET_TRIES):
            with contextlib.suppress(CheckFailed), translated(self._engine, "make a network"):
                self._network = self._create_network(
                    subnet=f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}.0/24"
                )
                return
        with translated(self._engine, f"make the network of cell {self._cell}"):
            self._network = self._create_network(internal=True)

    def _create_network(self, *, subnet: str = "", internal: bool = False) -> str:
        """Create the network; one of a subnet of ours is internal.

        That is of those for tests that are nobody's (RFC 2544). From the engine's own choice come networks of other
        engines on the machine, too, and traffic within ours would fall under their rules for the way out.
        """
        from docker.types import IPAMConfig, IPAMPool

        closed = bool(subnet) or internal
        created: dict[str, Any] = self._engine.api.create_network(
            f"{self._prefix}-net",
            driver="bridge",
            internal=closed,
            ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)]) if subnet else None,
            # Without an address of the host's on it, its services cannot be reached from the cell either.
            options={"com.docker.network.bridge.inhibit_ipv4": "true"} if closed else None,
            labels=self._labels,
        )
        return str(created["Id"])

    def _make_shared(self) -> None:
        with translated(self._engine, f"make the volume of cell {self._cell}"):
            self._engine.api.create_volume(self._shared, labels=self._labels)
            config = self._engine.api.create_host_config(
                network_mode="none", binds={self._shared: {"bind": SHARED, "mode": "rw"}}
            )
            self._supervisor = self._engine.api.create_container(
                self._image,
                ["never", "started"],
                name=f"{self._prefix}-files",
                labels={**self._labels, belongings.ROLE: "files"},
                host_config=config,
            )["Id"]
        with resources.as_file(resources.files("pytest_modelops") / "remote") as source:
            self._copy_in(source, "remote/modelops_remote", without="__pycache__")

    def _copy_in(self, source: Path, name: str, *, without: str = "") -> None:
        """Copy into the shared volume, readable by everybody and owned by root."""

        def readable(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
            if without and without in Path(info.name).parts:
                return None
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mode = 0o755 if info.isdir() or info.mode & 0o111 else 0o644
            return info

        with tempfile.TemporaryFile() as archive:
            with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
                parts = name.split("/")
                for depth in range(1, len(parts)):
                    directory = tarfile.TarInfo("/".join(parts[:depth]))
                    directory.type, directory.mode, directory.mtime = tarfile.DIRTYPE, 0o755, int(time.time())
                    tar.addfile(directory)
                tar.add(source, name, filter=readable)
            archive.seek(0)
            with translated(self._engine, f"put {source} into cell {self._cell}"):
                self._engine.api.put_archive(self._supervisor, SHARED, archive)

    def scheduler_arguments(self) -> Sequence[str]:
        """On the cell's network, at a port of its own container."""
        return "--interface", "eth0", "--port", str(_PORT)

    def worker_arguments(self) -> Sequence[str]:
        """The scheduler by its name; itself on the cell's network."""
        return f"tcp://scheduler:{_PORT}", "--interface", "eth0"

    def client_contact(self) -> Mapping[str, str]:
        """The scheduler by its name."""
        return {"address": f"tcp://scheduler:{_PORT}"}

    def host_address(self, address: str) -> None:
        """Nothing is published."""
        del address

    def directory(self, name: str) -> str:
        """Each container has a place of its own, so this is the same path in all of them."""
        del name
        return f"{OWN}/work"

    def put(self, source: Path, name: str) -> str:
        """Into the volume that all containers share."""
        with self._lock:
            if name not in self._put:
                self._copy_in(source, f"put/{name}")
                self._put.add(name)
        return f"{SHARED}/put/{name}"

    def start(
        self, name: str, environment: Environment, arguments: Sequence[str], *, variables: Mapping[str, str]
    ) -> ContainerProcess:
        """Start the environment's Python in a container of its own."""
        return self._start(name, environment, arguments, variables, None)

    def start_attached(
        self, name: str, environment: Environment, arguments: Sequence[str], *, variables: Mapping[str, str]
    ) -> tuple[ContainerProcess, IO[bytes], IO[bytes]]:
        """As `start`, with its stdin and stdout in our hands."""
        stdout, theirs = pipe()
        process = self._start(name, environment, arguments, variables, theirs)
        return process, io.BufferedWriter(StdinOf(process.link), 1 << 16), stdout

    def _start(
        self,
        name: str,
        environment: Environment,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        attached: IO[bytes] | None,
    ) -> ContainerProcess:
        if not isinstance(environment, ContainerEnvironment):
            raise TypeError(f"{environment} is not of this backend")
        log = self.log(name)
        log.touch()
        self._pythons[name] = environment.python
        starting = self._pool.submit(self._start_now, name, environment, arguments, variables, attached)
        process = self._started[name] = ContainerProcess(self._engine, name, starting, log)
        return process

    def _start_now(
        self,
        name: str,
        environment: ContainerEnvironment,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        attached: IO[bytes] | None,
    ) -> Container:
        try:
            self._make_room(name)
            with translated(self._engine, f"start {environment.python}"):
                own = self._own_volume(name, environment)
                container = self._create(name, environment, arguments, variables, own, attached is not None)
                self._containers[name] = container
                if self._settings.disk is None:
                    self._give(container, environment)
                link = Link(self._engine, container, log=self._logs / f"{name}.log", attached=attached)
                self._links.append(link)
                self._engine.api.start(container)
        except BaseException:
            if attached is not None:
                with contextlib.suppress(OSError):
                    attached.close()  # who reads it shall not wait for ever
            raise
        return Container(container, link)

    def _make_room(self, name: str) -> None:
        """Remove what an earlier process of that name has left: a worker may join late, end, and join again."""
        if (earlier := self._containers.pop(name, None)) is not None:
            belongings.remove(self._engine, "container", earlier)
            belongings.remove(self._engine, "volume", f"{self._prefix}-{name}")

    def _own_volume(self, name: str, environment: ContainerEnvironment) -> str:
        """The writable volume of a container; where its size is limited, in memory, since only there it can be."""
        volume = self._volumes[name] = f"{self._prefix}-{name}"
        options = {}
        if self._settings.disk is not None:
            owner = f"uid={environment.uid},gid={environment.gid},mode=0700"
            options = {"type": "tmpfs", "device": "tmpfs", "o": f"size={self._settings.disk},{owner}"}
        self._engine.api.create_volume(volume, driver="local", driver_opts=options, labels=self._labels)
        return volume

    def _create(  # noqa: PLR0917 - one call, above
        self,
        name: str,
        environment: ContainerEnvironment,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        own: str,
        attached: bool,
    ) -> str:
        api = self._engine.api
        logs = "json-file" if self._settings.keep != "never" and not attached else "none"
        config = confinement.host_config(
            self._engine,
            self._settings,
            network=self._network,
            mounts={self._shared: (SHARED, "ro"), own: (OWN, "rw")},
            log=logs,
        )
        init = [environment.python, "-I", "-S", f"{self.remote}/modelops_remote/supervisor/init.py"]
        aliases = api.create_networking_config({self._network: api.create_endpoint_config(aliases=[name])})
        self._names[name] = f"{self._prefix}-{name}"
        created: dict[str, Any] = api.create_container(
            environment.image,
            [*init, *(["--attached"] if attached else []), environment.python, *arguments],
            name=self._names[name],
            hostname=name,
            user=environment.user,
            environment=self._variables(environment, variables),
            working_dir=OWN,
            labels={**self._labels, belongings.ROLE: name},
            stdin_open=True,
            detach=False,  # the end of our connection is the end of its stdin
            host_config=config,
            networking_config=aliases,
        )
        return str(created["Id"])

    def _give(self, container: str, environment: ContainerEnvironment) -> None:
        """Make directories of the container's user in the own volume: a new one is root's, and its root stays that."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for directory in ("home", "tmp", "work"):
                info = tarfile.TarInfo(directory)
                info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o700, int(time.time())
                info.uid, info.gid = environment.uid, environment.gid
                tar.addfile(info)
        self._engine.api.put_archive(container, OWN, buffer.getvalue())

    def _variables(self, environment: ContainerEnvironment, variables: Mapping[str, str]) -> dict[str, str]:
        directory = os.path.dirname(environment.python)  # noqa: PTH120 - a path of the image
        return {
            "PATH": f"{directory}:{environment.path}",
            "HOME": f"{OWN}/home",  # the user may have none in the image, nor an entry in its passwd
            "TMPDIR": f"{OWN}/tmp",  # noqa: S108 - of the container's own
            "PYTHONNOUSERSITE": "1",
            "PYTHONUNBUFFERED": "1",  # the last words before a crash reach the log
            "PYTHONFAULTHANDLER": "1",
            **confinement.passed_on(self._settings),
            **variables,
        }

    def keep(self) -> str:
        """Leave scheduler and workers up when the sandbox is closed; say how to get in and how to remove them.

        Raises:
            CheckFailed: none of them runs.
        """
        up: list[str] = []
        for name, process in self._started.items():
            if process.ending is None and name != "agent":
                with translated(self._engine, f"keep {name}"), contextlib.suppress(Gone, NotFound):
                    process.keep()
                    kept = belongings.KEPT + self._names[name].removeprefix("modelops-")
                    self._engine.api.rename(self._containers[name], kept)
                    self._names[name] = kept
                    up.append(name)
        if not up:
            raise CheckFailed("nothing of the cell runs any more, so nothing is left up; its logs are kept")
        self.kept = True
        some, python = self._names[up[0]], shlex.quote(self._pythons[up[0]])
        host = (
            ""
            if self._engine.address.startswith("unix:///var/run/docker.sock")
            else f"DOCKER_HOST={self._engine.address} "
        )
        connect = f"from distributed import Client; client = Client('tcp://scheduler:{_PORT}')"
        lines = [f"cell {self._cell} was left up: {', '.join(self._names[name] for name in up)}"]
        lines += [f"    a shell:  {host}docker exec -it {self._names[name]} sh" for name in up[-1:]]
        lines.append(f'    a client: {host}docker exec -it {some} {python} -i -c "{connect}"')
        lines.append(f"    its logs: {host}docker logs {some}")
        lines.append(f"    clear it: {host}python -m pytest_modelops prune")
        return "\n".join(lines)

    def close(self) -> Sequence[str]:
        """End all containers, prove that nothing is left, and let go. Returns what is left, in words."""
        if self._closed is None:
            self._closed = []
            self._pool.shutdown(wait=True, cancel_futures=True)
            left = self._end_containers()
            for link in self._links:
                link.close()
            if not self.kept:
                left += self._remove_places()
                left += self._still_there() if not left else []
            self._closed = [*dict.fromkeys(left), belongings.LATER] if left else []
        return self._closed

    def _end_containers(self) -> list[str]:
        """Remove those that are not to stay, all at once."""
        doomed = [] if self.kept or not self._supervisor else [self._supervisor]
        for name, container in self._containers.items():
            if not self.kept or name == "agent":
                self._started[name].closing = True
                doomed.append(container)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            return [words for words in pool.map(lambda it: self._remove("container", it), doomed) if words]

    def _remove_places(self) -> list[str]:
        """Remove volumes and the network, which nothing uses any more."""
        things = [("volume", volume) for volume in (self._shared, *self._volumes.values())]
        things += [("network", self._network)] if self._network else []
        return [words for kind, name in things if (words := self._remove(kind, name))]

    def _remove(self, kind: str, identity: str) -> str:
        """Why it could not be removed; empty if it was."""
        try:
            belongings.remove(self._engine, kind, identity)
        except ModelopsError as error:
            return str(error)
        return ""

    def _still_there(self) -> Sequence[str]:
        try:
            with translated(self._engine, f"prove that nothing of cell {self._cell} is left"):
                return belongings.of_cell(self._engine, self._run, self._cell)
        except ModelopsError as error:
            return [str(error)]

    def logs(self) -> Mapping[str, Path]:
        """Log by process name."""
        return dict(self._log_files)

    def log(self, name: str) -> Path:
        """A file beside the others."""
        return self._log_files.setdefault(name, self._logs / f"{name}.log")
