"""One-shot runners in real cells: the reference runner, those of users, and bundles that break the protocol.

Runners that break it are in `test_hostile_peers.py`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.conftest import Reported, run_once

if TYPE_CHECKING:
    from tests.integration.conftest import Matrix

REPOSITORY = Path(__file__).parents[2]
BUNDLES = REPOSITORY / "fixtures" / "bundles"
SERVERS = REPOSITORY / "tests" / "servers"
BUNDLE = """
    [tool.modelops]
    bundles = [{{ path = "{path}", entrypoint = "{entrypoint}", target = "{target}"{more} }}]
    [tool.modelops.runner]
    protocol = "one-shot"
    {runner}
"""


DECORATED = """
import functools

def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper

@logged
def traced(sim_returns, target_data):
    return mean(sim_returns, target_data)

def scaled(factor, sim_returns, target_data):
    return {"loss": factor * mean(sim_returns, target_data)["loss"]}

of_mean = functools.partial(scaled, 0.5)
"""


def numbers(runner: str = "") -> str:
    return BUNDLE.format(
        path=BUNDLES / "numbers",
        entrypoint="wire/run",
        target="targets:mean",
        more=", target-data = { mean = 500 }",
        runner=f'path = "{SERVERS / runner}.py"' if runner else "",
    )


def test_the_reference_runner_runs_its_checks_with_a_process_for_every_request(matrix: Matrix) -> None:
    matrix.configure(numbers())
    cell = matrix.run("-k", "numbers").passed().cell()
    assert cell.checks["handshake"].data == {"runners": 2}
    assert cell.checks["execute"].data["processes"] == 2
    assert cell.checks["execute"].data["artifacts"] == {"numbers.json": 50}
    assert cell.checks["bundle-aggregation"].data["processes"] == 2 * 3, "one for each replicate"
    assert len(set(cell.checks["bundle-aggregation"].data["losses"].values())) == 2
    raw = Path(cell.facts["logs"]["worker-0-numbers-runner-stdout"]).read_text(encoding="utf-8")
    assert "Content-Length" not in raw
    assert raw.startswith('{"result": {"ready": true')


def test_the_same_bundle_keeps_its_processes_with_json_rpc(matrix: Matrix) -> None:
    """Targets may be decorated functions, or `functools.partial` objects."""
    bundle = shutil.copytree(BUNDLES / "numbers", matrix.path / "numbers")
    with (bundle / "targets.py").open("a", encoding="utf-8") as file:
        file.write(DECORATED)
    text = (
        numbers().replace('protocol = "one-shot"', 'protocol = "json-rpc"').replace(str(BUNDLES / "numbers"), "numbers")
    )
    matrix.configure(text.replace('target = "targets:mean"', 'target = ["targets:traced", "targets:of_mean"]'))
    cell = matrix.run("-k", "numbers").passed().cell()
    data = cell.checks["bundle-aggregation"].data
    assert data["processes"] <= 2
    assert {name.partition("-")[2] for name in data["losses"]} == {"targets:traced", "targets:of_mean"}


def test_a_one_shot_runner_of_the_users(matrix: Matrix) -> None:
    matrix.configure(numbers("one_shot"))
    cell = matrix.run("-k", "numbers").passed().cell()
    assert cell.checks["bundle-aggregation"].data["losses"]["0-targets:mean"] == 1.0


BROKEN = {
    "import-fails": ("handshake", "exited with code 1 during `ready`, having printed nothing to stdout. First"),
    "prints-a-header": ("handshake", "that answers `ready`: 'Loading: the model"),
    "dies-in-task": ("execute", "was killed by SIGKILL during `execute`, having printed nothing to stdout."),
    "child-echoes": ("execute", "the one JSON document that answers `execute`"),
    "wire-raises": ("execute", "`execute` raised ValueError: beta must be positive"),
}


def with_broken_bundles(directory: Path) -> str:
    bundles = [f'{{ path = "{BUNDLES / name}", entrypoint = "wire/run" }}' for name in BROKEN]
    return f"""
    [tool.modelops]
    bundles = [{", ".join(bundles)}]
    [tool.modelops.runner]
    protocol = "one-shot"
    """


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """What one run with all of them said."""
    return run_once(tmp_path_factory, "one-shot-bundles", with_broken_bundles, sources=[BUNDLES])


@pytest.mark.parametrize("bundle", BROKEN)
def test_a_bundle_that_breaks_it_breaks_at_the_right_check(reported: Reported, bundle: str) -> None:
    check_name, expected = BROKEN[bundle]
    reported.broke(bundle, check_name).says(expected)


def test_another_protocol_is_wrong_input(matrix: Matrix) -> None:
    matrix.configure(numbers().replace("one-shot", "cold"))
    run = matrix.start().ended()
    assert run.code == 4
    assert "[tool.modelops.runner] protocol: 'cold' is not a protocol" in run.out
