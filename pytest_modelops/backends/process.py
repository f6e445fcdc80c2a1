"""The `process` backend: a cell's processes run on this machine, under a supervisor, on the loopback interface."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import IO

from packaging.version import Version

from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Lock, Progress, Wheelhouse
from pytest_modelops.environments.commands import Commands, SupervisedProcess, SupervisedProcesses
from pytest_modelops.environments.local import Environments
from pytest_modelops.errors import CheckFailed
from pytest_modelops.matrix.cell import Cell, Role, Versions
from pytest_modelops.matrix.versions import Releases

_FROM_HOST = ("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ")
"""The only variables of the host that a cell gets; all else in it is made for it."""
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


class ProcessSandbox:
    """A cell's processes on this machine (see `base.Sandbox`).

    Args:
        directory: the cell's own; `logs/` in it stays, `scratch/` (HOME, temporary files, working directories) goes.
    """

    def __init__(self, directory: Path) -> None:
        self._logs = directory / "logs"
        self._logs.mkdir(parents=True)
        self._scratch = directory / "scratch"
        for name in ("home", "tmp", "dask"):
            (self._scratch / name).mkdir(parents=True)
        self.remote = str(self._scratch / "remote")
        with resources.as_file(resources.files("pytest_modelops") / "remote") as source:
            shutil.copytree(source, Path(self.remote) / "modelops_remote", ignore=shutil.ignore_patterns("__pycache__"))
        self._scheduler_file = self._scratch / "scheduler.json"
        self._processes = SupervisedProcesses(log=self._logs / "supervisor.log", directory=self._scratch)
        self._log_files: dict[str, Path] = {}
        self._put: set[str] = set()
        self._lock = threading.Lock()

    def scheduler_arguments(self) -> Sequence[str]:
        """Any free port on loopback, reported in a file: nobody can take it in between."""
        return "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(self._scheduler_file)

    def worker_arguments(self) -> Sequence[str]:
        """Wait for the scheduler's file; listen on loopback."""
        return "--scheduler-file", str(self._scheduler_file), "--host", "127.0.0.1"

    def client_contact(self) -> Mapping[str, str]:
        """The scheduler's file."""
        return {"scheduler_file": str(self._scheduler_file)}

    def host_address(self, address: str) -> str:
        """The same: it is this machine's loopback."""
        return address

    def directory(self, name: str) -> str:
        """A directory of its own in the cell's scratch space."""
        directory = self._scratch / name
        directory.mkdir(exist_ok=True)
        return str(directory)

    def put(self, source: Path, name: str) -> str:
        """A copy in the cell's scratch space."""
        target = self._scratch / "put" / name
        with self._lock:
            if name not in self._put:
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, target, dirs_exist_ok=True)  # a copy that failed may have begun
                else:
                    shutil.copy2(source, target)
                self._put.add(name)
        return str(target)

    def start(
        self, name: str, environment: Environment, arguments: Sequence[str], *, variables: Mapping[str, str]
    ) -> SupervisedProcess:
        """Start the environment's Python."""
        return self._processes.start(
            name,
            [environment.python, *arguments],
            env=self._variables(environment, variables),
            cwd=Path(self.directory(name)),
            log=self.log(name),
        )

    def start_attached(
        self, name: str, environment: Environment, arguments: Sequence[str], *, variables: Mapping[str, str]
    ) -> tuple[SupervisedProcess, IO[bytes], IO[bytes]]:
        """Start the environment's Python with its stdin and stdout in our hands."""
        return self._processes.start_attached(
            name,
            [environment.python, *arguments],
            env=self._variables(environment, variables),
            cwd=Path(self.directory(name)),
            log=self.log(name),
        )

    def _variables(self, environment: Environment, variables: Mapping[str, str]) -> dict[str, str]:
        return {
            **{name: os.environ[name] for name in _FROM_HOST if name in os.environ},
            "PATH": f"{Path(environment.python).parent}:{_SYSTEM_PATH}",
            "HOME": str(self._scratch / "home"),
            "TMPDIR": str(self._scratch / "tmp"),
            "DASK_CONFIG": str(self._scratch / "dask"),  # empty: neither ~/.config/dask nor /etc/dask of the host
            "DASK_ROOT_CONFIG": str(self._scratch / "dask"),
            "PYTHONNOUSERSITE": "1",
            "PYTHONUNBUFFERED": "1",  # the last words before a crash reach the log
            "PYTHONFAULTHANDLER": "1",
            **variables,
        }

    def keep(self) -> str:
        """Never: a supervisor ends with pytest, and everything with it."""
        raise CheckFailed("the process backend cannot leave a cell up")

    def close(self) -> Sequence[str]:
        """End all, prove it, remove the scratch directory. Returns what is left, in words."""
        return self._processes.close()

    def logs(self) -> Mapping[str, Path]:
        """Log by process name."""
        return dict(self._log_files)

    def log(self, name: str) -> Path:
        """A file beside the others."""
        return self._log_files.setdefault(name, self._logs / f"{name}.log")


class ProcessBackend:
    """Local environments, and sandboxes on this machine (see `base.Backend`).

    Args:
        cache: directory of what is kept between runs.
        directory: of this run, in which each cell gets one of its own.
    """

    name = "process"
    variants: Mapping[Role, str] = MappingProxyType({})

    def __init__(self, *, spec: EnvironmentSpec, cache: Path, fresh: bool, directory: Path) -> None:
        self._cache = cache
        self._directory = directory
        self._commands = Commands(directory / f"commands-{os.getpid()}")
        self._environments = Environments(spec, cache=cache, fresh=fresh, run=self._commands, session=directory.name)

    @property
    def releases(self) -> Releases:
        """Of the index that the user's uv or pip is configured for."""
        return self._environments.releases

    def describe(self) -> str:
        """For pytest's header."""
        return f"{self.name} backend, cache {self._cache}"

    def python(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Version:
        """That of the interpreter at hand."""
        return self._environments.python(versions, deadline=deadline, progress=progress)

    def resolve(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Lock:
        """A solution for these versions."""
        return self._environments.resolve(versions, deadline=deadline, progress=progress)

    def install(self, lock: Lock, *, deadline: Deadline, progress: Progress) -> Environment:
        """A virtual environment in the cache."""
        return self._environments.install(lock, deadline=deadline, progress=progress)

    def wheelhouse(
        self, requirements: Sequence[str], lock: Lock, *, deadline: Deadline, progress: Progress
    ) -> Wheelhouse:
        """A directory of wheels in the cache."""
        return self._environments.wheelhouse(requirements, lock, deadline=deadline, progress=progress)

    def sandbox(self, cell: Cell) -> ProcessSandbox:
        """A directory of its own for the cell, and a supervisor."""
        directory = self._directory / cell.id
        number = 1
        while directory.exists():  # a cell that is started again keeps the logs of the first time
            number += 1
            directory = self._directory / f"{cell.id}-{number}"
        return ProcessSandbox(directory)

    def close(self) -> None:
        """End what the host still runs, and let go of the environments."""
        self._commands.close()
        self._environments.close()
