"""The `process` backend: a cell's processes run on this machine, under a supervisor, on the loopback interface."""

from __future__ import annotations

import functools
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, TypeVar

import psutil

from pytest_modelops.backends.templates import Templates
from pytest_modelops.config.faults import CUT_OFF, DISK, IN_CONTAINERS, MEMORY, SLOW
from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.environments.base import Environment
from pytest_modelops.environments.commands import Commands, HostProcess, HostProcesses
from pytest_modelops.environments.local import Environments
from pytest_modelops.environments.remote_package import NAME
from pytest_modelops.errors import CheckFailed
from pytest_modelops.matrix.cell import Cell, Role
from pytest_modelops.storage.files import unused_path

FROM_HOST = ("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ")
"""The only variables of the host that a cell gets."""
_SPARE = 0.5
"""How much of the memory that is available may be filled on purpose."""
_Started = TypeVar("_Started")
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


def _with_dask_of_host(variables: Mapping[str, str]) -> dict[str, str]:
    found = {name: text for name, text in variables.items() if name != "DASK_ROOT_CONFIG"}
    # Not `items()`: pytest removes a variable, the name of the running test, in another thread meanwhile.
    dask = {name: os.environ[name] for name in os.environ if name.startswith("DASK_")}
    return {**found, "DASK_CONFIG": str(Path.home() / ".config" / "dask"), **dask}


