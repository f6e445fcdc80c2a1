"""The bundles of a worker: for each an environment, made by this worker's interpreter, and a runner. Python 3.9 and up.

Every worker has an instance, `worker.modelops_bundles` (see `modelops_preload.py`). pytest calls its methods by name
over Dask's own connection, which works even where functions cannot be sent; tasks of the graph call `execute` and
`aggregate`. Everything that is returned is plain data, described in `shared/bundle_messages.py`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import sys
import sysconfig
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..shared import artifacts
from ..shared.bundle_messages import (
    PUT,
    AggregateAnswer,
    Artifact,
    BundleLocation,
    CloseAnswer,
    HandshakeAnswer,
    InstallAnswer,
    Outcome,
    ProcessAnswer,
    ProcessInstall,
    ReplicateAnswer,
    RunnerEnd,
)
from ..shared.canary_messages import FreshReport, ReuseReport
from . import fresh, in_process, processes, reuse
from .environment import Commands, Failed, inspect, install_beside, make_bare, make_environment, try_import
from .location import NOT_STARTED, VERSION, AnyRunner, bundle_of, command_of, launch, logs_of, site_of, venv_of
from .one_shot import OneShot

_SHUTDOWN_SECONDS = 3.0
"""For an idle runner to end by itself."""
_SHOWN = 200
_MOST_CHANGED = 5
_ENVIRONMENT = [*dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib", "scripts"))]


class Bundles:
    """The bundles of the worker with this name.

    Args:
        root: the directory that relative paths of a `BundleLocation` are relative to.
    """

    def __init__(self, worker: str, root: str = "") -> None:
        self._worker = worker
        self._root = root
        self._runners: dict[str, AnyRunner] = {}
        self._lock = threading.Lock()
        self._in_process: dict[str, in_process.BundleInProcess] = {}
        self._installs: dict[str, ProcessInstall] = {}

    def rename(self, worker: str) -> None:
        """Take another name, under which locations know this worker."""
        self._worker = worker

    # What pytest calls -----------------------------------------------------------------------------------------------

    def install(
        self,
        location: BundleLocation,
        *,
        requirements: Sequence[str],
        modules: Mapping[str, str],
        imports: Sequence[str],
        seconds: float,
    ) -> InstallAnswer:
        """Make the bundle's environment, install the bundle from its wheels, and inspect the result."""
        location = self._here(location)
        directory = location["directory"]
        ours: BundleLocation = {**location, "venv": os.path.join(directory, "venv")}
        try:
            with Commands(directory, seconds) as run:
                shutil.rmtree(bundle_of(location), ignore_errors=True)
                shutil.rmtree(venv_of(ours), ignore_errors=True)
                shutil.copytree(location["source"], bundle_of(location))
                installer = make_environment(run, ours, requirements)
                contents = inspect(run, ours, modules)
                failures = {module: try_import(run, ours, module) for module in imports}
                if location.get("installs"):
                    shutil.rmtree(os.path.dirname(venv_of(location)), ignore_errors=True)
                    make_bare(run, location)
        except Failed as failure:
            return {"contents": None, "failure": failure.to_plain(), "installer": None}
        failed = {module: text for module, text in failures.items() if text}
        return {"contents": {**contents, "imports": failed}, "failure": None, "installer": installer}

    def handshake(self, location: BundleLocation, *, seconds: float) -> HandshakeAnswer:
        """Start a runner, ask whether it is ready, and end it. A one-shot runner is asked twice."""
        location = self._here(location)
        end = time.monotonic() + seconds
        outcome, runner = self._start(location, seconds)
        closed: RunnerEnd = {}
        again = None
        if runner is not None:
            idle = "result" in outcome
            if idle and isinstance(runner, OneShot):
                again = runner.call("ready", {}, end - time.monotonic())
            closed = runner.close(seconds=min(_SHUTDOWN_SECONDS, max(0.5, end - time.monotonic())) if idle else 0)
        return {
            "outcome": outcome,
            "again": again,
            "end": closed,
            "worker": {"python": sys.executable, "version": VERSION},
            "own": processes.ask(os.path.realpath(sys.executable), sys.executable),
            "venv": venv_of(location),
            "beside": self._beside(location),
            "logs": logs_of(location),
        }

    def close(self, location: BundleLocation) -> CloseAnswer:
        """End the bundle's runner, if one runs."""
        location = self._here(location)
        with self._lock:
            runner = self._runners.pop(location["name"], None)
        if runner is None:
            return {"logs": logs_of(location)}
        idle = runner.lock.acquire(blocking=False)  # otherwise a task waits for it
        return {**runner.close(seconds=_SHUTDOWN_SECONDS if idle else 0), "logs": logs_of(location)}

    def reuse(self, location: BundleLocation, *, worker: str, **asked: Any) -> ReuseReport | None:
        """On this worker alone, have a runner use an environment again in every way that goes wrong (`reuse.py`)."""
        return reuse.Reuse(self._here(location), **asked).run() if worker == self._worker else None

    def fresh(self, location: BundleLocation, *, worker: str, **asked: Any) -> FreshReport:
        """On this worker alone, ask a copy of the bundle that reports when it was executed (`fresh.py`)."""
        if worker != self._worker:
            return {}
        here = self._here(location)
        return {**fresh.try_it(here, **asked), "beside": self._beside(here)}

    # Bundles in this very process, called by `installer_plugin.py`, the client and pytest ----------------------------

    def install_in_process(
        self, location: BundleLocation, *, requirements: Sequence[str], seconds: float
    ) -> ProcessInstall:
        """Install a bundle for this process into its own directory, and put that on the path.

        A bundle that is installed there already, the same to the byte, is not installed again.
        """
        location = self._here(location)
        self.uninstall(location["name"])
        answer = ProcessInstall(done=False, touched=[], failure=None, installer=None)
        self._installs[location["name"]] = answer
        before = in_process.listing(_ENVIRONMENT)
        try:
            answer["installer"] = install_beside(location, requirements, seconds)
            self._in_process[location["name"]] = in_process.BundleInProcess(
                bundle=bundle_of(location),
                site=site_of(location),
                digest=location["digest"],
                on_path=location.get("on_path", "first"),
            )
        except Failed as failure:
            answer["failure"] = failure.to_plain()
        except OSError as error:
            answer["failure"] = Failed(f"installing {location['name']}: {error}").to_plain()
        after = in_process.listing(_ENVIRONMENT)
        changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        answer["touched"], answer["done"] = changed[:_MOST_CHANGED], True
        return answer

    def uninstall(self, name: str) -> None:
        """Remove a bundle from this process's path, if it is there."""
        installed = self._in_process.pop(name, None)
        self._installs.pop(name, None)
        if installed is not None:
            installed.uninstall()

    def inspect_process(
        self,
        location: BundleLocation,
        *,
        modules: Mapping[str, str],
        packages: Mapping[str, str],
        imports: Sequence[str],
    ) -> ProcessAnswer:
        """Report what `install_in_process` led to in this process."""
        setup = self._installs.get(location["name"])
        installed = self._in_process.get(location["name"])
        return {
            "pid": os.getpid(),
            "setup": {**setup} if setup else None,
            "contents": installed.inspect(modules, packages, imports) if installed else None,
        }

    # What tasks call -------------------------------------------------------------------------------------------------

    def execute(
        self,
        location: BundleLocation,
        task_id: str,
        *,
        entrypoint: str,
        params: Mapping[str, object],
        seed: int,
        end: float,
    ) -> ReplicateAnswer:
        """Run one replicate. Never raises: as in a deployment, the returned value says what went wrong.

        Args:
            end: when it must be over, in seconds since the epoch.
        """
        request = {"entrypoint": entrypoint, "params": dict(params), "seed": seed}
        outcome, pid = self._ask(location, "execute", request, end)
        answer: ReplicateAnswer = {
            "task_id": task_id,
            "outside": outcome["outside"],
            "protocol": location["protocol"],
            "worker": self._worker,
            "pid": pid,
            "outputs": {},
            "error": None,
        }
        if "result" not in outcome:
            answer["error"], answer["beside"] = outcome, self._beside(self._here(location))
            return answer
        try:
            answer["outputs"] = _artifacts(outcome["result"])
            answer["contents"] = artifacts.look(answer["outputs"], location.get("conditions", ()))
        except ValueError as error:
            result = repr(outcome["result"])[:_SHOWN]
            malformed: Outcome = {"garbled": result, "why": str(error), "cause": None, "last": [], "outside": ""}
            answer["error"] = {**malformed, "printed": result, "protocol": location["protocol"]}
        return answer

    def aggregate(
        self,
        location: BundleLocation,
        replicates: Sequence[ReplicateAnswer],
        *,
        target: str,
        target_data: Mapping[str, object],
        end: float,
    ) -> AggregateAnswer:
        """Evaluate a target on replicates, whatever they hold. Never raises, as `execute`."""
        sim_returns = [{"task_id": one["task_id"], "outputs": one["outputs"]} for one in replicates]
        request = {"target_entrypoint": target, "sim_returns": sim_returns, "target_data": dict(target_data)}
        outcome, _ = self._ask(location, "aggregate", request, end)
        answer: AggregateAnswer = {
            "target": target,
            "of": [one["task_id"] for one in replicates],
            "outside": outcome["outside"],
            "protocol": location["protocol"],
        }
        if "result" in outcome:
            answer["result"] = outcome["result"]
        else:
            answer["error"] = outcome
        return answer

    # -----------------------------------------------------------------------------------------------------------------

    def _here(self, location: BundleLocation) -> BundleLocation:
        # A worker that joined after the bundle was copied in has no directory in `directories`.
        here = os.path.join(self._root or os.getcwd(), "bundles", location["name"])
        directory = here if self._root else location["directories"].get(self._worker) or here
        venv = os.path.join(directory, "own", "venv") if location.get("installs") else os.path.join(directory, "venv")
        pip = os.path.join(os.path.dirname(os.path.dirname(directory)), "own-pip")  # no name that Python could import
        source, wheels, runner = location["source"], location["wheels"], location["runner"]
        if self._root:
            source, wheels = os.path.join(self._root, source), os.path.join(self._root, wheels)
            runner = os.path.join(self._root, runner) if runner.startswith(PUT) else runner
        own: BundleLocation = {**location, "directory": directory, "venv": venv, "pip": pip}
        return {**own, "source": source, "wheels": wheels, "runner": runner}

    def _ask(
        self, location: BundleLocation, method: str, request: Mapping[str, object], end: float
    ) -> tuple[Outcome, int | None]:
        """Ask the bundle's runner, and start it first if none runs: the first task of a job does that.

        Returns:
            The outcome, and the pid of the process that was asked.
        """
        if location["install"] == "workers":
            installed = self._in_process.get(location["name"])
            if installed is None:
                return _unstarted(f"{self._worker} does not have the bundle"), os.getpid()
            return installed.answer(method, request), os.getpid()
        location = self._here(location)
        with self._lock:
            runner = self._runners.get(location["name"])
            if runner is None:
                ready, runner = self._start(location, end - time.time())
                if "result" not in ready or runner is None:
                    if runner is not None:
                        runner.close(seconds=0)
                    return ready, None
                self._runners[location["name"]] = runner
        with runner.lock:
            outcome = runner.call(method, request, end - time.time())
            pid = runner.pid
        if "result" not in outcome and "error" not in outcome:
            with self._lock:  # the next task starts a new one
                if self._runners.get(location["name"]) is runner:
                    del self._runners[location["name"]]
            outcome["left"] = runner.close(seconds=0)["left"]
        return outcome, pid

    @staticmethod
    def _beside(location: BundleLocation) -> dict[str, str]:
        if location["install"] == "workers":
            return {}
        try:
            return fresh.beside(command_of(location), location.get("modules", ()), location)
        except LookupError:
            return {}

    @staticmethod
    def _start(location: BundleLocation, seconds: float) -> tuple[Outcome, AnyRunner | None]:
        end = time.monotonic() + seconds
        try:
            runner = launch(location)
        except NOT_STARTED as error:
            return _unstarted(str(error)), None
        return runner.call("ready", {}, end - time.monotonic()), runner


def _unstarted(why: str) -> Outcome:
    return {"unstarted": why, "cause": None, "last": [], "outside": ""}


def _artifacts(result: object) -> dict[str, Artifact]:
    """Describe the artifacts of a result; raises `ValueError` if it is not a document of artifacts, and says why."""
    if not isinstance(result, Mapping):
        raise ValueError("a result that is not a document of artifacts, name: base64")  # noqa: TRY004 - it is data
    found: dict[str, Artifact] = {}
    for name, inline in result.items():
        if not isinstance(inline, str):
            raise ValueError(f"an artifact {name!r} that is {json.dumps(inline)[:_SHOWN]}, not base64")  # noqa: TRY004
        try:
            content = base64.b64decode(inline, validate=True)
        except ValueError as error:
            raise ValueError(f"an artifact {name!r} that is not base64 ({error})") from None
        found[name] = {"size": len(content), "checksum": hashlib.sha256(content).hexdigest(), "inline": inline}
    return found
