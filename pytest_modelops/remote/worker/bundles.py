"""Bundles on a worker: each gets an environment of its own, made by this worker's interpreter, and runners.

An instance hangs on every worker as `worker.modelops_bundles` (see `modelops_preload.py`). What pytest asks comes by
name over Dask's own connection, so that it also works where functions cannot be sent; `execute` and `aggregate` are
called by tasks of the graph. Everything that is returned is plain data. Python 3.9 and up.
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

from ..shared.canary_messages import FreshReport, ReuseReport
from . import in_process
from .environment import Commands, Failed, install_beside, look, make_bare, pip_install, try_import
from .location import NOT_STARTED, AnyRunner, BundleLocation, bundle_of, command_of, launch, logs_of, site_of, venv_of
from .one_shot import OneShot
from .runner_process import Outcome

_SHUTDOWN_SECONDS = 3.0
"""How long an idle runner gets to end by itself."""
_SHOWN = 200
_MOST_CHANGED = 5
_ENVIRONMENT = [*dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib", "scripts"))]


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
        location: BundleLocation,
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
        location = self._here(location)
        directory = location["directory"]
        ours = {**location, "venv": os.path.join(directory, "venv")}
        try:
            with Commands(directory, seconds) as run:
                shutil.rmtree(bundle_of(location), ignore_errors=True)
                shutil.rmtree(venv_of(ours), ignore_errors=True)
                shutil.copytree(location["source"], bundle_of(location))
                run("making an environment", [sys.executable, "-I", "-m", "venv", "--without-pip", venv_of(ours)])
                if requirements:
                    pip_install(run, ours, requirements)
                looked = look(run, ours, modules)
                failures = {module: try_import(run, ours, module) for module in imports}
                if location.get("installs"):
                    shutil.rmtree(os.path.dirname(venv_of(location)), ignore_errors=True)
                    make_bare(run, location)
        except Failed as failure:
            return failure.to_plain()
        return {**looked, "imports": {module: text for module, text in failures.items() if text}}

    def handshake(self, location: BundleLocation, *, seconds: float) -> dict[str, Any]:
        """Start a runner, ask whether it is ready, and end it. A one-shot runner is asked twice.

        Returns:
            `{"outcome": Outcome, "again": the second Outcome or None, "end": what Runner.close returned, "worker":
            {"python", "version"}, "venv", "beside": {module: file} (see `fresh.beside`), "logs"}`.
        """
        location = self._here(location)
        end = time.monotonic() + seconds
        outcome, runner = self._start(location, seconds)
        closed: dict[str, Any] = {}
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
            "worker": {"python": sys.executable, "version": ".".join(map(str, sys.version_info[:3]))},
            "venv": venv_of(location),
            "beside": self._beside(location),
            "logs": logs_of(location),
        }

    def close(self, location: BundleLocation) -> dict[str, Any]:
        """End the bundle's runner, if one runs; returns what `Runner.close` does, and the logs."""
        location = self._here(location)
        with self._lock:
            runner = self._runners.pop(location["name"], None)
        if runner is None:
            return {"logs": logs_of(location)}
        idle = runner.lock.acquire(blocking=False)  # else a task waits for it
        return {**runner.close(seconds=_SHUTDOWN_SECONDS if idle else 0), "logs": logs_of(location)}

    def reuse(self, location: BundleLocation, *, worker: str, **asked: Any) -> ReuseReport | None:
        """On this one worker, use an environment again in all the ways that go wrong (see `reuse.py`)."""
        from . import reuse

        return reuse.Reuse(self._here(location), **asked).run() if worker == self._worker else None

    def fresh(self, location: BundleLocation, *, worker: str, **asked: Any) -> FreshReport:
        """On this one worker, ask a copy of the bundle that tells when it was executed (see `fresh.py`)."""
        from . import fresh

        if worker != self._worker:
            return {}
        here = self._here(location)
        return {**fresh.try_it(here, **asked), "beside": self._beside(here)}

    # Bundles in this very process: what `installer_plugin.py` calls, and what pytest asks then. ----------------------

    def bring(self, location: BundleLocation, *, requirements: Sequence[str], seconds: float) -> dict[str, Any]:
        """Install a bundle for this very process, in a directory of its own, and put that on the path.

        What is there already, of the same bundle, is not installed again.

        Returns:
            `{"touched": [file of the environment that has changed]}`, or `{"failed", "timed_out", "cause", "last"}`.
        """
        location = self._here(location)
        self.take_away(location["name"])
        reply = self._brought[location["name"]] = {"done": False}
        before = in_process.listing(_ENVIRONMENT)
        try:
            install_beside(location, requirements, seconds)
            self._inside[location["name"]] = in_process.Inside(
                bundle=bundle_of(location), site=site_of(location), digest=location["digest"]
            )
        except Failed as failure:
            reply.update(failure.to_plain())
        except OSError as error:
            reply.update(Failed(f"installing {location['name']}: {error}").to_plain())
        after = in_process.listing(_ENVIRONMENT)
        changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        reply.update(touched=changed[:_MOST_CHANGED], done=True)
        return reply

    def take_away(self, name: str) -> None:
        """Take a bundle off this process's path, if it is there."""
        inside = self._inside.pop(name, None)
        self._brought.pop(name, None)
        if inside is not None:
            inside.take_away()

    def look_inside(
        self, location: BundleLocation, *, modules: Sequence[str], packages: Mapping[str, str], imports: Sequence[str]
    ) -> dict[str, Any]:
        """What came of `bring` in this process.

        Returns:
            `{"pid", "setup": what `bring` reported, or `None` where it was not called}` and, where that has
            succeeded, what
            `Inside.look` tells, and `imports`: why it failed of each that does.
        """
        reply = self._brought.get(location["name"])
        found: dict[str, Any] = {"pid": os.getpid(), "setup": reply and dict(reply)}
        inside = self._inside.get(location["name"])
        if inside is not None:
            found.update(inside.look(modules, packages))
            found["imports"] = inside.import_all(imports)
        return found

    # What tasks call -------------------------------------------------------------------------------------------------

    def execute(
        self,
        location: BundleLocation,
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
            content as base64; with an error `beside`, see `handshake`.
        """
        request = {"entrypoint": entrypoint, "params": dict(params), "seed": seed}
        outcome, pid = self._ask(location, "execute", request, end)
        reply = {
            "task_id": task_id,
            "outside": outcome["outside"],
            "protocol": location["protocol"],
            "worker": self._worker,
            "pid": pid,
        }
        if "result" not in outcome:
            return {**reply, "outputs": {}, "error": outcome, "beside": self._beside(self._here(location))}
        try:
            return {**reply, "outputs": _artifacts(outcome["result"]), "error": None}
        except ValueError as error:
            answer = repr(outcome["result"])[:_SHOWN]
            malformed: Outcome = {"garbled": answer, "why": str(error), "cause": None, "last": [], "outside": ""}
            return {**reply, "outputs": {}, "error": {**malformed, "printed": answer, "protocol": location["protocol"]}}

    def aggregate(
        self,
        location: BundleLocation,
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
        reply: dict[str, Any] = {"target": target, "of": [one["task_id"] for one in replicates]}
        sim_returns = [{"task_id": one["task_id"], "outputs": one["outputs"]} for one in replicates]
        request = {"target_entrypoint": target, "sim_returns": sim_returns, "target_data": dict(target_data)}
        outcome, _ = self._ask(location, "aggregate", request, end)
        reply |= {"outside": outcome["outside"], "protocol": location["protocol"]}
        if "result" not in outcome:
            return {"error": outcome, **reply}
        return {"result": outcome["result"], **reply}

    # -----------------------------------------------------------------------------------------------------------------

    def _here(self, location: BundleLocation) -> BundleLocation:
        # A worker that nobody knew of when the bundle was copied in makes do with where it is.
        directory = location["directories"].get(self._worker) or os.path.join(os.getcwd(), "bundles", location["name"])
        venv = os.path.join(directory, "own", "venv") if location.get("installs") else os.path.join(directory, "venv")
        return {**location, "directory": directory, "venv": venv}

    def _ask(
        self, location: BundleLocation, method: str, request: Mapping[str, Any], end: float
    ) -> tuple[Outcome, int | None]:
        """Ask the bundle's runner, which is started when there is none, as it is by the first task of a job.

        Returns:
            What came of it, and the pid of the process that was asked.
        """
        if location["install"] == "workers":
            inside = self._inside.get(location["name"])
            if inside is None:
                absent: Outcome = {"unstarted": f"{self._worker} does not have the bundle", "cause": None}
                return {**absent, "last": [], "outside": ""}, os.getpid()
            return inside.answer(method, request), os.getpid()
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
            with self._lock:  # the next task gets a new one
                if self._runners.get(location["name"]) is runner:
                    del self._runners[location["name"]]
            outcome["left"] = runner.close(seconds=0)["left"]
        return outcome, pid

    @staticmethod
    def _beside(location: BundleLocation) -> dict[str, str]:
        from . import fresh

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
            return {"unstarted": str(error), "cause": None, "last": [], "outside": ""}, None
        return runner.call("ready", {}, end - time.monotonic()), runner


def _artifacts(result: Any) -> dict[str, Any]:
    """Name → size, checksum and content of each; raises `ValueError` where a result is none, in words."""
    if not isinstance(result, Mapping):
        raise ValueError("a result that is no document of artifacts, name: base64")  # noqa: TRY004 - it is data
    found = {}
    for name, inline in result.items():
        if not isinstance(inline, str):
            raise ValueError(f"an artifact {name!r} that is {json.dumps(inline)[:_SHOWN]}, and no base64")  # noqa: TRY004
        try:
            content = base64.b64decode(inline, validate=True)
        except ValueError as error:
            raise ValueError(f"an artifact {name!r} that is no base64 ({error})") from None
        found[name] = {"size": len(content), "checksum": hashlib.sha256(content).hexdigest(), "inline": inline}
    return found
