"""Clients of deployments by a cluster object, of a factory or of a Dask gateway; and of one with another Dask."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.engines.gateway import Gateway
from tests.integration.conftest import Matrix
from tests.integration.deployments import deployed

FACTORY = """
import os
import types

from distributed import Client, LocalCluster, WorkerPlugin


class Runtime(WorkerPlugin):
    def setup(self, worker):
        executor = "warm" if worker.name == 0 or "ACME_LATE" not in os.environ else os.environ["ACME_LATE"]
        worker.runtime = types.SimpleNamespace(executor=executor)


def production():
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None)
    Client(cluster, set_as_default=False).register_plugin(Runtime(), name="acme")
    return cluster
"""


@pytest.mark.parametrize("late", ["warm", "cold"])
def test_a_worker_that_joins_late_is_asked_too(matrix: Matrix, late: str) -> None:
    matrix.write("ours.py", FACTORY)
    matrix.configure(
        f"""
        [tool.modelops.attach]
        factory = "ours:production"
        allow = ["scale"]
        [tool.modelops.worker-plugin]
        class = "ours:Runtime"
        probe = "runtime"
        expect = {{ "runtime.executor" = "warm" }}
        [tool.modelops.environment]
        client-env = {{ ACME_LATE = "{late}" }}
        """
    )
    runtime = matrix.run("-k", "runtime").check("runtime")
    if late == "warm":
        assert runtime.status == "passed", runtime.message
        assert set(runtime.data["workers"]) == {"0", "worker-late"}
    else:
        runtime.broke("failed", "1 of 1 workers", "has 'cold'", within=30, cause="plugin-variable-not-set")
        runtime.says("asked for runtime.executor = 'warm'", "worker-late")


REGISTER = """
import sys
from dask_gateway import Gateway
from distributed import WorkerPlugin

class Runtime(WorkerPlugin):
    def setup(self, worker):
        worker.runtime = "warm"

with Gateway(sys.argv[1], auth="basic") as gateway, gateway.connect(sys.argv[2]) as cluster:
    cluster.get_client().register_plugin(Runtime(), name="acme")
"""


def test_a_cluster_of_a_gateway(building_matrix: Matrix, gateway: Gateway, gateway_cluster: str) -> None:
    """It is checked, scaled up and down, and as it was; a name or a password that is wrong is said."""
    building_matrix.configure(
        f"""
        [tool.modelops.matrix]
        dask = "installed"
        [tool.modelops.environment]
        requirements = ["dask-gateway"]
        [tool.modelops.attach]
        allow = ["scale"]
        [tool.modelops.attach.gateway]
        address = "{gateway.address}"
        auth = "basic"
        cluster = "{gateway_cluster}"
        [tool.modelops.worker-plugin]
        class = "__main__:Runtime"
        expect = {{ "runtime" = "warm" }}
        [tool.modelops.aggregation]
        params = 2
        replicates = 2
        """
    )
    secret = {
        "DASK_GATEWAY__AUTH__KWARGS__USERNAME": gateway.username,
        "DASK_GATEWAY__AUTH__KWARGS__PASSWORD": gateway.password,
    }
    of_team = [gateway.python, "-c", REGISTER, gateway.address, gateway_cluster]
    subprocess.run(of_team, check=True, env={**os.environ, **secret})
    run = building_matrix.run(env=secret).passed()
    assert set(run.cell().statuses.values()) == {"passed"}
    assert len(run.check("runtime").data["workers"]) == 3
    assert gateway.password not in json.dumps(run.report)
    assert gateway.clusters() == [gateway_cluster]
    assert gateway.workers(gateway_cluster) == 2

    start = building_matrix.run("-k", "start", env={**secret, "DASK_GATEWAY__AUTH__KWARGS__PASSWORD": "x"}).check(
        "start"
    )
    start.broke("failed", gateway.address, "uthori", within=60)


OLD = "2024.10.0"
LOOK = """
import json, sys
from distributed import Client
with Client(sys.argv[1], set_as_default=False) as client:
    client.wait_for_workers(1, timeout=60)
    state = client.run_on_scheduler(lambda dask_scheduler: {
        "tasks": sorted(map(str, dask_scheduler.tasks)),
        "clients": sorted(dask_scheduler.clients),
        "plugins": sorted([*dask_scheduler.plugins, *dask_scheduler.worker_plugins]),
        "workers": sorted(dask_scheduler.workers),
    })
    on_workers = client.run(lambda dask_worker: [
        sorted(__import__("os").listdir(dask_worker.local_directory)), sorted(dask_worker.handlers)
    ])
    state["clients"].remove(client.id)
    print(json.dumps([state, on_workers]))
"""


def test_a_client_of_a_newer_dask(tmp_path: Path, building_matrix: Matrix) -> None:
    """It breaks where it does, with the remedy, and the deployment is as it was."""
    text = "[tool.modelops.matrix]\npython = ['{}']\ndask = ['{}']\n"
    building_matrix.configure(text.format("3.13", OLD))
    built = building_matrix.run("-k", "install").unavailable_is_no_failure().passed().cell()
    python = Path(built.facts["environments"][0]["location"]) / "bin" / "python"
    building_matrix.configure(text.format("3.12", "2026.8.0"))
    with deployed(tmp_path / "old", [str(python)], scheduler=str(python)) as old:

        def state() -> object:
            command = [str(python), "-c", LOOK, old.address]
            return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

        before = state()
        run = building_matrix.run("--modelops-attach", old.address).unavailable_is_no_failure()
        start = run.check("start").broke("failed", f"cannot connect to Dask {OLD} on Python 3.13.", within=60)
        start.says(
            "Dask 2026.8.0 on Python 3.12.", f"cannot connect to Dask {OLD}", "Use a client with the deployment's"
        )
        assert {run.check(name).blocked_by for name in ("versions", "lambda", "aggregation")} == {"start"}
        assert state() == before
