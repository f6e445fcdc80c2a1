"""The reference runner: what a worker starts for a bundle, in the bundle's own environment, by `runner.py`.

Run as `<environment's python> runner.py --bundle-path P --venv-path V --bundle-digest D`, working directory P. With
`--install-from WHEELS` it first installs the bundle into V, or finds it there and verifies it (`installing.py`). It
imports the bundle's wire function and then reads requests: `ready`, `execute`, `aggregate`, `shutdown` (JSON-RPC 2.0,
Content-Length frames on stdin and stdout). If the start fails, it exits with code 1 and a traceback on stderr. With
`--one-shot` it reads one JSON document, `{"method", "params"}`, prints one, `{"result"}` or `{"error"}`, and exits.

It does not protect stdout from the bundle, because the runners that it stands for do not: a bundle that prints breaks
the framing, and that must show. What takes long to import is imported only where it is used. Standard library only,
Python 3.9 and up.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import importlib.machinery
import importlib.util
import json
import os
import queue
import re
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from ..shared import jsonrpc
    from ..shared.bundle_messages import Ready

ON_PATH = "MODELOPS_BUNDLE_ON_PATH"
"""Variable that says where the bundle's directory stands on the import path: `first` (the default), `last`, `never`.

A bundle that is installed runs from what was installed. The variable is ours and does not reach the bundle."""
HERE = os.path.dirname(os.path.abspath(__file__))

EXECUTE_FAILED, AGGREGATE_FAILED = -32000, -32001
METHOD_NOT_FOUND, INVALID_PARAMS, PARSE_ERROR, INVALID_REQUEST = -32601, -32602, -32700, -32600

Wire = Callable[[str, dict[str, object], int], Mapping[str, bytes]]
"""Given entry point, parameters and seed, returns artifacts by name: `bytes`, or as good as that."""


class Response(TypedDict, total=False):
    """What answers a request, with a `result` or an `error`."""

    id: object  # the request's; absent from a one-shot runner's document
    result: object
    error: dict[str, object]  # `code`, `message` and sometimes `data`


def _load(name: str, directory: str = HERE) -> Any:
    """Load a module of ours without `sys.path`, under a name that no module of a bundle has."""
    spec = importlib.util.spec_from_file_location(f"_modelops_{name}", os.path.join(directory, f"{name}.py"))
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


distributions = _load("distributions")


class Refused(Exception):
    """A request that cannot be answered with a result."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


_NO_WIRE = (
    "the bundle has no wire function: no entry point in the group modelops.wire, no .modelops/manifest.json or "
    ".modelops/modelops.toml that names one, and no wire.py"
)


def find_wire(bundle: str) -> Wire | None:
    """Import the bundle's wire function, from the first place that declares one; `None` if none does.

    Raises:
        LookupError: a place declares several.
    """
    declared = _declared(bundle)
    if declared is None:
        return None  # a bundle may consist of modules and targets alone
    module, function = declared
    return _attribute(importlib.import_module(module), function)  # type: ignore[no-any-return]


def _declared(bundle: str) -> tuple[str, str] | None:
    entries = distributions.entry_points(sys.path, distributions.WIRE)
    if len(entries) > 1:
        raise LookupError(f"more than one entry point in the group {distributions.WIRE}: {', '.join(entries)}")
    if entries:
        return _module_and_name(entries[0])
    manifest = os.path.join(bundle, ".modelops", "manifest.json")
    if os.path.exists(manifest):
        with open(manifest, encoding="utf-8") as file:
            wire = json.load(file).get("wire")
        if wire:
            return _module_and_name(wire)
    settings = os.path.join(bundle, ".modelops", "modelops.toml")
    wire = _wire_in_toml(settings) if os.path.exists(settings) else None
    if wire:
        return _module_and_name(wire)
    return ("wire", "wire") if os.path.exists(os.path.join(bundle, "wire.py")) else None


