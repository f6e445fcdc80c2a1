"""Bundles on a worker: each gets an environment of its own, made by this worker's interpreter, and runners.

An instance hangs on every worker as `worker.modelops_bundles` (see `modelops_preload.py`). What pytest asks comes by
name over Dask's own connection, so that it also works where functions cannot be sent; `execute` and `aggregate` are
called by tasks of the graph. Everything that is returned is plain data. Python 3.9 and up.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import sysconfig
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Union

from . import causes, in_process
from .installing import ensured_pip, unpack_pip
from .kept import CouldNot, KeeperGone, Kept
from .one_shot import OneShot
from .running import Outcome, Runner

Placed = Mapping[str, Any]
"""Where a bundle is in the cell, and how its runner is started:

- `name`, `digest`: of the bundle;
- `folders`: by worker name, the worker's own folder for it; made by `install`;
- `source`, `wheels`: folders in the cell: the bundle's files, and the wheels that it is installed from;
- `runner`: the runner's path in the cell, `module:file`, or empty for the reference runner;
- `command`: the runner's command line, with `{python}`, `{runner}`, `{bundle}`, `{venv}`, `{digest}`, `{wheels}`,
  `{version}`;
- `protocol`: `json-rpc`, or `one-shot` for a runner that is started anew for every request;
- `installs`: whether the runner installs by itself, into an environment of its own that has nothing but pip;
- `install`: `isolated`, or `workers` for one that comes into running processes and has no runner;
- `variables`, `version`, `venv`, `logs`: of a runner that is started in another way than usual.
"""

AnyRunner = Union[Runner, OneShot]  # noqa: UP007 - Python 3.9

HERE = os.path.dirname(os.path.abspath(__file__))
_SHUTDOWN_SECONDS = 3.0
"""How long an idle runner gets to end by itself."""
_LOG_BYTES = 1 << 20
"""So much of each end of a runner's log travels to pytest."""


class Failed(Exception):
    """Something did not work, with the words and the output of what was tried."""

    def __init__(self, what: str, output: str = "", *, timed_out: bool = False) -> None:
        super().__init__(what)
        self.output = output
        self.timed_out = timed_out

    def to_plain(self) -> dict[str, Any]:
        """As data for pytest."""
        return {
            "failed": str(self),
            "timed_out": self.timed_out,
            "cause": causes.first_cause(self.output),
            "last": causes.last_lines(self.output),
        }


