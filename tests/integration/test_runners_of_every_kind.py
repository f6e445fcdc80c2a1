"""One-shot runners in real cells: the reference runner, those of users, and those that break the protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

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


def test_the_reference_runner_climbs_its_rungs_with_a_process_for_every_request(matrix: Matrix) -> None:
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
    "one_shot_prints_before": (
        "handshake",
        "stdout carried something else than the one JSON document that answers `ready`: 'loading the model",
    ),
    "one_shot_says_nothing": (
        "handshake",
        "its runner exited with code 0 during `ready`, having printed nothing to stdout.",
    ),
    "one_shot_is_warm": (
        "handshake",
        "both of its answers to `ready` came from process 1: it is no one-shot",
    ),
    "one_shot_leaves_a_server": ("handshake", "when its runner had ended, this was left of it"),
    "one_shot_does_not_end": (
        "handshake",
        "did not end after `ready` within the deadline of 5 s, having printed '",
    ),
    "users_runner": ("handshake", "its runner exited with code 0 during `ready`, having printed nothing"),
}


@pytest.mark.parametrize("server", BROKEN)
def test_one_that_breaks_the_protocol(matrix: Matrix, server: str) -> None:
    rung, words = BROKEN[server]
    matrix.configure(f"{numbers(server)}\n    [tool.modelops.deadlines]\n    handshake = 5\n")
    run = matrix.run("-k", "numbers")
    cell = run.cell()
    assert (run.code, cell.facts["first_broken"]) == (1, f"{rung}[numbers]"), run.out
    cell.checks[rung].says(words)
    late = server == "one_shot_does_not_end"
    assert cell.checks[rung].status == ("timed-out" if late else "failed")
    assert cell.checks["execute"].blocked_by == f"{rung}[numbers]"


@pytest.mark.parametrize(
    ("bundle", "rung", "words"),
    [
        (
            "import-fails",
            "handshake",
            "exited with code 1 during `ready`, having printed nothing to stdout. First",
        ),
        ("prints-a-header", "handshake", "that answers `ready`: 'Loading: the model"),
        (
            "dies-in-task",
            "execute",
            "was killed by SIGKILL during `execute`, having printed nothing to stdout.",
        ),
        ("child-echoes", "execute", "the one JSON document that answers `execute`"),
        ("wire-raises", "execute", "`execute` raised ValueError: beta must be positive"),
    ],
)
def test_a_bundle_that_breaks_it_breaks_at_the_right_rung(
    matrix: Matrix, bundle: str, rung: str, words: str
) -> None:
    text = BUNDLE.format(
        path=BUNDLES / bundle, entrypoint="wire/run", target="targets:loss", more="", runner=""
    )
    matrix.configure(text.replace(', target = "targets:loss"', ""))
    check = matrix.run("-k", bundle).check(rung)
    check.says(words)
    assert check.status == "failed"


def test_another_protocol_is_wrong_input(matrix: Matrix) -> None:
    matrix.configure(numbers().replace("one-shot", "cold"))
    run = matrix.start().ended()
    assert run.code == 4
    assert "[tool.modelops.runner] protocol: 'cold' is not a protocol" in run.out
