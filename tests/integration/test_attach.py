"""Clients of a deployment that runs already: a scheduler and workers that these tests start by hand."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed.security import Security

from tests.integration.conftest import Matrix
from tests.integration.deployments import RUNTIME, Deployment, deployed, expired, grid_model, tls
from tests.processes import left_behind, poll

THIS = "{}.{}".format(*sys.version_info[:2])
OTHER = "3.12" if THIS != "3.12" else "3.13"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Two workers with the package `gridmodel` 1.0 and a runtime."""
    directory = tmp_path_factory.mktemp("plain")
    (directory / "acme.py").write_text(RUNTIME, encoding="utf-8")
    env = {"PYTHONPATH": str(grid_model(directory))}
    where = directory / "deployment"
    with deployed(where, [sys.executable] * 2, env=env, preload=directory / "acme.py") as found:
        yield found


def test_clients_of_two_pythons(plain: Deployment, building_matrix: Matrix) -> None:
    """The client with the deployment's Python is green, the other is stopped before anything is sent."""
    building_matrix.configure(
        f"""
        [tool.modelops]
        bundles = [{{ path = "needy" }}, {{ path = "fitting" }}, {{ path = "grid", install = "workers" }}]
        [tool.modelops.worker-plugin]
        class = "acme:Runtime"
        probe = "runtime"
        expect = {{ "runtime.executor" = "warm" }}
        [tool.modelops.matrix]
        python = ["{THIS}", "{OTHER}"]
        dask = ["installed"]
        include = [{{ python = "{THIS}", dask = "installed", worker = {{ python = "{OTHER}" }} }}]
        [tool.modelops.attach]
        address = "{plain.address}"
        tasks = 60
        [tool.modelops.aggregation]
        params = 3
        replicates = 3
        """
    )
    for name, python in {"needy": ">=3.99", "fitting": ">=3.9"}.items():
        building_matrix.write(
            f"{name}/pyproject.toml", f'[project]\nname = "{name}"\nversion = "1"\nrequires-python = "{python}"\n'
        )
        building_matrix.write(f"{name}/{name}.py", "")
    grid_model(building_matrix.path / "grid")
    building_matrix.write(
        "test_of_the_user.py",
        """
        import pytest

        def test_call(modelops_cell):
            assert modelops_cell.call_each(lambda: 42) == {"w0": 42, "w1": 42}
            with pytest.raises(Exception, match="60"):
                for _ in range(60):
                    modelops_cell.call(lambda: 42)

        @pytest.mark.modelops_bundle("fitting")
        def test_bundle(modelops_cell):
            raise AssertionError
        """,
    )
    before = plain.state()
    plan = building_matrix.run("--modelops-plan").out
    for part in (plain.address, "at most 60 tasks", "12 of the check aggregation", "workers are the deployment's"):
        assert part in plan

    run = building_matrix.run().unavailable_is_no_failure()
    assert run.code == 1
    assert run.report["backend"] == "attach"
    same, other = sorted(run.cells, key=lambda cell: not cell.facts["id"].startswith(f"py{THIS}-"))
    for name in ("resolve", "install", "start", "versions", "runtime", "lambda", "aggregation"):
        assert same.checks[name].status == "passed", same.checks[name].message
    assert same.checks["aggregation"].data["tasks"] == 12
    results = {(check["name"], check["bundle"]): check for check in same.facts["checks"]}
    assert results["preflight", "fitting"]["status"] == "passed"
    assert results["preflight", "needy"]["status"] == "failed"
    assert "requires Python >=3.99" in results["preflight", "needy"]["message"]
    assert "w0 (tcp://" in results["preflight", "needy"]["message"]
    assert results["preflight", "grid"]["status"] == "passed", results["preflight", "grid"]["message"]
    for check_name, why in (("bundle-install", "allow = "), ("handshake", "allow = ")):
        result = results[check_name, "fitting"]
        assert (result["status"], why in result["message"]) == ("skipped", True), result
    assert "running processes" in results["bundle-install", "grid"]["message"]
    of_user = {name.rpartition("::")[2]: result["status"] for (name, _), result in results.items() if "::" in name}
    assert of_user == {"test_call": "passed", "test_bundle": "skipped"}, run.out

    versions = other.checks["versions"].broke("failed", f"this client runs Python {OTHER}.", within=30)
    versions.says("the scheduler and 2 of 2 workers", f"{THIS}.", "none was sent")
    for name in ("lambda", "aggregation"):
        assert (other.checks[name].status, other.checks[name].blocked_by) == ("blocked", "versions")
    assert other.facts["observed"]["scheduler"]["python"].startswith(f"{THIS}.")
    assert plain.state() == before
    assert plain.runs_tasks()


