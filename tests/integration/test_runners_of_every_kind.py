"""One-shot runners in real cells: the reference runner, those of users, and bundles that break the protocol.

Runners that break it are in `test_hostile_peers.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration.conftest import BUNDLE_CHECKS, UNKNOWN, RunOnce

if TYPE_CHECKING:
    from tests.integration.conftest import Matrix

REPOSITORY = Path(__file__).parents[2]
BUNDLES = REPOSITORY / "fixtures" / "bundles"
SERVERS = REPOSITORY / "tests" / "servers"
NUMBERS = (
    f'{{ path = "{BUNDLES / "numbers"}", entrypoint = "wire/run", target = "targets:mean", '
    "target-data = { mean = 500 } }"
)
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


def one_shot(*bundles: str, more: str = "", path: str = "") -> str:
    return f"""
    [tool.modelops]
    start = "fork-workers"
    bundles = [{", ".join(bundles)}]
    {more}
    [tool.modelops.runner]
    protocol = "one-shot"
    {path}
    """


def test_the_reference_runner_starts_a_process_for_every_request(run_once: RunOnce) -> None:
    """A healthy bundle runs its checks, and bundles that break the protocol break at the right check."""
    bundles = [NUMBERS, *(f'{{ path = "{BUNDLES / name}", entrypoint = "wire/run" }}' for name in BROKEN)]
    selected = ("-k", "preflight or bundle or handshake or execute")
    reported = run_once("one-shot-bundles", lambda _: one_shot(*bundles), *selected, sources=[BUNDLES])
    reported.passed("numbers", *BUNDLE_CHECKS)
    checks = {name: check for (bundle, name), check in reported.checks.items() if bundle == "numbers"}
    assert checks["handshake"].data == {"runners": 2}
    assert checks["execute"].data["processes"] == 2
    assert checks["execute"].data["artifacts"] == {"numbers.json": 50}
    assert checks["bundle-aggregation"].data["processes"] == 2 * 3, "one for each replicate"
    assert len(set(checks["bundle-aggregation"].data["losses"].values())) == 2
    raw = reported.logs["worker-0-numbers-runner-stdout.log"]
    assert "Content-Length" not in raw
    assert raw.startswith('{"result": {"ready": true')
    for name, (check_name, expected) in BROKEN.items():
        reported.broke(name, check_name, cause=CAUSES.get(name, UNKNOWN)).says(expected)


def test_a_one_shot_runner_of_the_users(matrix: Matrix) -> None:
    matrix.configure(one_shot(NUMBERS, more="workers = 1", path=f'path = "{SERVERS / "one_shot.py"}"'))
    cell = matrix.run("-k", "numbers").passed().cell()
    assert cell.checks["bundle-aggregation"].data["losses"]["0-targets:mean"] == 1.0


def test_another_protocol_is_wrong_input(matrix: Matrix) -> None:
    matrix.configure(one_shot(NUMBERS).replace("one-shot", "cold"))
    run = matrix.start().ended()
    assert run.code == 4
    assert "[tool.modelops.runner] protocol: 'cold' is not a protocol" in run.out