def _wire_in_toml(path: str) -> str | None:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if sys.version_info >= (3, 11):
        import tomllib

        wire = tomllib.loads(text).get("modelops", {}).get("wire")
        return str(wire) if wire else None
    section = re.search(r"^\[modelops\]\s*$(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    match = section and re.search(r"^wire\s*=\s*[\"'](.+?)[\"']", section[1], re.MULTILINE)
    return match[1] if match else None


def _module_and_name(text: str) -> tuple[str, str]:
    """Split `pkg/mod.py:func`, `pkg.mod:func` or `pkg.mod/func`."""
    module, colon, name = text.rpartition(":")
    if not colon:
        module, _, name = text.rpartition("/")
    module = module.removesuffix(".py")
    return module.strip("/").replace("/", "."), name


def _attribute(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


class Runner:
    """The methods that requests name."""

    def __init__(self, wire: Wire | None, *, venv: str, digest: str) -> None:
        self._wire = wire
        self._venv = venv
        self._digest = digest

    def ready(self) -> Ready:
        return {
            "ready": True,
            "bundle_digest": self._digest,
            "python": sys.executable,
            "version": f"{sys.version_info[0]}.{sys.version_info[1]}",
            "pid": os.getpid(),
            "venv": self._venv,
        }

    def execute(self, entrypoint: str, params: dict[str, object], seed: int) -> dict[str, str]:
        """Run the wire function; returns its artifacts as base64, by name."""
        with reported_as(EXECUTE_FAILED, f"{entrypoint} failed"):
            if self._wire is None:
                raise LookupError(_NO_WIRE)
            outputs = self._wire(entrypoint, params, seed)
            _refuse_other_than_artifacts(outputs)
        return {name: base64.b64encode(content).decode("ascii") for name, content in outputs.items()}

    def aggregate(
        self, target_entrypoint: str, sim_returns: Sequence[object], target_data: Mapping[str, object] | None = None
    ) -> dict[str, object]:
        """Evaluate a target on replicates; returns `loss`, `diagnostics`, `n_replicates` and `outputs`."""
        with reported_as(AGGREGATE_FAILED, f"{target_entrypoint} failed"):
            module, name = _module_and_name(target_entrypoint)
            target = _attribute(importlib.import_module(module), name)
            evaluation = _evaluate(target, sim_returns, target_data or {})
            result = {
                "loss": evaluation["loss"],
                "diagnostics": evaluation.get("diagnostics", {}),
                "n_replicates": evaluation.get("n_replicates", len(sim_returns)),
                "outputs": evaluation.get("outputs", {}),
            }
            json.dumps(result)  # a result that cannot be sent is the target's error and must not end this process
            return result

    def shutdown(self) -> dict[str, bool]:
        return {"ok": True}


def _refuse_other_than_artifacts(outputs: object) -> None:
    if not isinstance(outputs, Mapping):
        raise TypeError(f"wire returned {type(outputs).__name__}, not a dict of bytes")
    for name, content in outputs.items():
        if not isinstance(name, str) or not isinstance(content, (bytes, bytearray, memoryview)):
            raise TypeError(f"artifact {name!r} is {type(content).__name__}; a name is str, and an artifact bytes")


def _evaluate(target: Any, sim_returns: Sequence[object], target_data: Mapping[str, object]) -> Mapping[str, object]:
    import inspect

    parameters = inspect.signature(target).parameters
    if not parameters:
        evaluation = target().evaluate(sim_returns)
    elif list(parameters) == ["data_paths"]:
        evaluation = target(data_paths=target_data.get("data_paths", {})).evaluate(sim_returns)
    else:
        evaluation = target(sim_returns, target_data)
    if isinstance(evaluation, Mapping):
        return evaluation
    if not hasattr(evaluation, "loss"):
        raise TypeError(f"the target returned {evaluation!r:.200}, not a dict with a loss")
    return dict(vars(evaluation))


@contextlib.contextmanager
def reported_as(code: int, what: str) -> Iterator[None]:
    """Turn what a bundle raises into an error with this code and its own traceback."""
    try:
        yield
    except BaseException as error:  # also SystemExit: a bundle must not end this process
        name = f"{type(error).__module__}.{type(error).__qualname__}".replace("builtins.", "")
        data = {"exc_type": name, "exc": str(error), "traceback": traceback.format_exc()}
        raise Refused(code, f"{what}: {name}: {error}", data) from error


METHODS = ("ready", "execute", "aggregate", "shutdown")


def answer(runner: Runner, message: Mapping[str, object]) -> Response:
    """Return the response to a request, which has an id."""
    try:
        return {"id": message["id"], "result": _perform(runner, message.get("method"), message.get("params") or {})}
    except Refused as refused:
        error: dict[str, object] = {"code": refused.code, "message": str(refused)}
        if refused.data is not None:
            error["data"] = refused.data
        return {"id": message["id"], "error": error}


def _perform(runner: Runner, method: object, params: object) -> object:
    if not isinstance(method, str) or not isinstance(params, Mapping):
        raise Refused(INVALID_REQUEST, "a request has a method and params by name")
    if method not in METHODS:
        raise Refused(METHOD_NOT_FOUND, f"no method {method!r}; there are {', '.join(METHODS)}")
    call = getattr(runner, method)
    if wrong := _wrong_params(call.__func__, params):
        raise Refused(INVALID_PARAMS, f"{method}: {wrong}")
    return call(**params)


def _wrong_params(method: Any, params: Mapping[str, object]) -> str:
    """Return why a method cannot be called with these parameters."""
    known = method.__code__.co_varnames[1 : method.__code__.co_argcount]
    required = known[: len(known) - len(method.__defaults__ or ())]
    absent = [f"missing a required argument: {name!r}" for name in required if name not in params]
    strange = [f"got an unexpected keyword argument {name!r}" for name in params if name not in known]
    return next(iter(absent + strange), "")


def serve(runner: Runner, requests: IO[bytes], writer: jsonrpc.Writer, read_message: Callable[[Any], Any]) -> None:
    """Answer one request after the other in the main thread; a reading thread ends the process when stdin ends."""
    waiting: queue.Queue[Mapping[str, object]] = queue.Queue()

    def read() -> None:
        try:
            while (message := read_message(requests)) is not None:
                waiting.put(message)
        except ValueError as error:
            sys.stderr.write(f"stdin carries something that is not a request: {error}\n")
        os._exit(0)  # the worker is gone, or has finished; a task may hang

    threading.Thread(target=read, name="requests", daemon=True).start()
    while True:
        message = waiting.get()
        if "id" not in message:
            continue  # a notification; none needs an action
        response = answer(runner, message)
        try:
            sys.stdout.flush()  # what a bundle printed comes before the answer, as without a buffer
            writer.send({**response})
        except (OSError, ValueError) as error:
            sys.stderr.write(f"fatal: the bundle closed stdout, on which answers go ({error})\n")
            os._exit(1)
        if message.get("method") == "shutdown":
            return  # to the end of the script, so that threads and exit handlers of the bundle show


def serve_once(runner: Runner, requests: IO[bytes], document: IO[bytes]) -> None:
    """Answer the one request that stdin holds."""
    try:
        asked = json.loads(requests.read())
    except ValueError as error:
        response: Response = {"error": {"code": PARSE_ERROR, "message": f"the request: {error}"}}
    else:
        response = answer(runner, {**asked, "id": None} if isinstance(asked, dict) else {"id": None})
        del response["id"]
    try:
        sys.stdout.flush()
        document.write(json.dumps(response).encode() + b"\n")
        document.flush()
    except (OSError, ValueError) as error:
        sys.exit(f"fatal: the bundle closed stdout, on which answers go ({error})")


def make_way(bundle: str, at_start: Collection[str]) -> None:
    """Forget the modules that a bundle has too, so that it imports its own, as from a script of its own.

    What Python imports before any script stays, as it does for a script. Our own references stay valid.
    """
    own = {name for name in {name.partition(".")[0] for name in sys.modules}.difference(at_start) if _has(bundle, name)}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        del sys.modules[name]


def _has(bundle: str, name: str) -> bool:
    spec = importlib.machinery.PathFinder.find_spec(name, [bundle])
    return spec is not None and spec.has_location  # a namespace package has none


def _hides_pythons(bundle: str) -> bool:
    """Return whether a bundle may have modules named as Python's own, which Python 3.9 cannot list."""
    own = {name.partition(".")[0] for name in os.listdir(bundle)}
    return not own.isdisjoint(getattr(sys, "stdlib_module_names", own))


def _set_path(bundle: str, place: str, at_start: Collection[str]) -> None:
    """Put the bundle on the path, and take the script's directory off it."""
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != HERE]
    if place == "first":
        # A bundle's own `config.py` comes before any other.
        if _hides_pythons(bundle):
            import inspect  # noqa: F401 - later it would import the bundle's
        make_way(bundle, at_start)
        sys.path.insert(0, bundle)
    elif place == "last":
        sys.path.append(bundle)


_FLAGS = ("--bundle-path", "--venv-path", "--bundle-digest")
_MORE_FLAGS = ("--install-from", "--python-version")
_ONE_SHOT = "--one-shot"


def _arguments(arguments: Sequence[str]) -> dict[str, str]:
    """Return the values of the command line by flag. `argparse` would take a quarter of the time to start."""
    rest, given = list(arguments), {}
    while rest:
        flag, has_value, value = rest.pop(0).partition("=")
        if flag == _ONE_SHOT:
            given[flag] = ""
        elif flag in {*_FLAGS, *_MORE_FLAGS} and (has_value or rest):
            given[flag] = value if has_value else rest.pop(0)
        else:
            what = f"{flag!r} lacks its value" if flag in {*_FLAGS, *_MORE_FLAGS} else f"no argument is called {flag!r}"
            sys.exit(f"runner.py: {what}; there are {', '.join((*_FLAGS, *_MORE_FLAGS, _ONE_SHOT))}")
    if missing := [flag for flag in _FLAGS if flag not in given]:
        sys.exit(f"runner.py: {', '.join(missing)} must be given")
    return given


def main(at_start: Collection[str]) -> int:
    """Import the bundle, then serve; return the exit code.

    Args:
        at_start: what every Python has imported before it runs a script.
    """
    given = _arguments(sys.argv[1:])
    bundle, venv, digest = (given[flag] for flag in _FLAGS)
    framing = _load("jsonrpc", os.path.join(os.path.dirname(HERE), "shared"))
    if wheels := given.get("--install-from"):
        installing = _load("installing")
        try:
            installing.prepare(venv, wheels=wheels, digest=digest, python=given.get("--python-version"))
        except installing.Unusable as error:
            sys.stderr.write(f"{error}\n")
            return 1
    _set_path(bundle, os.environ.pop(ON_PATH, "first"), at_start)
    # Processes that the bundle starts must not read our requests.
    requests = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    frames = os.fdopen(1, "wb", closefd=False)  # not a copy: what a bundle does to fd 1 happens to the answers
    try:
        wire = find_wire(bundle)
    except SystemExit as error:
        traceback.print_exc()
        sys.stderr.write(f"SystemExit: {error.code!r}: the bundle ends the runner while it is imported\n")
        raise
    except BaseException:  # noqa: BLE001 - whatever it is, the start has failed
        traceback.print_exc()
        return 1
    runner = Runner(wire, venv=venv, digest=digest)
    if _ONE_SHOT in given:
        serve_once(runner, requests, frames)
    else:
        serve(runner, requests, framing.Writer(frames), framing.read_message)
    return 0
