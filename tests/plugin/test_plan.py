"""`--modelops-plan`: which cells would run, and why not the rest; starts nothing."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import filelock
import pytest

from tests.names import CELL_CHECKS
from tests.plugin.test_wrong_input import make_wheel

if TYPE_CHECKING:
    from tests.plugin.conftest import Once, Project, Ran

HOOK = """
import dataclasses
from pytest_modelops.matrix.cell import Cell, PythonVersion

def pytest_modelops_cells(cells, config):
    {body}
"""
ADD_AND_REMOVE = """
    old = cells.pop()
    python = PythonVersion(old.base.python.release[:2])
    cells.append(Cell.uniform(dataclasses.replace(old.base, python=python)))
"""


@pytest.fixture
def planned(project: Project, once: Once) -> Ran:
    def run() -> Ran:
        worker = f'worker = {{ python = "{project.patch}" }}'
        project.configure_two(
            f'exclude = [{{ python = "{project.patch}" }}]\n'
            f'include = [{{ python = "{project.series}", dask = "installed", {worker} }}]'
        )
        project.write("test_mine.py", "raise AssertionError('nothing is collected')")
        ran, started = project.spied("--modelops-plan", "--modelops-cell=*+worker-*")
        assert started == ""
        return ran

    return once(run)


def test_the_plan_says_what_runs_and_why_not_the_rest(project: Project, planned: Ran) -> None:
    assert planned.code == 0
    assert planned.err == ""
    dask, series, patch = project.dask, project.series, project.patch
    roles = [
        f"{role}: Python {python}, Dask {dask} (installed, as it is)"
        for role, python in {"client": series, "scheduler": series, "worker": patch}.items()
    ]
    reported = [" ".join(line.split()) for line in planned.out.splitlines()]
    assert reported == [
        "1 cell:",
        f"py{series}-dask{dask}+worker-py{patch} {'; '.join(roles)}",
        "left out:",
        f"py{series}-dask{dask} not selected by --modelops-cell *+worker-*",
        f'py{patch}-dask{dask} excluded by {{ python = "{patch}" }}',
        f"each runs: {', '.join(CELL_CHECKS)}",
        "backend: process (auto: no container engine answers)",
        f"configuration: {project.path}/pyproject.toml",
    ]


def test_the_plan_leaves_no_directory_of_a_run(project: Project) -> None:
    assert project.run("--modelops-plan").code == 0
    assert list(project.cache.glob("runs/*")) == []


def test_the_logs_of_old_runs_are_removed_but_not_under_a_run_that_goes_on(project: Project) -> None:
    project.configure_quick()
    runs = project.path / "cache" / "runs"
    project.environ(PYTEST_MODELOPS_CACHE=str(runs.parent))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    goes_on = runs / f"20200101-000000-{os.getpid()}"
    old = [runs / f"2020010{day}-000000-{ended.pid}" for day in (2, 3)]
    newer = [runs / f"20300101-0000{second}-{ended.pid}" for second in range(10, 30)]
    for directory in (goes_on, *old, *newer):
        (directory / "cell" / "logs").mkdir(parents=True)
    assert project.run("--modelops-matrix", "--modelops-plan").code == 0
    assert all(directory.exists() for directory in (goes_on, *old, *newer)), "a plan removes nothing"
    assert project.collect().code == 0
    assert goes_on.exists()
    assert not any(directory.exists() for directory in old)
    assert all(directory.exists() for directory in newer)


def test_asking_an_index_is_a_process_that_a_spy_sees(project: Project) -> None:
    """So that what it does not see was not started."""
    project.environ(UV_OFFLINE="1")
    ran, started = project.spied("--modelops-plan", "--modelops-dask=latest")
    assert ran.code == 0
    assert "subprocess.Popen" in started


IMPATIENT = """
from pytest_modelops.environments import releases

