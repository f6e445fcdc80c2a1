"""Forking processes of a cell that have an interpreter and variables in common; see `remote/supervisor/template.py`."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from pytest_modelops.environments.base import Environment
from pytest_modelops.environments.bytecode import COMMAND_LINE
from pytest_modelops.environments.commands import HostProcesses
from pytest_modelops.errors import CheckFailed


@dataclasses.dataclass
class _Template:
    """A process to fork from.

    Attributes:
        names: of the processes that are still to be forked from it.
        obstacle: why they cannot be forked; `None` while that is not known.
    """

    pid: int
    names: set[str]
    obstacle: str | None = None


class Templates:
    """The processes of one sandbox that others are forked from (see `base.Forking`).

    Args:
        variables: returns all variables of a process.
        logs: gets a log of each.
        directory: is the working directory of all.
    """

    def __init__(
        self,
        processes: HostProcesses,
        variables: Callable[[Environment, Mapping[str, str]], Mapping[str, str]],
        *,
        logs: Path,
        directory: Path,
    ) -> None:
        self._processes = processes
        self._variables = variables
        self._logs = logs
        self._directory = directory
        self._templates: dict[str, _Template] = {}
        self._seconds = 0.0
        self.executed: dict[str, str] = {}
        self.faults: dict[str, str] = {}

    def prepare(self, wanted: Mapping[str, tuple[Environment, Mapping[str, str]]], *, seconds: float) -> None:
        """Start one process for all that have the same interpreter and variables, unless that is only one."""
        self._seconds = seconds
        groups: dict[tuple[str, tuple[tuple[str, str], ...]], set[str]] = {}
        for name, (environment, own) in wanted.items():
            variables = tuple(self._variables(environment, own).items())  # whose order Dask's configuration depends on
            groups.setdefault((environment.python, variables), set()).add(name)
        for number, ((python, variables), names) in enumerate(groups.items()):
            if len(names) == 1:
                self.executed.update(dict.fromkeys(names, "no other process has its interpreter and variables"))
                continue
            log = self._logs / f"forked-from-{number}.log"
            try:
                pid = self._processes.prepare(python, COMMAND_LINE, env=dict(variables), cwd=self._directory, log=log)
            except CheckFailed as error:
                self._refuse(names, str(error))
            else:
                self._templates.update(dict.fromkeys(names, _Template(pid, names)))

    def take(self, name: str) -> int:
        """Return the pid of the process to fork the named one from, waiting until that is ready; 0 if there is none."""
        template = self._templates.get(name)
        if template is None:
            return 0
        if template.obstacle is None:
            template.obstacle = self._processes.obstacle(template.pid, self._seconds)
            if template.obstacle:
                self._refuse(template.names, template.obstacle)
                self._processes.signal(template.pid, signal.SIGKILL)
        return 0 if template.obstacle else template.pid

    def started(self, name: str, fault: str = "") -> None:
        """Note that a process was forked, or why it could not be. The last one ends what it was forked from."""
        if fault:
            self._refuse({name}, fault)
        if template := self._templates.pop(name, None):
            template.names.discard(name)
            if not template.names:
                self._processes.signal(template.pid, signal.SIGKILL)

    def _refuse(self, names: set[str], why: str) -> None:
        self.executed.update(dict.fromkeys(names, why))
        self.faults.update(dict.fromkeys(names, why))
