"""Finds the Python that a cell was asked for among those of this machine, or has uv get it.

No file name is believed: each candidate is run and tells what it is, for behind a name may stand a shim that
only prints advice, another version, another implementation, or nothing that runs.
"""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

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
"""Also runs on Pythons that are too old for a cell, so that they are listed as what is there."""
_ANSWER_SECONDS = 10.0
_NAME = re.compile(r"python3\.\d+")


class Interpreters:
    """The Pythons of this machine. What was found, or not, is remembered as long as this lives; not what was too slow.

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

    def find(self, version: PythonVersion, *, deadline: Deadline, progress: Progress) -> Interpreter:
        """The newest patch of what is asked for, CPython with a GIL; uv gets it if there is none and it may.

        Raises:
            Unavailable: there is none; the message says what there is, and the command that gets it.
            TimedOut: the deadline passed.
        """
        answer = self._answers.get(version) or self._search(version, deadline, progress)
        if isinstance(answer, Interpreter) or not self._slow:  # else one that was too slow may be it
            self._answers[version] = answer
        if isinstance(answer, str):
            raise Unavailable(answer)
        return answer

    def _search(self, version: PythonVersion, deadline: Deadline, progress: Progress) -> Interpreter | str:
        name = f"python{version.release[0]}.{version.release[1]}"
        places = self._places(deadline)
        directories = dict.fromkeys(directory for found in places.values() for directory in found if directory.is_dir())
        if interpreter := self._newest(version, (directory / name for directory in directories), deadline):
            return interpreter
        progress(f"there is no Python {version} here; uv is asked for it")
        try:
            return self._download(version, name, deadline)
        except UvFailed as error:
            every = (path for directory in directories for path in sorted(directory.glob("python3.*")))
            reply = (self.ask(path, deadline) for path in every if _NAME.fullmatch(path.name))
            there = sorted({interpreter.version for interpreter in reply if interpreter})
            return (
                f"There is no Python {version} on this machine. Get it with: uv python install {version}\n"
                f"Looked for {name} in {', '.join(places)}; there is {', '.join(map(str, there))}.\n"
                f"uv did not get it: {error}"
            )

    def _places(self, deadline: Deadline) -> dict[str, list[Path]]:
        """Directories of executables, by how they are reported to people."""
        managed = Path(self._uv("python", "dir", deadline=deadline).stdout.strip())
        home = Path(self._environ.get("HOME") or Path.home())
        pyenv = Path(self._environ.get("PYENV_ROOT") or home / ".pyenv", "versions")
        return {
            f"{self._prefix}/bin": [self._prefix / "bin"],
            f"{managed}/*/bin": _glob(managed),
            f"{pyenv}/*/bin": _glob(pyenv),
            "PATH": [Path(part) for part in self._environ.get("PATH", "").split(":") if part],
        }

    def _newest(self, version: PythonVersion, candidates: Iterable[Path], deadline: Deadline) -> Interpreter | None:
        reply = [self.ask(path, deadline) for path in candidates if os.path.exists(path)]  # noqa: PTH110 - Path.exists raises where it may not look
        fit = [interpreter for interpreter in reply if interpreter and version.admits(interpreter.version)]
        return max(fit, key=lambda interpreter: interpreter.version, default=None)  # the first of equal ones

    def ask(self, path: Path, deadline: Deadline) -> Interpreter | None:
        """What an interpreter tells, `None` if it is of no use. That of a venv tells of its base."""
        try:
            return self._asked(path, deadline)
        except TimedOut:
            deadline.check("looking for a Python")
            return None

    def _asked(self, path: Path, deadline: Deadline) -> Interpreter | None:
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
            answer = json.loads(finished.stdout)
        except (CheckFailed, OSError, ValueError):
            return None  # a shim, or something that does not run here
        if not isinstance(answer, dict) or answer["implementation"] != "cpython" or answer["free_threaded"]:
            return None
        if answer["prefix"] != answer["base_prefix"]:
            # A venv's may be called `python`, where its base has none of that name, or another one.
            names = (f"python{'.'.join(answer['version'].split('.')[:2])}", path.name)
            bases = (Path(answer["base_prefix"], "bin", name) for name in names)
            there = (base for base in bases if os.path.exists(base) and base != path)  # noqa: PTH110
            return next((found for base in there if (found := self._asked(base, deadline))), None)
        return Interpreter(
            path=path, version=Version(answer["version"]), build=answer["build"], platform=answer["platform"]
        )

    def _download(self, version: PythonVersion, name: str, deadline: Deadline) -> Interpreter:
        """Have uv make an environment, for which it gets what it lacks if its settings let it.

        `uv python install` would not honour `python-downloads = "manual"`. Without a PATH uv looks only at its
        own Pythons, so a shim that does not run cannot stop it.
        """
        with tempfile.TemporaryDirectory(prefix="modelops-") as directory:
            made = Path(directory, "environment")
            arguments = ("venv", "--no-project", "--python", str(version), str(made))
            # By itself uv tries four times, for 10 s, before it says that there is no way out.
            settings = {"PATH": "", "UV_HTTP_RETRIES": self._uv.variables.get("UV_HTTP_RETRIES", "1")}
            finished = self._uv(*arguments, env=settings, deadline=deadline)
            found = self._newest(version, [(made / "bin" / name).resolve()], deadline)
        if found is None:
            raise UvFailed(f"what it made is no CPython {version} with a GIL", finished.stderr)
        return found


def _glob(directory: Path) -> list[Path]:
    """The directories of executables below; none where it cannot be read, as that of another user's pyenv."""
    return sorted(map(Path, glob.glob(f"{glob.escape(str(directory))}/*/bin")))  # noqa: PTH207 - Path.glob raises there
