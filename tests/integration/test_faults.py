"""Faults on purpose: each happens in the middle of a job that survives it, and in one that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.conftest import Check, ContainerMatrix, Matrix, Run

TESTS = """
import pytest


def job(pinned):
    # Sixty short tasks; with `pinned`, half of them with what only worker-0 has.
    from distributed import worker_client

    def part(held, number):
        import time

        time.sleep(0.04)
        return number

    with worker_client() as client:
        workers = {worker["name"]: address for address, worker in client.scheduler_info()["workers"].items()}
        on_first = [workers["worker-0"]]
        [held] = client.scatter([b"x"], workers=on_first) if pinned else [b"x"]
        first = [client.submit(part, held, n, pure=False, workers=on_first if pinned else None) for n in range(30)]
        second = [client.submit(part, b"y", n, pure=False) for n in range(30)]
        return sum(client.gather([*first, *second]))


"""
IN_PROCESSES = (
    TESTS
    + """
@pytest.mark.modelops_fault("kill-worker", at=12)
def test_survives(modelops_cell):
    assert modelops_cell.call(job, False, worker="worker-1") == 870


@pytest.mark.parametrize("seconds", [
    pytest.param(None, marks=pytest.mark.modelops_fault("kill-worker", at=12), id="kill-worker"),
    pytest.param(None, marks=pytest.mark.modelops_fault("memory", at=12), id="memory"),
    pytest.param(4, marks=pytest.mark.modelops_fault("freeze-worker", at=12, seconds=20), id="freeze-worker"),
])
def test_has_state(modelops_cell, seconds):
    modelops_cell.call(job, True, worker="worker-1", deadline=seconds)


@pytest.mark.modelops_aggregation(params=2, replicates=10)
@pytest.mark.modelops_fault("restart-scheduler")
def test_is_to_survive():
    raise AssertionError("the body was run")


@pytest.mark.modelops_aggregation(params=2, replicates=10)
@pytest.mark.modelops_fault("kill-worker", fails="KilledWorker")
def test_is_not_to_survive():
    raise AssertionError("the body was run")


@pytest.mark.modelops_fault("kill-worker", at=0.9)
def test_is_too_short(modelops_cell):
    assert modelops_cell.call("lambda: 1") == 1
"""
)


def happened(check: Check, process: str, *, total: int, done: float = 0.5) -> dict[str, object]:
    """Assert that the fault happened in the middle of the job, and is in the report; return what did."""
    fact = check.data["fault"]
    assert (fact["process"], fact["total"]) == (process, total), fact
    assert done * total <= fact["done"] < total, fact
    assert check.data["note"].startswith(f"{fact['fault']}: "), check.data
    assert f"{process} (pid {fact['pid']}) " in check.data["note"], check.data
    assert check.data["note"].endswith(f"when {fact['done']} of {total} tasks were done"), check.data
    return dict(fact)


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
    run = matrix.run("modelops", "test_mine.py")
    assert run.check("aggregation").data.keys() == {"tasks", "seconds", "tasks_per_second", "processes"}
    for fault in ("kill-worker", "memory"):
        assert happened(of(run, fault), "worker-0", total=44)["fault"] == fault
        assert of(run, fault).status == "passed"
    assert happened(of(run, "freeze-worker"), "worker-0", total=44, done=0.25)["seconds"] >= 1  # type: ignore[operator]
    assert of(run, "freeze-worker").status == "passed"
    assert happened(of(run, "restart-scheduler"), "scheduler", total=44)["fault"] == "restart-scheduler"
    assert "4 aggregates failed" in of(run, "restart-scheduler").data["failed"]
    for fault in ("cut-off", "disk-full", "slow-network"):
        assert of(run, fault).status == "skipped"
        of(run, fault).says(fault, "share this machine's network and disk", "--modelops-backend docker")

    tests = {name.partition("::")[2]: check for name, check in run.cell().checks.items() if "::" in name}
    assert tests["test_survives"].status == "passed", tests["test_survives"].message
    happened(tests["test_survives"], "worker-0", total=61, done=12 / 61)
    for fault, error in {"kill-worker": "Cancelled", "memory": "Cancelled", "freeze-worker": "within 4 s"}.items():
        lost = tests[f"test_has_state[{fault}]"]
        assert lost.status == ("timed-out" if fault == "freeze-worker" else "failed"), lost.message
        lost.says(error)
        happened(lost, "worker-0", total=61, done=12 / 61)
    tests["test_has_state[freeze-worker]"].says("is stopped (SIGSTOP)")
    tests["test_is_to_survive"].broke("failed", "scheduler (pid", "did not survive", "CancelledError", within=60)
    tests["test_is_not_to_survive"].broke(
        "failed", "worker-0 (pid", "completed with right numbers", "was to fail", "'KilledWorker'", within=60
    )
    tests["test_is_too_short"].broke(
        "failed", "kill-worker did not happen", "before 90% of its tasks", "of 1", within=60
    )
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


def writing(retries):
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
        return sum(client.gather(client.map(write, range(30), pure=False, workers=first, retries=retries)))


@pytest.mark.modelops_fault("disk-full", at=6, seconds=0.5)
def test_writes_again(modelops_cell):
    assert modelops_cell.call(writing, 1000, worker="worker-1", deadline=60) == 435


@pytest.mark.modelops_fault("disk-full", at=6, seconds=20)
def test_writes_once(modelops_cell):
    modelops_cell.call(writing, 0, worker="worker-1", deadline=60)


@pytest.mark.modelops_fault("slow-network", at=1, seconds=30)
def test_sends_much(modelops_cell):
    modelops_cell.call(large, worker="worker-1", deadline=8)


@pytest.mark.modelops_fault("cut-off", at=12, seconds=30)
def test_has_state(modelops_cell):
    modelops_cell.call(job, True, worker="worker-1", deadline=6)
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
            { fault = "restart-scheduler", fails = "CancelledError" },
        ]
    """)
    containers.write("test_mine.py", IN_CONTAINERS)
    run = containers.run("modelops", "test_mine.py").unavailable_is_no_failure()
    for fault in ("cut-off", "slow-network"):
        if fault == "slow-network" and of(run, fault).status == "skipped":
            of(run, fault).says("the engine's kernel cannot slow a network down")
            continue
        assert of(run, fault).status == "passed", of(run, fault).message
        assert happened(of(run, fault), "worker-0", total=44)["seconds"] >= 1  # type: ignore[operator]
    assert of(run, "disk-full").status == "passed", of(run, "disk-full").message
    happened(of(run, "disk-full"), "worker-0", total=44, done=0.1)
    happened(of(run, "restart-scheduler"), "scheduler", total=44)

    tests = {name.partition("::")[2]: check for name, check in run.cell().checks.items() if "::" in name}
    assert tests["test_writes_again"].status == "passed", tests["test_writes_again"].message
    happened(tests["test_writes_again"], "worker-0", total=31, done=6 / 31)
    tests["test_writes_once"].broke("failed", "No space left on device", within=90)
    if tests["test_sends_much"].status != "skipped":
        tests["test_sends_much"].broke("timed-out", "did not finish within 8 s", within=90)
    tests["test_has_state"].broke("timed-out", "did not finish within 6 s", within=90)
    happened(tests["test_has_state"], "worker-0", total=61, done=12 / 61)
    assert containers.left_on_the_engine(run) == []
