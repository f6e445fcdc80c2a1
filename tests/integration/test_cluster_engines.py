"""Clusters of Dask's classes on real engines: Slurm, OpenSSH and dask-gateway, which these tests start on loopback.

After each run the engine's own listing has to be empty, also after one that was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tests.engines.gateway import Gateway
from tests.engines.slurm import CPUS, MEMORY_MB, Slurm
from tests.engines.sshd import Sshd
from tests.forking import Template
from tests.integration.conftest import Matrix, Run, Running
from tests.names import CELL_CHECKS
from tests.processes import left_behind, poll

THIS = "{}.{}".format(*sys.version_info[:2])
BUNDLE = Path(__file__).parents[2] / "fixtures" / "bundles" / "numbers"
START_SECONDS = 14
QUICK = ("--modelops-deadline", f"start={START_SECONDS}")
"""For clusters that never come up."""
GONE_SECONDS = 60
SLURM = """
    cores = 1
    processes = 1
    memory = "400MB"
    python = "{python}"
    interface = "lo"
    log_directory = "{log-directory}"
    local_directory = "{directory}"
"""


def configure(matrix: Matrix, path: str, options: str, *, workers: int = 2, further: str = "", job: int = 3) -> None:
    """Write a project with one cell, whose environment is the same for all engines.

    Args:
        job: how many parameters and replicates the aggregation has.
    """
    matrix.write(
        "pyproject.toml",
        f"""
[tool.modelops]
backend = "cluster"
{further}
[tool.modelops.matrix]
python = ["{THIS}"]
dask = ["installed"]
[tool.modelops.environment]
requirements = ["asyncssh", "dask-gateway", "dask-jobqueue"]
pass-env = ["SLURM_CONF"]
[tool.modelops.cluster]
class = "{path}"
scale = {workers}
[tool.modelops.cluster.options]
{options}
[tool.modelops.aggregation]
params = {job}
replicates = {job}
""",
    )


def healthy(run: Run) -> Run:
    """Assert that all passed, and that nothing had to be ended by force."""
    cell = run.passed().cell()
    assert {name: cell.statuses[name] for name in CELL_CHECKS} == dict.fromkeys(CELL_CHECKS, "passed"), cell.statuses
    assert not cell.facts["notes"], cell.facts["notes"]
    return run


def kill(running: Running, when: Callable[[], bool], *, maker_too: bool) -> None:
    """Kill pytest, and the process that made the cluster, when that holds."""
    running.until(when, "the moment to kill it", seconds=120)
    if maker_too:
        makers = [int(line.split()[0]) for line in left_behind(running.directory) if "import maker" in line]
        assert len(makers) == 1, makers
        os.kill(makers[0], signal.SIGKILL)
    running.process.kill()
    running.ended(seconds_to_vanish=GONE_SECONDS)


def in_its_job(running: Running) -> Callable[[], bool]:
    return lambda: "test_aggregation[" in running.out


def test_slurm(slurm: Slurm, building_matrix: Matrix, tmp_path: Path, template: Template) -> None:
    bundle = f'bundles = [{{ path = "{BUNDLE}", entrypoint = "wire/run" }}]'
    configure(building_matrix, "dask_jobqueue:SLURMCluster", SLURM, further=bundle)
    run = healthy(building_matrix.run(env=slurm.env))
    assert slurm.queue() == []
    assert [name for name in run.cell().facts["logs"] if name.endswith(".err")], run.cell().facts["logs"]

    with contextlib.closing(Matrix(tmp_path / "large", building_matrix.cache, template=template)) as large:
        configure(building_matrix, "dask_jobqueue:SLURMCluster", SLURM, workers=CPUS + 2)
        configure(large, "dask_jobqueue:SLURMCluster", SLURM.replace("400MB", f"{2 * MEMORY_MB}MB"))
        runs = [matrix.start(*QUICK, env=slurm.env) for matrix in (building_matrix, large)]
        too_many, too_large = (running.ended(seconds_to_vanish=GONE_SECONDS).check("start") for running in runs)
    too_many.broke("timed-out", "PENDING (Resources)", within=2 * START_SECONDS)
    reason = ("Slurm's queue has no job of it", "Memory specification can not be satisfied")
    too_large.broke("timed-out", *reason, within=2 * START_SECONDS)
    assert slurm.queue() == []

    configure(building_matrix, "dask_jobqueue:SLURMCluster", SLURM, job=60)
    running = building_matrix.start(env=slurm.env)
    kill(running, in_its_job(running), maker_too=True)
    assert poll(lambda: not slurm.queue(), seconds=GONE_SECONDS), slurm.queue()


def test_ssh(sshd: Sshd, building_matrix: Matrix) -> None:
    options = f"""
hosts = ["127.0.0.1", "127.0.0.1", "127.0.0.1"]
remote_python = "{{python}}"
worker_options = {{ nthreads = 1, host = "127.0.0.1", local_directory = "{{directory}}" }}
scheduler_options = {{ host = "127.0.0.1", dashboard_address = "127.0.0.1:0" }}
[tool.modelops.cluster.options.connect_options]
port = {sshd.port}
username = "{sshd.user}"
known_hosts = "{sshd.known_hosts}"
client_keys = ["{sshd.key}"]
"""
    configure(building_matrix, "distributed:SSHCluster", options)
    healthy(building_matrix.run())
    assert sshd.remote() == []

    configure(building_matrix, "distributed:SSHCluster", options.replace(str(sshd.key), str(sshd.wrong_key)))
    start = building_matrix.run().check("start")
    start.broke("failed", f"Permission denied for user {sshd.user} on host 127.0.0.1", within=GONE_SECONDS)
    assert sshd.remote() == []

    configure(building_matrix, "distributed:SSHCluster", options, job=60)
    running = building_matrix.start()
    kill(running, in_its_job(running), maker_too=False)
    assert poll(lambda: not sshd.remote(), seconds=GONE_SECONDS), sshd.remote()


def test_gateway(gateway: Gateway, building_matrix: Matrix) -> None:
    variables = {
        "DASK_GATEWAY__ADDRESS": gateway.address,
        "DASK_GATEWAY__AUTH__TYPE": "basic",
        "DASK_GATEWAY__AUTH__KWARGS": json.dumps({"username": gateway.username, "password": gateway.password}),
    }
    others = gateway.clusters()
    configure(building_matrix, "dask_gateway:GatewayCluster", 'python = "{python}"')
    healthy(building_matrix.run(env=variables))
    assert gateway.clusters() == others

    start = building_matrix.run(env={**variables, "DASK_GATEWAY__AUTH__KWARGS": "{}"}).check("start")
    start.broke("failed", "401", "Unauthorized", within=GONE_SECONDS)

    configure(building_matrix, "dask_gateway:GatewayCluster", 'python = "{python}"\nidle_timeout = 3.0')
    kill(building_matrix.start(env=variables), lambda: gateway.clusters() != others, maker_too=True)
    assert poll(lambda: gateway.clusters() == others, seconds=GONE_SECONDS), gateway.clusters()
