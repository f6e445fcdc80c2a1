"""Variables by role, secrets and paths of the project, in a real cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.conftest import ContainerMatrix, Matrix

SECRETS = {"LICENSE_SERVER": "lic-server-4711", "API_TOKEN": "tok-0815-abc"}
CONFIGURED = """
    [tool.modelops]
    workers = 1
    [tool.modelops.environment]
    env = { LICENSE = "at {env:LICENSE_SERVER}", STORE = "{cell-dir}/store", DB_PASSWORD = "pass-in-file" }
    scheduler-env = { OF_SCHEDULER = "yes" }
    client-env = { OF_CLIENT = "yes" }
    pass-env = ["API_TOKEN", "NOT_ON_THIS_HOST"]
    worker-args = ["--preload", "deploy/ready.py", "--preload=deploy/steady.py"]
"""
READY = "def dask_setup(worker):\n    worker.ready_for = __file__\n"
STEADY = "def dask_setup(worker):\n    worker.steady = True\n"
TESTS = """
    import os

    import pytest


    def look():
        import os
        from distributed import get_worker

        os.mkdir(os.environ["STORE"])
        worker = get_worker()
        names = ("LICENSE", "DB_PASSWORD", "API_TOKEN", "OF_SCHEDULER", "OF_CLIENT", "NOT_ON_THIS_HOST")
        return {name: os.environ.get(name) for name in names}, worker.steady, os.path.basename(worker.ready_for)


    def leak():
        import os

        raise ValueError(f"{os.environ['LICENSE']} {os.environ['DB_PASSWORD']} {os.environ['API_TOKEN']!r}")


    def test_each_process_has_its_own(modelops_cell):
        variables, steady, preload = modelops_cell.call(look, worker="worker-0")
        assert list(variables.values()) == ["at lic-server-4711", "pass-in-file", "tok-0815-abc", None, None, None]
        assert steady and preload == "ready.py"


    def test_leaks(modelops_cell):
        modelops_cell.call(leak)


    @pytest.mark.modelops_lambda("lambda: __import__('os').environ['DB_PASSWORD']", expect="right")
    def test_marked_leaks():
        pass
"""
PROCESS_TESTS = """
    import psutil


    def test_roles(modelops_cell):
        modelops_cell.require("start")
        found = {}
        for process in modelops_cell.cluster.processes:
            variables = psutil.Process(process.pid).environ()
            names = "OF_SCHEDULER", "OF_CLIENT", "LICENSE", "API_TOKEN"
            found[process.name] = {name for name in names if name in variables}
        assert found == {
            "scheduler": {"OF_SCHEDULER", "API_TOKEN"},
            "worker-0": {"LICENSE", "API_TOKEN"},
            "agent": {"OF_CLIENT", "API_TOKEN"},
        }
"""


def check(matrix: Matrix, *, cells: str = "") -> None:
    """Run in one cell, in which two tests quote secrets; no secret is printed or reported."""
    matrix.write("deploy/ready.py", READY)
    matrix.write("deploy/steady.py", STEADY)
    matrix.write("tests/test_variables.py", TESTS)
    matrix.configure(CONFIGURED + cells)
    planned = matrix.run("--modelops-plan", env=SECRETS)
    run = matrix.run(
        *("-k", "versions or test_variables or test_roles", "--showlocals", "--junitxml=junit.xml", "-rA"), env=SECRETS
    )
    files = [(matrix.path / name).read_text("utf-8") for name in ("report.json", "junit.xml")]
    shown = "".join([*files, run.out, planned.out])
    assert "at […] […]" in files[1]
    assert [secret for secret in (*SECRETS.values(), "pass-in-file") if secret in shown] == []
    results = {one["name"]: one for one in run.cell().facts["checks"] if one["status"] != "not-run"}
    broken = {name for name, one in results.items() if one["status"] != "passed"}
    leaks, marked = "tests/test_variables.py::test_leaks", "tests/test_variables.py::test_marked_leaks"
    assert broken == {leaks, marked}, run.out
    assert "ValueError: at […] […] '[…]'" in results[leaks]["message"], results[leaks]["message"]
    assert "[…]" in results[marked]["message"]


def test_each_role_has_its_variables_and_no_secret_is_shown(matrix: Matrix) -> None:
    matrix.write("tests/test_roles.py", PROCESS_TESTS)
    check(matrix)


def test_containers_have_the_same_variables_and_paths(containers: ContainerMatrix) -> None:
    check(containers, cells='\n[tool.modelops.matrix]\npython = ["3.12"]\ndask = ["2024.10.0"]\n')


def test_a_variable_that_the_host_lacks_is_wrong_input(matrix: Matrix) -> None:
    matrix.configure("[tool.modelops.environment]\nenv = { LICENSE = '{env:LICENSE_SERVER}' }\n")
    run = matrix.run("--modelops-plan", env={})
    assert run.code == 4
    assert (
        "pyproject.toml: [tool.modelops.environment] env: LICENSE: {env:LICENSE_SERVER}: this machine has no" in run.out
    )
