"""Runners that run other code than the bundle's, or none at all, on real workers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Check, Matrix

REPOSITORY = Path(__file__).parents[2]
BUNDLES = REPOSITORY / "fixtures" / "bundles"
SERVERS = REPOSITORY / "tests" / "servers"
SECONDS = 30


def execute(matrix: Matrix, bundle: Path, runner: str, more: str = "", expect: str = "") -> Check:
    """Run a bundle's checks up to `execute` on one worker; returns that check."""
    matrix.configure(
        f"""
        [tool.modelops]
        workers = 1
        bundles = [{{ path = "{bundle}", entrypoint = "wire/run"{expect} }}]
        [tool.modelops.deadlines]
        execute = {SECONDS}
        {more}
        {runner}
        """
    )
    run = matrix.run("-k", "execute")
    check = run.check("execute")
    assert check.seconds <= SECONDS + 2
    assert run.code == (0 if check.status == "passed" else 1), run.out
    return check


def runner(path: Path) -> str:
    return f'[tool.modelops.runner]\n        path = "{path}"'


SHADOWED = "its module 'config' is shadowed: to its runner, 'config' is {}, and the bundle's own is never imported"


def test_a_module_beside_a_runner_is_not_the_bundle_s(matrix: Matrix) -> None:
    check = execute(matrix, BUNDLES / "needs-config", runner(SERVERS / "shadows"))
    check.broke("failed", within=SECONDS, cause="module-shadowed")
    check.says(SHADOWED.format(SERVERS / "shadows" / "config.py"), "rename one of them", "-P")


def test_a_module_beside_a_runner_that_lacks_what_the_bundle_s_has(matrix: Matrix) -> None:
    matrix.write("deployed/worker.py", (SERVERS / "shadows" / "__main__.py").read_text(encoding="utf-8"))
    beside = matrix.write("deployed/config.py", "LEVEL = 'info'\n")
    check = execute(matrix, BUNDLES / "needs-config", runner(matrix.path / "deployed" / "worker.py"))
    check.broke("failed", within=SECONDS, cause="module-shadowed")
    check.says(
        "First cause: AttributeError: module 'config' has no attribute 'RATE' (wire.py, line 7, in wire).",
        f"Beside its runner is another config, which Python finds first: {beside}",
        "rename one of them",
    )


def test_the_bundle_s_wire_function_itself_is_shadowed(matrix: Matrix) -> None:
    beside = matrix.write("deployed/wire.py", "def wire(entrypoint, params, seed):\n    return {'answer.txt': b'41'}\n")
    shutil.copy(SERVERS / "shadows" / "__main__.py", matrix.path / "deployed" / "__main__.py")
    check = execute(matrix, BUNDLES / "needs-config", runner(matrix.path / "deployed"))
    assert check.status == "failed"
    check.says(f"its module 'wire' is shadowed: to its runner, 'wire' is {beside}")


def test_a_runner_that_puts_the_bundle_first_is_not_fooled_and_not_blamed(matrix: Matrix) -> None:
    shutil.copy(SERVERS / "users_runner.py", matrix.path / "worker.py")
    matrix.write("config.py", "RATE = 8.0\n")
    check = execute(matrix, BUNDLES / "needs-config", runner(matrix.path / "worker.py"), expect=EXPECTED)
    assert (check.status, check.data["fresh"]) == ("passed", {"outcome": "passed"}), check.message


EXPECTED = ', expect = { "answer.txt" = "0.25" }'
BESIDE_OURS = """
    [tool.modelops.environment]
    worker-args = ["--preload", "{}"]
"""
LAYS_ONE_BESIDE = """
    import os

    def dask_setup(worker):
        code = os.path.abspath(type(worker.modelops_bundles).execute.__code__.co_filename)
        directory = os.path.join(os.path.dirname(os.path.dirname(code)), "runner")
        assert os.path.exists(os.path.join(directory, "runner.py"))
        for name in ("config", "wire"):
            with open(os.path.join(directory, name + ".py"), "w") as file:
                file.write("RATE = 8.0")
"""


def test_the_reference_runner_is_not_fooled(matrix: Matrix) -> None:
    preload = matrix.write("lays_one_beside.py", LAYS_ONE_BESIDE)
    more = BESIDE_OURS.format(preload)
    check = execute(matrix, BUNDLES / "needs-config", "", more, expect=EXPECTED)
    assert (check.status, check.data["fresh"]) == ("passed", {"outcome": "passed"}), check.message


@pytest.mark.parametrize(
    ("keeps", "message"),
    [
        ("files", "asked the same again, in another process, it gave the answer of the first time"),
        ("", "asked the same again, in the same process, it gave the answer of the first time"),
        ("files any", "asked for a copy of the bundle with another wire function, under a digest of its own"),
    ],
)
def test_a_result_that_was_kept_is_no_answer(matrix: Matrix, keeps: str, message: str) -> None:
    more = f'[tool.modelops.environment]\n        env = {{ KEEPS = "{keeps}" }}'
    check = execute(matrix, BUNDLES / "numbers", runner(SERVERS / "keeps_results.py"), more)
    check.broke("failed", within=SECONDS, cause="stored-result")
    check.says(message, "nothing was executed, and a ", "stands for a new one")


KEEPS_FILES = """
    import base64, json, os, sys, tempfile

    given, request = dict(zip(sys.argv[1::2], sys.argv[2::2])), json.load(sys.stdin)
    digest, params = given["--bundle-digest"], request["params"]
    kept = os.path.join(tempfile.gettempdir(), digest)
    if request["method"] == "ready":
        result = {"ready": True, "bundle_digest": digest, "python": sys.executable, "pid": os.getpid()}
        result.update(version="%d.%d" % sys.version_info[:2], venv=given["--venv-path"])
    elif os.path.exists(kept):
        result = json.load(open(kept))
    else:
        sys.path[0] = given["--bundle-path"]
        from wire import wire
        outputs = wire(params["entrypoint"], params["params"], params["seed"])
        result = {name: base64.b64encode(content).decode() for name, content in outputs.items()}
        with open(kept, "w") as file:
            json.dump(result, file)
    print(json.dumps({"result": result}))
"""


ONE_SHOT = """[tool.modelops.runner]
        protocol = "one-shot"
        installs = true"""


def test_a_one_shot_runner_that_installs_is_asked_by_execute_as_no_other_check_asks_it(matrix: Matrix) -> None:
    """Its targets are a decorated function and an object of `functools.partial`."""
    matrix.configure(
        f"""
        [tool.modelops]
        workers = 1
        [[tool.modelops.bundles]]
        path = "{BUNDLES / "numbers"}"
        entrypoint = "wire/run"
        target = ["targets:mean", "targets:half"]
        {ONE_SHOT}
        """
    )
    checks = matrix.run("-k", "numbers").passed().cell().checks
    assert checks["execute"].data["fresh"] == {"outcome": "passed"}
    assert "venv-reuse" not in checks
    losses = checks["bundle-aggregation"].data["losses"]
    assert {name.partition("-")[2] for name in losses} == {"targets:mean", "targets:half"}


def test_a_one_shot_runner_that_installs_and_keeps_results(matrix: Matrix) -> None:
    path = matrix.write("keeps.py", KEEPS_FILES)
    check = execute(matrix, BUNDLES / "numbers", f'{ONE_SHOT}\n        path = "{path}"')
    assert check.status == "failed"
    check.says("asked the same again, in another process, it gave the answer of the first time")
