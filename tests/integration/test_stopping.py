"""However a run ends, nothing of it goes on: Ctrl-C, SIGTERM, SIGKILL, crashes of xdist workers, tasks that never end.

That nothing is left is asserted at the end of every run, by what these tests share with all others.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Matrix, Run, Running, WriteWheel

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


class Index:
    """An index on loopback with a made-up Dask, which at one request falls silent."""

    def __init__(self, directory: Path, write_wheel: WriteWheel) -> None:
        self._wheels = {}
        for name, requires in {"dask": ["helper"], "distributed": [], "helper": []}.items():
            wheel = directory / f"{name}-2024.10.0-py3-none-any.whl"
            write_wheel(wheel, {f"{name}/__init__.py": "x = 1\n" * 10_000}, requires=requires)
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 2024.10.0\n"
            metadata += "".join(f"Requires-Dist: {line}\n" for line in requires)
            self._wheels[name] = (wheel, metadata.encode())
        self.silent_at = ""
        self.reached = threading.Event()
        self._over = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = outer._content(self.path)
                if content is None:
                    self.send_error(404)
                    return
                if self.path == outer.silent_at and self.path.startswith("/simple/"):
                    outer._fall_silent()
                self.send_response(200)
                self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[:100])
                self.wfile.flush()
                if self.path == outer.silent_at:
                    outer._fall_silent()
                self.wfile.write(content[100:])

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.variables = {
            "UV_DEFAULT_INDEX": f"http://127.0.0.1:{self._server.server_port}/simple",
            "UV_CACHE_DIR": str(directory / "uv-cache"),
        }
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _content(self, path: str) -> bytes | None:
        for name, (wheel, metadata) in self._wheels.items():
            if path == f"/simple/{name}/":
                file = {
                    "filename": wheel.name,
                    "url": f"/files/{wheel.name}",
                    "hashes": {"sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()},
                    "core-metadata": {"sha256": hashlib.sha256(metadata).hexdigest()},
                }
                return json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": [file]}).encode()
            if path == f"/files/{wheel.name}.metadata":
                return metadata
            if path == f"/files/{wheel.name}":
                return wheel.read_bytes()
        return None

    def _fall_silent(self) -> None:
        self.reached.set()
        self._over.wait()

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def index(tmp_path: Path, write_wheel: WriteWheel) -> Iterator[Index]:
    directory = tmp_path / "index"
    directory.mkdir()
    made = Index(directory, write_wheel)
    yield made
    made.close()


@dataclasses.dataclass(frozen=True)
class Midway:
    """A run that is in the middle of a check.

    Attributes:
        again: runs the same up to that check, without what made it stay there.
    """

    check_name: str
    running: Running
    again: Callable[[], Run]


SILENT_AT = {
    "plan": "/simple/dask/",
    "resolve": "/simple/helper/",
    "install": "/files/helper-2024.10.0-py3-none-any.whl",
}


def in_the_middle_of_environments(check_name: str, matrix: Matrix, index: Index) -> Midway:
    matrix.configure(f'[tool.modelops.matrix]\npython = ["{HERE}"]\ndask = ["2024.10.0"]')
    index.silent_at = SILENT_AT[check_name]
    running = matrix.start(env=index.variables)
    running.until(index.reached.is_set, f"uv asked for {index.silent_at}")

    def again() -> Run:
        index.silent_at = ""
        return matrix.run("-k", "resolve or install", env=index.variables)

    return Midway(check_name, running, again)


HANGS = """
import pathlib, time
pathlib.Path({there!r}).touch()
time.sleep(1000)
"""

COUNTS = """
import pathlib
from distributed.diagnostics.plugin import WorkerPlugin

class Counts(WorkerPlugin):
    done = 0

    def transition(self, key, start, finish, **kwargs):
        if str(key).startswith("sim-") and finish == "memory":
            self.done += 1
            if self.done == 30:
                pathlib.Path({there!r}).touch()

async def dask_setup(worker):
    await worker.plugin_add(plugin=Counts(), name="counts")
