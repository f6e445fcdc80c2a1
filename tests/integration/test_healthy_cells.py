"""Cells that work: every check passes, and what is reported about them is true."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from tests.names import CELL_CHECKS

if TYPE_CHECKING:
    from tests.integration.conftest import Matrix

PACKAGES = ("dask", "distributed", "cloudpickle", "msgpack", "tornado")


def is_this_python(facts: dict[str, Any]) -> bool:
    """Whether a process reported that it runs this interpreter with its packages."""
    reported = (facts["python"], facts["implementation"], Path(facts["executable"]), facts["packages"])
    here = {name: metadata.version(name) for name in PACKAGES}
    return reported == (platform.python_version(), platform.python_implementation(), Path(sys.executable), here)


def test_without_any_configuration(matrix: Matrix) -> None:
    run = matrix.run().passed()
    schema = json.loads((resources.files("pytest_modelops") / "report" / "schema.json").read_text())
    jsonschema.validate(run.report, schema, format_checker=jsonschema.FormatChecker())
    assert run.report["backend"] == "process"
    cell = run.cell()
    dask = metadata.version("distributed")
    assert cell.facts["id"] == f"py{platform.python_version()}-dask{dask}"
    assert tuple(cell.statuses) == CELL_CHECKS
    assert set(cell.statuses.values()) == {"passed"}
    assert (cell.facts["status"], cell.facts["first_broken"]) == ("passed", None)

    data = cell.checks["aggregation"].data
    assert (data["tasks"], data["processes"]) == (420, 2)
    assert data["tasks_per_second"] == pytest.approx(420 / data["seconds"], rel=0.02)
    assert cell.checks["start"].data == {"workers": 2}
    assert cell.facts["started"] == dict.fromkeys(("scheduler", "worker-0", "worker-1", "agent"), "fork")
    assert cell.checks["install"].data == {"built": 0, "reused": 1}

    observed = cell.facts["observed"]
    workers = observed["workers"]
    assert all(map(is_this_python, [observed["client"], observed["scheduler"], *workers.values()]))
    assert all(address.startswith("tcp://127.0.0.1:") for address in workers)
    reported = {facts["settings"]["name"]: facts["settings"] for facts in workers.values()}
    assert reported == {
        name: {"name": name, "threads": 1, "nanny": True, "resources": {}} for name in ("worker-0", "worker-1")
    }
    assert len({observed["client"]["pid"], observed["scheduler"]["pid"], *(f["pid"] for f in workers.values())}) == 4

    assert f"dask=={dask}" in cell.facts["lock"]
    assert cell.facts["lock"] == sorted(cell.facts["lock"])
    [environment] = cell.facts["environments"]
    found = (environment["dask"], environment["python"], environment["reused"])
    assert found == (dask, platform.python_version(), True)
    logs = {name: Path(path) for name, path in cell.facts["logs"].items()}
    assert logs.keys() == {"scheduler", "worker-0", "worker-1", "agent"}
    assert all(log.parent == run.directory / cell.facts["id"] / "logs" and log.is_file() for log in logs.values())
    assert "Scheduler at:" in logs["scheduler"].read_text()
    assert "Registered to:" in logs["worker-1"].read_text()


def test_four_thousand_tasks(matrix: Matrix) -> None:
    """The size of the job that hung in the incident. The user's own sums are right as well."""
    matrix.configure("[tool.modelops.aggregation]\nreplicates = 200")
    matrix.write(
        "test_it.py",
        """
        def aggregate(param):
            from distributed import worker_client

            def simulate(replicate):
                return param * 1000 + replicate

            with worker_client() as client:
                return client.submit(sum, client.map(simulate, range(200), pure=False)).result()

        def test_sums(modelops_cell):
            modelops_cell.require("aggregation")
            assert modelops_cell.call(aggregate, 3) == 200 * 3000 + 199 * 100
        """,
    )
    check = matrix.run("test_it.py").passed().check("aggregation")
    assert check.status == "passed"
    assert (check.data["tasks"], check.data["processes"]) == (4020, 2)


RECORDS = """
import os, pathlib
from distributed.diagnostics.plugin import WorkerPlugin

class Records(WorkerPlugin):
    '''Which resources each task of the aggregation is restricted to, in a file of each worker.'''

    def setup(self, worker):
        self.worker = worker

    def transition(self, key, start, finish, **kwargs):
        if finish == "executing" and str(key).startswith(("sim-", "agg-")):
            needs = self.worker.state.tasks[key].resource_restrictions or {{}}
            with open(pathlib.Path({directory!r}, f"{{self.worker.name}}.txt"), "a") as file:
                print(str(key)[:3], *needs, *needs.values(), file=file)

async def dask_setup(worker):
    await worker.plugin_add(plugin=Records(), name="records")
"""


