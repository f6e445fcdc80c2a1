"""A cluster whose scheduler and workers are processes that we start, on any sandbox."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping, Sequence

from pytest_modelops.backends.base import Process, Sandbox
from pytest_modelops.cluster import preloading
from pytest_modelops.cluster.cluster import LATE
from pytest_modelops.cluster.diagnosing import Diagnoses
from pytest_modelops.cluster.faults import DuringJob
from pytest_modelops.cluster.own import LATE_SECONDS, OwnCluster, in_cell_of
from pytest_modelops.cluster.parts import terminate
from pytest_modelops.cluster.registration import Registration
from pytest_modelops.cluster.replacing import Replacing
from pytest_modelops.cluster.started_parts import StartedParts
from pytest_modelops.config.faults import Fault
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment
from pytest_modelops.errors import ModelopsError
from pytest_modelops.matrix.cell import Role
from pytest_modelops.remote.shared.facts import PreloadSetup

_POLL_SECONDS = 0.02


class StartedCluster(OwnCluster[StartedParts, Registration]):
    """Scheduler and workers as Dask's command line starts them."""

    def __init__(
        self,
        sandbox: Sandbox,
        environments: Mapping[Role, Environment],
        settings: ClusterSettings,
        *,
        start_seconds: float,
    ) -> None:
        """Start everything at once.

        Args:
            start_seconds: how long the client tries to connect.
        """
        settings = in_cell_of(settings, sandbox)
        parts = StartedParts(sandbox, environments, settings, connect_seconds=start_seconds)
        registration = Registration(parts, nannies=settings.nanny)
        super().__init__(sandbox, settings, parts, registration, Diagnoses(parts, settings))
        self._replacing = Replacing(parts, registration)
        self._left_up = False

    @property
    def replacing(self) -> Replacing:
        return self._replacing

    @property
    def start_notes(self) -> Sequence[str]:
        return self._parts.start_notes

    def await_ready(self, deadline: Deadline) -> None:
        self._parts.raise_if_misunderstood(deadline)
        self._registration.await_client(deadline)
        self.await_workers(deadline)

    def preloads(self, deadline: Deadline) -> Mapping[str, Sequence[PreloadSetup]]:
        return preloading.await_ended(self.agent, named=self.with_names, nannies=self.settings.nanny, deadline=deadline)

    def _end_late(self, late: Process) -> bool:
        deadline = Deadline(LATE_SECONDS)
        terminate([late], deadline)
        if late.ending is None:
            for pid in [late.pid, *late.descendants()]:  # the nanny first, which would start another worker
                late.signal(signal.SIGKILL, pid=pid)
        with contextlib.suppress(ModelopsError):  # another process's fault, which shows elsewhere
            return deadline.until(lambda: LATE not in self._registration.now(Deadline(1)), every=_POLL_SECONDS)
        return True

    def during_job(self, fault: Fault, tasks: int | None = None) -> DuringJob:
        self.await_workers(Deadline(LATE_SECONDS))  # one may have been restarted
        pids = {name: facts["pid"] for name, facts in self._reported.items()}
        return DuringJob(
            fault, self.sandbox, self._parts, self._registration, pids=pids, addresses=self.addresses, tasks=tasks
        )

    def keep(self) -> str:
        how_to = super().keep()
        self._left_up = True
        return how_to

    def _clients(self) -> Sequence[Process]:
        return self.replacing.given_up()

    def stop(self) -> Sequence[str]:
        """End the cluster quickly, prove that nothing is left, and return what is left, for people.

        Nannies go first, then the scheduler: 0.4 s. With SIGTERM to all at once each waits for the others: 8 s. A busy
        worker ignores SIGTERM, so the sandbox's SIGKILL follows.
        """
        with contextlib.suppress(ModelopsError):  # frozen, dead or busy: closing its stdin ends it
            self.agent.call("close", deadline=Deadline(0.5))
        self.agent.close()
        if not self._left_up:
            if self.settings.nanny:
                terminate(self.workers, Deadline(2.0))
            terminate([self._parts.scheduler], Deadline(1.0 if self.settings.nanny else 1.5))
        return self.sandbox.close()
