"""Deployments that tests start by hand: a scheduler and workers of any Pythons, with and without TLS."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distributed import Client
from distributed.security import Security

from tests.integration.conftest import write_wheel
from tests.processes import poll


@dataclasses.dataclass(frozen=True)
class Deployment:
    """A scheduler and its workers, which are children of this process.

    Attributes:
        address: of the scheduler.
        directory: of its processes.
        security: of a client here, if the deployment has TLS.
        alike: whether all run this Python, so that workers may be asked with a function.
    """

    address: str
    directory: Path
    security: Security | None = None
    alike: bool = True

    def state(self) -> dict[str, Any]:
        """Return what the scheduler and the workers have, without this client."""

        def look(dask_scheduler: Any, client: str) -> dict[str, Any]:
            return {
                "tasks": sorted(map(str, dask_scheduler.tasks)),
                "clients": sorted(one for one in dask_scheduler.clients if one not in (client, "fire-and-forget")),
                "plugins": sorted(dask_scheduler.plugins),
                "worker plugins": sorted(dask_scheduler.worker_plugins),
                "workers": {str(worker.name): worker.address for worker in dask_scheduler.workers.values()},
            }

        def look_at_worker(dask_worker: Any) -> dict[str, Any]:
            import os
            import sys

            return {
                "files": sorted(os.listdir(dask_worker.local_directory)),  # noqa: PTH208
                "handlers": sorted(dask_worker.handlers),
                "data": sorted(map(str, dask_worker.data)),
                "plugins": sorted(dask_worker.plugins),
                "path": sys.path[:],
                "ours": [name for name in [*sys.modules, *vars(dask_worker)] if "modelops" in name],
            }

        with self.client() as client:
            found: dict[str, Any] = client.run_on_scheduler(look, client=client.id)
            return {**found, **(client.run(look_at_worker) if self.alike else {})}

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        with Client(self.address, security=self.security, set_as_default=False, timeout=30) as client:
            yield client

    def runs_tasks(self) -> bool:
        with self.client() as client:
            return client.submit(sum, [1, 2], pure=False).result(timeout=30) == 3


@contextlib.contextmanager
def deployed(
    directory: Path,
    pythons: Sequence[str],
    *,
    scheduler: str = sys.executable,
    env: Mapping[str, str] | None = None,
    of_worker: Sequence[Mapping[str, str]] = (),
    preload: Path | None = None,
    security: Security | None = None,
) -> Iterator[Deployment]:
    """Start a scheduler, and a worker on each of these Pythons; ends them.

    Args:
        pythons, scheduler: executables.
        env: further variables, which turn on TLS.
        of_worker: those of each worker.
        preload: of the workers.
    """
    directory.mkdir()
    file, protocol = directory / "scheduler.json", "tls" if security else "tcp"
    where = ("--scheduler-file", str(file), "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
    command = [scheduler, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--protocol", protocol, *where]
    options = ["--protocol", protocol, "--nthreads", "1", "--no-nanny", "--local-directory", str(directory / "work")]
    options += ["--preload", str(preload)] if preload else []
    variables = {**os.environ, **(env or {})}
    with contextlib.ExitStack() as stack:

        def start(command: Sequence[str], number: int, more: Mapping[str, str]) -> None:
            log = stack.enter_context((directory / f"{number}.log").open("wb"))
            process = subprocess.Popen(
                command, cwd=directory, env={**variables, **more}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            stack.callback(_end, process)

        start(command, 0, {})
        for number, python in enumerate(pythons):
            worker = [python, "-m", "distributed.cli.dask_worker", "", *where, *options, "--name", f"w{number}"]
            start(worker, number + 1, of_worker[number] if of_worker else {})
        assert poll(lambda: file.exists() and file.read_text(), seconds=60), "no scheduler"
        address = json.loads(file.read_text())["address"]
        found = Deployment(address, directory, security, {*pythons, scheduler} == {sys.executable})
        if scheduler == sys.executable:
            with found.client() as client:
                client.wait_for_workers(len(pythons), timeout=60)
        yield found


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # there is no nanny, so it has no children
    process.wait()


GRID_MODEL = {"gridmodel.py": "def run(n):\n    return n + 1\n"}


def grid_model(directory: Path, version: str = "1.0") -> Path:
    """Write a wheel and what it installs; returns the directory of that."""
    directory.mkdir(parents=True, exist_ok=True)
    wheel = write_wheel(directory / f"gridmodel-{version}-py3-none-any.whl", GRID_MODEL)
    site = directory / f"site-{version}"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


RUNTIME = """
import os
import types

from distributed import WorkerPlugin


class Runtime(WorkerPlugin):
    def setup(self, worker):
        worker.runtime = types.SimpleNamespace(executor=os.environ.get("ACME_EXECUTOR", "warm"))


async def dask_setup(worker):
    await worker.plugin_add(Runtime(), name="acme")
"""
"""A plugin that a deployment has, which reads a variable of the worker's; and the preload that adds it."""


def tls(directory: Path) -> dict[str, str]:
    """Make a key and a certificate, which is its own authority; return Dask's variables that name them."""
    directory.mkdir()
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost")
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    settings = {"CA_FILE": cert}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        settings |= {f"{role}__CERT": cert, f"{role}__KEY": key}
    return {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(path) for name, path in settings.items()}


def expired(directory: Path) -> dict[str, str]:
    """Make a certificate of the same authority for clients that has expired; return Dask's variables that name it."""
    made = ("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=late", "-keyout", "old.key", "-out", "old.csr")
    signed = ("x509", "-req", "-in", "old.csr", "-CA", "cert.pem", "-CAkey", "key.pem", "-CAcreateserial")
    for arguments in (made, (*signed, "-days", "-1", "-out", "old.pem")):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)
    paths = {"CERT": directory / "old.pem", "KEY": directory / "old.key"}
    return {f"DASK_DISTRIBUTED__COMM__TLS__CLIENT__{name}": str(path) for name, path in paths.items()}