"""


def in_the_middle_of_a_cluster(check_name: str, matrix: Matrix, *arguments: str) -> Midway:
    there = matrix.path / "there"
    preload = matrix.write("preload.py", {"start": HANGS, "aggregation": COUNTS}[check_name].format(there=str(there)))
    matrix.configure(
        f"""
        [tool.modelops.environment]
        worker-args = ["--preload", "{preload}"]
        [tool.modelops.aggregation]
        params = 200
        """
    )
    running = matrix.start(*arguments)
    running.until(there.exists, f"it was in the middle of {check_name}")

    def again() -> Run:
        matrix.configure("[tool.modelops]\nworkers = 1")
        return matrix.run("-k", "lambda")

    return Midway(check_name, running, again)


@pytest.fixture(params=["resolve", "install", "start", "aggregation"])
def midway(request: pytest.FixtureRequest, matrix: Matrix) -> Midway:
    check_name: str = request.param
    if check_name in SILENT_AT:
        return in_the_middle_of_environments(check_name, matrix, request.getfixturevalue("index"))
    return in_the_middle_of_a_cluster(check_name, matrix)


PARTS = {"scheduler", "worker-0", "worker-1", "agent"}


def assert_logs_stay(run: Run, check_name: str) -> None:
    there = {path.stem for path in run.directory.glob("*/logs/*.log")}
    assert there >= (set() if check_name in SILENT_AT else PARTS), there


@pytest.mark.parametrize("end", ["interrupt", "terminate"])
def test_ctrl_c_and_sigterm(midway: Midway, end: str) -> None:
    run: Run = getattr(midway.running, end)()
    assert run.code == 2, run.out
    assert ("SIGTERM" in run.out) == (end == "terminate")
    assert "modelops matrix" in run.out
    cell = run.cell()
    check_names = list(cell.statuses)
    passed = check_names.index(midway.check_name)
    assert list(cell.statuses.values()) == ["passed"] * passed + ["not-run"] * (len(check_names) - passed)
    assert cell.facts["status"] == "not-run"
    assert_logs_stay(run, midway.check_name)
    midway.again().passed()


def test_sigkill(midway: Midway) -> None:
    run = midway.running.kill()
    assert run.code == -9
    assert_logs_stay(run, midway.check_name)
    midway.again().passed()


@pytest.mark.parametrize(("end", "code"), [("interrupt", 2), ("terminate", 2), ("kill", -9)])
def test_before_anything_is_planned(matrix: Matrix, index: Index, end: str, code: int) -> None:
    midway = in_the_middle_of_environments("plan", matrix, index)
    run: Run = getattr(midway.running, end)()
    assert run.code == code, run.out
    midway.again().passed()


def test_ctrl_c_twice(matrix: Matrix) -> None:
    """By somebody who does not want to wait until the cell has stopped."""
    running = in_the_middle_of_a_cluster("aggregation", matrix).running
    run = running.interrupt(
        again_when=lambda: not any("modelops_remote.client.agent" in line for line in running.left())
    )
    assert run.code != 0
    assert_logs_stay(run, "aggregation")


@pytest.mark.parametrize("end", ["interrupt", "terminate"])
def test_with_xdist(matrix: Matrix, end: str) -> None:
    """A terminal sends Ctrl-C to all of them, the workers of xdist included; SIGTERM reaches the controller alone."""
    run: Run = getattr(in_the_middle_of_a_cluster("aggregation", matrix, "-n", "2").running, end)()
    assert run.code == 2, run.out
    assert "modelops matrix" in run.out
    assert list(run.cell().statuses.values()) == ["passed"] * 5 + ["not-run"]
    assert_logs_stay(run, "aggregation")


def test_an_xdist_worker_that_crashes(matrix: Matrix) -> None:
    matrix.write(
        "test_it.py",
        """
        import os

        def test_crash(modelops_cell):
            modelops_cell.require("start")
            os._exit(3)

        def test_after(modelops_cell):
            assert modelops_cell.call("lambda: 42") == 42
        """,
    )
    run = matrix.run("-n", "2", "test_it.py")
    assert run.code == 1, run.out
    assert run.out.count("node down") == 1, "a test that crashes is not tried again and again"
    cell = run.cell()
    assert (cell.facts["status"], cell.facts["first_broken"]) == ("failed", "test_it.py::test_crash")
    cell.checks["test_it.py::test_crash"].says("worker 'gw", "' crashed while running 'test_it.py::test_crash[")
    assert cell.checks["test_it.py::test_after"].status == "passed"
    assert_logs_stay(run, "start")


@pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), signal.SIGKILL)"], ids=["normal end", "SIGKILL"])
def test_tasks_that_never_end(matrix: Matrix, end: str) -> None:
    matrix.write(
        "test_it.py",
        f"""
        import os, pytest, signal
        from pytest_modelops.errors import TimedOut

        def spin():
            while True:
                pass

        def hold_the_gil():
            import ctypes
            ctypes.PyDLL(None).sleep(1000)

        def start_runners():
            # In a session of its own: one that is the worker's child, and one whose parent is gone.
            import subprocess, sys
            source = "subprocess.Popen(['sleep', '1000'], start_new_session=True, stdout=subprocess.DEVNULL).pid"
            orphan = subprocess.check_output([sys.executable, "-c", f"import subprocess; print({{source}})"])
            return eval(source), int(orphan)

        def test_it(modelops_cell):
            runners = modelops_cell.call_each(start_runners).values()
            for function, worker in (spin, "worker-0"), (hold_the_gil, "worker-1"):
                with pytest.raises(TimedOut):
                    modelops_cell.call(function, worker=worker, deadline=1)
            for pid in sum(runners, ()):
                os.kill(pid, 0)
            {end}
        """,
    )
    running = matrix.start("test_it.py")
    run = running.ended(seconds=60, seconds_to_vanish=20 if end != "pass" else 0)
    assert run.code == (0 if end == "pass" else -9), run.out
    assert_logs_stay(run, "start")