class Bundles:
    """The bundles of one worker, which has this name."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._runners: dict[str, AnyRunner] = {}
        self._lock = threading.Lock()
        self._inside: dict[str, in_process.Inside] = {}
        self._brought: dict[str, dict[str, Any]] = {}

    # What pytest asks ------------------------------------------------------------------------------------------------

    def install(
        self,
        placed: Placed,
        *,
        requirements: Sequence[str],
        modules: Sequence[str],
        imports: Sequence[str],
        seconds: float,
    ) -> dict[str, Any]:
        """Make the bundle's environment, install it from its wheels, and look at what came of it.

        Returns:
            `{"python", "version", "packages": {name: version}, "missing": [module], "imports": {module: failure}}`, or
            `{"failed", "timed_out", "cause", "last"}`.
        """
        placed = self._here(placed)
        folder = placed["folder"]
        ours = {**placed, "venv": os.path.join(folder, "venv")}
        try:
            with _Commands(folder, seconds) as run:
                shutil.rmtree(_bundle(placed), ignore_errors=True)
                shutil.rmtree(_venv(ours), ignore_errors=True)
                shutil.copytree(placed["source"], _bundle(placed))
                run(
                    "making an environment",
                    [sys.executable, "-I", "-m", "venv", "--without-pip", _venv(ours)],
                )
                if requirements:
                    _pip_install(run, ours, requirements)
                looked = _look(run, ours, modules)
                failures = {module: _import(run, ours, module) for module in imports}
                if placed.get("installs"):
                    shutil.rmtree(os.path.dirname(_venv(placed)), ignore_errors=True)
                    make_bare(run, placed)
        except Failed as failure:
            return failure.to_plain()
        return {**looked, "imports": {module: text for module, text in failures.items() if text}}

    def handshake(self, placed: Placed, *, seconds: float) -> dict[str, Any]:
        """Start a runner, ask whether it is ready, and end it. A one-shot runner is asked twice.

        Returns:
            `{"outcome": Outcome, "again": the second Outcome or None, "end": what Runner.close returned, "worker":
            {"python", "version"}, "venv", "logs"}`.
        """
        placed = self._here(placed)
        end = time.monotonic() + seconds
        outcome, runner = self._start(placed, seconds)
        closed: dict[str, Any] = {}
        again = None
        if runner is not None:
            idle = "result" in outcome
            if idle and isinstance(runner, OneShot):
                again = runner.call("ready", {}, end - time.monotonic())
            closed = runner.close(
                seconds=min(_SHUTDOWN_SECONDS, max(0.5, end - time.monotonic())) if idle else 0
            )
        return {
            "outcome": outcome,
            "again": again,
            "end": closed,
            "worker": {"python": sys.executable, "version": ".".join(map(str, sys.version_info[:3]))},
            "venv": _venv(placed),
            "logs": _logs(placed),
        }

    def close(self, placed: Placed) -> dict[str, Any]:
        """End the bundle's runner, if one runs; returns what `Runner.close` does, and the logs."""
        placed = self._here(placed)
        with self._lock:
            runner = self._runners.pop(placed["name"], None)
        if runner is None:
            return {"logs": _logs(placed)}
        idle = runner.lock.acquire(blocking=False)  # else a task waits for it
        return {**runner.close(seconds=_SHUTDOWN_SECONDS if idle else 0), "logs": _logs(placed)}

    def reuse(self, placed: Placed, *, worker: str, **asked: Any) -> dict[str, Any]:
        """On this one worker, use an environment again in all the ways that go wrong (see `reuse.py`)."""
        from . import reuse

        return reuse.Reuse(self._here(placed), **asked).run() if worker == self._worker else {}

    # Bundles in this very process: what `installer_plugin.py` calls, and what pytest asks then. ----------------------

    def bring(self, placed: Placed, *, requirements: Sequence[str], seconds: float) -> dict[str, Any]:
        """Install a bundle for this very process, in a folder of its own, and put that on the path.

        What is there already, of the same bundle, is not installed again.

        Returns:
            `{"touched": [file of the environment that has changed]}`, or `{"failed", "timed_out", "cause", "last"}`.
        """
        placed = self._here(placed)
        self.take_away(placed["name"])
        told = self._brought[placed["name"]] = {"done": False}
        before = in_process.listing(_ENVIRONMENT)
        try:
            _install_beside(placed, requirements, seconds)
            self._inside[placed["name"]] = in_process.Inside(
                bundle=_bundle(placed), site=_site(placed), digest=placed["digest"]
            )
        except Failed as failure:
            told.update(failure.to_plain())
        except OSError as error:
            told.update(Failed(f"installing {placed['name']}: {error}").to_plain())
        after = in_process.listing(_ENVIRONMENT)
        changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        told.update(touched=changed[:_MOST_CHANGED], done=True)
        return told

    def take_away(self, name: str) -> None:
        """Take a bundle off this process's path, if it is there."""
        inside = self._inside.pop(name, None)
        self._brought.pop(name, None)
        if inside is not None:
            inside.take_away()

    def look_inside(
        self, placed: Placed, *, modules: Sequence[str], packages: Mapping[str, str], imports: Sequence[str]
    ) -> dict[str, Any]:
        """What came of `bring` in this process.

        Returns:
            `{"pid", "setup": what `bring` told, or `None` where it was not called}` and, where that has succeeded, what
            `Inside.look` tells, and `imports`: why it failed of each that does.
        """
        told = self._brought.get(placed["name"])
        found: dict[str, Any] = {"pid": os.getpid(), "setup": told and dict(told)}
        inside = self._inside.get(placed["name"])
        if inside is not None:
            found.update(inside.look(modules, packages))
            found["imports"] = inside.import_all(imports)
        return found

    # What tasks call -------------------------------------------------------------------------------------------------

    def execute(
        self,
        placed: Placed,
        task_id: str,
        *,
        entrypoint: str,
        params: Mapping[str, Any],
        seed: int,
        end: float,
    ) -> dict[str, Any]:
        """Run one replicate. Never raises: as in a deployment, what went wrong is in what it returns.

        Args:
            end: when it must be over, in seconds since the epoch.

        Returns:
            `{"task_id", "outputs": {name: {"size", "checksum", "inline"}}, "error": Outcome or None, "outside",
            "protocol", "worker": name, "pid": of the runner's process}`: sizes in bytes, checksums SHA-256 in hex,
            content as base64.
        """
        request = {"entrypoint": entrypoint, "params": dict(params), "seed": seed}
        outcome, pid = self._ask(placed, "execute", request, end)
        told = {
            "task_id": task_id,
            "outside": outcome["outside"],
            "protocol": placed["protocol"],
            "worker": self._worker,
            "pid": pid,
        }
        if "result" not in outcome:
            return {**told, "outputs": {}, "error": outcome}
        try:
            outputs = {name: _artifact(inline) for name, inline in outcome["result"].items()}
        except (AttributeError, TypeError, ValueError):
            answer = repr(outcome["result"])[:_SHOWN]
            malformed: Outcome = {"garbled": answer, "cause": None, "last": [], "outside": ""}
            return {**told, "outputs": {}, "error": malformed}
        return {**told, "outputs": outputs, "error": None}

    def aggregate(
        self,
        placed: Placed,
        replicates: Sequence[Mapping[str, Any]],
        *,
        target: str,
        target_data: Mapping[str, Any],
        end: float,
    ) -> dict[str, Any]:
        """Evaluate a target on replicates, whatever they hold.

        Returns:
            `{"target", "of": [task_id], "outside", "protocol"}`, and `"result"` or `"error"`.
        """
        told: dict[str, Any] = {"target": target, "of": [one["task_id"] for one in replicates]}
        sim_returns = [{"task_id": one["task_id"], "outputs": one["outputs"]} for one in replicates]
        request = {"target_entrypoint": target, "sim_returns": sim_returns, "target_data": dict(target_data)}
        outcome, _ = self._ask(placed, "aggregate", request, end)
        told |= {"outside": outcome["outside"], "protocol": placed["protocol"]}
        if "result" not in outcome:
            return {"error": outcome, **told}
        return {"result": outcome["result"], **told}

    # -----------------------------------------------------------------------------------------------------------------

    def _here(self, placed: Placed) -> Placed:
        # A worker that nobody knew of when the bundle was placed makes do with where it is.
        folder = placed["folders"].get(self._worker) or os.path.join(os.getcwd(), "bundles", placed["name"])
        venv = os.path.join(folder, "own", "venv") if placed.get("installs") else os.path.join(folder, "venv")
        return {**placed, "folder": folder, "venv": venv}

    def _ask(
        self, placed: Placed, method: str, request: Mapping[str, Any], end: float
    ) -> tuple[Outcome, int | None]:
        """Ask the bundle's runner, which is started when there is none, as it is by the first task of a job.

        Returns:
            What came of it, and the pid of the process that was asked.
        """
        if placed["install"] == "workers":
            inside = self._inside.get(placed["name"])
            if inside is None:
                absent: Outcome = {"unstarted": f"{self._worker} does not have the bundle", "cause": None}
                return {**absent, "last": [], "outside": ""}, os.getpid()
            return inside.answer(method, request), os.getpid()
        placed = self._here(placed)
        with self._lock:
            runner = self._runners.get(placed["name"])
            if runner is None:
                ready, runner = self._start(placed, end - time.time())
                if "result" not in ready or runner is None:
                    if runner is not None:
                        runner.close(seconds=0)
                    return ready, None
                self._runners[placed["name"]] = runner
        with runner.lock:
            outcome = runner.call(method, request, end - time.time())
            pid = runner.pid
        if "result" not in outcome and "error" not in outcome:
            with self._lock:  # the next task gets a new one
                if self._runners.get(placed["name"]) is runner:
                    del self._runners[placed["name"]]
            outcome["left"] = runner.close(seconds=0)["left"]
        return outcome, pid

    @staticmethod
    def _start(placed: Placed, seconds: float) -> tuple[Outcome, AnyRunner | None]:
        end = time.monotonic() + seconds
        try:
            runner = launch(placed)
        except NOT_STARTED as error:
            return {"unstarted": str(error), "cause": None, "last": [], "outside": ""}, None
        return runner.call("ready", {}, end - time.monotonic()), runner


