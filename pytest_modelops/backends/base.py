"""What a backend offers: environments for versions, and a sandbox on which a cell's processes run.

Checks, fixtures and the cluster speak to these protocols alone, so that a new backend touches none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Lock, Progress, Wheelhouse
from pytest_modelops.matrix.cell import Cell, Role, Versions
from pytest_modelops.matrix.versions import Releases


class Process(Protocol):
    """One process of a cell, which its sandbox started. Its output goes to a file from the first byte."""

    @property
    def name(self) -> str:
        """`scheduler`, `worker-0`, `agent`, …; unique in its cell."""

    @property
    def pid(self) -> int:
        """Process id, as the sandbox counts them."""

    @property
    def log(self) -> Path:
        """File on the host that holds the output (of the agent: its stderr)."""

    @property
    def ending(self) -> str | None:
        """`None` while it runs, else how it ended, in words (`exited with code 1`, `was killed by SIGSEGV`)."""

    def wait(self, deadline: Deadline) -> str:
        """Wait for the end and return it in words; raises `TimedOut`."""

    def signal(self, number: int, *, pid: int | None = None) -> bool:
        """Send a signal to the process, or to a descendant of it by pid; `False` when it is gone."""

    def descendants(self) -> Sequence[int]:
        """Pids of what it has started, and what that has started, parents first; none where that cannot be seen."""

    def state(self, *, pid: int | None = None) -> str:
        """Where the operating system says it stands (`running`, `sleeping`, `stopped`, `gone`)."""


class Sandbox(Protocol):
    """The place where the processes of one cell run; all of them end with it."""

    def scheduler_arguments(self) -> Sequence[str]:
        """Arguments by which the scheduler listens where the others will look."""

    def worker_arguments(self) -> Sequence[str]:
        """Arguments by which a worker finds the scheduler and is found."""

    def client_contact(self) -> Mapping[str, str]:
        """Keyword arguments by which a `distributed.Client` finds the scheduler."""

    def host_address(self, address: str) -> str | None:
        """Where the host reaches an address of the cell; `None` where it cannot."""

    def directory(self, name: str) -> str:
        """Path, as the cell sees it, of a directory of its own for the named process."""

    def put(self, source: Path, name: str) -> str:
        """Copy a file or directory of the host's into the cell, where every process can read it.

        Args:
            source: the host's; links in it are followed.
            name: what it is called in the cell, with `/` for directories (`bundles/seir/source`). Each is put
                once; to put
                it again does nothing.

        Returns:
            Its path as the cell sees it. It may be there already when processes start, or come later.
        """

    @property
    def remote(self) -> str:
        """Path, as the cell sees it, of the directory that holds the package `modelops_remote`."""

    def start(
        self, name: str, environment: Environment, arguments: Sequence[str], *, variables: Mapping[str, str]
    ) -> Process:
        """Start the environment's Python with these arguments and variables (and the sandbox's own)."""

    def start_attached(
        self, name: str, environment: Environment, arguments: Sequence[str], *, variables: Mapping[str, str]
    ) -> tuple[Process, IO[bytes], IO[bytes]]:
        """As `start`, with the process's stdin and stdout as binary streams of the host's."""

    def keep(self) -> str:
        """Have the scheduler and the workers outlive `close` and pytest.

        Returns:
            How to get in, how to connect, and how to clear it, in words.

        Raises:
            CheckFailed: it cannot be.
        """

    def close(self) -> Sequence[str]:
        """End whatever runs, prove that nothing is left, and remove what was made. Returns what is left, in words."""

    def logs(self) -> Mapping[str, Path]:
        """Log by process name; they outlive the sandbox."""

    def log(self, name: str) -> Path:
        """Where to write a log that no process of the sandbox writes itself; it is among `logs` from then on."""


class Backend(Protocol):
    """Makes environments and sandboxes. One for a session."""

    name: str

    @property
    def releases(self) -> Releases:
        """The Dask releases that its index has."""

    @property
    def variants(self) -> Mapping[Role, str]:
        """What tells the environments of roles with the same versions apart; empty where they share one."""

    def describe(self) -> str:
        """One phrase for pytest's header: backend and cache in use."""

    def python(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Version:
        """The Python, to the patch, that an environment of these versions has; nothing is resolved or built.

        Raises:
            Unavailable: there is none; the message holds the command that gets it.
            TimedOut: the deadline passed.
        """

    def resolve(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Lock:
        """Find a solution for these versions.

        Raises:
            Unavailable: no such interpreter; the message holds the command that gets it.
            CheckFailed: no solution, or no index; the message holds the resolver's words.
            TimedOut: the deadline passed.
        """

    def install(self, lock: Lock, *, deadline: Deadline, progress: Progress) -> Environment:
        """Build the environment, or find it in the cache and verify it.

        Raises:
            CheckFailed: it could not be built, or what was read back is not what the lock says.
            TimedOut: the deadline passed.
        """

    def wheelhouse(
        self, requirements: Sequence[str], lock: Lock, *, deadline: Deadline, progress: Progress
    ) -> Wheelhouse:
        """Wheels of all that these requirements need, for the Python and the platform of a lock.

        Args:
            requirements: PEP 508 lines, or absolute paths of project directories (built from a copy) or wheels.
            lock: whose Python and platform they are for; nothing of what is in it is taken into account.

        Raises:
            CheckFailed: no solution, no index, or a wheel that cannot be had or built; the message holds the first
                cause in the resolver's or builder's words.
            TimedOut: the deadline passed.
        """

    def sandbox(self, cell: Cell) -> Sandbox:
        """A new sandbox for the cell."""

    def close(self) -> None:
        """End whatever still runs for this session."""
