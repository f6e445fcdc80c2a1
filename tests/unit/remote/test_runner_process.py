"""A runner as its worker sees it, whatever it does.

What came of each request is reported, and nothing of it is left.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_modelops.checks import handshake
from pytest_modelops.checks.bundle_messages import fault_of
from pytest_modelops.deadline import Deadline
from pytest_modelops.remote.shared.bundle_messages import (
    BundleLocation,
    EnvironmentContents,
    InstallAnswer,
    InstalledWheels,
    Outcome,
)
from pytest_modelops.remote.shared.supervised import CouldNot
from pytest_modelops.remote.worker.bundles import Bundles
from pytest_modelops.remote.worker.runner_process import Runner
from pytest_modelops.remote.worker.states import SITE
from tests.integration.conftest import write_wheel
from tests.pythons import another_python
from tests.unit.remote.conftest import COMMAND, location_in, put_pip

SERVERS = Path(__file__).parents[2] / "servers"
SECONDS = 60.0
"""Whatever takes so long, hangs."""
SHORT = 0.5
"""For what never comes."""
DIGEST = "f" * 64


def of(directory: Path) -> list[psutil.Process]:
    """Every process whose command line, working directory or open files mention a directory."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        arguments = [*(process.info["cmdline"] or ()), process.info["cwd"] or ""]
        if process.pid != os.getpid() and any(str(directory) in argument for argument in arguments):
            found.append(process)
    return found


def until(condition: Callable[[], Any], awaited: str) -> Any:
    """Wait for something that another process does."""
    end = time.monotonic() + SECONDS
    while not (answer := condition()):
        assert time.monotonic() < end, f"{awaited}: not within {SECONDS} s"
        time.sleep(0.02)
    return answer


@dataclasses.dataclass
class Starter:
    directory: Path
    started: list[Runner] = dataclasses.field(default_factory=list)

    def __call__(self, server: str) -> Runner:
        """A runner that misbehaves as the file of that name says."""
        runner = Runner(
            [
                *(sys.executable, str(SERVERS / f"{server}.py"), "--bundle-path", str(self.directory)),
                *("--venv-path", str(self.directory / "venv"), "--bundle-digest", DIGEST),
            ],
            env=dict(os.environ),
            cwd=str(self.directory),
            directory=str(self.directory / "logs"),
        )
        self.started.append(runner)
        return runner


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    for runner in starter.started:
        runner.close(seconds=0)
    assert of(tmp_path) == []


def ready(runner: Runner) -> Outcome:
    outcome = runner.call("ready", {}, SECONDS)
    assert outcome["result"]["bundle_digest"] == DIGEST
    return outcome


# --- peers that misbehave ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["notification_first", "asks_back", "answers_out_of_order", "noisy_stderr"])
def test_what_the_protocol_allows_passes(start: Starter, server: str) -> None:
    runner = start(server)
    assert ready(runner)["outside"] == ""
    for _ in range(3):
        assert runner.call("execute", {}, SECONDS) == {"result": {"reported.txt": "dG9sZA=="}, "outside": ""}
    assert runner.close(seconds=SECONDS) == {"outside": "", "ended": "exited with code 0", "survived": [], "left": []}


def test_frames_in_pieces_in_heaps_and_with_odd_headers_are_frames(start: Starter) -> None:
    runner = start("odd_frames")
    assert ready(runner)["outside"] == ""
    large: dict[str, Any] = {"params": {"text": "é" * (8 << 20)}}  # 16 MiB of UTF-8, thrice that as JSON
    small: dict[str, Any] = {"params": {}}
    for params in (large, small, large):
        assert runner.call("execute", params, SECONDS) == {"result": params, "outside": ""}
    assert runner.close(seconds=SECONDS)["ended"] == "exited with code 0"