NOT_STARTED = (CouldNot, KeeperGone, LookupError, OSError)


def launch(placed: Placed) -> AnyRunner:
    """Start a runner, and ask it nothing yet; raises one of `NOT_STARTED`."""
    env = {
        **os.environ,
        # Where a runner installs by itself, there is no way out to an index.
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": placed["wheels"],
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_OFFLINE": "1",
        "UV_FIND_LINKS": placed["wheels"],
        "PYTHONUNBUFFERED": "1",
        **placed.get("variables", {}),
    }
    kind = OneShot if placed["protocol"] == "one-shot" else Runner
    return kind(_command(placed), env=env, cwd=_bundle(placed), folder=_logs_folder(placed))


_SHOWN = 200
_MOST_CHANGED = 5
_ENVIRONMENT = [*dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib", "scripts"))]


def _bundle(placed: Placed) -> str:
    return os.path.join(placed["folder"], "bundle")


def _venv(placed: Placed) -> str:
    return str(placed["venv"])


def _site(placed: Placed) -> str:
    return os.path.join(placed["folder"], "inside")


def _python(placed: Placed) -> str:
    return os.path.join(_venv(placed), "bin", "python")


def _logs_folder(placed: Placed) -> str:
    return str(placed.get("logs") or os.path.join(placed["folder"], "logs"))


def _logs(placed: Placed) -> dict[str, bytes]:
    """What the runner wrote to stderr and stdout so far, from each at most 1 MiB of the beginning and of the end."""
    found = {}
    for name in ("stderr", "stdout"):
        with contextlib.suppress(OSError), open(os.path.join(_logs_folder(placed), name), "rb") as file:
            head = file.read(_LOG_BYTES)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(len(head), size - _LOG_BYTES))
            tail = file.read()
            gap = size - len(head) - len(tail)
            found[name] = head + (b"\n[... %d bytes ...]\n" % gap if gap else b"") + tail
    return found


