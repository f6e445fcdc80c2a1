"""A cell's network and containers. No port is published, and no path of the host is mounted."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import re
import secrets
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO

from pytest_modelops.backends.docker import belongings
from pytest_modelops.backends.docker.containers import OWN, CellContainers, ContainerEnvironment
from pytest_modelops.backends.docker.disturbing import Disturbances, obstacle
from pytest_modelops.backends.docker.engine import Engine, NotFound, translated
from pytest_modelops.backends.docker.link import Gone, StdinOf, pipe
from pytest_modelops.backends.docker.network import make_network
from pytest_modelops.backends.docker.process import ContainerProcess
from pytest_modelops.backends.docker.shared_files import REMOTE, SharedFiles
from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.environments.base import Environment
from pytest_modelops.errors import CheckFailed, ModelopsError

_PORT = 8786
_SCHEDULER = f"tcp://scheduler:{_PORT}"


class ContainerSandbox:
    """A cell's processes in containers (see `base.Sandbox`).

    Args:
        directory: the cell's own on the host, for logs.
        cell: its name on the engine; unique in the run.
        labels: of this run.
        image: id of any image that the engine has.
        programs: of the cell's Pythons, as `Programs` makes them.
    """

    remote = REMOTE
    forking = None
    nannies_fork = True

    def __init__(
        self,
        engine: Engine,
        settings: ContainerSettings,
        directory: Path,
        *,
        cell: str,
        labels: Mapping[str, str],
        image: str,
        programs: Collection[Path],
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._logs = directory / "logs"
        self._logs.mkdir(parents=True)
        self._log_files: dict[str, Path] = {}
        self._run = labels[belongings.RUN]
        self._cell = cell
        self._labels = {**labels, belongings.CELL: cell}
        # Names must be unique on an engine that many machines share; networks with the same name would both exist.
        self._prefix = f"modelops-{secrets.token_hex(4)}-" + re.sub(r"[^a-zA-Z0-9_.-]+", "-", cell)[:80]
        self._shared = SharedFiles(engine, self._prefix, cell, self._labels, image=image, programs=programs)
        self._containers = CellContainers(
            engine, settings, prefix=self._prefix, labels=self._labels, shared=self._shared.volume
        )
        self._started: dict[str, ContainerProcess] = {}
        self._environments: dict[str, ContainerEnvironment] = {}
        self._disturbances = Disturbances(engine, self._containers)
        self._pool = concurrent.futures.ThreadPoolExecutor(8, thread_name_prefix="starting")
        self._closed: Sequence[str] | None = None
        self.kept = False
        try:
            self._open()
        except BaseException:
            with contextlib.suppress(ModelopsError):
                self.close()
            raise

    def _open(self) -> None:
        """Make the network and the shared volume, both at once."""
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for made in (pool.submit(self._make_network), pool.submit(self._shared.make)):
                made.result()

    def _make_network(self) -> None:
        self._containers.network = make_network(
            self._engine, f"{self._prefix}-net", self._cell, self._labels, opened=self._settings.network
        )

    def scheduler_arguments(self) -> Sequence[str]:
        return "--interface", "eth0", "--port", str(_PORT)

    def worker_arguments(self) -> Sequence[str]:
        return _SCHEDULER, "--interface", "eth0"

    def client_contact(self) -> Mapping[str, str]:
        return {"address": _SCHEDULER}

    def host_address(self, address: str) -> None:
        """Return nothing: no port is published."""

    def directory(self, name: str) -> str:  # noqa: ARG002 - the same in every container, each has its own volume
        return f"{OWN}/work"

    def cell_directory(self) -> str:
        return f"{OWN}/cell"

    def put(self, source: Path, name: str) -> str:
        return self._shared.put({name: source})[name]

    def put_all(self, sources: Mapping[str, Path]) -> Mapping[str, str]:
        return self._shared.put(sources)

    def pips(self) -> str:
        return self._shared.put_pips()

    def start(
        self, name: str, environment: Environment, arguments: Sequence[str], *, variables: Mapping[str, str]
    ) -> ContainerProcess:
        return self._start(name, environment, arguments, variables, None)

    def start_attached(
        self, name: str, environment: Environment, arguments: Sequence[str], *, variables: Mapping[str, str]
    ) -> tuple[ContainerProcess, IO[bytes], IO[bytes]]:
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
        self._environments[name] = environment
        starting = self._pool.submit(
            self._containers.start, name, environment, arguments, variables=variables, log=log, attached=attached
        )
        process = self._started[name] = ContainerProcess(self._engine, name, starting, log)
        return process

    def obstacle_to(self, fault: str, *, memory_limit: int) -> str:  # noqa: ARG002 - the container has a limit, too
        return obstacle(fault, self._settings)

    def disturb(self, fault: str, name: str) -> Callable[[], None]:
        return self._disturbances.make(fault, name, self._environments[name])

    def keep(self) -> str:
        """Leave scheduler and workers up when the sandbox is closed; return how to get in and how to remove them.

        Raises:
            CheckFailed: none of them runs.
        """
        up: list[str] = []
        names = self._containers.names
        for name, process in self._started.items():
            if process.ending is None and not _is_agent(name):
                with translated(self._engine, f"keep {name}"), contextlib.suppress(Gone, NotFound):
                    process.keep()
                    kept = belongings.KEPT + names[name].removeprefix("modelops-")
                    self._engine.api.rename(self._containers.ids[name], kept)
                    names[name] = kept
                    up.append(name)
        if not up:
            raise CheckFailed("no process of the cell runs any more, so nothing is left up; its logs are kept")
        self.kept = True
        return self._how_to_get_in(up)

    def _how_to_get_in(self, up: Sequence[str]) -> str:
        names = [self._containers.names[name] for name in up]
        python = shlex.quote(self._environments[up[0]].python)
        default = self._engine.address.startswith("unix:///var/run/docker.sock")
        host = "" if default else f"DOCKER_HOST={self._engine.address} "
        connect = f"from distributed import Client; client = Client('{_SCHEDULER}')"
        return "\n".join([
            f"cell {self._cell} was left up: {', '.join(names)}",
            f"    a shell:  {host}docker exec -it {names[-1]} sh",
            f'    a client: {host}docker exec -it {names[0]} {python} -i -c "{connect}"',
            f"    its logs: {host}docker logs {names[0]}",
            f"    clear it: {host}python -m pytest_modelops prune",
        ])  # fmt: skip

    def close(self) -> Sequence[str]:
        if self._closed is None:
            self._closed = []
            self._pool.shutdown(wait=True, cancel_futures=True)
            left = self._end_containers()
            for link in self._containers.links:
                link.close()
            if not self.kept:
                left += self._remove_volumes_and_network()
                left += self._still_there() if not left else []
            self._closed = [*dict.fromkeys(left), belongings.LATER] if left else []
        return self._closed

    def _end_containers(self) -> list[str]:
        """Remove all containers that are not kept, at once."""
        doomed = [] if self.kept or not self._shared.writer else [self._shared.writer]
        for name, container in self._containers.ids.items():
            if not self.kept or _is_agent(name):
                self._started[name].closing = True
                doomed.append(container)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            return [why for why in pool.map(lambda container: self._remove("container", container), doomed) if why]

    def _remove_volumes_and_network(self) -> list[str]:
        things = [("volume", volume) for volume in (self._shared.volume, *self._containers.volumes.values())]
        things += [("network", self._containers.network)] if self._containers.network else []
        return [why for kind, name in things if (why := self._remove(kind, name))]

    def _remove(self, kind: str, identity: str) -> str:
        """Remove a thing; return why that failed, or nothing."""
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
        return dict(self._log_files)

    def log(self, name: str) -> Path:
        return self._log_files.setdefault(name, self._logs / f"{name}.log")


def _is_agent(name: str) -> bool:
    """Whether a process is a client: `agent`, or `agent.2` that has replaced it."""
    return name.partition(".")[0] == "agent"
