"""Rolling upgrades: roles are replaced one by one while a job goes on, and each state between has its verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.conftest import Cell, Matrix

SMALL = """
    [tool.modelops.aggregation]
    params = 3
    replicates = 3
"""
ORDER = ("worker", "scheduler", "client")
STATES = ("worker", "worker+scheduler", "worker+scheduler+client")


def replaced_while_a_job_ran(cell: Cell, workers: int) -> None:
    """Assert that each state is green, with the job in the middle of which the replacement was."""
    old, new = cell.facts["dask"], cell.facts["rolling"]["dask"]
    for number, state in enumerate(STATES, start=1):
        check = cell.checks[f"rolling[{state}]"]
        assert check.status == "passed", check.message
        versions = {role: text.rpartition(" ")[2] for role, text in check.data["versions"].items()}
        assert versions == {role: new if role in ORDER[:number] else old for role in ORDER}
        job = check.data["running_job"]
        assert job["before"] >= 40
        if state == "worker+scheduler":
            assert job["after"] == 0
            assert "CancelledError" in job["ended"]
            assert check.data["client"] == "reconnected"
            assert len(check.data["started_again"]) == workers
        else:
            assert job["ended"] == ""
            assert job["before"] + job["during"] + job["after"] == 400
            assert job["after"] >= 100


def test_an_upgrade_that_is_safe_and_one_that_is_not(building_matrix: Matrix) -> None:
    building_matrix.configure(
        f"""
        [tool.modelops]
        workers = 2
        nanny = false
        [tool.modelops.matrix]
        rolling = [
          {{ from = {{ python = "3.12", dask = "2026.7.1" }}, to = {{ dask = "2026.8.0" }}, order = {list(ORDER)} }},
          {{ from = {{ python = "3.12", dask = "2024.10.0" }}, to = {{ dask = "2026.8.0" }}, order = {list(ORDER)} }},
        ]
        {SMALL}
        """
    )
    run = building_matrix.run("--modelops-cell", "*..*", "--modelops-report=report.md").unavailable_is_no_failure()
    broken, safe = run.cells
    replaced_while_a_job_ran(safe, workers=2)
    assert broken.facts["first_broken"] == "rolling[worker+scheduler]"
