"""Finds the Python that a cell was asked for among those of this machine, or has uv get it.

No file name is believed: each candidate is run and tells what it is, for behind a name may stand a shim that only
prints advice, another version, another implementation, or nothing that runs.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Progress
from pytest_modelops.environments.uv import Runner, Uv, UvFailed
from pytest_modelops.errors import CheckFailed, TimedOut, Unavailable
from pytest_modelops.matrix.cell import PythonVersion


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A Python that told what it is.

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
    """The Pythons of this machine. What was found, or not, is remembered as long as this lives.

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
        self._told: dict[Path, Interpreter | None] = {}
        self._answers: dict[PythonVersion, Interpreter | str] = {}

    def find(self, version: PythonVersion, *, deadline: Deadline, progress: Progress) -> Interpreter:
        """The newest patch of the version asked for, CPython with a GIL; uv gets it if there is none and it may.

        Raises:
            Unavailable: there is none; the message says what there is, and the command that gets it.
            TimedOut: the deadline passed.
        """
        if version not in self._answers:
            self._answers[version] = self._search(version, deadline, progress)
        answer = self._answers[version]
        if isinstance(answer, str):
            raise Unavailable(answer)
        return answer

    def _search(self, version: PythonVersion, deadline: Deadline, progress: Progress) -> Interpreter | str:
        name = f"python{version.release[0]}.{version.release[1]}"
        folders = list(self._folders(deadline))
        if found := self._newest(version, (folder / name for folder in folders), deadline):
            return found
        progress(f"there is no Python {version} here; uv is asked for it")
        try:
            return self._download(version, name, deadline)
        except UvFailed as error:
            every = (path for folder in folders for path in sorted(folder.glob("python3.*")))
            there = {self.ask(path, deadline) for path in every if _NAME.fullmatch(path.name)} - {None}
            versions = sorted({one.version for one in there if one})
            return (
                f"There is no Python {version} on this machine, only {', '.join(map(str, versions)) or 'none'}; "
                f"looked for {name} in {', '.join(map(str, folders))}.\n"
                f"uv did not get it: {error}\nGet it with: uv python install {version}"
            )

    def _folders(self, deadline: Deadline) -> Iterator[Path]:
        """Folders of executables: of this Python, of uv's and pyenv's, and those of PATH."""
        managed = Path(self._uv("python", "dir", deadline=deadline).stdout.strip())
        pyenv = Path(self._environ.get("PYENV_ROOT") or Path(self._environ.get("HOME", "~"), ".pyenv"))
        path = (Path(part) for part in self._environ.get("PATH", "").split(":") if part)
        patterns = (managed.glob("*/bin"), pyenv.expanduser().glob("versions/*/bin"), path)
        known = [self._prefix / "bin", *(folder for folders in patterns for folder in folders)]
        yield from dict.fromkeys(folder for folder in known if folder.is_dir())

    def _newest(
        self, version: PythonVersion, candidates: Iterable[Path], deadline: Deadline
    ) -> Interpreter | None:
        told = [self.ask(path, deadline) for path in candidates if path.exists()]
        fit = [interpreter for interpreter in told if interpreter and version.admits(interpreter.version)]
        return max(fit, key=lambda interpreter: interpreter.version, default=None)  # the first of equal ones

    def ask(self, path: Path, deadline: Deadline) -> Interpreter | None:
        """What an interpreter tells of itself, or `None` when it is of no use; that of a venv tells of its base."""
        deadline.check("looking for a Python")
        real = path.resolve()
        if real not in self._told:
            self._told[real] = self._ask(path, deadline)
        return self._told[real]

    def _ask(self, path: Path, deadline: Deadline) -> Interpreter | None:
        try:
            finished = self._run(
                [str(path), "-I", "-c", _QUESTION],
                env=self._uv.variables,
                cwd=path.parent,
                deadline=deadline.at_most(_ANSWER_SECONDS),
            )
            answer = json.loads(finished.stdout)
        except (CheckFailed, TimedOut, OSError, ValueError):
            return None  # a shim, or something that does not run here
        if answer["implementation"] != "cpython" or answer["free_threaded"]:
            return None
        if answer["prefix"] != answer["base_prefix"]:
            base = Path(answer["base_prefix"], "bin", path.name)
            return self.ask(base, deadline) if base.exists() and base != path else None
        return Interpreter(
            path=path,
            version=Version(answer["version"]),
            build=answer["build"],
            platform=answer["platform"],
        )

    def _download(self, version: PythonVersion, name: str, deadline: Deadline) -> Interpreter:
        """Have uv make an environment, for which it gets what it lacks if its settings let it.

        `uv python install` would not heed `python-downloads = "manual"`. Without a PATH uv looks only at its own
        Pythons, so a shim that does not run cannot stop it.
        """
        with tempfile.TemporaryDirectory(prefix="modelops-") as folder:
            made = Path(folder, "environment")
            arguments = ("venv", "--no-project", "--python", str(version), str(made))
            finished = self._uv(*arguments, env={"PATH": ""}, deadline=deadline)
            found = self._newest(version, [(made / "bin" / name).resolve()], deadline)
        if found is None:
            raise UvFailed(f"what it made is no CPython {version} with a GIL", finished.stderr)
        return found
