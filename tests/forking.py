"""pytest in processes that are forked from one which has imported what every run imports.

Importing takes most of a short run. Apart from that a run is as one of `python -m pytest`: its process, session,
variables, working directory, `sys.path`, streams and all that pytest keeps are its own.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import math
import os
import random
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

_POLL_SECONDS = 0.01
_MOST_SECONDS = 1.0
_ALSO_IMPORTED = (
    "xdist.dsession",
    "pytest_modelops.backends.docker.backend",
    "pytest_modelops.session.reporting",
    "pytest_modelops.session.writing",
)
"""What runs import later than at collection."""


class Forked:
    """A run, as `subprocess.Popen` has it."""

    def __init__(self, template: Template, pid: int) -> None:
        self.pid = pid
        self._template = template
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._template.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float = math.inf) -> int:
        """Raises `subprocess.TimeoutExpired`."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("pytest", timeout)
            self._wait_for_its_end(end - time.monotonic())
        return code

    def _wait_for_its_end(self, seconds: float) -> None:
        """Return at its end or earlier. It is there until `poll` has seen its end."""
        if not hasattr(os, "pidfd_open"):
            time.sleep(_POLL_SECONDS)
            return
        descriptor = os.pidfd_open(self.pid)
        try:
            select.select([descriptor], [], [], min(seconds, _MOST_SECONDS))
        finally:
            os.close(descriptor)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Template:
    """The process that others are forked from."""

    def __init__(self, directory: Path) -> None:
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(directory)],
            env={**variables, "DOCKER_HOST": "unix:///no/engine", "PYTEST_MODELOPS_CACHE": str(directory / "cache")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdout: Path, stderr: Path
    ) -> Forked:
        """Start pytest in a session of its own; both streams may be the same file."""
        for file in (stdout, stderr):
            file.write_bytes(b"")  # pytest opens them a moment later, and who asked may read them before
        asked = {"arguments": [*arguments], "cwd": str(cwd), "env": {**env}, "files": [str(stdout), str(stderr)]}
        return Forked(self, self.ask(asked))

    def ask(self, question: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=20)


def _serve(directory: str) -> None:
    """Answer each line of stdin: fork a process that runs pytest and does not return, or look whether one has ended."""
    base = sys.path[1:]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _prepare(directory)
    for line in sys.stdin:
        asked = json.loads(line)
        if pid := asked.get("poll"):
            ended, status = os.waitpid(pid, os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        else:
            answer = os.fork()
            if not answer:
                _run_pytest(asked, base)
        print(json.dumps(answer), file=answers, flush=True)


def _prepare(directory: str) -> None:
    """Collect an empty project, which imports most of what runs import, in the way in which pytest imports plugins."""
    import pytest

    os.chdir(directory)
    Path("pyproject.toml").write_text("[tool.pytest.ini_options]\n[tool.modelops]\n", encoding="utf-8")
    plugins = ("randomly", "hypothesispytest", "cacheprovider", "asyncio", "repeat", "rerunfailures", "socket")
    pytest.main(["--modelops-matrix", "--collect-only", "-qq", *(f"-pno:{plugin}" for plugin in plugins)])
    sys.stdout.flush()
    for module in _ALSO_IMPORTED:
        importlib.import_module(module)
    from pytest_modelops.config import causes
    from pytest_modelops.session import fingerprint

    for what_is_kept in (causes._shipped, fingerprint._own, fingerprint._requirements):
        what_is_kept()
    gc.collect()
    gc.freeze()  # or each process would go through all of it


def _run_pytest(asked: dict[str, Any], base: list[str]) -> NoReturn:
    import xdist.plugin

    os.setsid()
    reading, _ = os.pipe()
    os.dup2(reading, 0)
    stdout, stderr = asked["files"]
    out = os.open(stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) if stderr != stdout else out, 2)
    os.dup2(out, 1)
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(asked["env"])
    streams = {"stdin": os.fdopen(0, closefd=False), "stdout": _stream(1, "strict")}
    for name, stream in {**streams, "stderr": _stream(2, "backslashreplace")}.items():
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.chdir(asked["cwd"])
    more = os.environ.get("PYTHONPATH", "")
    sys.path[:] = [asked["cwd"], *filter(None, more.split(os.pathsep)), *base]
    xdist.plugin._sys_path[:] = sys.path  # which it keeps from its import, for its workers
    sys.argv[1:] = asked["arguments"]
    importlib.invalidate_caches()
    tempfile.tempdir = None
    random.seed()
    runpy.run_module("pytest", run_name="__main__", alter_sys=True)
    raise AssertionError("pytest did not exit")


def _stream(number: int, errors: str) -> io.TextIOWrapper:
    """Open a stream as Python does at its start, never buffered."""
    encoding, _, named = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    file = open(number, "wb", 0, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(file, encoding=encoding, errors=named or errors, write_through=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
