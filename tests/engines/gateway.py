"""A dask-gateway server on loopback, whose clusters are local processes."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import importlib.metadata
import json
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from tests.engines.daemons import READY_SECONDS, daemons, find, free_ports
from tests.processes import poll

HOW_TO = "set an index from which `uv pip install 'dask-gateway-server[local]'` works"
REQUIREMENTS = ("dask-gateway-server[local]", "dask-gateway")
_CONF = """
from dask_gateway_server.options import Float, Options, String

# Not LocalBackend: it changes the owner of `/` (dask-gateway 2026.3.0).
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.SimpleAuthenticator.password = {password!r}
c.DaskGateway.address = "127.0.0.1:{api}"
c.Proxy.address = "127.0.0.1:{proxy}"
c.UnsafeLocalBackend.clusters_directory = {directory!r}
c.ClusterConfig.worker_memory = "512 M"


def commands(options):
    modules = {{"scheduler_cmd": "dask_scheduler", "worker_cmd": "dask_worker"}}
    found = {{name: [options.python, "-m", f"distributed.cli.{{module}}"] for name, module in modules.items()}}
    return {{**found, "idle_timeout": options.idle_timeout}}


c.Backend.cluster_options = Options(
    String("python", default={python!r}), Float("idle_timeout", default=0, min=0), handler=commands
)
"""


@dataclasses.dataclass(frozen=True)
class Gateway:
    """A running server.

    Its clusters have the options `python`, an interpreter that has dask-gateway (default: one with these tests' Dask),
    and `idle_timeout`, the seconds after which a cluster without tasks ends (default: never).

    Attributes:
        address: for `dask_gateway.Gateway`.
        username: any user is let in with `password`, as with `dask_gateway.auth.BasicAuth`.
        python: an interpreter that has these tests' Dask, dask-gateway and the server.
    """

    address: str
    username: str
    password: str
    python: str

    def clusters(self) -> list[str]:
        """Return the names of all clusters that are starting, running or stopping.

        Without `status`, as in `list_clusters()` of dask-gateway, those that are stopping would not be listed.
        """
        return list(self._ask("/api/v1/clusters/?status=PENDING,RUNNING,STOPPING"))

    def new_cluster(self, *, workers: int, **options: Any) -> str:
        """Start a cluster with so many workers, and wait for them; returns its name."""
        name: str = self._ask("/api/v1/clusters/", {"cluster_options": options})["name"]
        poll(lambda: self._ask(f"/api/v1/clusters/{name}?wait")["status"] != "PENDING", seconds=READY_SECONDS)
        self._ask(f"/api/v1/clusters/{name}/scale", {"count": workers})
        assert poll(lambda: self.workers(name) == workers, seconds=READY_SECONDS), f"{self.workers(name)} workers"
        return name

    def workers(self, name: str) -> int:
        """Return how many workers its scheduler has."""
        return int(self._ask(f"/clusters/{name}/json/counts.json")["workers"])

    def stop_cluster(self, name: str) -> None:
        self._ask(f"/api/v1/clusters/{name}", method="DELETE")

    def answers(self) -> bool:
        with contextlib.suppress(OSError):  # the proxy answers 404 before it has routes
            return bool(self._ask("/api/health"))
        return False

    def _ask(self, path: str, content: Any = None, *, method: str | None = None) -> Any:
        user = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        request = urllib.request.Request(
            f"{self.address}{path}",
            data=None if content is None else json.dumps(content).encode(),
            headers={"Authorization": f"Basic {user}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=READY_SECONDS) as response:
            return json.loads(response.read() or "null")


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server of this process's own, without clusters."""
    find({"setpriv": "/usr/bin"}, "Linux")
    python = _environment(tmp_path_factory)
    with daemons(tmp_path_factory.mktemp("gateway") / "engine") as running:
        directory = running.directory / "clusters"
        directory.mkdir()
        api, proxy = free_ports(2)
        conf = running.directory / "conf.py"
        gateway = Gateway(f"http://127.0.0.1:{proxy}", "user", secrets.token_hex(8), str(python))
        conf.write_text(
            _CONF.format(password=gateway.password, api=api, proxy=proxy, directory=str(directory), python=str(python))
        )
        running.start("gateway", str(python.parent / "dask-gateway-server"), "--config", str(conf))
        running.wait(gateway.answers, "a dask-gateway server")
        yield gateway
        for name in gateway.clusters():
            gateway.stop_cluster(name)
        running.wait(lambda: not gateway.clusters(), "an end of all clusters")


@pytest.fixture
def gateway_cluster(gateway: Gateway) -> Iterator[str]:
    """The name of a cluster of `gateway` with two workers of this Python and Dask."""
    name = gateway.new_cluster(workers=2)
    yield name
    gateway.stop_cluster(name)  # five processes that would do little, but all the time
    poll(lambda: name not in gateway.clusters(), seconds=READY_SECONDS)


def _environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment with the server, this Python and this Dask, once for a test session."""
    from uv import find_uv_bin

    base = tmp_path_factory.getbasetemp()
    environment = (base.parent if base.name.startswith("popen-") else base) / "gateway-environment"
    done = environment / "done"
    with filelock.FileLock(f"{environment}.lock"):
        if not done.exists():
            dask = f"distributed=={importlib.metadata.version('distributed')}"
            venv = [find_uv_bin(), "venv", "-q", "--clear", "--python", sys.executable, str(environment)]
            install = [find_uv_bin(), "pip", "install", "-q", "--python", str(environment), *REQUIREMENTS, dask]
            for command in (venv, install):
                made = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
                if made.returncode:
                    pytest.skip(f"{made.stderr[-500:]}\nto run it: {HOW_TO}")
            done.touch()
    return environment / "bin" / "python"
