"""The reference runner as a worker starts it: a process of its own, asked over its stdin and stdout."""

from __future__ import annotations

import ast
import base64
import contextlib
import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.remote.shared import frames, jsonrpc

REMOTE = Path(jsonrpc.__file__).parents[1]
RUNNER = REMOTE / "runner" / "runner.py"
SECONDS = 60.0
"""Whatever takes so long, hangs."""
OLDEST = Path.home() / ".pyenv" / "versions" / "3.9.18" / "bin" / "python3.9"

WIRE = """
def wire(entrypoint, params, seed):
    return {"reported.txt": f"{entrypoint} {params['beta']} {seed}".encode()}
"""
ASKED = {"entrypoint": "seir/baseline", "params": {"beta": 0.3}, "seed": 7}
REPORTED = {"reported.txt": base64.b64encode(b"seir/baseline 0.3 7").decode()}

Make = Callable[..., Path]


@pytest.fixture
def bundle(tmp_path: Path) -> Make:
    """Write a bundle: paths in it (without any, a `wire.py`), and text."""

    def make(files: dict[str, str] | None = None) -> Path:
        directory = tmp_path / "bundle"
        for name, text in (files if files is not None else {"wire.py": WIRE}).items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text, encoding="utf-8")
        return directory

    return make


class Peer:
    """A started runner."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.stdin, self.stdout = process.stdin, process.stdout
        self._writer = jsonrpc.Writer(process.stdin)
        self._stderr = stderr

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(encoding="utf-8")

    def send(self, message: Any) -> None:
        self._writer.send(message)

    def read(self) -> Any:
        message = jsonrpc.read_message(self.stdout)
        assert message is not None, self.stderr
        return message

    def ask(self, method: str, params: object = None, number: int = 1) -> Any:
        """A request and what answers it."""
        self.send({"id": number, "method": method, "params": {} if params is None else params})
        answer = self.read()
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", number)
        return answer

    def result(self, method: str, params: object = None) -> Any:
        answer = self.ask(method, params)
        assert "error" not in answer, answer
        return answer["result"]

    def error(self, method: str, params: object = None) -> dict[str, Any]:
        answer = self.ask(method, params)
        assert "result" not in answer, answer
        error: dict[str, Any] = answer["error"]
        return error

    def ended(self) -> int:
        return self.process.wait(SECONDS)


@dataclasses.dataclass
class Starter:
    """Starts runners, and ends them with the test."""

    directory: Path
    started: list[Peer] = dataclasses.field(default_factory=list)

    def __call__(self, bundle: Path, *, python: str = sys.executable, **variables: str) -> Peer:
        flags = ["--bundle-path", str(bundle), "--venv-path", "/the/venv", "--bundle-digest", "abc123"]
        stderr = self.directory / f"stderr-{len(self.started)}"
        with stderr.open("wb") as errors:
            process = subprocess.Popen(
                [python, str(RUNNER), *flags],
                cwd=bundle,
                env={**os.environ, **variables},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self.started.append(Peer(process, stderr))
        return self.started[-1]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    for peer in starter.started:
        peer.process.kill()
        peer.process.wait()
        with contextlib.suppress(BrokenPipeError):
            peer.stdin.close()
        peer.stdout.close()


# --- a bundle's life ---------------------------------------------------------------------------------------------


def test_it_is_ready_executes_aggregates_and_shuts_down(bundle: Make, start: Starter) -> None:
    target = "def loss(sim_returns, data):\n    return {'loss': len(sim_returns) + data['more'], 'ignored': 1}\n"
    peer = start(bundle({"wire.py": WIRE, "targets.py": target}))
    ready = peer.result("ready")
    assert ready == {
        "ready": True,
        "bundle_digest": "abc123",
        "python": sys.executable,
        "version": "{}.{}".format(*sys.version_info[:2]),
        "pid": peer.process.pid,
        "venv": "/the/venv",
    }
    assert peer.result("execute", ASKED) == REPORTED
    returns = [{"task_id": "0-0", "outputs": {}}, {"task_id": "0-1", "outputs": {}}]
    request = {"target_entrypoint": "targets:loss", "sim_returns": returns, "target_data": {"more": 0.5}}
    assert peer.result("aggregate", request) == {"loss": 2.5, "diagnostics": {}, "n_replicates": 2, "outputs": {}}
    assert peer.result("shutdown") == {"ok": True}
    assert peer.ended() == 0
    assert peer.stdout.read() == b""
    assert peer.stderr == ""


def test_a_bundle_without_a_wire_function_is_served_and_only_cannot_execute(bundle: Make, start: Starter) -> None:
    peer = start(bundle({"targets.py": "def loss(sim_returns, data):\n    return {'loss': 1.5}\n"}))
    assert peer.result("ready")["ready"] is True
    error = peer.error("execute", ASKED)
    assert error["code"] == -32000
    assert error["data"]["exc_type"] == "LookupError"
    assert error["data"]["exc"].startswith(
        "the bundle has no wire function: no entry point in the group modelops.wire, no .modelops/manifest.json"
    )
    asked = {"target_entrypoint": "targets:loss", "sim_returns": [], "target_data": {}}
    assert peer.result("aggregate", asked)["loss"] == 1.5
    assert peer.result("shutdown") == {"ok": True}


def test_it_starts_in_the_bundles_directory_and_finds_what_lies_there(bundle: Make, start: Starter) -> None:
    wire = "import os, helping\ndef wire(e, p, s):\n    return {'cwd': os.getcwd().encode(), 'h': helping.TEXT}\n"
    directory = bundle(
        {"wire.py": wire, "helping/__init__.py": "from .more import TEXT\n", "helping/more.py": "TEXT = b'x'"}
    )
    reported = start(directory).result("execute", {"entrypoint": "", "params": {}, "seed": 0})
    assert base64.b64decode(reported["cwd"]) == str(directory).encode()
    assert base64.b64decode(reported["h"]) == b"x"


@pytest.mark.parametrize("python", [sys.executable, str(OLDEST)], ids=["this Python", "Python 3.9"])
def test_it_works_on_every_python(bundle: Make, start: Starter, python: str) -> None:
    if not Path(python).exists():
        pytest.skip(f"there is no {python}")
    target = "def loss(sim_returns, data):\n    return {'loss': 1.5}\n"
    files = {
        "app/wires.py": WIRE,
        "app/targets.py": target,
        ".modelops/modelops.toml": '[other]\nwire = "no:no"\n[modelops]\n# the wire\nwire = "app.wires:wire"\n',
    }
    peer = start(bundle(files), python=python)
    assert peer.result("ready")["version"] in {"{}.{}".format(*sys.version_info[:2]), "3.9"}
    assert peer.result("execute", ASKED) == REPORTED
    assert peer.result("aggregate", {"target_entrypoint": "app.targets:loss", "sim_returns": []})["loss"] == 1.5
    assert peer.error("execute", {"entrypoint": "x", "params": {}, "seed": 1})["code"] == -32000
    assert peer.error("nonsense")["code"] == -32601
    assert peer.result("shutdown") == {"ok": True}
    assert peer.ended() == 0


RUNS_ON_WORKERS = [file for file in sorted(REMOTE.rglob("*.py")) if file.name not in {"agent.py", "plain.py"}]


def test_what_workers_and_runners_use_is_python_3_9() -> None:
    for file in RUNS_ON_WORKERS:
        ast.parse(file.read_text(encoding="utf-8"), file.name, feature_version=(3, 9))


def test_what_workers_and_runners_use_imports_on_python_3_9() -> None:
    if not OLDEST.exists():
        pytest.skip(f"there is no {OLDEST}")
    names = [
        "remote." + ".".join(file.relative_to(REMOTE).with_suffix("").parts)
        for file in RUNS_ON_WORKERS
        if file.stem not in {"__init__", "modelops_preload"} and "distributed" not in file.read_text(encoding="utf-8")
    ]
    code = f"import importlib\nfor name in {names}:\n    importlib.import_module(name)"
    ran = subprocess.run([str(OLDEST), "-c", code], cwd=REMOTE.parent, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


# --- where the wire function is declared -------------------------------------------------------------------------


def wire_of(name: str) -> str:
    return f"def function(entrypoint, params, seed):\n    return {{'who': b'{name}'}}\n\nwire = function\n"


ENTRY_POINT = {
    "app-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: app\nVersion: 1.0\n",
    "app-1.0.dist-info/entry_points.txt": "[modelops.wire]\nany = by.entry:function\n",
    "by/entry.py": wire_of("entry point"),
}
PLACES = {
    "entry point": ENTRY_POINT,
    "manifest": {
        ".modelops/manifest.json": '{"wire": "by/manifest.py:function"}',
        "by/manifest.py": wire_of("manifest"),
    },
    "toml": {".modelops/modelops.toml": "[modelops]\nwire = 'by.toml:function'\n", "by/toml.py": wire_of("toml")},
    "wire.py": {"wire.py": wire_of("wire.py")},
}


def who(peer: Peer) -> str:
    return base64.b64decode(peer.result("execute", {"entrypoint": "", "params": {}, "seed": 0})["who"]).decode()


@pytest.mark.parametrize("first", range(len(PLACES)), ids=list(PLACES))
def test_the_first_place_that_declares_a_wire_function_counts(bundle: Make, start: Starter, first: int) -> None:
    files: dict[str, str] = {}
    for place in list(PLACES.values())[first:]:
        files |= place
    # What belongs to an environment is found on the path, of which the bundle's directory is the first.
    assert who(start(bundle(files))) == list(PLACES)[first]


@pytest.mark.parametrize(
    "declared", ["by/manifest.py:function", "by.manifest:function", "by.manifest/function", "by/manifest/function"]
)
def test_the_forms_of_a_wire_function(bundle: Make, start: Starter, declared: str) -> None:
    files = {**PLACES["manifest"], ".modelops/manifest.json": json.dumps({"wire": declared})}
    assert who(start(bundle(files))) == "manifest"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {**ENTRY_POINT, "app-1.0.dist-info/entry_points.txt": "[modelops.wire]\na = by.a:x\nb = by.b:x\n"},
            "LookupError: more than one entry point in the group modelops.wire: by.a:x, by.b:x",
        ),
        ({"wire.py": "import scipy_that_is_not"}, "ModuleNotFoundError: No module named 'scipy_that_is_not'"),
        ({"wire.py": "def wire(:"}, "SyntaxError: "),
        ({"wire.py": "other = 1"}, "AttributeError: module 'wire' has no attribute 'wire'"),
        ({"wire.py": "raise KeyboardInterrupt"}, "KeyboardInterrupt"),
        ({".modelops/manifest.json": "{"}, "json.decoder.JSONDecodeError"),
        ({".modelops/manifest.json": '{"wire": "no.such:wire"}'}, "ModuleNotFoundError: No module named 'no'"),
    ],
)
def test_a_bundle_that_cannot_be_imported_ends_it_with_1_and_a_traceback(
    bundle: Make, start: Starter, files: dict[str, str], expected: str
) -> None:
    peer = start(bundle(files))
    assert peer.ended() == 1
    assert peer.stdout.read() == b""
    assert peer.stderr.startswith("Traceback (most recent call last):\n")
    assert expected in peer.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bundle-path=/b", "--venv-path"], "'--venv-path' lacks its value; there are --bundle-path, "),
        (["--bundle-digest", "d", "--other"], "no argument is called '--other'; there are --bundle-path, "),
        (["--bundle-path=/b", "--bundle-digest", "d", "--one-shot"], "--venv-path must be given\n"),
    ],
)
def test_a_command_line_that_cannot_be_meant_is_refused(arguments: list[str], message: str) -> None:
    command = [sys.executable, str(RUNNER), *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"runner.py: {message}")


@pytest.mark.parametrize(("argument", "code"), [("0", 0), ("3", 3), ("'enough'", 1), ("", 0)])
def test_a_bundle_that_ends_its_runner_while_it_is_imported_is_reported(
    bundle: Make, start: Starter, argument: str, code: int
) -> None:
    peer = start(bundle({"wire.py": f"import sys\nsys.exit({argument})\n"}))
    assert peer.ended() == code
    assert f"SystemExit: {argument or None}: the bundle ends the runner while it is imported" in peer.stderr
    assert "wire.py" in peer.stderr


# --- the bundle's own modules are the bundle's -------------------------------------------------------------------


OWN = ["config", "jsonrpc", "runner", "reference", "distributions", "bundles", "kept", "modelops_remote"]
LIKE_PYTHONS = ["json", "queue", "inspect", "base64", "traceback", "argparse", "pkgutil", "_modelops_jsonrpc"]
"""Names of modules of Python's own that the runner uses, and which a script would get from its own directory."""


