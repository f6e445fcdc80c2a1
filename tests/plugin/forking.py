"""pytest in processes that are forked from one which has imported what every run imports.

Importing takes most of a short run. Apart from that a run is as one of `python -m pytest`: its process, variables,
working directory, `sys.path`, streams and all that pytest keeps are its own.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

_ALSO_IMPORTED = ("xdist.dsession", "pytest_modelops.session.reporting", "pytest_modelops.session.writing")
"""What a run imports later than at collection."""


class Template:
    """The process that others are forked from; it runs one at a time."""

    def __init__(self, directory: Path) -> None:
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}
        self._directory = directory
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(directory)],
            env={**variables, "DOCKER_HOST": "unix:///no/engine", "PYTEST_MODELOPS_CACHE": str(directory / "cache")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, arguments: list[str], *, seconds: int) -> tuple[int, str, str]:
        """Run pytest here; return its exit code, and what it wrote on stdout and stderr.

        Args:
            seconds: after so long it hangs, and is killed.
        """
        files = [str(self._directory / name) for name in ("stdout", "stderr")]
        directory = str(Path.cwd())
        asked = {"arguments": arguments, "seconds": seconds, "files": files, "cwd": directory, "env": {**os.environ}}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        assert code != -signal.SIGKILL, f"not within {seconds} s"
        out, err = (Path(file).read_text("utf-8", "replace") for file in files)
        return code, out, err

    def close(self) -> None:
        self._process.communicate(timeout=20)


def _serve(directory: str) -> None:
    """Fork a process for each line of stdin, which runs pytest and does not return; write its exit code to stdout."""
    base = sys.path[1:]
    answers = os.dup(1)
    os.dup2(2, 1)
    _prepare(directory)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run_pytest(asked, base)
        signal.signal(signal.SIGALRM, lambda *_, pid=pid: os.kill(pid, signal.SIGKILL))
        signal.alarm(asked["seconds"])
        _, status = os.waitpid(pid, 0)
        signal.alarm(0)
        os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(status))


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
    gc.collect()
    gc.freeze()  # or each process would go through all of it


def _run_pytest(asked: dict[str, Any], base: list[str]) -> NoReturn:
    import xdist.plugin

    reading, _ = os.pipe()
    os.dup2(reading, 0)
    for number, file in enumerate(asked["files"], 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.closerange(3, 256)
    os.environ.clear()
    os.environ.update(asked["env"])
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", encoding=encoding, errors=errors or "strict", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", 1, encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
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


if __name__ == "__main__":
    _serve(sys.argv[1])