def test_pytest_is_killed_in_the_middle_of_a_job(plain: Deployment, matrix: Matrix) -> None:
    matrix.configure(
        """
        [tool.modelops.attach]
        tasks = 100000
        bytes = "1GB"
        [tool.modelops.aggregation]
        params = 40
        replicates = 400
        """
    )
    before = plain.state()
    running = matrix.start("--modelops-attach", plain.address)
    running.until(lambda: len(plain.state()["tasks"]) > 50, "its tasks were there")
    running.kill()
    assert poll(lambda: plain.state() == before, seconds=30), plain.state()
    assert plain.runs_tasks()


def test_workers_that_differ_are_named_before_a_task_is_sent(tmp_path: Path, matrix: Matrix) -> None:
    """One lacks the bundle's package, and one has another executor and another version of the package."""
    site = grid_model(tmp_path / "new")
    (tmp_path / "acme.py").write_text(RUNTIME, encoding="utf-8")
    grid_model(matrix.path / "grid")
    matrix.configure(
        """
        [tool.modelops]
        bundles = [{ path = "grid", install = "workers" }]
        [tool.modelops.worker-plugin]
        class = "acme:Runtime"
        expect = { "runtime.executor" = "warm" }
        """
    )
    of_worker = [
        {"PYTHONPATH": str(site)},
        {},
        {"PYTHONPATH": str(grid_model(tmp_path / "old", "0.9")), "ACME_EXECUTOR": "cold"},
    ]
    where = tmp_path / "deployment"
    with deployed(where, [sys.executable] * 3, of_worker=of_worker, preload=tmp_path / "acme.py") as uneven:
        before = uneven.state()
        run = matrix.run("--modelops-attach", uneven.address, "-k", "preflight or runtime")
        preflight = run.check("preflight").broke("failed", "gridmodel 1.0 is not installed on w1", within=30)
        preflight.says("it is gridmodel 1.0, and 0.9 on w2", "its gridmodel is not found on w1")
        runtime = run.check("runtime").broke("failed", "1 of 3 workers", "has 'cold'", within=30)
        runtime.says("asked for runtime.executor = 'warm'", "The variable ACME_EXECUTOR is 'cold' on this worker")
        runtime.says("w2: its runtime.executor is 'cold', and 'warm' on most workers")
        runtime.says("w2: its variable ACME_EXECUTOR is 'cold', and not set on most workers")
        assert uneven.state() == before


BUNDLE = """
[tool.modelops]
bundles = [{ path = "loose", entrypoint = "wire/any", target = "targets:mean" }]
[tool.modelops.aggregation]
params = 2
replicates = 2
[tool.modelops.attach]
allow = ["install"]
"""


def test_a_bundle_runs_on_the_workers_and_nothing_is_left(plain: Deployment, matrix: Matrix) -> None:
    matrix.configure(BUNDLE)
    matrix.write("loose/wire.py", "def wire(entrypoint, params, seed):\n    return {'n': str(seed).encode()}\n")
    matrix.write("loose/targets.py", "def mean(sim_returns, target_data):\n    return {'loss': 1.0}\n")
    before = plain.state()
    cell = matrix.run("--modelops-attach", plain.address).passed().cell()
    for name in ("bundle-install", "handshake", "execute", "bundle-aggregation"):
        assert cell.checks[name].status == "passed", cell.checks[name].message
    assert cell.checks["execute"].data["fresh"]["outcome"] == "passed"
    assert plain.state() == before

    matrix.write("loose/wire.py", "import time\n\ntime.sleep(600)\n")
    running = matrix.start("--modelops-attach", plain.address, "-k", "handshake")
    running.until(lambda: any("runner.py" in one for one in left_behind(plain.directory)), "the runner was started")
    running.kill()
    assert poll(lambda: plain.state() == before, seconds=30), plain.state()

    matrix.configure(BUNDLE + 'bytes = "20kB"\n')
    install = matrix.run("--modelops-attach", plain.address, "-k", "install").check("bundle-install")
    install.broke("failed", "bytes were not sent", "`bytes` of [tool.modelops.attach] allows 20000", within=60)
    assert plain.state() == before