def test_settings_arrive(matrix: Matrix) -> None:
    preload = matrix.write("records.py", RECORDS.format(directory=str(matrix.path)))
    matrix.configure(
        f"""
        [tool.modelops]
        workers = 3
        threads = 2
        nanny = false
        [tool.modelops.environment]
        worker-args = ["--resources", "aggregation=1", "--preload", "{preload}"]
        [tool.modelops.environment.env]
        MODELOPS_EXECUTOR_TYPE = "cold"
        DASK_DISTRIBUTED__WORKER__MEMORY__TARGET = "0.55"
        [tool.modelops.aggregation]
        params = 5
        replicates = 6
        """
    )
    matrix.write(
        "test_it.py",
        """
        def reported():
            import os
            import dask
            target = dask.config.get("distributed.worker.memory.target")
            return os.environ["MODELOPS_EXECUTOR_TYPE"], target, os.getppid()

        def test_it(modelops_cell):
            modelops_cell.require("versions")
            values = modelops_cell.call_each(reported)
            assert list(values) == ["worker-0", "worker-1", "worker-2"]
            assert {value[:2] for value in values.values()} == {("cold", 0.55)}
            # Without nannies they all are children of one supervisor.
            assert len({value[2] for value in values.values()}) == 1
        """,
    )
    cell = matrix.run().passed().cell()
    assert cell.checks["start"].data == {"workers": 3}
    workers = cell.facts["observed"]["workers"].values()
    assert sorted(facts["settings"]["name"] for facts in workers) == ["worker-0", "worker-1", "worker-2"]
    for facts in workers:
        settings = {"threads": 2, "nanny": False, "resources": {"aggregation": 1.0}}
        assert facts["settings"] == {**facts["settings"], **settings}
        assert facts["variables"]["MODELOPS_EXECUTOR_TYPE"] == "[…]", "set, and not shown to others"
        assert facts["config"] == {"distributed.worker.memory.target": {"asked": "[…]", "actual": "[…]"}}
    assert cell.checks["aggregation"].data["tasks"] == 35
    seen = [line for file in matrix.path.glob("worker-*.txt") for line in file.read_text().splitlines()]
    assert len(seen) == 35, seen
    assert seen.count("sim") == 30
    assert seen.count("agg aggregation 1") == 5


def test_one_worker_in_a_clean_room(matrix: Matrix, tmp_path: Path) -> None:
    """Nothing of the host's is in a cell that would change what is measured, or that is secret."""
    matrix.configure("[tool.modelops]\nworkers = 1")
    (tmp_path / "home" / ".config" / "dask").mkdir(parents=True)
    (tmp_path / "home" / ".config" / "dask" / "mine.yaml").write_text("distributed: {worker: {memory: {target: 0.11}}}")
    matrix.write(
        "test_it.py",
        """
        import os

        def reported():
            import os
            import dask
            return dict(os.environ), dask.config.get("distributed.worker.memory.target"), os.getcwd()

        def test_it(modelops_cell):
            assert modelops_cell.workers == ("worker-0",)
            variables, target, directory = modelops_cell.call(reported)
            assert target != 0.11
            for name in ("DASK_DISTRIBUTED__WORKER__MEMORY__TARGET", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "TOKEN"):
                assert name in os.environ
                assert name not in variables
            assert "stray" not in variables.get("PYTHONPATH", "")
            assert variables["HOME"] != os.environ["HOME"]
            assert os.path.dirname(variables["HOME"]) == os.path.dirname(directory)
        """,
    )
    env = {
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(tmp_path / "stray"),
        "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "0.11",
        "PIP_INDEX_URL": "https://user:secret@example.invalid/simple",
        "UV_DEFAULT_INDEX": "https://user:secret@example.invalid/simple",
        "TOKEN": "secret",
    }
    run = matrix.run("test_it.py", env=env).passed()
    assert "secret" not in run.out + json.dumps(run.report)


def test_a_missing_python_costs_its_own_cells_and_environments_are_reused(building_matrix: Matrix) -> None:
    building_matrix.configure(
        """
        [tool.modelops.matrix]
        python = ["3.12", "3.29"]
        dask = ["2024.10.0"]
        [tool.modelops.aggregation]
        params = 5
        replicates = 5
        """
    )
    env = {"UV_PYTHON_DOWNLOADS": "never"}
    run = building_matrix.run(env=env)
    if run.cells[0].facts["status"] == "unavailable":
        pytest.skip("there is no Python 3.12 here")
    assert run.code == 1
    there, missing = run.cells
    assert set(there.statuses.values()) == {"passed"}
    [environment] = there.facts["environments"]
    assert environment["python"].startswith("3.12.")
    check = missing.broke("resolve", "unavailable", deadline=20)
    check.says("There is no Python 3.29 on this machine. Get it with: uv python install 3.29")
    reported = [line for line in run.out.splitlines() if line.startswith("py3.29-dask2024.10.0: ")]
    assert any("uv python install 3.29" in line for line in reported), run.out
    assert missing.facts["observed"] == {}

    again = building_matrix.run("--modelops-cell", "py3.12-*", "-k", "install", env=env).passed().cell()
    assert again.facts["environments"] == [
        {**environment, "reused": True, "seconds": again.facts["environments"][0]["seconds"]}
    ]
    assert again.checks["install"].data == {"built": 0, "reused": 1}
    assert again.facts["lock"] == there.facts["lock"]
    assert os.path.commonpath([environment["location"], building_matrix.cache]) == str(building_matrix.cache)
