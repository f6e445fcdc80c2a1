"""Finds the Python that a cell was asked for among those of this machine, or asks uv to get it.

Each candidate is run and reports what it is, since its file name does not say: it may be a shim that only prints advice
or hangs, another version, another implementation, or a file that does not run. `uv python list` looks on PATH only and
hangs with a shim that hangs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypedDict, cast

from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Progress
from pytest_modelops.environments.uv import Runner, Uv, UvFailed
from pytest_modelops.errors import CheckFailed, TimedOut, Unavailable
from pytest_modelops.matrix.cell import PythonVersion


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A Python that reported what it is.

    Attributes:
        version: to the patch.
        build: how it was built, as in `sys.version`.
        platform: as `sysconfig.get_platform()` names it.
    """

    path: Path
    version: Version
    build: str
    platform: str


_QUESTION = """
import json, sys, sysconfig
release = "%d.%d.%d" % sys.version_info[:3]
level = {"alpha": "a", "beta": "b", "candidate": "rc", "final": ""}[sys.version_info[3]]
print(json.dumps({
    "version": release + (level + str(sys.version_info[4]) if level else ""),
    "build": sys.version,
    "platform": sysconfig.get_platform(),
    "implementation": sys.implementation.name,
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "prefix": sys.prefix,
    "base_prefix": sys.base_prefix,
}))
"""
"""Also runs on Pythons that are too old for a cell, so that messages can list them."""


class _Answer(TypedDict):
    """What an interpreter answers to the question above; `version`, `build` and `platform` as in `Interpreter`."""

    version: str
    build: str
    platform: str
    implementation: str
    free_threaded: bool
    prefix: str
    base_prefix: str


_ANSWER_SECONDS = 10.0
_NAME = re.compile(r"python3\.\d+")