@pytest.mark.parametrize("name", [*OWN, *LIKE_PYTHONS])
def test_a_bundles_own_module_wins_over_one_beside_the_runner(bundle: Make, start: Starter, name: str) -> None:
    wire = f"import {name}\ndef wire(e, p, s):\n    return {{'who': {name}.WHO}}\n"
    assert who(start(bundle({"wire.py": wire, f"{name}.py": "WHO = b'the bundle'\n"}))) == "the bundle"


def test_a_package_of_a_bundle_wins_with_all_that_is_in_it(bundle: Make, start: Starter) -> None:
    files = {
        "wire.py": "import importlib.abc\nimport json.decoder\n"
        "def wire(e, p, s):\n    return {'who': json.decoder.WHO}\n",
        "json/__init__.py": "",
        "json/decoder.py": "WHO = b'the bundle'\n",
    }
    assert who(start(bundle(files))) == "the bundle"


def test_a_directory_of_data_does_not_hide_a_module_of_pythons(bundle: Make, start: Starter) -> None:
    wire = "import json\ndef wire(e, p, s):\n    return {'who': json.dumps(1).encode()}\n"
    assert who(start(bundle({"wire.py": wire, "json/data.txt": "1"}))) == "1"


def test_what_every_python_has_imported_stays_as_it_does_for_a_script(bundle: Make, start: Starter) -> None:
    wire = "import os\ndef wire(e, p, s):\n    return {'who': os.path.basename(os.__file__).encode()}\n"
    directory = bundle({"wire.py": wire, "os.py": "raise ImportError('the bundle')\n"})
    assert who(start(directory)) == "os.py"


