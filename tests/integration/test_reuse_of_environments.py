"""Runners that install by themselves and reuse an environment, on real workers: a careful one and a naive one.

Both are in one cell, where the naive one gets the bundles that name habits of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.forking import Template
from tests.integration.conftest import Check, Matrix, shared_cache

REPOSITORY = Path(__file__).parents[2]
NUMBERS = REPOSITORY / "fixtures" / "bundles" / "numbers"
NAIVE = REPOSITORY / "tests" / "servers" / "naive_installing_runner.py"
CAREFUL = REPOSITORY / "tests" / "servers" / "careful_installing_runner.py"
DEADLINE = 300
"""Of the check, its default."""
SECONDS = 600
"""For a run, which makes an environment twelve times for each bundle."""
CANARIES = (
    *("first-use", "second-use", "edited-code", "common-prefix", "another-python", "half-made"),
    *("missing-packages", "dead-holder", "two-at-once", "forced-fresh"),
)
PROJECT = """
    [project]
    name = "reused"
    version = "1.0"
    description = "reported by its runner"
    dependencies = ["iniconfig"]
    [project.entry-points."modelops.wire"]
    wire = "reused.wire:wire"
"""
WITH_FLIT = """
    [build-system]
    requires = ["flit-core"]
    build-backend = "flit_core.buildapi"
"""
BY_ITSELF = """
    [build-system]
    requires = []
    build-backend = "backend"
    backend-path = ["packaging"]
"""
"""A build system that needs nothing in an environment of its own, which pip would make for every build."""
BACKEND = """
    import pathlib
    import zipfile

    def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
        name, info = "reused-1.0-py3-none-any.whl", "reused-1.0.dist-info"
        files = {path.relative_to("src").as_posix(): path.read_text() for path in pathlib.Path("src").rglob("*.py")}
        needs = "Requires-Dist: iniconfig\\n"
        files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\\nName: reused\\nVersion: 1.0\\n{needs}"
        files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\\nGenerator: it\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        files[f"{info}/entry_points.txt"] = "[modelops.wire]\\nwire = reused.wire:wire\\n"
        names = [*files, f"{info}/RECORD"]
        files[f"{info}/RECORD"] = "".join(f"{file},,\\n" for file in names)
        with zipfile.ZipFile(pathlib.Path(wheel_directory, name), "w") as wheel:
            for file, text in files.items():
                wheel.writestr(file, text)
        return name
"""
EITHER = """
    import os
    import runpy

    peer = "naive" if os.path.exists("habits.txt") else "careful"
    runpy.run_path(os.path.join(os.path.dirname(__file__), peer + ".py"), run_name="__main__")
"""
"""A runner: its working directory is the bundle."""
WIRE = """
    import iniconfig

    def wire(entrypoint, params, seed):
        return {"reported.txt": f"{iniconfig.__name__} {seed}".encode()}