def _command(placed: Placed) -> list[str]:
    """The runner's command line; raises `LookupError` where `module:file` names nothing."""
    values = {
        "{python}": _python(placed),
        "{runner}": _runner(placed["runner"]),
        "{bundle}": _bundle(placed),
        "{venv}": _venv(placed),
        "{digest}": placed["digest"],
        "{wheels}": placed["wheels"],
        "{version}": placed.get("version") or ".".join(map(str, sys.version_info[:3])),
    }
    words = []
    for word in placed["command"]:
        filled = word
        for name, value in values.items():
            filled = filled.replace(name, value)
        words.append(filled)
    return words


def _runner(named: str) -> str:
    if not named:
        return os.path.join(HERE, "runner.py")
    if os.path.isabs(named):
        return named
    module, _, file = named.partition(":")
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise LookupError(f"runner {named!r}: {error}") from None
    if spec is None:
        raise LookupError(f"runner {named!r}: this worker has no module {module!r}")
    folders = list(spec.submodule_search_locations or ([os.path.dirname(spec.origin)] if spec.origin else []))
    for folder in folders:
        if os.path.exists(os.path.join(folder, file)):
            return os.path.join(folder, file)
    raise LookupError(f"runner {named!r}: there is no {file!r} in {', '.join(folders)}")


def _artifact(inline: str) -> dict[str, Any]:
    content = base64.b64decode(inline, validate=True)
    return {"size": len(content), "checksum": hashlib.sha256(content).hexdigest(), "inline": inline}


# Installing ----------------------------------------------------------------------------------------------------------


