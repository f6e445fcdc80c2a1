"""Finding out what hangs when a deadline has passed, before anything is ended. It takes three seconds at most.

Last, child processes of workers that are in code of the user's are ended, since that is how they print their stacks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pytest_modelops.cluster.culprit import Evidence, culprit
from pytest_modelops.cluster.diagnosis import Diagnosis
from pytest_modelops.cluster.parts import Parts
from pytest_modelops.cluster.stacks import Standing, standings, standings_of_nannies, with_children
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import ModelopsError, TimedOut
from pytest_modelops.remote.shared.diagnosis_messages import Diagnosed
from pytest_modelops.remote.shared.facts import ProcessFacts

_ASK_SECONDS = 1.5
"""How long scheduler and workers have to answer; who takes longer counts as silent."""
_AGENT_SECONDS = 0.8
"""How long the agent has, besides its grace; together a moment more than what it asks."""


class Diagnoses:
    """What is found out about the things of one cluster that time out.

    Attributes:
        files: path of the text of each diagnosis, by a name for the report.
        ended: pids of workers that were ended on purpose.
    """

    def __init__(self, parts: Parts[Any], settings: ClusterSettings) -> None:
        self._parts = parts
        self._settings = settings
        self._sizes: dict[str, int] = {}
        self.files: dict[str, Path] = {}
        self.ended: set[int] = set()

    def begin(self) -> None:
        """Note that something begins that may time out: deaths of workers before it do not explain that."""
        logs = {worker.name: worker.log for worker in self._parts.workers}
        self._sizes = {name: log.stat().st_size for name, log in logs.items() if log.exists()}

    def explained(
        self, error: TimedOut, reported: Mapping[str, ProcessFacts], addresses: Mapping[str, str]
    ) -> tuple[str, Mapping[str, object]]:
        """Find out why something timed out. Scheduler and workers go on, unless the cluster never came up.

        Args:
            reported: the last facts of each process by its name.
            addresses: name by address of the workers.

        Returns:
            The error's message with what hangs and where each process stands; and figures for the report.
        """
        found = self._diagnose(reported, addresses)
        name = f"diagnosis-{len(self.files) + 1}"
        directory = self._parts.scheduler.log.parent / name
        try:
            found.write(directory, self._settings.secrets)
            self.files[name] = directory / "diagnosis.txt"
            where = f"Whole diagnosis: {directory}"
        except OSError as full:
            where = f"The whole diagnosis could not be written: {full}"
        head, _, rest = str(error).partition("\n")
        lines = [head, f"Diagnosis: {found.cause}", *filter(None, [rest])]
        text = "\n".join([*lines, "", "Where each process stands:", found.stacks, where])
        return text, {**error.figures, "diagnosis": {**found.figures, "directory": str(directory)}}

    def _diagnose(self, reported: Mapping[str, ProcessFacts], addresses: Mapping[str, str]) -> Diagnosis:
        began = time.monotonic()
        parts, calls, deaths = self._parts, self._parts.agent.calls(), self._deaths()
        if reported:  # stacks first, so that they do not show how the processes are asked
            processes = standings(parts, reported)
            with ThreadPoolExecutor(1) as asking:
                answer = asking.submit(self._ask, processes, addresses)
                nannies = standings_of_nannies(parts.workers, reported) if self._settings.nanny else []
                asked, processes = answer.result(), [*processes, *nannies]
        else:  # they are ended for their stacks
            asked = self._ask([], addresses)
            processes = standings(parts, reported)
        evidence = Evidence(with_children(parts, processes), asked, addresses, deaths)
        return Diagnosis(culprit(evidence), evidence, calls, time.monotonic() - began)

    def _ask(self, processes: Sequence[Standing], addresses: Mapping[str, str]) -> Diagnosed:
        """Have the agent ask those processes that are not stopped."""
        agent, stopped = self._parts.agent, {one.name: one.state for one in processes if one.stopped}
        for name in (agent.process.name, self._parts.scheduler.name):
            if name in stopped:
                return {"silent": f"the {name} is {stopped[name]}"}
        running = [address for address, name in addresses.items() if name not in stopped]
        try:
            answer: Diagnosed = agent.call(
                "diagnose", workers=running, seconds=_ASK_SECONDS, deadline=Deadline(_AGENT_SECONDS)
            )
        except ModelopsError as error:
            return {"silent": str(error).partition("\n")[0]}
        if "scheduler" in answer:
            for address, worker in answer["scheduler"]["workers"].items():
                worker["name"] = addresses.get(address, worker["name"])  # a cluster's class has names of its own
        return answer

    def _deaths(self) -> Mapping[str, Sequence[str]]:
        return {
            worker.name: self._parts.deaths_of_worker(worker.name, self._sizes.get(worker.name, 0), self.ended)
            for worker in self._parts.workers
        }