@pytest.mark.filterwarnings("ignore:Mismatched versions found")  # of Dask, for this process's own client
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
def test_half_of_an_upgrade_behind_tls(tmp_path: Path, building_matrix: Matrix) -> None:
    """A worker of another Python is named, and so is what is wrong with certificates."""
    own, foreign = tmp_path / "own", tmp_path / "foreign"
    variables, of_others = tls(own), tls(foreign)
    security = Security(
        tls_ca_file=str(own / "cert.pem"),
        tls_client_cert=str(own / "cert.pem"),
        tls_client_key=str(own / "key.pem"),
        require_encryption=True,
    )
    building_matrix.configure(
        f"""
        [tool.modelops.matrix]
        python = ["{OTHER}"]
        dask = ["installed"]
        """
    )
    built = building_matrix.run("-k", "install").unavailable_is_no_failure().passed().cell()
    python = Path(built.facts["environments"][0]["location"]) / "bin" / "python"
    building_matrix.write("deployed.py", "def address():\n    import os\n    return os.environ['WHERE']\n")
    pythons = [sys.executable, sys.executable, str(python)]
    with deployed(tmp_path / "deployment", pythons, env=variables, security=security) as deployment:
        before = deployment.state()
        flags = ("--modelops-python", THIS, "--modelops-attach", deployment.address)
        check = building_matrix.run(*flags, env=variables).check("versions")
        check.broke("failed", "1 of 3 workers", "w2 (tls://", f"Python {OTHER}.", f"most: {THIS}.", within=60)

        check = building_matrix.run(*flags, env=of_others).check("start")
        check.broke("failed", deployment.address, "certificate", "distributed.comm.tls.ca-file", within=60)
        check = building_matrix.run(*flags, env={**variables, **expired(own)}).check("start")
        check.broke("failed", deployment.address, "certificate", "expired", within=60)
        check = building_matrix.run(*flags).check("start")
        check.broke("failed", deployment.address, "TLS needs", "distributed.comm.tls.ca-file", within=60)
        plain_address = deployment.address.replace("tls://", "tcp://")
        check = building_matrix.run("--modelops-python", THIS, "--modelops-attach", plain_address).check("start")
        check.broke("failed", plain_address, "speaks TLS", within=60)
        assert deployment.state() == before

        building_matrix.configure(
            """
            [tool.modelops.attach]
            factory = "deployed:address"
            [tool.modelops.environment]
            pass-env = ["WHERE"]
            """
        )
        run = building_matrix.run(env={**variables, "WHERE": deployment.address})
        assert run.cell().checks["lambda"].blocked_by == "versions"
        assert "so the cause is in the deployment, not in other versions" in " ".join(run.out.split())
        assert deployment.state() == before

        run = building_matrix.run("--modelops-attach-force", env={**variables, "WHERE": deployment.address})
        run.check("versions").broke("failed", "so they may crash there", within=60)
        run.check("lambda").broke("failed", "failed on 1 of 3 workers", "w2: ", within=60)


LOOKS = """
import time
from pytest_modelops.checks.base import Check

def looks(cell, deadline):
    for _ in range(30):
        cell.cluster.await_workers(deadline)
        time.sleep(0.2)

def pytest_modelops_checks(checks):
    checks.append(Check(name="looks", run=looks, needs=("start",)))
"""


def test_a_worker_that_dies_again_and_again_is_noted(
    plain: Deployment, matrix: Matrix, tmp_path_factory: pytest.TempPathFactory
) -> None:
    of_others = tmp_path_factory.mktemp("dies")
    (of_others / "dies.py").write_text(
        "import os\n\ndef dask_setup(worker):\n    worker.loop.call_later(1, os._exit, 5)\n", encoding="utf-8"
    )
    matrix.write("conftest.py", LOOKS)
    worker = (sys.executable, "-m", "distributed.cli.dask_worker", plain.address, "--name", "dies", "--nthreads", "1")
    options = ("--preload", "dies.py", "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
    with (of_others / "dies.log").open("wb") as log:
        nanny = subprocess.Popen([*worker, *options], cwd=of_others, stdout=log, stderr=log, start_new_session=True)
    try:
        run = matrix.run("--modelops-attach", plain.address, "-k", "start or looks")
    finally:
        os.killpg(nanny.pid, signal.SIGKILL)
        nanny.wait()
    assert run.check("looks").status == "passed", run.out
    [note] = run.cell().facts["notes"]
    assert re.fullmatch(
        r"while this ran, workers of the deployment came and went; started again: dies \(\d times?\)", note
    ), note
