"""Rolling upgrades: roles are replaced one by one while a job goes on, and each state between has its verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conftest import image_for

if TYPE_CHECKING:
    from tests.integration.conftest import Cell, ContainerMatrix, Matrix

ORDER = ("worker", "scheduler", "client")
STATES = ("worker", "worker+scheduler", "worker+scheduler+client")
TASKS = 400
AFTER = TASKS // 4
"""How many tasks are submitted only after the replacement."""


def replaced_while_a_job_went_on(cell: Cell, *, workers: int) -> None:
    """Assert that every state is green, and that each replacement was in the middle of a job."""
    old, new = cell.facts["dask"], cell.facts["rolling"]["dask"]
    for number, state in enumerate(STATES, start=1):
        check = cell.checks[f"rolling[{state}]"]
        assert check.status == "passed", check.message
        versions = {role: text.rpartition(" ")[2] for role, text in check.data["versions"].items()}
        assert versions == {role: new if role in ORDER[:number] else old for role in ORDER}
        assert check.data["job"]["tasks"] == 12
        job = check.data["running_job"]
        assert job["before"] >= TASKS // 10
        if number == STATES.index("worker+scheduler") + 1:
            assert "CancelledError" in job["ended"]
            assert check.data["client"] == "reconnected"
            assert len(check.data["started_again"]) == workers
        else:
            assert job["ended"] == ""
            assert job["before"] + job["during"] + job["after"] == TASKS
            assert job["after"] >= AFTER


def matrix_of(*entries: tuple[str, str], workers: int, nanny: bool = True) -> str:
    upgrades = "".join(
        f"""
        [[tool.modelops.matrix.rolling]]
        from = {{ python = "3.12", dask = "{old}" }}
        to = {{ dask = "{new}" }}
        order = {list(ORDER)}
        """
        for old, new in entries
    )
    return f"""
        [tool.modelops]
        workers = {workers}
        nanny = {str(nanny).lower()}
        [tool.modelops.aggregation]
        params = 3
        replicates = 3
        {upgrades}"""


def test_an_upgrade_that_is_safe_and_one_that_is_not(building_matrix: Matrix) -> None:
    building_matrix.configure(matrix_of(("2024.10.0", "2026.8.0"), ("2026.7.1", "2026.8.0"), workers=2, nanny=False))
    run = (
        building_matrix.start("--modelops-cell", "*..*", "--modelops-parallel=2")
        .ended(seconds=360)
        .unavailable_is_no_failure()
    )
    broken, safe = run.cells
    assert safe.facts["id"] == "py3.12-dask2026.7.1..2026.8.0-worker-scheduler-client"
    assert safe.facts["status"] == "passed", run.out
    replaced_while_a_job_went_on(safe, workers=2)
    names = sorted(name for name in safe.facts["logs"] if name.startswith("worker-"))
    assert names == [f"worker-{number}{generation}" for number in (0, 1) for generation in ("", ".2", ".3")]

    assert broken.facts["first_broken"] == "rolling[worker]"
    first, second, last = (broken.checks[f"rolling[{state}]"] for state in STATES)
    first.broke("failed", within=180, cause="upgrade-in-this-order").says(
        "the workers were replaced (Dask 2024.10.0 → 2026.8.0): worker-",
        ".2 exited with code 0",
        "got an unexpected keyword argument 'duration'",  # in what the old scheduler sends
        "The roles differ in dask: client 2024.10.0, scheduler 2024.10.0, worker 2026.8.0",
    )
    second.broke("failed", within=180, cause="upgrade-in-this-order").says(
        "the scheduler was replaced (Dask 2024.10.0 → 2026.8.0): `lambda x: x + 1` with 41 failed on 2 of 2 workers",
        "The roles differ in dask: client 2024.10.0, scheduler 2026.8.0, worker 2026.8.0",
    )
    assert last.status == "passed", last.message
    assert last.data["running_job"] is None, "no job ran in the state before"

    found = {
        one["start"]: [(order["safety"], order["at"]) for order in one["orders"]] for one in run.report["upgrades"]
    }
    assert found == {"py3.12-dask2024.10.0": [("broken", "rolling[worker]")], "py3.12-dask2026.7.1": [("safe", None)]}
    shown = " ".join(run.out.split())
    assert "py3.12-dask2026.7.1 → py3.12-dask2026.8.0: safe in the order worker, scheduler, client." in shown
    assert "py3.12-dask2024.10.0 → py3.12-dask2026.8.0: this order is not safe." in shown
    assert run.code == 1


def test_an_upgrade_in_containers(containers: ContainerMatrix) -> None:
    image_for(containers.engine, "3.12")
    containers.configure(matrix_of(("2026.7.1", "2026.8.0"), workers=1))
    run = containers.start("--modelops-cell", "*..*").ended(seconds=300)
    cell = run.cell("py3.12-dask2026.7.1..2026.8.0-worker-scheduler-client")
    replaced_while_a_job_went_on(cell, workers=1)
    assert run.code == 0
    assert containers.left_on_the_engine(run) == []
