"""Faults on purpose: each happens in the middle of a job that survives it, and in one that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.integration.conftest import Check, ContainerMatrix, Matrix, Run

TESTS = """
import pytest


def job():
    # Sixty short tasks, half of them with what only worker-0 has.
    from distributed import worker_client

    def part(held, number):
        import time

        time.sleep(0.04)
        return number

    with worker_client() as client:
        workers = {worker["name"]: address for address, worker in client.scheduler_info()["workers"].items()}
        on_first = [workers["worker-0"]]
        [held] = client.scatter([b"x"], workers=on_first)
        first = [client.submit(part, held, n, pure=False, workers=on_first) for n in range(30)]
        second = [client.submit(part, b"y", n, pure=False) for n in range(30)]
        return sum(client.gather([*first, *second]))


"""
IN_PROCESSES = (
    TESTS
    + """
@pytest.mark.modelops_fault("kill-worker", at=0.9)
def test_is_too_short(modelops_cell):
    assert modelops_cell.call("lambda: 1") == 1


@pytest.mark.parametrize("_", [
    pytest.param(0, marks=pytest.mark.modelops_fault("kill-worker", at=12), id="kill-worker"),
    pytest.param(0, marks=pytest.mark.modelops_fault("freeze-worker", at=12, seconds=20), id="freeze-worker"),
])
def test_has_state(modelops_cell, _):
    modelops_cell.call(job, worker="worker-1", deadline=5)


@pytest.mark.modelops_aggregation(params=2, replicates=10)
@pytest.mark.modelops_fault("restart-scheduler")
def test_is_to_survive():
    raise AssertionError("the body was run")
"""
)


def happened(check: Check, process: str, *, after: int, total: int | None = None) -> dict[str, Any]:
    """Assert that the fault happened in the middle of the job, and is in the report; return what did.

    Args:
        after: how many tasks are done at least.
        total: how many there are; `None` in a test's body, where more may be added later.
    """
    fact: dict[str, Any] = check.data["fault"]
    assert (fact["process"], fact["total"]) == (process, total or fact["total"]), fact
    assert after <= fact["done"] < fact["total"], fact
    assert check.data["note"].startswith(f"{fact['fault']}: "), check.data
    assert f"{process} (pid {fact['pid']}) " in check.data["note"], check.data
    assert check.data["note"].endswith(f"when {fact['done']} of {fact['total']} tasks were done"), check.data
    return fact


def ended(check: Check, status: str, *parts: str) -> Check:
    assert check.status == status, check.message
    check.says(*parts)
    return check


def of(run: Run, fault: str) -> Check:
    return run.cell().checks[f"aggregation[{fault}]"]


def test_in_processes(matrix: Matrix) -> None:
    matrix.configure("""
        [tool.modelops.environment]
        worker-args = ["--memory-limit", "300MB"]

        [tool.modelops.aggregation]
        params = 4
        replicates = 10
        faults = [
            "kill-worker",
            { fault = "freeze-worker", at = 0.25, seconds = 1 },
            "memory",
            { fault = "restart-scheduler", fails = "CancelledError" },
            "cut-off", "disk-full", "slow-network",
        ]
    """)
    matrix.write("test_mine.py", IN_PROCESSES)
    run = matrix.start("modelops", "test_mine.py").ended(seconds=300)
    assert run.check("aggregation").data.keys() == {"tasks", "seconds", "tasks_per_second", "processes"}
    for fault in ("kill-worker", "memory"):
        assert happened(ended(of(run, fault), "passed"), "worker-0", after=22, total=44)["fault"] == fault
    assert happened(ended(of(run, "freeze-worker"), "passed"), "worker-0", after=11, total=44)["seconds"] >= 1
    assert happened(ended(of(run, "restart-scheduler"), "passed"), "scheduler", after=22, total=44)["seconds"] > 0
    assert "4 aggregates failed" in of(run, "restart-scheduler").data["failed"]
    for fault in ("cut-off", "disk-full", "slow-network"):
        ended(of(run, fault), "skipped", fault, "share this machine's network and disk", "--modelops-backend docker")

    tests = {name.partition("::")[2]: check for name, check in run.cell().checks.items() if "::" in name}
    lost = tests["test_has_state[kill-worker]"]
    assert lost.status in {"failed", "timed-out"}, lost.message  # by Dask's error, or none within the deadline
    happened(lost, "worker-0", after=12)
    lost = ended(tests["test_has_state[freeze-worker]"], "timed-out", "did not finish within 5 s", "stopped (SIGSTOP)")
    happened(lost, "worker-0", after=12)
    ended(tests["test_is_to_survive"], "failed", "scheduler (pid", "did not survive", "CancelledError")
    happened(tests["test_is_to_survive"], "scheduler", after=11, total=22)
    ended(tests["test_is_too_short"], "failed", "kill-worker did not happen", "before 90% of its tasks")
    assert "worker-0 (pid" in run.out


IN_CONTAINERS = (
    TESTS
    + """
