"""Workers that a Dask cluster class starts have our names, whatever the class calls them."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any, cast

from pytest_modelops.cluster.made import MadeCluster, MadeRegistration
from pytest_modelops.cluster.made_parts import MadeParts
from pytest_modelops.deadline import Deadline


class Parts:
    """Three workers that are waited for, and an agent that says which are registered."""

    def __init__(self) -> None:
        self.registered: list[str] = []
        self.agent = SimpleNamespace(call=self._call)
        self.memory_limits: dict[str, int] = {}
        self.cluster_workers = [self.worker(f"worker-{number}") for number in range(3)]

    def worker(self, name: str) -> Any:
        return SimpleNamespace(name=name, address="", its_name="")

    def _call(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {f"tcp://{name}": {"name": name, "memory_limit": 0, "resources": {}} for name in self.registered}


def test_names_last_as_long_as_the_workers_and_are_given_again() -> None:
    parts = Parts()
    registration = MadeRegistration(cast("MadeParts", parts), nannies=True)

    def now(*registered: str) -> dict[str, str]:
        parts.registered = list(registered)
        return {ours: address.removeprefix("tcp://") for ours, address in registration.now(Deadline(1)).items()}

    assert now("job-10") == {"worker-0": "job-10"}
    assert now("job-10", "job-9", "job-2") == {"worker-0": "job-10", "worker-1": "job-2", "worker-2": "job-9"}
    assert now("job-10", "job-9") == {"worker-0": "job-10", "worker-2": "job-9"}
    assert now("job-10", "job-9", "job-2")["worker-1"] == "job-2", "a nanny has restarted it"
    assert now("job-10", "job-9", "pod-x") == {"worker-0": "job-10", "worker-1": "pod-x", "worker-2": "job-9"}
    assert [worker.its_name for worker in parts.cluster_workers] == ["job-10", "pod-x", "job-9"]
    assert "worker-1" not in now("job-10", "job-9")
    assert len(now("job-10", "job-9", "pod-x", "pod-y")) == 3, "more than are waited for"
    parts.cluster_workers.append(parts.worker("worker-late"))
    assert now("job-10", "job-9", "pod-x", "pod-y")["worker-late"] == "pod-y"


def test_what_is_asked_of_a_cluster_of_a_class_can_be_given_up() -> None:
    signals: list[int] = []
    cluster: Any = MadeCluster.__new__(MadeCluster)
    cluster._parts = SimpleNamespace(agent=SimpleNamespace(process=SimpleNamespace(signal=signals.append)))
    cluster.kill_agent()
    assert signals == [signal.SIGKILL]
