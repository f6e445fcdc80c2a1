"""Results of other tasks than the one that was asked, two targets, and artifacts that are none: on real workers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.conftest import Matrix

SERVERS = Path(__file__).parents[2] / "tests" / "servers"
WIRE = """
    def wire(entrypoint, params, seed):
        return {"seed.txt": str(seed).encode()}
"""
TARGETS = """
    import base64

    def _seeds(sim_returns):
        return [int(base64.b64decode(one["outputs"]["seed.txt"]["inline"])) for one in sim_returns]

    def least(sim_returns, target_data):
        return {"loss": min(_seeds(sim_returns))}

    def most(sim_returns, target_data):
        return {"loss": max(_seeds(sim_returns))}
"""
BOTH = ["targets:least", "targets:most"]


def ship(matrix: Matrix, *names: str, more: str) -> None:
    """Bundles with two targets each, one after the other on one worker."""
    lines = []
    for name in names:
        matrix.write(f"bundles/{name}/wire.py", WIRE)
        matrix.write(f"bundles/{name}/targets.py", TARGETS)
        lines.append(f'{{ path = "bundles/{name}", entrypoint = "wire/run", target = {BOTH} }}')
    matrix.configure(
        f"""
        [tool.modelops]
        workers = 1
        start = "fork-workers"
        bundles = [{", ".join(lines)}]
        [tool.modelops.deadlines]
        execute = 30
        bundle-aggregation = 30
        {more}
        """
    )


HANDS_OUT_OTHERS = """
    def dask_setup(worker):
        bundles = worker.modelops_bundles
        execute, aggregate, kept = bundles.execute, bundles.aggregate, {}

        def keeps_replicates(location, task_id, **asked):
            if location["name"] in {"both", "crossed"}:
                return execute(location, task_id, **asked)
            if "replicate" not in kept:
                kept["replicate"] = execute(location, task_id, **asked)
            return kept["replicate"]

        def crosses_targets(location, replicates, **asked):
            of = tuple(one["task_id"] for one in replicates)
            if location["name"] == "both":
                return aggregate(location, replicates, **asked)
            if of not in kept:
                kept[of] = aggregate(location, replicates, **asked)
            return kept[of]

        bundles.execute, bundles.aggregate = keeps_replicates, crosses_targets
"""


def test_two_targets_and_results_of_other_tasks(matrix: Matrix) -> None:
    preload = matrix.write("hands_out_others.py", HANDS_OUT_OTHERS)
    more = f'[tool.modelops.environment]\n        worker-args = ["--preload", "{preload}"]'
    ship(matrix, "both", "first", "second", "crossed", more=more)
    run = matrix.run("-k", "execute or bundle_aggregation")
    assert run.code == 1, run.out
    reported = {(one["bundle"], one["name"]): one for one in run.cell().facts["checks"] if one["bundle"]}
    assert reported["first", "execute"]["status"] == reported["crossed", "execute"]["status"] == "passed"
    assert reported["second", "bundle-aggregation"]["blocked_by"] == "execute[second]"
    for bundle, check_name, expected in (
        ("second", "execute", "the result is that of task 'sim-"),
        ("first", "bundle-aggregation", "the result is that of task 'sim-"),
        ("crossed", "bundle-aggregation", "the result is that of target targets:"),
    ):
        check = reported[bundle, check_name]
        assert check["status"] == "failed", check
        assert expected in check["message"].partition("\n")[0]
        assert check["seconds"] <= 30 + 2
    lines = reported["first", "bundle-aggregation"]["message"]
    assert "replicate 0-0, replicate 0-1, replicate 0-2, replicate 1-0" in lines
    crossed = reported["crossed", "bundle-aggregation"]["message"]
    wrong = {f"{target} of set {number}" for target in BOTH for number in range(2)}
    assert len([name for name in wrong if name in crossed]) == 2, crossed
    both = reported["both", "bundle-aggregation"]
    assert reported["both", "execute"]["status"] == both["status"] == "passed", "targets aggregate the same replicates"
    assert both["data"]["tasks"] == 2 * (3 + 2)
    losses = {"0-targets:least": 0, "0-targets:most": 2, "1-targets:least": 3, "1-targets:most": 5}
    assert both["data"]["losses"] == losses


ANSWERS = {
    "null": (
        {"reported.txt": None},
        "with an artifact 'reported.txt' that is null, not base64: \"{'reported.txt': None}\"",
    ),
    "number": ({"reported.txt": 42}, "with an artifact 'reported.txt' that is 42, not base64"),
    "plain": ({"reported.txt": "no base64!"}, "with an artifact 'reported.txt' that is not base64 ("),
    "heap": (["dG9sZA=="], "with a result that is not a document of artifacts, name: base64: \"['dG9sZA==']\""),
}


def encoded(**artifacts: str) -> dict[str, str]:
    return {name: base64.b64encode(content.encode()).decode() for name, content in artifacts.items()}


ROWS = "day,infected\n1,20\n"
HOLD = {
    "error-in-metadata": (
        encoded(**{"table.csv": ROWS, "metadata": '{"error": "no seeds left"}'}),
        "its artifact 'metadata' holds an error: 'no seeds left'",
    ),
    "empty-table": (
        encoded(**{"table.csv": "", "metadata": '{"model": "seir"}'}),
        "its artifact 'table.csv' is empty (no bytes), others are not; if it may be, add it to",
    ),
    "error-elsewhere": (
        encoded(**{"table.csv": ROWS, "run.json": '{"steps": [{"failed": ""}, {"failed": "diverged"}]}'}),
        "its artifact 'run.json' holds 'diverged' at 'steps.1.failed', and failed-when names it",
    ),
}


def test_an_artifact_that_is_none_is_reported_by_its_name(matrix: Matrix) -> None:
    lines = []
    healthy = encoded(**{"table.csv": ROWS, "fit.json": '{"error": 0.03}', "warnings.json": "[]"})
    for name, (answer, _) in {**ANSWERS, **HOLD, "healthy": (healthy, "")}.items():
        matrix.write(f"bundles/{name}/wire.py", WIRE)
        params = f"params = {{ json = '{json.dumps(answer)}' }}"
        lines.append(f'{{ path = "bundles/{name}", entrypoint = "wire/run", {params} }}')
    matrix.configure(
        f"""
        [tool.modelops]
        workers = 1
        start = "fork-workers"
        bundles = [{", ".join(lines)}]
        [tool.modelops.runner]
        path = "{SERVERS / "answers_anything.py"}"
        [tool.modelops.aggregation]
        failed-when = ["error", "run*:steps.1.failed"]
        may-be-empty = "warnings.json"
        """
    )
    run = matrix.run("-k", "execute")
    assert run.code == 1, run.out
    reported = {one["bundle"]: one for one in run.cell().facts["checks"] if one["name"] == "execute"}
    for name, (_, expected) in ANSWERS.items():
        assert reported[name]["status"] == "failed"
        assert f"its runner answered `execute` {expected}" in reported[name]["message"], reported[name]["message"]
    for name, (_, expected) in HOLD.items():
        assert reported[name]["status"] == "failed"
        assert expected in reported[name]["message"], reported[name]["message"]
    assert "holds" not in reported["healthy"]["message"]
    assert "empty" not in reported["healthy"]["message"]
