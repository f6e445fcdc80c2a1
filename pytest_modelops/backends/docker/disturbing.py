"""Faults that need the engine: a container without its network, with a slow one, or with a full disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib import resources

from pytest_modelops.backends.docker import belongings
from pytest_modelops.backends.docker.containers import OWN, CellContainers, ContainerEnvironment
from pytest_modelops.backends.docker.engine import Engine, NotFound, translated
from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.config.faults import CUT_OFF, DISK, SLOW
from pytest_modelops.errors import CheckFailed, NothingToDo

SLOW_BYTES = 64 << 10
"""What a slow network sends in a second."""
_FILE = f"{OWN}/modelops-full"
_FILL = f"""
import errno
with open({_FILE!r}, "wb", buffering=0) as file:
    for size in (1 << 20, 1 << 12, 1):
        try:
            while True:
                file.write(bytes(size))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
"""
_FREE = f"import os; os.unlink({_FILE!r})"


def obstacle(fault: str, settings: ContainerSettings) -> str:
    """Return why a fault cannot be made to happen with these settings, and what would help; else nothing."""
    if fault == CUT_OFF and settings.network:
        return (
            "a container gets its address back only in a closed network; remove `network` from [tool.modelops.docker]"
        )
    if fault == DISK and settings.disk is None:
        return 'the disk is that of the engine, which is never filled; set `disk = "64m"` in [tool.modelops.docker]'
    if fault == DISK and settings.disk is not None and settings.disk * 2 > settings.memory:
        return "a disk with a limit is in memory; set `disk` in [tool.modelops.docker] to less than half of `memory`"
    return ""


class Disturbances:
    """Makes faults happen to the containers of one cell."""

    def __init__(self, engine: Engine, containers: CellContainers) -> None:
        self._engine = engine
        self._containers = containers

    def make(self, fault: str, name: str, environment: ContainerEnvironment) -> Callable[[], None]:
        """Make a fault happen to a process, and return what ends it; see `base.Sandbox.disturb`."""
        if fault == CUT_OFF:
            return self._cut_off(name)
        if fault == DISK:
            self._run(name, environment, _FILL, "fill its disk")
            return lambda: self._run(name, environment, _FREE, "free its disk")
        if problem := self._send_at_most(SLOW_BYTES, name, environment):
            raise NothingToDo(f"{SLOW}: the engine's kernel cannot slow a network down: {problem}")

        def end() -> None:
            if problem := self._send_at_most(0, name, environment):
                raise CheckFailed(f"{SLOW}: the network of {name} is still slow: {problem}")

        return end

    def _cut_off(self, name: str) -> Callable[[], None]:
        api, container, network = self._engine.api, self._containers.ids[name], self._containers.network
        with translated(self._engine, f"cut {name} off from its network"):
            [own] = api.inspect_container(container)["NetworkSettings"]["Networks"].values()
            api.disconnect_container_from_network(container, network)

        def connect() -> None:
            # Its connections go on only with the same address.
            with translated(self._engine, f"connect {name} to its network again"), contextlib.suppress(NotFound):
                api.connect_container_to_network(container, network, ipv4_address=own["IPAddress"], aliases=[name])

        return connect

    def _run(self, name: str, environment: ContainerEnvironment, source: str, what: str) -> None:
        """Run Python in a container."""
        api = self._engine.api
        with translated(self._engine, f"{what}: {name}"):
            command = [environment.python, "-I", "-S", "-c", source]
            made = api.exec_create(self._containers.ids[name], command, user=environment.user)
            output = api.exec_start(made["Id"]).decode(errors="replace")
            code = api.exec_inspect(made["Id"])["ExitCode"]
        if code:
            raise CheckFailed(f"{name}: could not {what}: {output.strip()[-300:]}")

    def _send_at_most(self, rate: int, name: str, environment: ContainerEnvironment) -> str:
        """Limit what a container sends, in bytes a second; 0 ends that. Return why it cannot be done.

        Another container does it, in the network of the first one, which may not do so itself.
        """
        api = self._engine.api
        source = (resources.files("pytest_modelops") / "remote/supervisor/slowing.py").read_text(encoding="utf-8")
        helper = f"{self._containers.names[name]}-network"
        with translated(self._engine, f"slow down the network of {name}"):
            config = api.create_host_config(
                network_mode=f"container:{self._containers.ids[name]}",
                cap_drop=["ALL"],
                cap_add=["NET_ADMIN"],
                read_only=True,
                security_opt=["no-new-privileges"],
            )
            made = api.create_container(
                environment.image,
                [environment.python, "-I", "-S", "-c", source, str(rate)],
                name=helper,
                user="0:0",
                entrypoint=[],
                labels=dict(self._containers.labels),
                host_config=config,
            )
            try:
                api.start(made["Id"])
                ended = api.wait(made["Id"], timeout=30)
                output = api.logs(made["Id"]).decode(errors="replace").strip()
            finally:
                belongings.remove(self._engine, "container", made["Id"])
        return output.rpartition("\n")[2] or f"exit code {ended['StatusCode']}" if ended["StatusCode"] else ""
