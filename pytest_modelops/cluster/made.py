"""A cluster that a Dask cluster class makes, as checks see a cluster: its workers are where the class starts them."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import signal
from collections.abc import Mapping, Sequence

from pytest_modelops.backends.base import Process
from pytest_modelops.backends.cluster import ClusterSandbox
from pytest_modelops.cluster.cluster import LATE
from pytest_modelops.cluster.diagnosing import Diagnoses
from pytest_modelops.cluster.made_parts import LOG_SECONDS, MadeParts
from pytest_modelops.cluster.own import OwnCluster, in_cell_of
from pytest_modelops.cluster.parts import last_seen
from pytest_modelops.cluster.registration import LOOK_SECONDS, Registration
from pytest_modelops.cluster.starting import SCHEDULER
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment
from pytest_modelops.errors import CannotScale, CheckFailed, ModelopsError, RemoteError, TimedOut
from pytest_modelops.matrix.cell import Role
from pytest_modelops.remote.shared.cluster_messages import CloseReport, WorkerName
from pytest_modelops.remote.shared.facts import ClusterFacts

_STEP_SECONDS = 0.2
_CLOSE_SECONDS = 40.0
_LATE_SECONDS = 10.0
"""How long the late worker has to leave."""
_LEFT_SECONDS = 2.0
"""How long processes of this machine have to end when the cluster is closed."""


class MadeRegistration(Registration):
    """Which workers are registered, under our names: a class has its own."""

    _parts: MadeParts

    def __init__(self, parts: MadeParts, *, nannies: bool) -> None:
        super().__init__(parts, nannies=nannies)
        self._names: dict[str, str] = {}
        """Our names, by those of the class."""
        self._named: set[str] = set()
        """Addresses of workers that have answered to their name."""

    def now(self, deadline: Deadline) -> dict[str, str]:
        found = super().now(deadline)
        for name in sorted(found, key=_natural):
            if name not in self._names:
                taken = {self._names[one] for one in found if one in self._names}
                free = next((one.name for one in self._parts.cluster_workers if one.name not in taken), "")
                self._names = {theirs: ours for theirs, ours in self._names.items() if ours != free}
                if free:
                    self._names[name] = free
        ours = {self._names[name]: address for name, address in found.items() if name in self._names}
        its_names = {one: name for name, one in self._names.items()}
        for worker in self._parts.cluster_workers:
            worker.address = ours.get(worker.name, "")
            worker.its_name = its_names.get(worker.name, "")
        return ours

    def _watch(self, wanted: Sequence[Process], found: Mapping[str, str], deadline: Deadline) -> bool:
        return self.await_named([worker.name for worker in wanted], found, deadline) and super()._watch(
            wanted, found, deadline
        )

    def await_named(self, names: Sequence[str], found: Mapping[str, str], deadline: Deadline) -> bool:
        """Return whether these workers have what answers checks, and know their names."""
        logs = {worker.name: str(worker.log) for worker in self._parts.cluster_workers}
        asked: dict[str, WorkerName] = {
            found[name]: {"name": name, "log": logs[name]} for name in names if found[name] not in self._named
        }
        if asked:
            seconds = max(min(LOG_SECONDS, deadline.remaining), _STEP_SECONDS)
            self._named.update(self._parts.agent.call("name_workers", names=asked, seconds=seconds, deadline=deadline))
        return all(address in self._named for address in asked)


class MadeCluster(OwnCluster[MadeParts, MadeRegistration]):
    """A cluster of a Dask cluster class."""

    starter = "the cluster class"
    sandbox: ClusterSandbox

    def __init__(
        self,
        sandbox: ClusterSandbox,
        environments: Mapping[Role, Environment],
        settings: ClusterSettings,
        *,
        start_seconds: float,
    ) -> None:
        """Have the cluster made, and start the client."""
        settings = in_cell_of(settings, sandbox)
        parts = MadeParts(sandbox, environments, settings, connect_seconds=start_seconds)
        # Where nannies stand is not known: a worker's pid here is its own.
        diagnoses = Diagnoses(parts, dataclasses.replace(settings, nanny=False))
        super().__init__(sandbox, settings, parts, MadeRegistration(parts, nannies=settings.nanny), diagnoses)

    def await_ready(self, deadline: Deadline) -> None:
        self._parts.await_made(deadline)
        try:
            self._registration.await_client(deadline)
            self.agent.call("join", seconds=deadline.remaining, deadline=deadline)
            self.await_workers(deadline)
        except TimedOut as error:
            head, _, _ = str(error).partition("\n")  # that they are elsewhere is all that is known of those missing
            raise TimedOut(f"{head}{self._parts.look()}") from None
        except CheckFailed as error:
            error.args = (f"{error}{self._parts.look()}",)
            raise

    def facts(self, deadline: Deadline) -> ClusterFacts:
        answer = super().facts(deadline)
        for worker in self._parts.cluster_workers:
            pid = self._reported.get(worker.name, {}).get("pid")
            if pid and pid not in worker.pids:
                worker.pids.append(pid)
        if self._reported.get(SCHEDULER, {}).get("pid") != self._parts.scheduler.pid:
            self._reported.pop(SCHEDULER, None)  # it runs elsewhere
        nannies = [one["settings"]["nanny"] for one in answer["workers"].values() if "settings" in one]
        if nannies:
            self.settings = dataclasses.replace(self.settings, nanny=all(nannies))
        return answer

    def _scale(self, workers: int, deadline: Deadline) -> None:
        try:
            self._parts.maker.call("scale", workers=workers, seconds=deadline.remaining, deadline=deadline)
        except RemoteError as error:
            raise CannotScale(f"the cluster could not be scaled to {workers} workers: {error}") from None

    def _await_late(self, late: Process, deadline: Deadline) -> str:
        self._scale(len(self.workers) + 1, deadline)
        address = super()._await_late(late, deadline)
        deadline.until(
            lambda: self._registration.await_named([late.name], {late.name: address}, deadline), every=LOOK_SECONDS
        )
        self.facts(deadline.at_most(LOG_SECONDS))
        return address

    def _end_late(self, late: Process) -> bool:  # noqa: ARG002
        ending = Deadline(_LATE_SECONDS)
        with contextlib.suppress(ModelopsError):
            self._scale(len(self.workers), ending)
            ending.until(lambda: LATE not in self._registration.now(ending), every=LOOK_SECONDS)
        return True

    def explained(self, error: TimedOut, kind: type[TimedOut] = TimedOut) -> TimedOut:
        if not self._reported:  # it never came up; its maker is not ended, since that has to close it
            return kind(f"{error}\n\n{last_seen([self._parts.maker.process, self.agent.process])}")
        return super().explained(error, kind)

    def stop(self) -> Sequence[str]:
        """Close the cluster, and prove that nothing is left of it, by what its engine lists and on this machine."""
        self._parts.fetch_logs()
        with contextlib.suppress(ModelopsError):  # frozen, dead or busy: closing its stdin ends it
            self.agent.call("close", deadline=Deadline(0.5))
        self.agent.close()
        maker, left = self._parts.maker, list[str]()
        try:
            report: CloseReport = maker.call("close", seconds=_CLOSE_SECONDS, deadline=Deadline(_CLOSE_SECONDS))
            left += report["left"]
            self.stop_notes = report["notes"]
        except ModelopsError as error:
            left.append(f"the cluster, which could not be closed: {error}")
        maker.close()
        with contextlib.suppress(TimedOut):
            maker.process.wait(Deadline(_LEFT_SECONDS))
        if maker.process.ending is None:
            maker.process.signal(signal.SIGKILL)
        Deadline(_LEFT_SECONDS).until(lambda: not self.sandbox.left(), every=_STEP_SECONDS / 4)
        left += [f"process {one}" for one in self.sandbox.left()]
        return [*left, *self.sandbox.close()]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort `worker-10` after `worker-9`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
