"""One-shot runners in real cells: the reference runner, those of users, and bundles that break the protocol.

Runners that break it are in `test_hostile_peers.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.conftest import UNKNOWN, Reported, run_once

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
    matrix.configure(numbers().replace('protocol = "one-shot"', 'protocol = "json-rpc"'))
    cell = matrix.run("-k", "numbers").passed().cell()
    assert cell.checks["bundle-aggregation"].data["processes"] <= 2


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

CAUSES = {
    "import-fails": "import-error-in-runner",
    **dict.fromkeys(("prints-a-header", "child-echoes"), "prints-to-stdout"),
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
    reported.broke(bundle, check_name, cause=CAUSES.get(bundle, UNKNOWN)).says(expected)


def test_another_protocol_is_wrong_input(matrix: Matrix) -> None:
    matrix.configure(numbers().replace("one-shot", "cold"))
    run = matrix.start().ended()
    assert run.code == 4
    assert "[tool.modelops.runner] protocol: 'cold' is not a protocol" in run.out