class Interpreters:
    """The Pythons of this machine. Remembers what each reported, unless it was too slow.

    Args:
        environ: the host's variables: PATH, HOME and PYENV_ROOT say where to look.
        prefix: of the Python that runs pytest, the first place to look.
    """

    def __init__(
        self, run: Runner, uv: Uv, *, environ: Mapping[str, str], prefix: Path = Path(sys.base_prefix)
    ) -> None:
        self._run = run
        self._uv = uv
        self._environ = environ
        self._prefix = prefix
        self._reported: dict[Path, Interpreter | None] = {}
        self._slow: set[Path] = set()
        self._answers: dict[PythonVersion, Interpreter | str] = {}
        self._lock = threading.RLock()

    def find(self, version: PythonVersion, *, deadline: Deadline, progress: Progress) -> Interpreter:
        """Return the newest patch release of a version, CPython with a GIL; uv gets it if none is here and uv may.

        Raises:
            Unavailable: none was found; the message lists what is here, and the command that gets it.
            TimedOut: the deadline passed.
        """
        with self._locked(deadline):
            answer = self._answers.get(version) or self._search(version, deadline, progress)
            if isinstance(answer, Interpreter) or not self._slow:  # else one that was too slow may be it
                self._answers[version] = answer
        if isinstance(answer, str):
            raise Unavailable(answer)
        return answer

    @contextlib.contextmanager
    def _locked(self, deadline: Deadline) -> Iterator[None]:
        """Let one thread look at a time, so that no Python is asked twice."""
        if not self._lock.acquire(timeout=deadline.remaining):
            raise TimedOut(f"another cell has been looking for a Python for {deadline.seconds:g} s")
        try:
            yield
        finally:
            self._lock.release()

    def _search(self, version: PythonVersion, deadline: Deadline, progress: Progress) -> Interpreter | str:
        name = f"python{version.release[0]}.{version.release[1]}"
        places = self._places(deadline)
        directories = dict.fromkeys(directory for group in places.values() for directory in group if directory.is_dir())
        if interpreter := self._newest(version, (directory / name for directory in directories), deadline):
            return interpreter
        progress(f"there is no Python {version} here; asking uv for it")
        try:
            return self._download(version, name, deadline)
        except UvFailed as error:
            every = (path for directory in directories for path in sorted(directory.glob("python3.*")))
            found = (self.ask(path, deadline) for path in every if _NAME.fullmatch(path.name))
            there = sorted({interpreter.version for interpreter in found if interpreter})
            return (
                f"There is no Python {version} on this machine. Get it with: uv python install {version}\n"
                f"Looked for {name} in {', '.join(places)}; there is {', '.join(map(str, there))}.\n"
                f"uv did not get it: {error}"
            )

    def _places(self, deadline: Deadline) -> dict[str, list[Path]]:
        managed = Path(self._uv("python", "dir", deadline=deadline).stdout.strip())
        return _places_of(self._environ, self._prefix, managed)

    def _newest(self, version: PythonVersion, candidates: Iterable[Path], deadline: Deadline) -> Interpreter | None:
        found = [self.ask(path, deadline) for path in candidates if os.path.exists(path)]  # noqa: PTH110 - Path.exists raises where it may not look
        fit = [interpreter for interpreter in found if interpreter and version.admits(interpreter.version)]
        return max(fit, key=lambda interpreter: interpreter.version, default=None)  # the first of equal ones

    def ask(self, path: Path, deadline: Deadline) -> Interpreter | None:
        """Ask an interpreter what it is; return `None` if it is of no use, and the base of a virtual environment."""
        try:
            with self._locked(deadline):
                return self._remembered(path, deadline)
        except TimedOut:
            deadline.check("looking for a Python")
            return None

    def _remembered(self, path: Path, deadline: Deadline) -> Interpreter | None:
        deadline.check("looking for a Python")
        real = path.resolve()
        if real not in self._reported:
            self._slow.add(real)
            self._reported[real] = self._ask(path, deadline)
            self._slow.discard(real)
        return self._reported[real]

    def _ask(self, path: Path, deadline: Deadline) -> Interpreter | None:
        try:
            finished = self._run(
                [str(path), "-I", "-c", _QUESTION],
                env=self._uv.variables,
                cwd=path.parent,
                deadline=deadline.at_most(_ANSWER_SECONDS),
            )
            found = json.loads(finished.stdout)
        except (CheckFailed, OSError, ValueError):
            return None  # a shim, or something that does not run here
        if not isinstance(found, dict):
            return None
        answer = cast("_Answer", found)
        if answer["implementation"] != "cpython" or answer["free_threaded"]:
            return None
        if answer["prefix"] != answer["base_prefix"]:
            # In a virtual environment it may be called `python`; its base may lack that name, or use it for another.
            names = (f"python{'.'.join(answer['version'].split('.')[:2])}", path.name)
            bases = (Path(answer["base_prefix"], "bin", name) for name in names)
            there = (base for base in bases if os.path.exists(base) and base != path)  # noqa: PTH110
            return next((reported for base in there if (reported := self._remembered(base, deadline))), None)
        return Interpreter(
            path=path, version=Version(answer["version"]), build=answer["build"], platform=answer["platform"]
        )

    def _download(self, version: PythonVersion, name: str, deadline: Deadline) -> Interpreter:
        """Make an environment with uv, which downloads the Python if its settings allow it.

        `uv python install` would not honour `python-downloads = "manual"`. Without a PATH uv looks only at its own
        Pythons, so a shim that does not run cannot stop it.
        """
        with tempfile.TemporaryDirectory(prefix="modelops-") as directory:
            made = Path(directory, "environment")
            arguments = ("venv", "--no-project", "--python", str(version), str(made))
            # By default uv tries four times, for 10 s, before it reports that there is no network.
            settings = {"PATH": "", "UV_HTTP_RETRIES": self._uv.variables.get("UV_HTTP_RETRIES", "1")}
            finished = self._uv(*arguments, env=settings, deadline=deadline)
            found = self._newest(version, [(made / "bin" / name).resolve()], deadline)
        if found is None:
            raise UvFailed(f"the environment that it made is not a CPython {version} with a GIL", finished.stderr)
        return found


def looks_installed(
    version: PythonVersion, *, environ: Mapping[str, str] = os.environ, prefix: Path = Path(sys.base_prefix)
) -> bool:
    """Return whether a file has the name of this Python, where `Interpreters` looks. Starts nothing."""
    data = Path(environ.get("XDG_DATA_HOME") or Path(environ.get("HOME") or Path.home(), ".local/share"))
    managed = Path(environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv/python")
    name = f"python{version.release[0]}.{version.release[1]}"
    places = _places_of(environ, prefix, managed)
    return any(os.path.exists(directory / name) for group in places.values() for directory in group)  # noqa: PTH110


def _places_of(environ: Mapping[str, str], prefix: Path, managed: Path) -> dict[str, list[Path]]:
    """Return directories of executables, by their names in messages."""
    home = Path(environ.get("HOME") or Path.home())
    pyenv = Path(environ.get("PYENV_ROOT") or home / ".pyenv")
    path = [Path(part) for part in environ.get("PATH", "").split(":") if part]
    return {
        f"{prefix}/bin": [prefix / "bin"],
        f"{managed}/*/bin": _glob(managed),
        f"{pyenv}/versions/*/bin": _glob(pyenv / "versions"),
        "PATH": [part for part in path if part != pyenv / "shims"],  # they run what is in `versions`, slowly
    }


def _glob(directory: Path) -> list[Path]:
    """Return the directories of executables below; empty if it cannot be read, as that of another user's pyenv."""
    return sorted(map(Path, glob.glob(f"{glob.escape(str(directory))}/*/bin")))  # noqa: PTH207 - Path.glob raises there
