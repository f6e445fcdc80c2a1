"""What a cluster's engine itself lists of a cluster, to prove that nothing is left of it. For some known classes.

Of any other class, only the scheduler's port is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import re
import socket
import subprocess
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

_COMMAND_SECONDS = 10.0
_CONNECT_SECONDS = 2.0
_MARK = "modelops-cell"
"""A key of Dask's configuration, which classes that start processes elsewhere pass on."""


class Listing(Protocol):
    """What an engine lists of one cluster.

    Attributes:
        seconds: how long it may take until nothing is listed after the cluster was closed.
        nothing: that nothing is listed, for people.
    """

    seconds: float
    nothing: str

    def active(self) -> list[str]:
        """Return what it has of the cluster, for people; it is asked also after the cluster was closed."""

    def end(self) -> bool:
        """End what is left by force; return whether there is a way."""


def mark() -> None:
    """Mark Dask's configuration, by which processes of this cluster elsewhere are known."""
    import dask

    dask.config.set({_MARK: f"{os.getpid()}-{os.urandom(8).hex()}"})


def listings_of(cluster: Any, address: str) -> list[Listing]:
    """Return how it is proven that nothing is left of a cluster.

    Args:
        address: of its scheduler.
    """
    kinds = {f"{one.__module__.partition('.')[0]}:{one.__name__}" for one in type(cluster).__mro__}
    found: list[Listing] = []
    if "dask_jobqueue:SLURMCluster" in kinds:
        found.append(Slurm(cluster))
    if "dask_gateway:GatewayCluster" in kinds:
        found.append(Gateway(cluster))
    if type(getattr(cluster, "scheduler", None)).__module__ == "distributed.deploy.ssh":
        found.append(Ssh(cluster))
    if address.startswith(("tcp://", "tls://")):
        found.append(Port(address))
    return found


class Port:
    """The scheduler's port, of a class of which nothing else is known."""

    seconds = 5.0

    def __init__(self, address: str) -> None:
        self._address = address
        self.nothing = f"the scheduler's port at {address} is closed"

    def active(self) -> list[str]:
        parts = urlsplit(self._address)
        with (
            contextlib.suppress(OSError),
            socket.create_connection((parts.hostname, parts.port or 0), _CONNECT_SECONDS),
        ):
            return [f"the scheduler at {self._address} still answers"]
        return []

    def end(self) -> bool:
        return False


class Slurm:
    """The jobs of a `dask_jobqueue.SLURMCluster` in Slurm's queue."""

    seconds = 30.0  # Slurm's KillWait
    nothing = "Slurm's queue has no job of it"

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._jobs: set[str] = set()

    def active(self) -> list[str]:
        jobs = [getattr(worker, "job_id", None) for worker in list(self._cluster.workers.values())]
        self._jobs |= {str(job) for job in jobs if job}
        if not self._jobs:
            return []
        try:
            return _output("squeue", "--noheader", "--jobs", ",".join(sorted(self._jobs)), "--format", _SLURM_FORMAT)
        except subprocess.CalledProcessError as error:
            if "Invalid job id" in error.stderr:  # Slurm has forgotten it
                return []
            raise

    def end(self) -> bool:
        with contextlib.suppress(Exception):
            _output("scancel", *sorted(self._jobs))
        return True


_SLURM_FORMAT = "Slurm job %i is %T (%r)"


class Gateway:
    """The cluster of a `dask_gateway.GatewayCluster` in the list of its gateway."""

    seconds = 30.0

    def __init__(self, cluster: Any) -> None:
        self._name = cluster.name
        self.nothing = f"the gateway has no cluster {self._name} any more"
        gateway = cluster.gateway
        arguments = {name: getattr(gateway, name) for name in ("address", "proxy_address", "auth")}
        # The cluster closes its own; one that is not asynchronous raises when it is collected.
        self._connect: Callable[[], Any] = lambda: type(gateway)(**arguments, asynchronous=True)

    def active(self) -> list[str]:
        # By default it does not list clusters that are stopping, whose processes still run.
        there = self._ask(lambda gateway: gateway.list_clusters(status=["pending", "running", "stopping"]))
        mine = [one for one in there if one.name == self._name]
        return [f"the gateway's cluster {one.name} is {getattr(one.status, 'name', one.status)}" for one in mine]

    def end(self) -> bool:
        with contextlib.suppress(Exception):
            self._ask(lambda gateway: gateway.stop_cluster(self._name))
        return True

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        async def answer() -> Any:
            async with self._connect() as gateway:
                return await asyncio.wait_for(question(gateway), _COMMAND_SECONDS)

        return asyncio.run(answer())


class Ssh:
    """The remote processes of a `distributed.SSHCluster`, as `ps` lists them over the same connections."""

    seconds = 30.0
    nothing = "no process of it runs on its hosts"

    def __init__(self, cluster: Any) -> None:
        self._parts = [cluster.scheduler, *cluster.workers.values()]
        self._hosts = [_host(part) for part in self._parts]
        import dask

        self._mark = dask.config.serialize(dask.config.global_config)
        self._pids: dict[int, list[str]] = {}

    def active(self) -> list[str]:
        found = []
        for number, (host, options) in enumerate(self._distinct()):
            output = asyncio.run(_over_ssh(host, options, "ps axeww -o pid=,args="))
            mine = [line.split() for line in output.splitlines() if self._mark in line and "ps axeww" not in line]
            self._pids[number] = [words[0] for words in mine]
            found += [f"process {words[0]} on {host} ({' '.join(words[1:5])})" for words in mine]
        return found

    def end(self) -> bool:
        for number, (host, options) in enumerate(self._distinct()):
            if pids := self._pids.get(number):
                asyncio.run(_over_ssh(host, options, f"kill -9 {' '.join(pids)}"))
        return True

    def _distinct(self) -> list[tuple[str, object]]:
        """Return each host once, with the options of connections to it."""
        found: list[tuple[str, object]] = []
        for one in self._hosts:
            if one not in found:
                found.append(one)
        return found


def _host(part: Any) -> tuple[str, object]:
    """Return the host and the options of the connection that a part of an `SSHCluster` was started over."""
    peer = part.connection.get_extra_info("peername") if part.connection is not None else None
    name = re.sub(r"^\w+://|:\d+$", "", part.address)  # a scheduler's becomes that of the scheduler
    return (peer[0] if peer else name), dict(part.connect_options)


async def _over_ssh(host: str, options: Any, command: str) -> str:
    asyncssh = importlib.import_module("asyncssh")
    async with asyncssh.connect(host, **options) as connection:
        done = await asyncio.wait_for(connection.run(command), _COMMAND_SECONDS)
    return str(done.stdout)


def _output(*command: str) -> list[str]:
    """Return the lines that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=True)
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