releases._SECONDS = 1.0
"""


def test_an_index_that_hangs_is_none(project: Project) -> None:
    project.write("conftest.py", IMPATIENT)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        project.environ(PIP_INDEX_URL=index, PYTEST_MODELOPS_CACHE=str(project.path / "cache"), UV_HTTP_TIMEOUT="30")
        ran = project.run("--modelops-matrix", "--modelops-plan", "--modelops-dask=latest")
    assert ran.code == 0, ran.err
    assert f"py{project.patch}-dasklatest" in ran.out
    assert "no index to ask" in ran.out
    (note,) = (line for line in ran.out.splitlines() if line.startswith("index: "))
    assert "no index answered" in note
    assert index in note


def test_an_index_that_is_not_there_is_named(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        index = f"http://127.0.0.1:{closed.getsockname()[1]}/simple"
    project.environ(PIP_INDEX_URL=index, PIP_FIND_LINKS="", PYTEST_MODELOPS_CACHE=str(project.path / "cache"))
    project.environ(UV_HTTP_RETRIES="0")  # by default it tries for ten seconds
    project.configure('[tool.modelops.matrix]\ndask = "latest"\n')
    ran = project.run("--modelops-plan")
    assert ran.code == 0, ran.err
    (note,) = (line for line in ran.out.splitlines() if line.startswith("index: "))
    assert index in note
    ran = project.matrix("--modelops-deadline=resolve=60", "modelops::test_resolve")
    assert ran.code == 1
    (resolve,) = (check for check in ran.report["cells"][0]["checks"] if check["name"] == "resolve")
    assert resolve["status"] == "failed"
    first, *_ = resolve["message"].splitlines()
    assert "'latest'" in first
    assert index in first
    assert index in ran.out.partition("modelops matrix")[2]


def test_a_python_that_is_not_installed_is_not_among_those_that_run(project: Project) -> None:
    axes = ["--modelops-python=3.99", f"--modelops-python={project.series}"]
    ran, started = project.spied("--modelops-plan", *axes, "--modelops-backend=process")
    assert (ran.code, started) == (0, "")
    run, _, rest = ran.out.partition("unavailable here")
    assert run.startswith("1 cell:\n")
    assert "py3.99" not in run
    (line,) = (line for line in rest.splitlines() if f"py3.99-dask{project.dask}" in line)
    assert "Python 3.99 is not installed" in line
    assert "uv python install 3.99" in line
    plan = json.loads(project.run("--modelops-plan=json", *axes, "--modelops-backend=process").out)
    assert [one["id"] for one in plan["unavailable"]] == [f"py3.99-dask{project.dask}"]
    assert plan["backend"] == "process"


def test_what_cannot_be_remembered_is_planned_all_the_same(project: Project) -> None:
    project.write("conftest.py", IMPATIENT)
    wheels, cache = project.path / "wheels", project.path / "cache"
    for directory in (wheels, cache):
        directory.mkdir()
    for package in ("dask", "distributed"):
        make_wheel(wheels, package, "2024.8.0")
    project.environ(PIP_FIND_LINKS=str(wheels), PIP_NO_INDEX="1", PYTEST_MODELOPS_CACHE=str(cache))
    with filelock.FileLock(cache / "releases.lock"):
        ran = project.run("--modelops-matrix", "--modelops-plan", "--modelops-dask=latest")
    assert ran.code == 0, ran.err
    assert f"py{project.patch}-dask2024.8.0" in ran.out


class BrokenEngine(http.server.BaseHTTPRequestHandler):
    """Answers that it is one; `breaks` is the beginning of the path at which it fails, `how` as what."""

    breaks, how = "/nothing", 0
    asked: ClassVar[list[str]]

    def do_GET(self) -> None:
        path = self.path.removeprefix("/v1.44")
        self.asked.append(path)
        if path.startswith(self.breaks):
            if self.how:
                self._answer(self.how, {"message": "the engine's store is damaged"})
            return  # else the connection ends
        if path.startswith("/images/"):
            self._answer(404, {"message": "no such image"})
            return
        facts = {"ApiVersion": "1.44", "ServerVersion": "28.0", "NCPU": 2, "Architecture": "x86_64"}
        answers: dict[str, object] = {"/version": facts, "/info": facts, "/volumes": {"Volumes": None}}
        self._answer(200, answers.get(path.partition("?")[0], []))

    def _answer(self, code: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def broken_engine(project: Project) -> Iterator[type[BrokenEngine]]:
    class Engine(BrokenEngine):
        asked: ClassVar[list[str]] = []

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        project.environ(DOCKER_HOST=f"tcp://127.0.0.1:{server.server_port}", TESTCONTAINERS_RYUK_DISABLED="false")
        yield Engine
        server.shutdown()


@pytest.mark.parametrize("how", [500, 0])
def test_an_engine_that_answers_and_fails_is_reported(
    project: Project, broken_engine: type[BrokenEngine], how: int
) -> None:
    broken_engine.breaks, broken_engine.how = "/containers/json", how
    axis = f"--modelops-python={project.series}"
    why = "the engine's store is damaged" if how else "does not answer any more"
    ran = project.run("--modelops-matrix", axis, "--collect-only")
    assert ran.code == 0, ran.err
    (header,) = (line for line in ran.out.splitlines() if line.startswith("modelops: "))
    assert ("auto: an engine answers, but fails: could not list what" in header) == bool(how)
    ran = project.run("--modelops-matrix", axis, "--modelops-backend=docker")
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --modelops-backend docker: could not list what earlier runs left: " in ran.err
    assert why in ran.err


@pytest.mark.parametrize("how", [500, 0])
def test_an_engine_that_fails_at_what_can_be_done_without_is_used(
    project: Project, broken_engine: type[BrokenEngine], how: int
) -> None:
    broken_engine.breaks, broken_engine.how = "/images/", how
    ran = project.collect(f"--modelops-python={project.series}")
    assert ran.code == 0, ran.err


def test_a_plan_for_a_named_backend_asks_no_engine(project: Project, broken_engine: type[BrokenEngine]) -> None:
    axis = f"--modelops-python={project.series}"
    ran, started = project.spied("--modelops-plan", axis, "--modelops-backend=docker", "--modelops-keep=failed")
    assert ran.code == 0, ran.err
    assert f"py{project.series}-dask{project.dask}" in ran.out
    assert "backend: docker\n" in ran.out
    assert (broken_engine.asked, started) == ([], "")


@pytest.mark.parametrize("registry", [200, 404])
def test_auto_takes_an_engine_that_can_pull_and_the_plan_names_it(
    project: Project, broken_engine: type[BrokenEngine], registry: int
) -> None:
    """404 is of an image that does not exist, or of an engine that cannot ask: using it says what is wrong."""
    broken_engine.breaks, broken_engine.how = ("/distribution/" if registry != 200 else "/nothing"), registry
    axis = f"--modelops-python={project.series}"
    ran, started = project.spied("--modelops-plan", axis, "--modelops-keep=failed")
    assert ran.code == 0, ran.err
    assert started == ""
    assert "backend: docker (auto: an engine answers)" in ran.out
    assert f"/distribution/python:{project.series}-slim/json" in broken_engine.asked


@pytest.mark.parametrize("image", ["", '[tool.modelops.docker]\nimage = "mine:{python}"\n'], ids=["default", "own"])
def test_auto_with_an_engine_that_cannot_pull_runs_local_environments_and_says_so(
    project: Project, broken_engine: type[BrokenEngine], image: str
) -> None:
    broken_engine.breaks, broken_engine.how = "/distribution/", 500
    project.configure_quick()
    project.configure(f'[tool.modelops.matrix]\npython = "3.12"\n{image}')
    name = "mine:3.12" if image else "python:3.12-slim"
    why = f"an engine answers, but it cannot pull {name}: the engine's store is damaged"
    plan = project.run("--modelops-plan")
    assert f"backend: process (auto: {why})" in plan.out
    ran = project.matrix()
    assert ran.code == 0, ran.err
    assert f"(auto: {why})" in ran.out
    assert ran.report["backend"] == "process"
    assert [note for note in ran.report["cells"][0]["notes"] if why in note]
    assert "note: cells run in local environments" in ran.out


def test_a_prebuilt_image_that_cannot_be_pulled_is_not_replaced(
    project: Project, broken_engine: type[BrokenEngine]
) -> None:
    broken_engine.breaks, broken_engine.how = "/distribution/", 500
    image = '[tool.modelops.docker]\nprebuilt = "ours:{python}"\n'
    project.configure(f'[tool.modelops.matrix]\npython = "3.12"\n{image}')
    assert "backend: docker (auto: an engine answers)" in project.run("--modelops-plan").out


@pytest.mark.parametrize("more", [[], ["--modelops-matrix"], ["-n", "2"], ["-q"]], ids=" ".join)
def test_as_json_it_is_alone_on_stdout(project: Project, more: list[str]) -> None:
    ran = project.run("--modelops-plan=json", *more)
    plan = json.loads(ran.out)
    assert ran.code == 0
    assert plan["schema"] == 1
    assert [cell["id"] for cell in plan["cells"]] == [project.cell]
    assert plan["cells"][0]["roles"]["worker"] == {
        "python": project.patch,
        "dask": project.dask,
        "dask_request": "installed",
        "as_is": True,
    }
    assert plan["left_out"] == []


def test_a_path_behind_the_flag_stays_a_path(project: Project) -> None:
    project.write("tests/conftest.py", HOOK.format(body="print('heard in tests/')"))
    ran = project.run("--modelops-plan", "tests/")
    assert ran.code == 0
    assert "heard in tests/" in ran.out
    assert project.cell in ran.out


def test_a_hook_adds_and_removes_cells_and_what_it_removed_is_reported(project: Project) -> None:
    project.write("conftest.py", HOOK.format(body=ADD_AND_REMOVE.strip()))
    plan = json.loads(project.run("--modelops-plan=json").out)
    assert [cell["id"] for cell in plan["cells"]] == [f"py{project.series}-dask{project.dask}"]
    assert plan["left_out"] == [{"id": project.cell, "reason": "removed by pytest_modelops_cells"}]


def test_a_hook_that_is_a_generator_would_never_run(project: Project) -> None:
    project.write("conftest.py", "def pytest_modelops_checks(checks):\n    yield from checks\n")
    ran = project.run("--modelops-plan")
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert "pytest_modelops_checks: an implementation returned <generator object " in ran.err
    assert "change `checks` in place" in ran.err


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("cells.clear()", "no cell is left"),
        ("cells.append(cells[0])", "{cell} is there twice"),
        ("cells.append('py3.12')", "'py3.12' is not a pytest_modelops.matrix.cell.Cell"),
        ("return []", "an implementation returned [], which is ignored; change `cells` in place"),
    ],
)
def test_what_a_hook_may_not_make_of_the_cells_is_wrong_input(project: Project, body: str, message: str) -> None:
    project.write("conftest.py", HOOK.format(body=body))
    ran = project.run("--modelops-plan")
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert ran.err.strip() == f"ERROR: pytest_modelops_cells: {message.format(cell=project.cell)}"


def test_the_command_line_is_stronger_than_a_variable_and_that_than_the_table(project: Project) -> None:
    def pythons(*arguments: str) -> list[str]:
        plan = json.loads(project.run("--modelops-plan=json", *arguments).out)
        return [cell["python"] for cell in plan["cells"]]

    project.configure(f'[tool.modelops.matrix]\npython = "{project.series}.97"\n')
    assert pythons() == [f"{project.series}.97"]
    project.environ(PYTEST_MODELOPS_PYTHON=f"{project.series}.98 {project.series}.99")
    assert pythons() == [f"{project.series}.98", f"{project.series}.99"]
    assert pythons(f"--modelops-python={project.series}") == [project.series]


def test_an_ini_setting_is_between_a_variable_and_the_table(project: Project) -> None:
    def cache(*arguments: str) -> str:
        _, _, rest = project.collect("-v", *arguments).out.partition("process backend, cache ")
        return rest.splitlines()[0].partition(" (auto: ")[0]

    project.environ(PYTEST_MODELOPS_CACHE="")
    project.configure('[tool.modelops]\ncache = "table"\n', small=False)
    assert cache() == str(project.path / "table")
    project.write("pytest.ini", "[pytest]\nmodelops_cache = ini\n")
    assert cache() == str(project.path / "ini")
    project.environ(PYTEST_MODELOPS_CACHE="variable")
    assert cache() == str(project.path / "variable")
    assert cache("--modelops-cache=flag") == str(project.path / "flag")
