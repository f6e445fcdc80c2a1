"""What a library raises far below the bundle is shown with the bundle's own line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.conftest import Matrix

WIRE = """
    import importlib

    def wire(entrypoint, params, seed):
        module, _, name = entrypoint.partition(":")
        return {"out.txt": str(getattr(importlib.import_module(module), name)(seed)).encode()}
"""
CHILDREN = """
    import multiprocessing


    def simulate(seed):
        with multiprocessing.get_context("fork").Pool(1) as pool:
            return pool.map(abs, [seed])
"""
DEEP = """
    import copy


    class Day:
        def __deepcopy__(self, memo):
            raise ValueError("not a day")


    def simulate(seed):
        value = Day()
        for _ in range(20):
            value = [value]
        return copy.deepcopy(value)
"""
PIP_RUNNER = """
    import subprocess
    import sys

    subprocess.run([sys.executable, "-m", "pip", "install", "."], check=True)
"""


def test_the_bundle_s_line_is_in_the_message(matrix: Matrix) -> None:
    for name, code in (("children", CHILDREN), ("deep", DEEP)):
        matrix.write(f"bundles/{name}/wire.py", WIRE)
        matrix.write(f"bundles/{name}/{name}.py", code)
    matrix.configure(
        """
        [tool.modelops]
        workers = 1
        bundles = [
            { path = "bundles/children", entrypoint = "children:simulate", install = "workers" },
            { path = "bundles/deep", entrypoint = "deep:simulate" },
        ]
        """
    )
    run = matrix.run("-k", "execute")
    checks = {one["bundle"]: one for one in run.cell().facts["checks"] if one["name"] == "execute"}
    first, *rest = checks["children"]["message"].splitlines()
    assert "daemonic processes are not allowed to have children" in first
    assert "nanny = false" in first
    assert checks["children"]["probable_cause"]["id"] == "pool-in-a-daemon"
    assert any("children.py" in line and "in simulate" in line for line in rest), checks["children"]["message"]
    text = checks["deep"]["message"]
    assert "ValueError: not a day" in text.partition("\n")[0]
    assert "in simulate" in text, text
    assert "in __deepcopy__" in text, text


def test_a_runner_that_misses_pip_is_told_of_the_setting(matrix: Matrix) -> None:
    matrix.write("bundles/plain/wire.py", WIRE)
    matrix.write("runner.py", PIP_RUNNER)
    matrix.configure(
        """
        [tool.modelops]
        workers = 1
        bundles = ["bundles/plain"]
        [tool.modelops.runner]
        path = "runner.py"
        """
    )
    check = matrix.run("-k", "handshake").check("handshake")
    assert check.status == "failed"
    check.says("No module named pip", "`installs = true`")