def large():
    # Ten results of worker-0, which take sixteen seconds if it sends 64 KiB a second.
    from distributed import worker_client

    def result(number):
        import os
        import time

        time.sleep(0.2)
        return os.urandom(100_000)

    with worker_client() as client:
        workers = {worker["name"]: address for address, worker in client.scheduler_info()["workers"].items()}
        futures = [client.submit(result, n, workers=[workers["worker-0"]], pure=False) for n in range(10)]
        return sum(map(len, client.gather(futures)))


def writing():
    from distributed import worker_client

    def write(number):
        import pathlib
        import time

        time.sleep(0.05)
        pathlib.Path(f"written-{number}").write_bytes(bytes(100_000))
        return number

    with worker_client() as client:
        workers = {worker["name"]: address for address, worker in client.scheduler_info()["workers"].items()}
        first = [workers["worker-0"]]
        return sum(client.gather(client.map(write, range(30), pure=False, workers=first, retries=1000)))


@pytest.mark.modelops_fault("disk-full", at=6, seconds=0.5)
def test_writes_again(modelops_cell):
    assert modelops_cell.call(writing, worker="worker-1", deadline=60) == 435


@pytest.mark.modelops_fault("slow-network", at=1, seconds=30)
def test_sends_much(modelops_cell):
    modelops_cell.call(large, worker="worker-1", deadline=4)


@pytest.mark.modelops_fault("cut-off", at=12, seconds=30)
def test_has_state(modelops_cell):
    modelops_cell.call(job, worker="worker-1", deadline=4)
"""
)


def test_in_containers(containers: ContainerMatrix) -> None:
    containers.configure("""
        [tool.modelops.matrix]
        python = ["3.12"]
        dask = ["2024.10.0"]

        [tool.modelops.docker]
        image = "modelops-fixture/python:{python}"
        disk = "64m"

        [tool.modelops.aggregation]
        params = 4
        replicates = 10
        faults = [
            { fault = "cut-off", seconds = 1 },
            { fault = "slow-network", seconds = 1 },
            { fault = "disk-full", at = 0.1, seconds = 20, fails = "No space left on device" },
        ]
    """)
    containers.write("test_mine.py", IN_CONTAINERS)
    run = containers.start("modelops", "test_mine.py").ended(seconds=300).unavailable_is_no_failure()
    for fault in ("cut-off", "slow-network"):
        if fault == "slow-network" and of(run, fault).status == "skipped":
            of(run, fault).says("the engine's kernel cannot slow a network down")
            continue
        assert happened(ended(of(run, fault), "passed"), "worker-0", after=22, total=44)["seconds"] >= 1
    happened(ended(of(run, "disk-full"), "passed"), "worker-0", after=4, total=44)

    tests = {name.partition("::")[2]: check for name, check in run.cell().checks.items() if "::" in name}
    happened(ended(tests["test_writes_again"], "passed"), "worker-0", after=6)
    if tests["test_sends_much"].status != "skipped":
        happened(ended(tests["test_sends_much"], "timed-out", "did not finish within 4 s"), "worker-0", after=1)
    happened(ended(tests["test_has_state"], "timed-out", "did not finish within 4 s"), "worker-0", after=12)
    assert containers.left_on_the_engine(run) == []
