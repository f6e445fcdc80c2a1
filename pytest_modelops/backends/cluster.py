"""The `cluster` backend: environments as `process` builds them, and a cluster that a Dask cluster class makes.

Processes of ours are the maker, which calls the class, and the agent. The class starts scheduler and workers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from pytest_modelops.backends.process import ProcessBackend, ProcessSandbox
from pytest_modelops.config.cluster import ClassSettings, filled, names_in
from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.environments.base import Environment
from pytest_modelops.environments.commands import HostProcess
from pytest_modelops.errors import CheckFailed
from pytest_modelops.matrix.cell import Cell, Role
from pytest_modelops.remote.shared.cluster_messages import ClusterQuestion
from pytest_modelops.storage.files import unused_path

PATIENCE_SECONDS = 25.0
"""How long the maker may take to close the cluster when pytest is gone."""
_ONE_INTERPRETER = {
    "distributed:LocalCluster": "it starts its workers with the interpreter that runs its scheduler",
    "dask.distributed:LocalCluster": "it starts its workers with the interpreter that runs its scheduler",
}
_ONE_IMAGE = {
    "dask_gateway:GatewayCluster": "its server starts scheduler and workers alike",
    "dask_kubernetes:KubeCluster": "it has one image for both",
    "dask_kubernetes.operator:KubeCluster": "it has one image for both",
}
_MAIN = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from modelops_remote.client import maker; del sys.path[0]; "
    "maker.main()"
)
"""Workers that the maker starts inherit its `sys.path`, where nothing of ours may be."""


class ClusterSandbox(ProcessSandbox):
    """The maker, the agent, and what the cluster shares with this machine (see `base.Sandbox`)."""

    has_dask_of_host = True

    def __init__(
        self, directory: Path, settings: ClassSettings, cell: Cell, remote_package: Callable[[Environment], Path]
    ) -> None:
        super().__init__(directory, remote_package)
        self._settings = settings
        self._cell = cell
        self.contact = self._scratch / "contact.json"
        self._log_directory = self._logs / "cluster"
        self._log_directory.mkdir()

    def question(self, environments: Mapping[Role, Environment], workers: int) -> ClusterQuestion:
        """Return what the maker is asked to make.

        Raises:
            CheckFailed: the class cannot make such a cell.
        """
        settings, worker = self._settings, self._cell.worker
        reason = _ONE_INTERPRETER.get(settings.path)
        if "scheduler-python" not in names_in(settings.options):
            reason = reason or _ONE_IMAGE.get(settings.path)
        if reason and self._cell.scheduler != worker:
            raise CheckFailed(
                f"{settings.path} cannot have workers that differ from the scheduler: {reason}. Leave out this cell, "
                "or use another class for it."
            )
        lock = environments[Role.WORKER].lock
        of_worker = {
            "python-version": ".".join(map(str, lock.python.release[:2])),
            "dask-version": str(lock.packages["distributed"]),
        }
        fields = {
            **of_worker,
            "python": environments[Role.WORKER].python,
            "scheduler-python": environments[Role.SCHEDULER].python,
            "image": filled(settings.image, of_worker),
            "directory": self.cell_directory(),
            "log-directory": str(self._log_directory),
            "workers": workers,
        }
        return {
            "path": settings.path,
            "directory": str(settings.directory.absolute()),
            "options": filled(settings.options, fields),
            "workers": workers,
            "maximum": settings.adaptive.maximum if settings.adaptive is not None else 0,
            "contact": str(self.contact),
        }

    def start_maker(
        self, name: str, environment: Environment, variables: Mapping[str, str]
    ) -> tuple[HostProcess, IO[bytes], IO[bytes]]:
        """Start the maker, with the HOME, the PATH and the Dask configuration of this machine."""
        self._copy_remote(environment)
        found = self._variables(environment, variables)
        path = f"{Path(environment.python).parent}:{os.environ.get('PATH', os.defpath)}"
        return self._processes.start_attached(
            name,
            [environment.python, "-c", _MAIN, self.remote],
            env={**found, "HOME": str(Path.home()), "PATH": path, **variables},
            cwd=Path(self.directory(name)),
            log=self.log(name),
            patience=PATIENCE_SECONDS,
        )

    def host_address(self, address: str) -> str | None:
        return address if address.startswith("tcp://") else None  # it would take the cluster's own security

    def left(self) -> Sequence[str]:
        """Describe the processes of this machine that still run."""
        return self._processes.left()

    def logs(self) -> Mapping[str, Path]:
        written = {f"cluster-{path.name}": path for path in sorted(self._log_directory.iterdir()) if path.is_file()}
        return {**super().logs(), **written}

    def cluster_logs(self) -> Sequence[Path]:
        """Return the logs that the cluster itself has written to `{log-directory}`."""
        return sorted(path for path in self._log_directory.iterdir() if path.is_file())


class ClusterBackend(ProcessBackend):
    """Environments on a file system that the cluster shares, and sandboxes for makers and agents."""

    name = "cluster"

    def __init__(
        self, settings: ClassSettings, *, spec: EnvironmentSpec, cache: Path, fresh: bool, directory: Path
    ) -> None:
        super().__init__(spec=spec, cache=cache, fresh=fresh, directory=directory)
        self._settings = settings

    def describe(self) -> str:
        return f"clusters of {self._settings.path}, cache {self._cache}"

    def sandbox(self, cell: Cell) -> ClusterSandbox:
        return ClusterSandbox(unused_path(self._directory, cell.id), self._settings, cell, self.remote_package)