def test_each_gets_its_own_answer_whatever_the_order(start: Starter) -> None:
    runner = start("answers_in_reverse")
    got: dict[str, Any] = {}

    def ask(who: str) -> None:
        got[who] = runner.call("execute", {"who": who}, SECONDS)

    threads = [threading.Thread(target=ask, args=(who,)) for who in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {who: {"result": {"reported": who}, "outside": ""} for who in ("first", "second")}


def test_a_runner_that_frames_by_lines_is_named_at_once(start: Starter) -> None:
    runner = start("lines")
    began = time.monotonic()
    outcome = runner.call("ready", {}, SECONDS)
    assert time.monotonic() - began < SECONDS - 1
    assert "silent" not in outcome
    head = fault_of(outcome, "ready", seconds=SECONDS).head
    assert "its runner answered `ready` with JSON without a frame, as newline-delimited JSON-RPC writes it" in head
    assert '"message": "Parse error"' in head
    assert outcome["outside"] == "", "said already"


def test_an_answer_to_no_request_is_ignored_and_reported(start: Starter) -> None:
    runner = start("wrong_id")
    outcome = runner.call("ready", {}, 3.0)
    assert outcome["silent"] == 3.0
    assert json.loads(outcome["strange"])["id"] == 1001
    head = fault_of(outcome, "ready", seconds=3).head
    assert "did not answer `ready` within the deadline of 3 s" in head
    assert 'It sent an answer to nothing that was asked: {"jsonrpc": "2.0", "id": 1001, "result":' in head


@pytest.mark.parametrize("server", ["silent", "slow_reader", "hangs_with_an_orphan"])
def test_one_that_does_not_answer_is_silent_and_shows_where_it_stands(start: Starter, server: str) -> None:
    runner = start(server)
    until(lambda: any(f"{server}.py" in " ".join(one.cmdline()) for one in of(start.directory)), "its start")
    outcome = runner.call("ready", {"more": "x" * 200_000}, 4.0)  # more than a pipe takes
    assert outcome["silent"] == 4.0
    assert f"{server}.py" in outcome["stacks"]
    assert outcome["cause"] is None
    assert outcome["outside"] == ""
    assert runner.close(seconds=0)["left"] == []


def test_one_that_is_frozen_is_said_to_be_stopped(start: Starter) -> None:
    runner = start("notification_first")
    ready(runner)
    os.kill(runner.pid, signal.SIGSTOP)
    outcome = runner.call("execute", {}, SHORT)
    fault = fault_of(outcome, "execute", seconds=SHORT)
    assert "did not answer `execute` within the deadline" in fault.head
    assert fault.details == ("it is stopped (SIGSTOP) and does nothing",)
    assert runner.close(seconds=0)["left"] == []


def test_one_that_ends_before_it_answers_has_exited_and_its_first_cause_is_reported(start: Starter) -> None:
    runner = start("exits_early")
    outcome = runner.call("ready", {}, SECONDS)
    assert outcome["exited"] == "exited with code 3"
    assert (outcome["cause"] or "").startswith("ModuleNotFoundError: No module named 'scipy_that_is_not' (")
    assert outcome["last"][-1] == "and so it cannot start"
    assert runner.close(seconds=0)["left"] == []


def test_one_that_is_killed_has_exited(start: Starter) -> None:
    runner = start("silent")
    thread = threading.Timer(0, lambda: os.kill(runner.pid, signal.SIGKILL))
    thread.start()
    assert runner.call("ready", {}, SECONDS)["exited"] == "was killed by SIGKILL"


def test_one_that_closes_its_stdout_and_still_runs_has_not_exited(start: Starter) -> None:
    outcome = start("closes_stdout").call("ready", {}, SECONDS)
    assert outcome["exited"] == "closed its stdout and still runs"


@pytest.mark.parametrize(
    ("server", "reported"), [("garbled", "not: json"), ("wrong_count", '{"jsonrpc": "2.0", "id": 1')]
)
def test_a_frame_that_is_no_json_is_garbled_and_quoted(start: Starter, server: str, reported: str) -> None:
    runner = start(server)
    outcome = runner.call("ready", {}, SECONDS)
    assert outcome["garbled"].startswith(reported)
    assert outcome["outside"] == outcome["garbled"]
    assert runner.close(seconds=0)["left"] == []


def test_an_error_is_reported_as_it_came(start: Starter) -> None:
    outcome = start("refuses").call("execute", {}, SECONDS)
    assert outcome == {"error": {"code": -32603, "message": "not today", "data": {"why": "it refuses"}}, "outside": ""}
    fault = fault_of(outcome, "execute", seconds=3)
    assert fault.head == "`execute` was answered with error -32603: not today"
    assert fault.details == ("data: {'why': 'it refuses'}",)


def test_another_digest_comes_through_for_others_to_judge(start: Starter) -> None:
    assert start("wrong_digest").call("ready", {}, SECONDS)["result"]["bundle_digest"] == "0" * 64


def test_what_is_printed_between_frames_is_reported_once_and_with_its_request(start: Starter) -> None:
    runner = start("prints_between")
    assert ready(runner)["outside"] == "Loading: ready\n"
    assert runner.call("execute", {}, SECONDS)["outside"] == "Loading: execute\n"
    assert runner.outside() == ""
    assert runner.close(seconds=SECONDS)["outside"] == "Loading: shutdown\n"
    assert b"Loading: ready\nContent-Length: " in Path(runner.stdout).read_bytes()


def test_a_request_that_is_echoed_is_an_answer_with_nothing_in_it(start: Starter) -> None:
    answer = start("echoes").call("ready", {}, SECONDS)
    assert (answer["result"], answer["outside"]) == (None, "")


# --- its end -----------------------------------------------------------------------------------------------------


def test_one_that_ignores_shutdown_is_ended_all_the_same(start: Starter) -> None:
    runner = start("ignores_shutdown")
    ready(runner)
    closed = runner.close(seconds=SHORT)
    assert closed["left"] == []
    assert not psutil.pid_exists(runner.pid)


def child_of(runner: Runner) -> psutil.Process:
    text = until(lambda: re.search(r"left (\d+)\n", Path(runner.stderr).read_text()), "the child's start")
    return psutil.Process(int(text[1]))


def test_what_it_leaves_behind_is_reported_and_ended(start: Starter) -> None:
    runner = start("leaves_a_child")
    ready(runner)
    child = child_of(runner)
    closed = runner.close(seconds=SECONDS)
    assert (closed["ended"], closed["left"]) == ("exited with code 0", [])
    assert [line.split()[0] for line in closed["survived"]] == [str(child.pid)]
    assert not child.is_running()


def test_what_a_hanging_one_has_started_is_ended_with_it(start: Starter) -> None:
    runner = start("hangs_with_an_orphan")
    child = child_of(runner)
    assert runner.close(seconds=0) == {"outside": "", "ended": None, "survived": [], "left": []}
    assert not child.is_running()
    assert not psutil.pid_exists(runner.pid)


def test_one_that_is_closed_twice_is_closed(start: Starter) -> None:
    runner = start("silent")
    assert runner.close(seconds=0)["left"] == []
    assert runner.close(seconds=0)["left"] == []


def test_a_killed_supervisor_proves_nothing_and_says_so(start: Starter) -> None:
    runner = start("silent")
    supervisor = psutil.Process(runner.pid).parent()
    assert supervisor is not None
    supervisor.kill()
    assert runner.close(seconds=0)["left"] == ["its supervisor was killed, so nothing is proven"]
    until(lambda: not psutil.pid_exists(runner.pid), "its end")


@pytest.mark.parametrize("server", ["silent", "ignores_shutdown", "hangs_with_an_orphan", "leaves_a_child"])
def test_nothing_is_left_when_its_worker_is_killed(tmp_path: Path, server: str) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER.format(server=str(SERVERS / f"{server}.py")), str(tmp_path)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    try:
        assert worker.stdout is not None
        facts = json.loads(worker.stdout.readline())
        pids = [facts["pid"]]
        if server in {"hangs_with_an_orphan", "leaves_a_child"}:
            stderr = tmp_path / "logs" / "stderr"
            text = until(lambda: re.search(r"left (\d+)\n", stderr.read_text()), "the child's start")
            pids.append(int(text[1]))
        assert all(psutil.pid_exists(pid) for pid in pids)
    finally:
        worker.kill()
        worker.communicate()
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids), "the end of what it started")
    until(lambda: of(tmp_path) == [], "the end of all")


