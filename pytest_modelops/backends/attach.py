"""The `attach` backend: a cell is a client on this machine; its scheduler and workers are a deployment's.

Nothing but the client is started, so nothing but the client is ever ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_modelops.backends.process import ProcessBackend, ProcessSandbox
from pytest_modelops.config.attach import INSTALL, AttachSettings
from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.environments.base import Environment
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import Cell
from pytest_modelops.remote.shared.bundle_messages import PUT
from pytest_modelops.remote.shared.facts import AttachContact
from pytest_modelops.storage.files import unused_path


class AttachSandbox(ProcessSandbox):
    """The client's process. It has the Dask configuration of this machine, where TLS and authentication are set."""

    has_dask_of_host = True

    def __init__(self, directory: Path, remote_package: Callable[[Environment], Path], attach: AttachSettings) -> None:
        super().__init__(directory, remote_package)
        self._attach = attach

    def deployment(self) -> AttachContact:
        """Return where the client finds the deployment, and what it may send."""
        attach = self._attach
        contact: AttachContact = {
            "tasks": attach.tasks,
            "bytes": attach.bytes,
            "seconds": attach.seconds,
            "force": attach.force,
            "files": str(self._scratch),
        }
        if attach.gateway is not None:
            contact["gateway"] = attach.gateway.contact()
        elif attach.address:
            contact["address"] = attach.address
        elif attach.scheduler_file:
            contact["scheduler_file"] = str(attach.scheduler_file)
        else:
            contact["factory"], contact["directory"] = attach.factory, str(attach.directory.absolute())
        return contact

    def put(self, source: Path, name: str) -> str:
        """Have a file or directory copied to workers, where that is allowed; see `AttachedCluster.ask_workers`.

        Returns:
            Its path relative to the directory that each worker has for that.
        """
        super().put(source, name)
        return f"{PUT}{name}"

    @property
    def files(self) -> Sequence[str]:
        """The names of all that is to be copied."""
        return sorted(self._put)


class AttachBackend(ProcessBackend):
    """Environments of clients on this machine, and sandboxes for their agents."""

    name = "attach"

    def __init__(
        self, attach: AttachSettings, *, spec: EnvironmentSpec, cache: Path, fresh: bool, directory: Path
    ) -> None:
        if attach.scheduler_file and not attach.scheduler_file.is_file():
            raise WrongInput(f"[tool.modelops.attach] scheduler-file: there is no file {attach.scheduler_file}")
        super().__init__(spec=spec, cache=cache, fresh=fresh, directory=directory)
        self._attach = attach

    @property
    def may_install(self) -> bool:
        """Whether bundles may be copied to the workers."""
        return INSTALL in self._attach.allow

    def install_wheels(self, *_: object, **__: object) -> None:
        """Have each worker install with pip, since it is on another machine."""

    def describe(self) -> str:
        return f"clients of {self._attach.deployment}, cache {self._cache}"

    def sandbox(self, cell: Cell) -> AttachSandbox:
        return AttachSandbox(unused_path(self._directory, cell.id), self.remote_package, self._attach)