STARTED = """
import os

try:
    from {} import WHO
except ImportError:
    WHO = b"none"

def wire(e, p, s):
    return {{"who": b"" if "MODELOPS_BUNDLE_ON_PATH" in os.environ else WHO}}
"""


@pytest.mark.parametrize(
    "case",
    ["first flat source", "last flat installed", "last alone source", "never flat installed", "never alone none"],
)
def test_what_is_installed_comes_before_the_bundle_s_directory_unless_that_is_first(
    bundle: Make, start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    place, imported, answer = case.split()
    site = tmp_path / "site"
    (site / "started-1.dist-info").mkdir(parents=True)
    (site / "started-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: started\nVersion: 1\n")
    (site / "started-1.dist-info" / "entry_points.txt").write_text("[modelops.wire]\nwire = started:wire\n")
    (site / "started.py").write_text(STARTED.format(imported))
    (site / "flat.py").write_text("WHO = b'installed'\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("MODELOPS_BUNDLE_ON_PATH", place)
    assert who(start(bundle({f"{name}.py": "WHO = b'source'\n" for name in ("flat", "alone")}))) == answer


@pytest.mark.parametrize("name", ["jsonrpc", "runner", "reference", "distributions"])
def test_a_module_beside_the_runner_is_not_to_be_had(bundle: Make, start: Starter, name: str) -> None:
    peer = start(bundle({"wire.py": f"import {name}\n"}))
    assert peer.ended() == 1
    assert f"No module named '{name}'" in peer.stderr


# --- targets -----------------------------------------------------------------------------------------------------

TARGETS = """
class Evaluation:
    def __init__(self, loss):
        self.loss, self.diagnostics, self.outputs = loss, {"how": "object"}, {"a": 1}

class Target:
    def __init__(self, offset=0):
        self.offset = offset
    def evaluate(self, sim_returns):
        return Evaluation(len(sim_returns) + self.offset)

def plain(sim_returns, target_data):
    return {"loss": float(len(sim_returns)), "n_replicates": 40, "diagnostics": target_data}

def made():
    return Target()

def made_of(data_paths):
    return Target(offset=len(data_paths))

class Holder:
    inner = staticmethod(plain)

def raises(sim_returns, target_data):
    raise ValueError("no data")

def lossless(sim_returns, target_data):
    return {"score": 1}

def infinite(sim_returns, target_data):
    return {"loss": float("nan")}
"""


@pytest.mark.parametrize(
    ("target", "result"),
    [
        (
            "targets.inner:plain",
            {"loss": 2.0, "diagnostics": {"data_paths": {"a": "x"}}, "n_replicates": 40, "outputs": {}},
        ),
        ("targets.inner/plain", {"loss": 2.0, "n_replicates": 40}),
        ("targets/inner.py:plain", {"loss": 2.0}),
        ("targets.inner:Holder.inner", {"loss": 2.0}),
        ("targets.inner:made", {"loss": 2, "diagnostics": {"how": "object"}, "n_replicates": 2, "outputs": {"a": 1}}),
        ("targets.inner:made_of", {"loss": 3}),
        ("targets.inner:Target", None),
    ],
)
def test_the_forms_of_a_target(bundle: Make, start: Starter, target: str, result: dict[str, Any] | None) -> None:
    peer = start(bundle({"wire.py": WIRE, "targets/inner.py": TARGETS}))
    request = {"target_entrypoint": target, "sim_returns": [{}, {}], "target_data": {"data_paths": {"a": "x"}}}
    answer = peer.ask("aggregate", request)
    if result is None:  # a class whose argument is another one
        assert answer["error"]["code"] == -32001
    else:
        assert {key: answer["result"][key] for key in result} == result


def test_a_bundle_may_have_a_module_with_a_name_that_calling_a_target_imports(bundle: Make, start: Starter) -> None:
    peer = start(bundle({"wire.py": WIRE, "inner.py": TARGETS, "dis.py": "raise ImportError('the bundle')\n"}))
    asked = {"target_entrypoint": "inner:made", "sim_returns": [1, 2]}
    assert peer.result("aggregate", asked)["loss"] == 2


def test_a_loss_that_is_no_number_comes_as_it_is(bundle: Make, start: Starter) -> None:
    peer = start(bundle({"wire.py": WIRE, "targets.py": TARGETS}))
    reported = peer.result("aggregate", {"target_entrypoint": "targets:infinite", "sim_returns": []})
    assert math.isnan(reported["loss"])


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "params", "refused"),
    [
        ("evaluate", {}, (-32601, "no method 'evaluate'; there are ready, execute, aggregate, shutdown")),
        ("_wire", {}, (-32601, "no method '_wire'")),
        ("execute", {}, (-32602, "execute: missing a required argument: 'entrypoint'")),
        ("execute", {**ASKED, "more": 1}, (-32602, "execute: got an unexpected keyword argument 'more'")),
        ("ready", {"x": 1}, (-32602, "ready: got an unexpected keyword argument 'x'")),
        ("execute", [1, 2], (-32600, "a request has a method and params by name")),
        (3, {}, (-32600, "a request has a method and params by name")),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused_and_the_next_is_answered(
    bundle: Make, start: Starter, method: Any, params: object, refused: tuple[int, str]
) -> None:
    peer = start(bundle())
    error = peer.error(method, params)
    assert error["code"] == refused[0]
    assert error["message"].startswith(refused[1])
    assert peer.result("ready")["ready"] is True


RAISING = """
class OurError(Exception):
    pass

def wire(entrypoint, params, seed):
    if entrypoint == "raises":
        raise OurError("it is broken")
    if entrypoint == "exits":
        raise SystemExit(3)
    return {"list": ["a"], "number": {"a.txt": 1}, "text": {"a.txt": "text"}, "key": {1: b""}, "none": None,
            "view": {"a": memoryview(b"xyz"), "b": bytearray(b"x")}, "empty": {}}[entrypoint]
"""


@pytest.mark.parametrize(
    ("entrypoint", "kind", "expected"),
    [
        ("raises", "wire.OurError", "it is broken"),
        ("exits", "SystemExit", "3"),
        ("unknown", "KeyError", "'unknown'"),
        ("list", "TypeError", "wire returned list, not a dict of bytes"),
        ("none", "TypeError", "wire returned NoneType, not a dict of bytes"),
        ("number", "TypeError", "artifact 'a.txt' is int; a name is str, and an artifact bytes"),
        ("text", "TypeError", "artifact 'a.txt' is str; a name is str, and an artifact bytes"),
        ("key", "TypeError", "artifact 1 is bytes; a name is str, and an artifact bytes"),
    ],
)
def test_what_an_execution_raises_is_reported_with_its_traceback(
    bundle: Make, start: Starter, entrypoint: str, kind: str, expected: str
) -> None:
    peer = start(bundle({"wire.py": RAISING}))
    error = peer.error("execute", {"entrypoint": entrypoint, "params": {}, "seed": 0})
    assert error["code"] == -32000
    assert error["message"] == f"{entrypoint} failed: {kind}: {expected}"
    assert (error["data"]["exc_type"], error["data"]["exc"]) == (kind, expected)
    assert error["data"]["traceback"].startswith("Traceback (most recent call last):\n")
    if entrypoint in {"raises", "exits", "unknown"}:
        assert "wire.py" in error["data"]["traceback"]
    assert peer.result("ready")["ready"] is True


def test_there_may_be_no_artifacts_or_any_kind_of_bytes(bundle: Make, start: Starter) -> None:
    peer = start(bundle({"wire.py": RAISING}))
    assert peer.result("execute", {"entrypoint": "empty", "params": {}, "seed": 0}) == {}
    view = peer.result("execute", {"entrypoint": "view", "params": {}, "seed": 0})
    assert {name: base64.b64decode(text) for name, text in view.items()} == {"a": b"xyz", "b": b"x"}


@pytest.mark.parametrize(
    ("target", "kind", "expected"),
    [
        ("targets:raises", "ValueError", "no data"),
        ("targets:lossless", "KeyError", "'loss'"),
        ("targets:nowhere", "AttributeError", "module 'targets' has no attribute 'nowhere'"),
        ("nowhere:loss", "ModuleNotFoundError", "No module named 'nowhere'"),
    ],
)
def test_what_an_aggregation_raises_is_reported_with_its_traceback(
    bundle: Make, start: Starter, target: str, kind: str, expected: str
) -> None:
    peer = start(bundle({"wire.py": WIRE, "targets.py": TARGETS}))
    error = peer.error("aggregate", {"target_entrypoint": target, "sim_returns": [], "target_data": {}})
    assert error["code"] == -32001
    assert error["message"] == f"{target} failed: {kind}: {expected}"
    assert (error["data"]["exc_type"], error["data"]["exc"]) == (kind, expected)
    assert "Traceback" in error["data"]["traceback"]


def test_what_cannot_be_sent_is_an_error_and_not_the_end(bundle: Make, start: Starter) -> None:
    target = "def loss(sim_returns, data):\n    return {'loss': 1.0, 'diagnostics': {'when': object()}}\n"
    peer = start(bundle({"wire.py": WIRE, "targets.py": target}))
    error = peer.error("aggregate", {"target_entrypoint": "targets:loss", "sim_returns": []})
    assert error["code"] == -32001
    assert "not JSON serializable" in error["message"]
    assert peer.result("ready")["ready"] is True


# --- streams -----------------------------------------------------------------------------------------------------


def test_large_artifacts_arrive_whole(bundle: Make, start: Starter) -> None:
    wire = "def wire(e, p, s):\n    return {'large': p['text'].encode() * 8}\n"
    text = "x" * (1 << 20)
    reported = start(bundle({"wire.py": wire})).result(
        "execute", {"entrypoint": "", "params": {"text": text}, "seed": 0}
    )
    assert base64.b64decode(reported["large"]) == text.encode() * 8


def test_requests_that_came_before_the_import_was_over_are_answered_in_order(bundle: Make, start: Starter) -> None:
    peer = start(bundle())
    for number in (5, 6):
        peer.send({"id": number, "method": "execute", "params": {**ASKED, "seed": number}})
    peer.send({"method": "a notification"})
    peer.send({"id": 7, "method": "ready"})
    assert [peer.read()["id"] for _ in range(3)] == [5, 6, 7]


CHILD = """
import subprocess, sys

def wire(entrypoint, params, seed):
    read = subprocess.run([sys.executable, "-c", "import sys; print(repr(sys.stdin.read()))"], stdout=subprocess.PIPE)
    return {"read": read.stdout, "own": repr(sys.stdin.read()).encode()}
"""


def test_what_a_bundle_starts_reads_nothing_of_our_requests(bundle: Make, start: Starter) -> None:
    peer = start(bundle({"wire.py": CHILD}))
    peer.send({"id": 1, "method": "execute", "params": ASKED})
    peer.send({"id": 2, "method": "ready"})
    first, second = peer.read(), peer.read()
    read = {name: base64.b64decode(text).strip() for name, text in first["result"].items()}
    assert read == {"read": b"''", "own": b"''"}
    assert second["result"]["ready"] is True


@pytest.mark.parametrize(
    "way", ["print('12%')", "import os; os.system('echo 12%')", "import os; os.write(1, b'12%\\n')"]
)
def test_what_a_bundle_prints_is_in_the_way_as_in_other_runners(bundle: Make, start: Starter, way: str) -> None:
    wire = f"def wire(e, p, s):\n    {way}\n    return {{'a': b'1'}}\n"
    peer = start(bundle({"wire.py": wire}), PYTHONUNBUFFERED="")
    peer.send({"id": 1, "method": "execute", "params": ASKED})
    peer.send({"id": 2, "method": "shutdown", "params": {}})
    assert peer.ended() == 0
    assert peer.stdout.readline() == b"12%\n"
    splitter = frames.Splitter()
    assert [message["id"] for message in splitter.feed(peer.stdout.read())] == [1, 2]
    assert splitter.outside == b""


def test_the_end_of_stdin_ends_it_in_the_middle_of_a_task(bundle: Make, start: Starter) -> None:
    wire = "import time\ndef wire(e, p, s):\n    print('begun', flush=True)\n    time.sleep(3600)\n"
    peer = start(bundle({"wire.py": wire}))
    peer.send({"id": 1, "method": "execute", "params": ASKED})
    assert peer.stdout.readline() == b"begun\n"
    peer.stdin.close()
    assert peer.ended() == 0


def test_what_is_no_request_on_stdin_ends_it_and_is_reported(bundle: Make, start: Starter) -> None:
    peer = start(bundle())
    assert peer.result("ready")
    peer.stdin.write(b"hello\r\n\r\n")
    peer.stdin.flush()
    assert peer.ended() == 0
    assert "stdin carries something that is not a request: not a header: b'hello" in peer.stderr
