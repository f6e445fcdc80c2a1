"""Skew cells, whose roles have different versions: they fail where real Dask breaks, and say what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conftest import image_for
from tests.integration.conftest import AT_ONCE

if TYPE_CHECKING:
    from tests.integration.conftest import Cell, ContainerMatrix, Matrix


def pythons(cell: Cell) -> tuple[str, str, str]:
    """Return the Pythons of client, scheduler and workers, as they reported them."""
    observed = cell.facts["observed"]
    [worker] = {facts["python"] for facts in observed["workers"].values()}
    return observed["client"]["python"], observed["scheduler"]["python"], worker


def test_clients_and_workers_of_different_pythons(building_matrix: Matrix) -> None:
    building_matrix.configure(
        """
        [tool.modelops.matrix]
        python = ["3.12"]
        dask = ["2024.10.0"]
        include = [
          { python = "3.12", dask = "2024.10.0", worker = { python = "3.13" } },
          { python = "3.13", dask = "2024.10.0", worker = { python = "3.12" } },
        ]
        [tool.modelops.aggregation]
        params = 5
        replicates = 5
        """
    )
    run = building_matrix.run().unavailable_is_no_failure()
    assert run.code == 1
    same, newer, older = run.cells
    assert same.facts["id"] == "py3.12-dask2024.10.0"
    assert set(same.statuses.values()) == {"passed"}, "the skew cells must not affect it"
    assert newer.facts["id"] == "py3.12-dask2024.10.0+worker-py3.13"
    assert older.facts["id"] == "py3.13-dask2024.10.0+worker-py3.12"
    for cell in (newer, older):
        check = cell.broke("lambda", "failed", deadline=30, cause="roles-of-different-pythons")
        client, scheduler, worker = pythons(cell)
        differ = f"The roles differ in Python: client {client}, scheduler {scheduler}, worker {worker}."
        check.says(f"`lambda x: x + 1` with 41 failed on 2 of 2 workers. {differ}", "worker-0", "worker-0.log")
        shown = " ".join(run.out.split())
        assert f"{cell.facts['id']}: lambda failed; probable cause: client and workers run different Pythons" in shown
        assert differ in shown.partition(" modelops matrix ")[2]
    assert [python[:4] for python in pythons(newer)] == ["3.12", "3.12", "3.13"]
    assert [python[:4] for python in pythons(older)] == ["3.13", "3.13", "3.12"]
    assert newer.facts["roles"] == {
        "client": {"python": "3.12", "dask": "2024.10.0"},
        "scheduler": {"python": "3.12", "dask": "2024.10.0"},
        "worker": {"python": "3.13", "dask": "2024.10.0"},
    }
    assert len(newer.facts["environments"]) == 2


def test_workers_that_run_a_lambda_of_the_client_but_no_loop(building_matrix: Matrix) -> None:
    building_matrix.configure(
        """
        [tool.modelops]
        workers = 1
        [tool.modelops.matrix]
        python = ["3.12"]
        dask = ["2024.10.0"]
        include = [{ python = "3.12", dask = "2024.10.0", worker = { python = "3.11" } }]
        """
    )
    cell = building_matrix.run("--modelops-cell", "*+worker-*").unavailable_is_no_failure().cell()
    check = cell.broke("lambda", "failed", deadline=30, cause="roles-of-different-pythons")
    client, scheduler, worker = pythons(cell)
    check.says("`lambda x: x + 1` runs, but ", f"Python: client {client}, scheduler {scheduler}, worker {worker}.")
    first = check.message.partition("\n")[0]
    assert [kind for kind in ("loop", "comprehension", "`try`") if kind not in first] == []
    check.says("dies of SIGSEGV", "worker-0: the worker left the cluster", "signal 11", "worker-0.log")


def test_clients_and_workers_of_different_pythons_in_containers(containers: ContainerMatrix) -> None:
    image_for(containers.engine, "3.13")
    containers.configure(
        """
        [tool.modelops.matrix]
        python = ["3.12"]
        dask = ["2024.10.0"]
        include = [{ python = "3.12", dask = "2024.10.0", worker = { python = "3.13" } }]
        """
    )
    run = containers.run("--modelops-cell", "*+worker-*")
    cell = run.cell("py3.12-dask2024.10.0+worker-py3.13")
    client, scheduler, worker = pythons(cell)
    assert [client[:4], scheduler[:4], worker[:4]] == ["3.12", "3.12", "3.13"]
    cell.broke("lambda", "failed", deadline=AT_ONCE, cause="roles-of-different-pythons").says(
        "`lambda x: x + 1` with 41 failed on 2 of 2 workers. ",
        f"The roles differ in Python: client {client}, scheduler {scheduler}, worker {worker}.",
        "worker-0",
        "worker-0.log",
    )
    assert len(cell.facts["environments"]) == 2
    assert run.code == 1
    assert containers.left_on_the_engine(run) == []


def test_clients_that_are_newer_and_older_than_their_schedulers(building_matrix: Matrix) -> None:
    building_matrix.configure(
        """
        [tool.modelops]
        workers = 1
        [tool.modelops.matrix]
        python = ["3.12"]
        dask = ["2024.10.0"]
        include = [
          { python = "3.12", dask = "2026.8.0", scheduler = { dask = "2024.10.0" } },
          { python = "3.12", dask = "2026.8.0", client = { dask = "2024.10.0" } },
        ]
        """
    )
    run = building_matrix.run("--modelops-cell", "*+*").unavailable_is_no_failure()
    assert run.code == 1
    older, newer = run.cells
    assert newer.facts["id"] == "py3.12-dask2026.8.0+scheduler-dask2024.10.0"
    check = older.broke("lambda", "failed", deadline=30, cause="roles-of-different-dasks")
    check.says("The roles differ in dask: client 2024.10.0, scheduler 2026.8.0, worker 2026.8.0; ")
    check = newer.broke("start", "failed", deadline=30, cause="client-newer-than-scheduler")
    check.says(
        "the client could not connect to the scheduler: TypeError: Scheduler.identity() got an unexpected keyword",
        " argument 'n_workers'",
        "The roles differ in dask: client 2026.8.0, scheduler 2024.10.0, worker 2026.8.0; ",
        "distributed: client 2026.8.0, scheduler 2024.10.0, worker 2026.8.0.",
    )
