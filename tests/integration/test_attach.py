"""Clients of a deployment that runs already: a scheduler and workers that these tests start by hand."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from distributed.security import Security

from tests.integration.conftest import Matrix
from tests.processes import poll

THIS = "{}.{}".format(*sys.version_info[:2])
OTHER = "3.12" if THIS != "3.12" else "3.13"


@dataclasses.dataclass(frozen=True)
class Deployment:
    """A scheduler and its workers, which are children of this process.

    Attributes:
        address: of the scheduler.
        security: of a client here, if the deployment has TLS.
    """

    address: str
    security: Security | None = None

    def state(self) -> dict[str, Any]:
        """Return what the scheduler has, without this client."""

        def look(dask_scheduler: Any, client: str) -> dict[str, Any]:
            return {
                "tasks": sorted(map(str, dask_scheduler.tasks)),
                "clients": sorted(one for one in dask_scheduler.clients if one not in (client, "fire-and-forget")),
                "plugins": sorted(dask_scheduler.plugins),
                "worker plugins": sorted(dask_scheduler.worker_plugins),
                "workers": {str(worker.name): worker.address for worker in dask_scheduler.workers.values()},
            }

        with self.client() as client:
            found: dict[str, Any] = client.run_on_scheduler(look, client=client.id)
            return found

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        with Client(self.address, security=self.security, set_as_default=False, timeout=30) as client:
            yield client

    def runs_tasks(self) -> bool:
        with self.client() as client:
            return client.submit(sum, [1, 2], pure=False).result(timeout=30) == 3


@contextlib.contextmanager
def deployed(
    directory: Path, pythons: Sequence[str], *, env: Mapping[str, str] | None = None, security: Security | None = None
) -> Iterator[Deployment]:
    """Start a scheduler on this Python, and a worker on each of these; ends them.

    Args:
        pythons: executables.
        env: further variables, which turn on TLS.
    """
    directory.mkdir()
    file, protocol = directory / "scheduler.json", "tls" if security else "tcp"
    where = ("--scheduler-file", str(file), "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
    commands = [[sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--protocol", protocol, *where]]
    commands += [
        [
            *(
                python,
                "-m",
                "distributed.cli.dask_worker",
                "",
                *where,
                "--protocol",
                protocol,
                "--nthreads",
                "1",
                "--no-nanny",
            ),
            *("--name", f"w{number}", "--local-directory", str(directory / "work")),
        ]
        for number, python in enumerate(pythons)
    ]
    with contextlib.ExitStack() as stack:
        for number, command in enumerate(commands):
            log = stack.enter_context((directory / f"{number}.log").open("wb"))
            variables = {**os.environ, **(env or {})}
            process = subprocess.Popen(
                command, cwd=directory, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            stack.callback(_end, process)
        assert poll(lambda: file.exists() and file.read_text(), seconds=60), "no scheduler"
        found = Deployment(json.loads(file.read_text())["address"], security)
        with found.client() as client:
            client.wait_for_workers(len(pythons), timeout=60)
        yield found


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # there is no nanny, so it has no children
    process.wait()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("plain") / "deployment", [sys.executable] * 2) as found:
        yield found


def test_clients_of_two_pythons(plain: Deployment, building_matrix: Matrix) -> None:
    """The client with the deployment's Python is green, the other is stopped before anything is sent."""
    building_matrix.configure(
        f"""
        [tool.modelops]
        bundles = [{{ path = "needy" }}, {{ path = "fitting" }}]
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
    for name in ("resolve", "install", "start", "versions", "lambda", "aggregation"):
        assert same.checks[name].status == "passed", same.checks[name].message
    assert same.checks["aggregation"].data["tasks"] == 12
    results = {(check["name"], check["bundle"]): check for check in same.facts["checks"]}
    assert results["preflight", "fitting"]["status"] == "passed"
    assert results["preflight", "needy"]["status"] == "failed"
    assert "requires Python >=3.99" in results["preflight", "needy"]["message"]
    assert "w0 (tcp://" in results["preflight", "needy"]["message"]
    for check_name in ("bundle-install", "handshake"):
        result = results[check_name, "fitting"]
        assert (result["status"], "the workers" in result["message"]) == ("skipped", True), result
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


@pytest.mark.filterwarnings("ignore:Mismatched versions found")  # of Dask, for this process's own client
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
def test_half_of_an_upgrade_behind_tls(tmp_path: Path, building_matrix: Matrix) -> None:
    """A worker of another Python is named, and so is what is wrong with certificates."""
    own, foreign = tmp_path / "own", tmp_path / "foreign"
    variables, of_others = _tls(own), _tls(foreign)
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
        check.broke("failed", "1 of 3 workers", "w2 (tls://", f"Python {OTHER}.", f"most: {THIS}.", within=30)

        check = building_matrix.run(*flags, env=of_others).check("start")
        check.broke("failed", deployment.address, "certificate", "distributed.comm.tls.ca-file", within=30)
        check = building_matrix.run(*flags).check("start")
        check.broke("failed", deployment.address, "TLS needs", "distributed.comm.tls.ca-file", within=30)
        plain_address = deployment.address.replace("tls://", "tcp://")
        check = building_matrix.run("--modelops-python", THIS, "--modelops-attach", plain_address).check("start")
        check.broke("failed", plain_address, "speaks TLS", within=30)
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
        assert "the deployment is broken, not the upgrade" in " ".join(run.out.split())
        assert deployment.state() == before


def _tls(directory: Path) -> dict[str, str]:
    """Make a key and a certificate, which is its own authority; return Dask's variables that name them."""
    directory.mkdir()
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost")
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    settings = {"CA_FILE": cert}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        settings |= {f"{role}__CERT": cert, f"{role}__KEY": key}
    return {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(path) for name, path in settings.items()}