"""


def ship(matrix: Matrix, runner: str, *more: str, bundles: Mapping[str, str | None]) -> None:
    """Write projects, each a packaged bundle that needs another package, and their runner.

    Args:
        bundles: names, each with habits of the naive runner, or `None` for another one.
    """
    build_system = BY_ITSELF if runner else WITH_FLIT
    for name, habits in bundles.items():
        matrix.write(f"bundles/{name}/pyproject.toml", build_system + PROJECT)
        matrix.write(f"bundles/{name}/packaging/backend.py", BACKEND)
        matrix.write(f"bundles/{name}/src/reused/__init__.py", "")
        matrix.write(f"bundles/{name}/src/reused/wire.py", WIRE)
        if habits is not None:
            matrix.write(f"bundles/{name}/habits.txt", habits)
    paths = [*(f"bundles/{name}" for name in bundles), *more]
    matrix.configure(
        f"""
        [tool.modelops]
        workers = 1
        start = "fork-workers"
        bundles = {paths!r}
        [tool.modelops.deadlines]
        venv-reuse = {DEADLINE}
        [tool.modelops.runner]
        installs = true
        {runner}
        """
    )


COMMAND = (
    '["{python}", "{runner}", "--bundle-path", "{bundle}", "--venv-path", "{venv}", "--bundle-digest", "{digest}", '
    '"--python", "{version}", "--wheels", "{wheels}"'
)


HABITS = {"reused": "again", "hurried": "hurries keeps refuses secretly"}


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Mapping[str, Check]:
    """What was found with the careful and the naive runner, by bundle."""
    project = tmp_path_factory.mktemp("reuse") / "project"
    with contextlib.closing(Matrix(project, shared_cache(tmp_path_factory), template=template)) as matrix:
        for name, source in (("__main__", EITHER), ("naive", NAIVE.read_text()), ("careful", CAREFUL.read_text())):
            matrix.write(f"runner/{name}.py", source)
        fresh = 'fresh-env = { FRESH_ENV = "yes", CAREFUL_FRESH = "yes" }'
        runner = f'path = "runner"\n        command = {COMMAND}]\n        {fresh}'
        ship(matrix, runner, bundles={**HABITS, "careful": None})
        run = matrix.start("-k", "venv_reuse").ended(seconds=SECONDS)
    assert run.code == 1, run.out
    assert run.cell().facts["first_broken"] == "venv-reuse[reused]", run.out
    checks = {one["bundle"]: Check(**one) for one in run.cell().facts["checks"] if one["name"] == "venv-reuse"}
    assert checks.keys() == {*HABITS, "careful"}
    for check in checks.values():
        assert check.seconds <= DEADLINE + 2
        assert check.data["canaries"].keys() == set(CANARIES)
    return checks


def outcomes(data: dict[str, Any]) -> dict[str, str]:
    return {name: reported["outcome"] for name, reported in data["canaries"].items()}


@pytest.mark.timeout(900)
def test_the_reference_runner_may_be_trusted_with_an_environment(building_matrix: Matrix) -> None:
    ship(building_matrix, "", str(NUMBERS), bundles={"reused": None})
    bundle = building_matrix.path / "bundles/reused"
    before = {file: file.read_bytes() for file in bundle.rglob("*") if file.is_file()}
    run = building_matrix.start("-k", "venv_reuse").ended(seconds=SECONDS).passed()
    assert before == {file: file.read_bytes() for file in bundle.rglob("*") if file.is_file()}
    reported = {check["bundle"]: check["data"] for check in run.cell().facts["checks"] if check["name"] == "venv-reuse"}
    passed = dict.fromkeys(CANARIES, "passed")
    found = outcomes(reported["reused"])
    assert found == {**passed, "another-python": found["another-python"]}
    installs_nothing = dict.fromkeys(("half-made", "missing-packages"), "not tried")
    assert outcomes(reported["numbers"]) == {**found, **installs_nothing}
    assert reported["reused"]["second_seconds"] < reported["reused"]["first_seconds"], "about a tenth of it"


@pytest.mark.timeout(900)
def test_a_naive_runner_breaks_on_everything_that_it_believes(checks: Mapping[str, Check]) -> None:
    """Who installs again uses nothing again, who keeps results executes nothing, who does not wait finds nothing."""
    for bundle in HABITS:
        assert checks[bundle].status == "failed", checks[bundle].message
    runs = {bundle: (check, outcomes(check.data)) for bundle, check in checks.items()}
    check, found = runs["reused"]
    right = {name for name, outcome in found.items() if outcome == "passed"}
    with_its_own = {"edited-code", "common-prefix"}  # another digest has an environment of its own
    assert right - {"another-python"} == {"first-use", "two-at-once", *with_its_own}
    untried = found["another-python"] == "not tried"
    check.says("5 of 9 canaries" if untried else "6 of 10 canaries")
    assert check.cause == ("unfinished-environment" if untried else "environment-of-another-python")
    if not untried:
        check.says("an environment of another Python under the right key: it was used in silence, and runs Python")
    check.says("second use: what was installed was installed again", "were written again, or are gone")
    check.says("metadata without files: its runner exited with code 1", "No module named 'reused'")
    check.says("packages' files are gone: its runner exited with code 1", "No module named 'reused'")
    check.says("killed in the middle of its install: its runner did not answer `ready`", "flock(2)", "in install")
    check, found = runs["hurried"]
    assert check.cause == "stored-result"
    check.says("second use: asked again, it gave the answer of the first use, made at the same moment")
    assert (found["two-at-once"], found["dead-holder"]) == ("failed", "failed")
    assert (found["first-use"], found["second-use"], found["forced-fresh"]) == ("passed", "failed", "failed")
    assert found["another-python"] in {"passed", "not tried"}
    first, second = check.data["first_seconds"], check.data["second_seconds"]
    assert second >= first
    check.says(f"second use: it took {second:g} s and ", f"the first use {first:g} s, of which")
    check.says("two runners at once on a new environment: its runner exited with code 1", "has to wait")
    check.says("a fresh environment was wanted: a foreign file in its site-packages is still there")
    check.says("a fresh environment was wanted: it answered with the old code's output ('A')")


@pytest.mark.timeout(900)
def test_a_careful_runner_of_the_user_s_may_be_trusted(checks: Mapping[str, Check]) -> None:
    assert checks["careful"].status == "passed", checks["careful"].message
    found = outcomes(checks["careful"].data)
    assert found == {**dict.fromkeys(CANARIES, "passed"), "another-python": found["another-python"]}
    assert found["another-python"] in {"passed", "not tried"}


@pytest.mark.timeout(400)
def test_a_layout_of_the_runner_s_own_is_stale_if_it_does_not_count_the_digest(matrix: Matrix) -> None:
    for name, server in (("__main__.py", "keeping_runner.py"), ("users_runner.py", "users_runner.py")):
        matrix.write(f"runner/{name}", (NAIVE.parent / server).read_text("utf-8"))
    matrix.write("bundles/kept/wire.py", "def wire(entrypoint, params, seed):\n    return {'a': b'1'}\n")
    before, _, _ = COMMAND.partition(', "--python')
    command = f'{before}, "--store", "~/kept"]'
    matrix.configure(
        f"""
        [tool.modelops]
        workers = 1
        start = "fork-workers"
        bundles = ["bundles/kept"]
        [tool.modelops.runner]
        installs = true
        path = "runner"
        command = {command}
        """
    )
    run = matrix.start("-k", "venv_reuse").ended(seconds=SECONDS)
    check = run.check("venv-reuse")
    found = outcomes(check.data)
    assert {name for name, outcome in found.items() if outcome == "failed"} == {"edited-code", "common-prefix"}, run.out
    assert found["forced-fresh"] == "not tried"
    assert check.cause == "stale-environment"
    check.says(
        "2 of ",
        "edited code under the same name: it answered with the old code's output ('A')",
        "a digest that begins as that of the environment: it answered with the other bundle's output ('A')",
        "the two digests have their first 60 digits in common, and all 64 count",
    )


def test_without_installs_there_is_no_such_check(matrix: Matrix) -> None:
    matrix.configure(f'[tool.modelops]\nbundles = ["{NUMBERS}"]\n')
    assert "venv_reuse" not in matrix.run("--modelops-plan").out
    run = matrix.run("-k", "venv_reuse")
    assert run.code == 5, run.out