class _Commands:
    """Runs commands to their end, one after the other, within so many seconds in all; nothing of them is left."""

    def __init__(self, folder: str, seconds: float) -> None:
        os.makedirs(folder, exist_ok=True)
        self._folder = folder
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._kept = Kept(log=os.path.join(folder, "keeper.log"))

    def __enter__(self) -> _Commands:  # noqa: PYI034 - Self is newer than some workers
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    def __call__(self, what: str, argv: Sequence[str], *, cwd: str | None = None, check: bool = True) -> str:
        """Run one; returns what it printed, or why it failed where `check` is false."""
        log = os.path.join(self._folder, f"{what.replace(' ', '-')}.log")
        began = os.path.getsize(log) if os.path.exists(log) else 0
        env = {**os.environ, "PYTHONFAULTHANDLER": "1", "PIP_CONFIG_FILE": os.devnull}
        try:
            pid = self._kept.start(argv, env=env, cwd=cwd or self._folder, log=log)
        except (CouldNot, KeeperGone) as error:
            raise Failed(f"{what}: {error}") from error
        ending = self._kept.wait(pid, max(0.0, self._end - time.monotonic()))
        if ending is None:
            self._kept.signal(pid, 6)  # SIGABRT: its stacks
            self._kept.wait(pid, 1.0)
        with open(log, "rb") as file:
            file.seek(began)
            output = file.read().decode(errors="replace")
        if ending is None:
            raise Failed(f"{what}: not within {self._seconds:g} s", output, timed_out=True)
        if ending != "exited with code 0":
            if check:
                raise Failed(f"{what}: {os.path.basename(argv[0])} {ending}", output)
            return (
                causes.first_cause(output)
                or f"{ending}, and printed: {' '.join(causes.last_lines(output, 3))}"
            )
        return output if check else ""


def make_bare(run: _Commands, placed: Placed, python: str = sys.executable) -> None:
    """An environment with nothing but pip, for a runner that installs by itself."""
    run("making a bare environment", [python, "-I", "-m", "venv", "--without-pip", _venv(placed)])
    unpack_pip(_ensured_pip(), _venv(placed))


def _install_beside(placed: Placed, requirements: Sequence[str], seconds: float) -> None:
    """Install a bundle for this process's Python into a folder of its own, unless it is there."""
    mark = os.path.join(placed["folder"], "inside.json")
    made_of = {"digest": placed["digest"], "python": sys.version, "requirements": list(requirements)}
    with contextlib.suppress(OSError, ValueError), open(mark, encoding="utf-8") as file:
        if json.load(file) == made_of:
            return
    with _Commands(placed["folder"], seconds) as run:
        for folder in (_bundle(placed), _site(placed)):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(placed["source"], _bundle(placed))
        os.makedirs(_site(placed))
        if requirements:
            _pip_install(run, placed, requirements, python=sys.executable, more=("--target", _site(placed)))
    with open(mark, "w", encoding="utf-8") as file:
        json.dump(made_of, file)


def _pip_install(
    run: _Commands, placed: Placed, requirements: Sequence[str], *, python: str = "", more: Sequence[str] = ()
) -> None:
    """Install from the wheels, by the pip that every Python brings along."""
    lines = os.path.join(placed["folder"], "requirements.txt")
    with open(lines, "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in requirements))
    options = (
        "--no-index",
        "--find-links",
        placed["wheels"],
        "--no-cache-dir",
        "--disable-pip-version-check",
    )
    pip = [python or _python(placed), os.path.join(_ensured_pip(), "pip"), "install", "-q", *options, *more]
    run(f"installing {placed['name']} from its wheels", [*pip, "-r", lines])


def _ensured_pip() -> str:
    try:
        return ensured_pip()
    except LookupError as error:
        raise Failed(str(error)) from None


def _look(run: _Commands, placed: Placed, modules: Sequence[str]) -> dict[str, Any]:
    """Have the environment's Python tell what it is and has, and which modules it does not find."""
    question = os.path.join(placed["folder"], "modules.json")
    with open(question, "w", encoding="utf-8") as file:
        json.dump({"modules": list(modules), "first": _bundle(placed)}, file)
    argv = [_python(placed), "-I", os.path.join(HERE, "look.py"), question]
    told: dict[str, Any] = json.loads(run("looking at what was installed", argv).splitlines()[-1])
    return told


def _import(run: _Commands, placed: Placed, module: str) -> str:
    """Import a module as the runner would; why it failed, in words, or empty."""
    code = f"import sys; sys.path.insert(0, {_bundle(placed)!r}); import importlib; importlib.import_module({module!r})"
    return run(f"importing {module}", [_python(placed), "-c", code], cwd=_bundle(placed), check=False)
