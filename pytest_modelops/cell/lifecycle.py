"""Starting and stopping a cell: its sandbox, its cluster, the clients in this process, its logs, what is left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_modelops.backends.attach import AttachBackend, AttachSandbox
from pytest_modelops.backends.base import Backend, Sandbox
from pytest_modelops.backends.cluster import ClusterSandbox
from pytest_modelops.checks.lost_workers import in_words
from pytest_modelops.cluster.attached import AttachedCluster
from pytest_modelops.cluster.cluster import Cluster
from pytest_modelops.cluster.made import MadeCluster
from pytest_modelops.cluster.started import StartedCluster
from pytest_modelops.cluster.starting import worker_names
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Progress
from pytest_modelops.errors import ModelopsError
from pytest_modelops.matrix.cell import Cell, Role, Versions

if TYPE_CHECKING:
    from distributed import Client


class Lifecycle:
    """The sandbox and the cluster of one cell. Creating it starts nothing.

    Args:
        keep: when the cluster is left up: `never`, `failed` or `always`.

    Attributes:
        secrets: what is never shown.
        deployment: the backend, if scheduler and workers are those of a deployment.
        cluster: `None` while none runs.
        was_open: whether a cluster was ever started. A check of the user's that replaces `start` may start none.
        started: how each process was started, by its name; see `Parts.started`.
        logs: path of each log by process name.
        diagnoses: path of each text about what hung, by its name in the report.
        clients: clients in this process, which are closed with the cell.
        timed_out: whether something timed out, so that a worker may still be busy with it.
        disturbed: whether a fault happened to the cluster on purpose, so that what comes next needs a new one.
        notes: for the report.
        unreported: messages about the cell's end that no report holds yet.
        leftover: a message about what stopping left behind; empty if nothing.
    """

    def __init__(
        self, cell: Cell, backend: Backend, settings: ClusterSettings, *, keep: str, progress: Progress
    ) -> None:
        self._cell = cell
        self._backend = backend
        self._settings = settings
        self._keep = keep
        self._progress = progress
        self._sandbox: Sandbox | None = None
        self._given_up = False
        self._began: float | None = None
        self._seconds = 0.0
        self.secrets = settings.secrets
        self.deployment = backend if isinstance(backend, AttachBackend) else None
        self.cluster: Cluster | None = None
        self.was_open = False
        self.started: dict[str, str] = {}
        self.logs: dict[str, str] = {}
        self.diagnoses: dict[str, str] = {}
        self.clients: list[Client] = []
        self.timed_out = False
        self.disturbed = False
        self.notes: list[str] = []
        self.unreported: list[str] = []
        self.leftover = ""

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of the workers, whether they run or not; of a deployment's, once they were asked."""
        if self.deployment is not None:
            return tuple(self.cluster.names) if self.cluster is not None else ()
        return worker_names(self._settings)

    @property
    def seconds(self) -> float:
        """How long the cell has been in use, from its first check to the end of `close`; see `rest`."""
        return self._seconds + (time.monotonic() - self._began if self._began is not None else 0.0)

    @property
    def may_be_kept(self) -> bool:
        """Whether the cluster may be left up at the end."""
        return self._keep != "never"

    def begin(self) -> None:
        if self._began is None:
            self._began = time.monotonic()

    def rest(self) -> None:
        """Do not count the time until the next `begin`, unless a cluster runs: the cell waits for others to end."""
        if self._sandbox is None:
            self._seconds, self._began = self.seconds, None

    def open(self, environments: Mapping[Versions, Environment], deadline: Deadline) -> Cluster:
        """Start the cluster unless it runs, without waiting until it is up."""
        if self.cluster is None:
            self.was_open = True
            self.begin()
            self._sandbox = self._backend.sandbox(self._cell)
            self.cluster = self._start(self._sandbox, environments, deadline.remaining)
            self.started.update(self.cluster.started)
            self.notes += self.cluster.start_notes
            self.collect_logs()
            if self._given_up:
                self.cluster.kill_agent()
        return self.cluster

    def _start(self, sandbox: Sandbox, environments: Mapping[Versions, Environment], seconds: float) -> Cluster:
        if isinstance(sandbox, AttachSandbox):
            return AttachedCluster(sandbox, environments[self._cell.client], self._settings, start_seconds=seconds)
        of_role = {role: environments[self._cell[role]] for role in Role}
        if isinstance(sandbox, ClusterSandbox):
            return MadeCluster(sandbox, of_role, self._settings, start_seconds=seconds)
        return StartedCluster(sandbox, of_role, self._settings, start_seconds=seconds)

    def give_up(self) -> None:
        """Have whatever is asked of the cluster fail at once; called from another thread."""
        self._given_up = True
        if (cluster := self.cluster) is not None:
            cluster.kill_agent()

    def write_log(self, name: str, content: bytes) -> Path:
        """Write the log of something that is no process of the sandbox; replace an earlier one of that name."""
        if self._sandbox is None:
            raise ValueError(f"log {name!r} of cell {self._cell.id}, which has no sandbox")
        path = self._sandbox.log(name)
        path.write_bytes(content)
        self.collect_logs()
        return path

    def collect_logs(self) -> None:
        """Note the logs of all processes that were started so far, and the diagnoses."""
        if self._sandbox is not None:
            self.logs.update({name: str(path) for name, path in self._sandbox.logs().items()})
        if self.cluster is not None:
            self.diagnoses.update({name: str(path) for name, path in self.cluster.diagnosis_files.items()})

    def free_workers(self, deadline: Deadline) -> None:
        """If something timed out, restart the workers that are still busy with it.

        Does nothing if the cell may be left up: the processes that hang are then the evidence.
        """
        late, self.timed_out = self.timed_out, False
        if not late or self.cluster is None or self._keep != "never":
            return
        self._progress("restarting workers that are still on a task that timed out")
        try:
            if names := self.cluster.free_workers(deadline, spared=[client.id for client in self.clients]):
                self.notes.append(f"{', '.join(names)}: restarted, since still on a task that had timed out")
        except ModelopsError as error:  # the next check reports it, too
            self.notes.append(f"workers that are still on a task that timed out could not be restarted: {error}")

    def lost_workers(self) -> Mapping[str, str]:
        """Return which workers ended unasked since this was last called, and how; see `Cluster.lost_workers`."""
        return self.cluster.lost_workers() if self.cluster is not None and not self.disturbed else {}

    def note_losses(self, when: str) -> None:
        """Note that workers ended unasked since `lost_workers` was last called, if somebody says how."""
        if lost := {name: how for name, how in self.lost_workers().items() if how}:
            self.notes.append(f"{when}, {in_words(lost)}")

    def renew(self) -> None:
        """Stop a cluster to which a fault happened; the next one that needs a cluster starts another."""
        if self.disturbed:
            self.timed_out = False
            self.close(broke=False, may_keep=False)

    def close(self, *, broke: bool, may_keep: bool = True) -> None:
        """Stop the cluster, if one runs, and prove that nothing is left; see `leftover`.

        Args:
            broke: whether a check of this cell broke, so that `keep="failed"` applies.
            may_keep: whether it may be left up.
        """
        self.note_losses("before the end")
        self.disturbed = False
        clients, self.clients = self.clients, []
        with contextlib.ExitStack() as closing:  # clients first; one that cannot be closed does not stop the others
            closing.callback(self._stop, broke=broke, may_keep=may_keep)
            for client in clients:
                closing.callback(client.close, timeout=2)

    def _stop(self, *, broke: bool, may_keep: bool) -> None:
        cluster, self.cluster = self.cluster, None
        sandbox, self._sandbox = self._sandbox, None
        left: Sequence[str] = ()
        try:
            if cluster is not None:
                self._progress("stopping")
                if may_keep:
                    self._leave_up(cluster, broke=broke)
                left = cluster.stop()
                self.notes += cluster.stop_notes
            elif sandbox is not None:
                left = sandbox.close()
        finally:
            self._progress("")
            self._seconds, self._began = self.seconds, None
            if sandbox is not None:  # some logs are written at the end only
                self.logs.update({name: str(path) for name, path in sandbox.logs().items()})
        if left:
            self.leftover = self.secrets.hide(f"after stopping the cell, this was left: {'; '.join(left)}")
            self.unreported.append(f"cell {self._cell.id}: {self.leftover}")

    def _leave_up(self, cluster: Cluster, *, broke: bool) -> None:
        if self._keep == "always" or (self._keep == "failed" and broke):
            try:
                note = cluster.keep()
            except ModelopsError as error:
                note = f"cell {self._cell.id} was not left up: {error}"
            self.notes.append(note)
            self.unreported.append(note)
