"""A job in the middle of which something happens; on a client whose tasks are done when the test says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pytest_modelops.deadline import Deadline
from pytest_modelops.remote.client.running import RunningJob
from pytest_modelops.remote.shared.facts import ShippedModule

MODULES: dict[str, ShippedModule] = {
    "simulate": {"name": "simulate", "source": "def simulate(param, replicate, seconds): return param + replicate"},
    "aggregate": {"name": "aggregate", "source": "def aggregate(param, replicates): return sum(replicates)"},
}


class Future:
    def __init__(self, key: str, value: object) -> None:
        self.key, self.status, self._value = key, "pending", value

    def result(self, timeout: float = 0) -> object:
        if self.status == "cancelled":
            raise RuntimeError("connection lost")
        return self._value


class Tasks:
    """Tasks that are done when `do` is called."""

    def __init__(self) -> None:
        self.connection = SimpleNamespace(reserve=lambda *_: None)
        self.futures: list[Future] = []
        self.pauses: list[float] = []

    def submit(self, function: Any, *args: Any, key: str) -> Future:
        if key.startswith("sim"):
            self.pauses.append(args[-1])
            value = function(*args)
        else:
            value = [args[0], args[1]]
        self.futures.append(Future(key, value))
        return self.futures[-1]

    def do(self) -> int:
        """Have all tasks done; return how many there are."""
        for future in list(self.futures):
            if future.status == "pending":
                future.status = "finished"
        return len(self.futures)

    def settle(self, futures: Any, *, pinned: Any, seconds: float) -> Any:
        return {name: {"value": future.result()} for name, future in futures.items()}, {}


def begun(tasks: Any) -> RunningJob:
    job = RunningJob(tasks)
    job.begin(modules=MODULES, params=4, replicates=5, run="r", threads=2, seconds=20)
    return job


def test_a_quarter_of_the_job_is_left_until_it_may_end() -> None:
    tasks = Tasks()
    job = begun(tasks)
    assert Deadline(20).until(lambda: tasks.do() and job.progress()["finished"] == 15, every=0.001)
    assert sum(one.key.startswith("sim") for one in tasks.futures) == 15
    assert min(tasks.pauses) > 0
    assert tasks.pauses == sorted(tasks.pauses), "tasks take longer and longer"
    assert job.finish(0.0)["finished"] == 15
    assert Deadline(20).until(lambda: tasks.do() == 24, every=0.001)
    report = job.finish(20)
    assert (report["finished"], report["error"], len(report["results"])) == (20, "", 4)
    assert tasks.pauses[-5:] == [0.0] * 5


def test_a_job_whose_tasks_are_cancelled_ends_at_once_and_another_may_begin() -> None:
    tasks = Tasks()
    job = begun(tasks)
    assert Deadline(20).until(lambda: bool(tasks.futures), every=0.001)
    for future in tasks.futures:
        future.status = "cancelled"
    report = job.finish(20)
    assert report["error"] == "RuntimeError: connection lost"
    assert report["results"] == {}
    job.begin(modules=MODULES, params=1, replicates=4, run="s", threads=2, seconds=20)
    assert job.progress()["error"] == ""