class ProcessSandbox:
    """A cell's processes on this machine (see `base.Sandbox`).

    Args:
        directory: the cell's own; `logs/` in it stays, `scratch/` (HOME, temporary files, working directories) is
            removed at the end.
        remote_package: returns the directory with the package `modelops_remote` for an environment.
    """

    has_dask_of_host = False
    """Whether its processes have the Dask configuration of this machine."""

    def __init__(self, directory: Path, remote_package: Callable[[Environment], Path]) -> None:
        self._logs = directory / "logs"
        self._logs.mkdir(parents=True)
        self._scratch = directory / "scratch"
        for name in ("home", "tmp", "dask"):
            (self._scratch / name).mkdir(parents=True)
        self.remote = str(self._scratch / "remote")
        self._remote_package = remote_package
        self._compiled: set[str] = set()
        self._scheduler_file = self._scratch / "scheduler.json"
        self._processes = HostProcesses(log=self._logs / "supervisor.log", directory=self._scratch)
        self.forking = (
            Templates(self._processes, self._variables, logs=self._logs, directory=Path(self.directory("forking")))
            if sys.platform == "linux"
            else None
        )
        self.nannies_fork = self.forking is not None
        self._log_files: dict[str, Path] = {}
        self._put: set[str] = set()
        self._lock = threading.Lock()

    def scheduler_arguments(self) -> Sequence[str]:
        """Listen on any free port of loopback and write the address to a file: no other process can take the port."""
        return "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(self._scheduler_file)

    def worker_arguments(self) -> Sequence[str]:
        # The empty address keeps Dask from taking the first argument of a preload for one.
        return "", "--scheduler-file", str(self._scheduler_file), "--host", "127.0.0.1"

    def client_contact(self) -> Mapping[str, str]:
        return {"scheduler_file": str(self._scheduler_file)}

    def host_address(self, address: str) -> str | None:
        return address  # the cell listens on this machine's loopback

    def directory(self, name: str) -> str:
        directory = self._scratch / name
        directory.mkdir(exist_ok=True)
        return str(directory)

    def cell_directory(self) -> str:
        return self.directory("cell")

    def pips(self) -> str:
        return ""

    def put(self, source: Path, name: str) -> str:
        target = self._scratch / "put" / name
        with self._lock:
            if name not in self._put:
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, target, dirs_exist_ok=True)  # an earlier copy may have failed halfway
                else:
                    shutil.copy2(source, target)
                self._put.add(name)
        return str(target)

    def put_all(self, sources: Mapping[str, Path]) -> Mapping[str, str]:
        return {name: self.put(source, name) for name, source in sources.items()}

    def start(
        self, name: str, environment: Environment, arguments: Sequence[str], *, variables: Mapping[str, str]
    ) -> HostProcess:
        return self._start(self._processes.start, name, environment, arguments, variables)

    def start_attached(
        self, name: str, environment: Environment, arguments: Sequence[str], *, variables: Mapping[str, str]
    ) -> tuple[HostProcess, IO[bytes], IO[bytes]]:
        return self._start(self._processes.start_attached, name, environment, arguments, variables)

    def _start(
        self,
        start: Callable[..., _Started],
        name: str,
        environment: Environment,
        arguments: Sequence[str],
        variables: Mapping[str, str],
    ) -> _Started:
        self._copy_remote(environment)
        start = functools.partial(
            start, name, env=self._variables(environment, variables), cwd=Path(self.directory(name)), log=self.log(name)
        )
        if self.forking is not None and (template := self.forking.take(name)):
            try:
                forked = start(arguments[1:], template=template)  # without `-m`
            except CheckFailed as error:
                self.forking.started(name, str(error))
            else:
                self.forking.started(name)
                return forked
        return start([environment.python, *arguments])

    def _copy_remote(self, environment: Environment) -> None:
        """Copy `modelops_remote` into the cell, or what another interpreter needs besides."""
        with self._lock:
            if environment.python not in self._compiled:
                package = self._remote_package(environment)
                shutil.copytree(package / NAME, Path(self.remote) / NAME, copy_function=_copy_new, dirs_exist_ok=True)
                self._compiled.add(environment.python)

    def _variables(self, environment: Environment, variables: Mapping[str, str]) -> dict[str, str]:
        found = {
            **{name: os.environ[name] for name in FROM_HOST if name in os.environ},
            "PATH": f"{Path(environment.python).parent}:{_SYSTEM_PATH}",
            "HOME": str(self._scratch / "home"),
            "TMPDIR": str(self._scratch / "tmp"),
            "DASK_CONFIG": str(self._scratch / "dask"),  # empty: neither ~/.config/dask nor /etc/dask of the host
            "DASK_ROOT_CONFIG": str(self._scratch / "dask"),
            "PYTHONNOUSERSITE": "1",
            "PYTHONUNBUFFERED": "1",  # the last output before a crash reaches the log
            "PYTHONFAULTHANDLER": "1",
        }
        return {**(_with_dask_of_host(found) if self.has_dask_of_host else found), **variables}

    def obstacle_to(self, fault: str, *, memory_limit: int) -> str:
        if fault in {CUT_OFF, DISK, SLOW}:
            return f"the processes of a cell share this machine's network and disk; {IN_CONTAINERS}"
        spare = int(psutil.virtual_memory().available * _SPARE)
        if fault == MEMORY and memory_limit > spare:
            return (
                f"the memory limit of a worker is {memory_limit / 2**20:.0f} MiB, and this machine can spare "
                f"{spare / 2**20:.0f}; set a lower `--memory-limit` in `worker-args`"
            )
        return ""

    def disturb(self, fault: str, name: str) -> Callable[[], None]:
        raise CheckFailed(f"{fault} of {name}: {self.obstacle_to(fault, memory_limit=0)}")

    def keep(self) -> str:
        raise CheckFailed("the process backend cannot leave a cell up, since its processes end with pytest")

    def close(self) -> Sequence[str]:
        return self._processes.close()

    def logs(self) -> Mapping[str, Path]:
        return dict(self._log_files)

    def log(self, name: str) -> Path:
        return self._log_files.setdefault(name, self._logs / f"{name}.log")


def _copy_new(source: str, target: str) -> None:
    """Copy a file, unless it is there: processes may be reading it."""
    if not os.path.exists(target):  # noqa: PTH110 - copytree passes text
        shutil.copy2(source, target)


class ProcessBackend(Environments):
    """Virtual environments and sandboxes on this machine (see `base.Backend`).

    Args:
        cache: directory that several runs share.
        directory: of this run; each cell gets a directory in it.
    """

    name = "process"
    variants: Mapping[Role, str] = MappingProxyType({})

    def __init__(self, *, spec: EnvironmentSpec, cache: Path, fresh: bool, directory: Path) -> None:
        self._cache = cache
        self._directory = directory
        self._commands = Commands(directory / f"commands-{os.getpid()}")
        super().__init__(spec, cache=cache, fresh=fresh, run=self._commands, session=directory.name)

    def describe(self) -> str:
        return f"{self.name} backend, cache {self._cache}"

    def sandbox(self, cell: Cell) -> ProcessSandbox:
        # A cell that is started again does not overwrite the logs of the first time.
        return ProcessSandbox(unused_path(self._directory, cell.id), self.remote_package)

    def interrupt(self) -> None:
        self._commands.interrupt()

    def close(self) -> None:
        self._commands.close()
        super().close()