WORKER = """
import json, os, sys, threading
from pytest_modelops.remote.worker.runner_process import Runner
directory = sys.argv[1]
argv = [sys.executable, {server!r}, "--bundle-path", directory, "--venv-path", directory, "--bundle-digest", "0"]
runner = Runner(argv, env=dict(os.environ), cwd=directory, directory=directory + "/logs")
threading.Thread(target=runner.call, args=("ready", {{}}, 3600.0), daemon=True).start()
print(json.dumps({{"pid": runner.pid}}), flush=True)
sys.stdin.read()
"""


def test_what_cannot_be_started_leaves_no_supervisor(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(CouldNot, match="could not start /no/such/python: FileNotFoundError"):
        Runner(["/no/such/python"], env={}, cwd=str(tmp_path), directory=str(tmp_path / "logs"))
    assert {child.pid for child in psutil.Process().children()} <= before


# --- bundles on a worker -----------------------------------------------------------------------------------------

WIRE = """
import os
from lib import VALUE

def wire(entrypoint, params, seed):
    if entrypoint == "app/raises":
        raise ValueError("no such scenario")
    if entrypoint == "app/dies":
        os._exit(7)
    return {"reported.txt": f"{VALUE} {params} {seed} {os.getcwd()}".encode()}
"""
TARGETS = """
import base64

def loss(sim_returns, target_data):
    reported = [one["outputs"]["reported.txt"]["size"] for one in sim_returns]
    return {"loss": float(sum(reported)) * target_data["weight"]}
"""


@dataclasses.dataclass
class Cell:
    """A worker's bundles, and one bundle with a wheel that it needs."""

    directory: Path
    bundles: Bundles
    installed: InstalledWheels | None = None

    def write(self, name: str, text: str) -> None:
        (self.directory / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (self.directory / "source" / name).write_text(textwrap.dedent(text))

    def location(self, **more: Any) -> BundleLocation:
        location = location_in(self.directory, **more)
        return {**location, "installed": self.installed} if self.installed else location

    def add_wheel(self, name: str, version: str, files: Mapping[str, str]) -> None:
        write_wheel(self.directory / "wheels" / f"{name}-{version}-py3-none-any.whl", files)

    def install(self, *, seconds: float = SECONDS, **more: Any) -> EnvironmentContents:
        answer = self.try_to_install(seconds=seconds, **more)
        assert answer["failure"] is None
        assert answer["contents"] is not None
        return answer["contents"]

    def try_to_install(self, *, seconds: float = SECONDS, **more: Any) -> InstallAnswer:
        asked = {"requirements": ["lib==1.5"], "modules": ["wire"], "imports": [], **more}
        asked["modules"] = dict.fromkeys(asked["modules"], "source")
        location = asked.pop("location", self.location())
        return self.bundles.install(location, **asked, seconds=seconds)

    def execute(self, entrypoint: str = "app/base", **more: Any) -> Any:
        return self.bundles.execute(
            more.get("location") or self.location(),
            "0-0",
            entrypoint=entrypoint,
            params=more.get("params", {"beta": 0.3}),
            seed=7,
            end=time.time() + more.get("seconds", SECONDS),
        )


def make_cell(directory: Path) -> Cell:
    (directory / "wheels").mkdir()
    made = Cell(directory, Bundles("worker-0"))
    made.add_wheel("lib", "1.5", {"lib/__init__.py": "VALUE = 'one and a half'\n"})
    made.write("wire.py", WIRE)
    made.write("targets.py", TARGETS)
    return made


@pytest.fixture
def cell(tmp_path: Path, _pip_is_there: None) -> Iterator[Cell]:
    made = make_cell(tmp_path)
    yield made
    made.bundles.close(made.location())
    assert of(tmp_path) == []


@pytest.fixture(scope="module")
def _installed(tmp_path_factory: pytest.TempPathFactory, unpacked_pip: Path) -> InstalledWheels:
    directory = tmp_path_factory.mktemp("installed")
    put_pip(directory, unpacked_pip)
    made = make_cell(directory)
    made.install()
    venv = made.directory / "worker-0" / "bundles" / "seir" / "venv"
    return {"directory": str(venv), "interpreter": os.path.realpath(sys.executable)}


@pytest.fixture
def prepared(cell: Cell, _installed: InstalledWheels) -> Cell:
    """A cell that copies what it needs, for tests of what comes after that; pip takes seconds."""
    cell.installed = _installed
    return cell


def test_a_bundle_is_installed_shakes_hands_executes_and_aggregates(cell: Cell) -> None:
    reported = cell.install(modules=["wire", "targets", "lib"], imports=["wire", "lib"])
    venv = str(cell.directory / "worker-0" / "bundles" / "seir" / "venv")
    assert reported == {
        "python": f"{venv}/bin/python",
        "version": "{}.{}.{}".format(*sys.version_info[:3]),
        "packages": {"lib": "1.5"},
        "wires": [],
        "missing": [],
        "left_out": [],
        "changed": [],
        "imports": {},
    }
    shaken = cell.bundles.handshake(cell.location(), seconds=SECONDS)
    assert shaken["outcome"]["result"]["python"] == f"{venv}/bin/python"
    assert shaken["outcome"]["result"]["bundle_digest"] == DIGEST
    assert shaken["end"] == {"outside": "", "ended": "exited with code 0", "survived": [], "left": []}
    assert (shaken["venv"], shaken["worker"]["python"]) == (venv, sys.executable)
    one = cell.execute()
    directory = cell.directory / "worker-0" / "bundles" / "seir" / "bundle"
    content = f"one and a half {{'beta': 0.3}} 7 {directory}".encode()
    assert one["error"] is None
    assert one["outputs"]["reported.txt"]["size"] == len(content)
    assert base64.b64decode(one["outputs"]["reported.txt"]["inline"]) == content
    assert cell.execute()["pid"] == one["pid"], "the runner stays for the next task"
    aggregate = cell.bundles.aggregate(
        cell.location(), [one, one], target="targets:loss", target_data={"weight": 0.5}, end=time.time() + SECONDS
    )
    assert aggregate["result"]["loss"] == len(content)
    closed = cell.bundles.close(cell.location())
    assert (closed["ended"], closed["left"], closed["survived"]) == ("exited with code 0", [], [])
    assert list(cell.bundles.close(cell.location())) == ["logs"]


def test_what_is_installed_already_is_copied_where_it_fits(cell: Cell) -> None:
    """The copy is inspected like everything else: what a package recorded is compared with what is there."""
    cell.install()
    made = cell.directory / "made"
    shutil.copytree(cell.directory / "worker-0" / "bundles" / "seir" / "venv", made, symlinks=True)
    installed: InstalledWheels = {"directory": str(made), "interpreter": os.path.realpath(sys.executable)}
    here: BundleLocation = {**cell.location(), "installed": installed}
    answer = cell.try_to_install(location=here, requirements=["no-such-package==1"], imports=["lib"])
    assert (answer["installer"], answer["failure"]) == ("uv", None)
    assert answer["contents"] is not None
    assert (answer["contents"]["packages"], answer["contents"]["changed"]) == ({"lib": "1.5"}, [])
    elsewhere: BundleLocation = {**here, "installed": {**installed, "interpreter": "/usr/bin/another"}}
    assert cell.try_to_install(location=elsewhere)["installer"] == "pip"

    (made / SITE / "lib" / "__init__.py").write_text("VALUE = 'another'\n")
    (made / SITE / "lib-1.5.dist-info" / "WHEEL").unlink()
    answer = cell.try_to_install(location=here)
    assert answer["contents"] is not None
    assert answer["contents"]["changed"] == [f"{SITE}/lib-1.5.dist-info/WHEEL", f"{SITE}/lib/__init__.py"]

    shutil.rmtree(made)
    failure = cell.try_to_install(location=here)["failure"]
    assert failure is not None
    assert "copying what was installed for seir" in failure["failed"]


def test_a_project_is_used_as_it_was_built(cell: Cell) -> None:
    """The source beside it has a subpackage and a data file that its wheel lacks."""
    wire = (
        "import pathlib\ndef wire(e, p, s): return {'a': (pathlib.Path(__file__).parent / 'data.txt').read_bytes()}\n"
    )
    cell.write("flat/__init__.py", "")
    cell.write("flat/wire.py", wire)
    cell.write("flat/data.txt", "of the source")
    cell.write("flat/deep/base.py", "")
    entry = {"flat-1.dist-info/entry_points.txt": "[modelops.wire]\nw = flat.wire:wire\n"}
    cell.add_wheel("flat", "1", {"flat/__init__.py": "", "flat/wire.py": wire, **entry})
    location: BundleLocation = {**cell.location(), "on_path": "never"}
    modules = dict.fromkeys(["flat", "flat.wire", "flat.deep.base"], "installed")
    answer = cell.bundles.install(
        location, requirements=["flat==1"], modules=modules, imports=["flat.wire", "flat.deep.base"], seconds=SECONDS
    )
    assert answer["contents"] is not None, answer
    assert answer["contents"]["missing"] == ["flat.deep.base"]
    assert [*answer["contents"]["imports"]] == ["flat.deep.base"], "not even with the bundle as working directory"
    error = cell.execute(location=location)["error"]["error"]
    assert "FileNotFoundError" in error["message"]
    assert "site-packages/flat/data.txt" in error["message"]


@pytest.mark.parametrize("protocol", ["json-rpc", "one-shot"])
def test_the_process_that_answers_is_looked_up_and_its_python_asked(prepared: Cell, protocol: str) -> None:
    prepared.install()
    command = [*COMMAND, *(["--one-shot"] if protocol == "one-shot" else [])]
    here = prepared.location(protocol=protocol, command=command)
    shaken = prepared.bundles.handshake(here, seconds=SECONDS)
    process = shaken["outcome"]["process"]
    assert process["pid"] == shaken["outcome"]["result"]["pid"]
    assert (process["seen"], process["lives"]) == (True, protocol == "json-rpc")
    assert process["runs"]["prefix"] == shaken["venv"]
    assert list(handshake._faults(shaken, here, Deadline(SECONDS), None)) == []
    other = another_python()
    there = prepared.location(protocol=protocol, command=[str(other), *command[1:]])
    there["variables"] = {"PYTHONPATH": str(Path(shaken["venv"]) / SITE)}
    shaken = prepared.bundles.handshake(there, seconds=SECONDS)
    [*_, fault] = handshake._faults(shaken, there, Deadline(SECONDS), None)
    version = shaken["outcome"]["process"]["runs"]["version"]
    assert f"the work was done by Python {version} ({other.parent}/" in fault.head
    series = ".".join(version.split(".")[:2])
    declared = [fault.head for fault in handshake._faults(shaken, there, Deadline(SECONDS), series)]
    assert not any("the work was done by" in head for head in declared)


def test_a_second_install_is_of_what_the_bundle_is_now(cell: Cell) -> None:
    cell.write("old.py", "")
    cell.add_wheel("more", "1", {"more.py": ""})
    reported = cell.install(requirements=["lib==1.5", "more==1"], modules=["old", "wire"])
    assert (reported["missing"], reported["packages"]) == ([], {"lib": "1.5", "more": "1"})
    (cell.directory / "source" / "old.py").unlink()
    cell.add_wheel("lib", "1.6", {"lib/__init__.py": "VALUE = 'newer'\n"})
    reported = cell.install(requirements=["lib==1.6"], modules=["old", "wire"])
    assert (reported["missing"], reported["packages"]) == (["old"], {"lib": "1.6"})
    assert base64.b64decode(cell.execute()["outputs"]["reported.txt"]["inline"]).startswith(b"newer ")


def test_modules_that_are_not_there_are_named(prepared: Cell) -> None:
    prepared.write("package/__init__.py", "raise RuntimeError('nothing is imported to find it')")
    prepared.write("package/inner.py", "")
    prepared.write("namespace/inner.py", "")
    modules = ["package.inner", "namespace.inner", "package.gone", "gone", "gone.inner", "lib", "json"]
    assert prepared.install(modules=modules)["missing"] == ["package.gone", "gone", "gone.inner"]


def test_imports_that_fail_are_reported_with_their_cause(prepared: Cell) -> None:
    prepared.write("breaks.py", "import scipy_that_is_not")
    prepared.write("leaves.py", "import sys; sys.exit(4)")
    reported = prepared.install(imports=["wire", "breaks", "leaves", "gone"])
    assert set(reported["imports"]) == {"breaks", "leaves", "gone"}
    assert reported["imports"]["breaks"].startswith("ModuleNotFoundError: No module named 'scipy_that_is_not' (")
    assert reported["imports"]["leaves"] == "exited with code 4, and printed: "
    assert "No module named 'gone'" in reported["imports"]["gone"]


def test_an_import_that_hangs_is_timed_out_and_shows_where(cell: Cell) -> None:
    cell.write("hangs.py", "def inner():\n    import time\n    time.sleep(3600)\ninner()\n")
    failure = cell.try_to_install(imports=["hangs"], requirements=[], seconds=12.0)["failure"]
    assert failure is not None
    assert failure["timed_out"] is True
    assert failure["failed"] == "importing hangs: not within 12 s"
    assert any("hangs.py" in line for line in failure["last"])


def test_a_requirement_that_no_wheel_meets_is_reported_with_its_cause(cell: Cell) -> None:
    failure = cell.try_to_install(requirements=["lib==2"])["failure"]
    assert failure is not None
    assert failure["timed_out"] is False
    assert failure["failed"] == "installing seir from its wheels: python exited with code 1"
    assert "Could not find a version that satisfies the requirement lib==2" in (failure["cause"] or "")


@pytest.mark.parametrize(
    ("runner", "command", "expected"),
    [
        ("", ["/no/such/python", "{runner}"], "could not start /no/such/python: FileNotFoundError"),
        ("nowhere:runner.py", COMMAND, "runner 'nowhere:runner.py': this worker has no module 'nowhere'"),
        ("json:no.py", COMMAND, "runner 'json:no.py': no 'no.py' in "),
        ("no.where:runner.py", COMMAND, "runner 'no.where:runner.py': No module named 'no'"),
    ],
)
def test_a_runner_that_cannot_be_started_is_reported(
    cell: Cell, runner: str, command: Sequence[str], expected: str
) -> None:
    cell.install(requirements=[])
    location = cell.location(runner=runner, command=command)
    shaken = cell.bundles.handshake(location, seconds=SECONDS)
    assert shaken["outcome"]["unstarted"].startswith(expected)
    assert shaken["end"] == {}
    reported = cell.execute(location=location)
    assert reported["error"]["unstarted"].startswith(expected)
    assert (reported["outputs"], reported["pid"]) == ({}, None)


def test_a_runner_beside_a_module_of_the_workers_is_found(prepared: Cell) -> None:
    prepared.install()
    location = prepared.location(runner="pytest_modelops.remote.runner:runner.py")
    assert "result" in prepared.bundles.handshake(location, seconds=SECONDS)["outcome"]


def test_a_bundle_that_was_never_installed_is_reported(cell: Cell) -> None:
    assert "FileNotFoundError" in cell.bundles.handshake(cell.location(), seconds=SECONDS)["outcome"]["unstarted"]


def test_a_bundle_that_hangs_while_it_is_imported_is_silent_in_time(cell: Cell) -> None:
    cell.write("wire.py", "import time\ntime.sleep(3600)\n")
    cell.install(requirements=[])
    shaken = cell.bundles.handshake(cell.location(), seconds=8.0)
    assert "wire.py" in shaken["outcome"]["stacks"]
    assert shaken["end"]["left"] == []


def test_what_a_bundle_raises_is_in_what_the_task_returns_and_its_runner_stays(prepared: Cell) -> None:
    prepared.install()
    pid = prepared.execute()["pid"]
    failed = prepared.execute("app/raises")
    assert failed["outputs"] == {}
    assert failed["error"]["error"]["data"]["exc_type"] == "ValueError"
    assert prepared.execute()["pid"] == pid


def test_a_runner_that_died_is_reported_and_the_next_task_gets_a_new_one(prepared: Cell) -> None:
    prepared.install()
    pid = prepared.execute()["pid"]
    dead = prepared.execute("app/dies")
    assert (dead["error"]["exited"], dead["error"]["left"], dead["pid"]) == ("exited with code 7", [], pid)
    again = prepared.execute()
    assert again["error"] is None
    assert again["pid"] != pid


def test_an_aggregate_that_fails_is_reported(prepared: Cell) -> None:
    prepared.install()
    reported = prepared.bundles.aggregate(
        prepared.location(), [], target="targets:gone", target_data={}, end=time.time() + SECONDS
    )
    assert reported["error"]["error"]["code"] == -32001


def test_artifacts_that_are_not_base64_are_garbled(cell: Cell) -> None:
    cell.install(requirements=[])
    location = cell.location(runner=str(SERVERS / "answers_anything.py"))
    reported = cell.execute(location=location, params={"json": '{"reported.txt": "no base64!"}'})
    assert reported["error"]["garbled"] == "{'reported.txt': 'no base64!'}"
    assert reported["outputs"] == {}


def test_long_logs_travel_with_both_their_ends(cell: Cell) -> None:
    cell.install(requirements=[])
    location = cell.location(runner=str(SERVERS / "noisy_stderr.py"))
    logs = cell.bundles.handshake(location, seconds=SECONDS)["logs"]
    assert logs["stderr"].startswith(b"one more line of a log\n")
    assert logs["stderr"].endswith(b"one more line of a log\n")
    assert re.search(rb"\n\[\.\.\. \d+ bytes \.\.\.\]\n", logs["stderr"])
    assert 2 << 20 < len(logs["stderr"]) < (2 << 20) + 100
    assert logs["stdout"].startswith(b"Content-Length: ")


def test_every_server_says_in_one_line_what_is_wrong_with_it() -> None:
    for server in SERVERS.glob("*.py"):
        assert re.match(r'"""[A-Z].*\."""\n', server.read_text()), server
