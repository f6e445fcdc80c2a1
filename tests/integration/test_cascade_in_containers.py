"""Broken runtimes, runners and environments are found in containers as they are in processes.

`test_broken_bundles.py` runs all broken bundles on both backends, `test_hostile_peers.py` all peers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.conftest import AT_ONCE
from tests.integration.test_reuse_of_environments import BACKEND, BY_ITSELF, PROJECT, WIRE

if TYPE_CHECKING:
    from tests.integration.conftest import ContainerMatrix

REPOSITORY = Path(__file__).parents[2]
SERVERS = REPOSITORY / "tests" / "servers"
BUNDLES = REPOSITORY / "fixtures" / "bundles"
CELL = """
    [tool.modelops.matrix]
    python = ["3.12"]
    dask = ["2024.10.0"]
"""
NAIVE = f"""
    path = "{SERVERS / "naive_installing_runner.py"}"
    command = [
      "{{python}}", "{{runner}}", "--bundle-path", "{{bundle}}", "--venv-path", "{{venv}}",
      "--bundle-digest", "{{digest}}", "--python", "{{version}}", "--wheels", "{{wheels}}",
    ]
"""


def ship(containers: ContainerMatrix, wheel: Path, plugin: str, runner: str) -> None:
    """Configure a packaged bundle whose runner installs it, and a worker plugin."""
    containers.write("bundles/reused/pyproject.toml", BY_ITSELF + PROJECT)
    containers.write("bundles/reused/packaging/backend.py", BACKEND)
    containers.write("bundles/reused/src/reused/__init__.py", "")
    containers.write("bundles/reused/src/reused/wire.py", WIRE)
    containers.configure(
        f"""
    [tool.modelops]
    workers = 1
    bundles = ["bundles/reused"]
    {CELL}
    [tool.modelops.environment]
    requirements = ["{wheel}"]
    env = {{ MODELOPS_EXECUTOR_TYPE = "cold" }}
    [tool.modelops.worker-plugin]
    class = "acme_plugins.{plugin}"
    probe = "modelops_runtime"
    expect = {{ "modelops_runtime.executor_type" = "cold" }}
    processes = {{ cold = "acme_plugins.tasks:by_runtime" }}
    [tool.modelops.runner]
    installs = true
    {runner}
    """
    )


@pytest.mark.timeout(900)
def test_a_healthy_runtime_and_a_careful_runner(containers: ContainerMatrix, wheel: Path) -> None:
    ship(containers, wheel, "healthy:Plugin", "")
    run = containers.start("-k", "runtime or venv_reuse").ended(seconds=600).passed()
    canaries = run.check("venv-reuse").data["canaries"]
    assert {reported["outcome"] for reported in canaries.values()} <= {"passed", "not tried"}
    assert canaries["edited-code"]["outcome"] == canaries["dead-holder"]["outcome"] == "passed"


@pytest.mark.timeout(900)
def test_a_value_that_fell_back_and_a_naive_runner(containers: ContainerMatrix, wheel: Path) -> None:
    ship(containers, wheel, "falls_back:Plugin", NAIVE)
    run = containers.start("-k", "runtime or venv_reuse").ended(seconds=600)
    assert run.code == 1
    runtime, reuse = run.check("runtime"), run.check("venv-reuse")
    runtime.broke(
        "failed",
        "asked for modelops_runtime.executor_type = 'cold', has 'isolated_warm'",
        "the value fell back",
        within=2 * AT_ONCE,  # one more worker joins
        cause="plugin-does-not-take-variable",
    )
    reuse.broke(
        "failed",
        "metadata without files: its runner exited with code 1 before its JSON-RPC handshake",
        "packages' files are gone: its runner exited with code 1",
        "killed in the middle of its install: its runner did not answer `ready`",
        within=300 + 2,  # states that are tried one after the other, each with its own share of the deadline
        cause="unfinished-environment",  # the image has one Python
    )


def test_a_module_beside_a_runner_is_not_the_bundle_s(containers: ContainerMatrix) -> None:
    containers.configure(
        f"""
        [tool.modelops]
        workers = 1
        bundles = [{{ path = "{BUNDLES / "needs-config"}", entrypoint = "wire/run" }}]
        {CELL}
        [tool.modelops.runner]
        path = "{SERVERS / "shadows"}"
        """
    )
    run = containers.run("-k", "execute")
    assert run.code == 1, run.out
    shadow = SERVERS / "shadows" / "config.py"
    words = f"its module 'config' is shadowed: to its runner, 'config' is {shadow}"
    run.check("execute").broke("failed", words, within=AT_ONCE, cause="module-shadowed")
