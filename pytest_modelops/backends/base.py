"""What a backend offers: environments for versions, and a sandbox in which a cell's processes run.

Checks, fixtures and the cluster know only these protocols, so a new backend changes none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Installed, Into, Lock, Progress, Wheelhouse
from pytest_modelops.matrix.cell import Cell, Role, Versions
from pytest_modelops.matrix.versions import Releases
from pytest_modelops.remote.shared.process_messages import ChildStack


class Process(Protocol):
    """One process of a cell, started by its sandbox. Its output goes to a file from the first byte."""

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
        """Wait for the end and return `ending`; raises `TimedOut`."""

    def signal(self, number: int, *, pid: int | None = None) -> bool:
        """Send a signal to the process, or to one of its descendants by pid; return `False` if it is gone."""

    def descendants(self) -> Sequence[int]:
        """Return the pids of its descendants, parents first; empty where they cannot be seen."""

    def abort_children(self, *, pid: int | None = None) -> Sequence[ChildStack]:
        """End its descendants, or those of one of them, with their stacks; empty where they cannot be seen.

        Those that do not print any are only described. Returns parents first.
        """

    def state(self, *, pid: int | None = None) -> str:
        """Return its state in the operating system (`running`, `sleeping`, `stopped`, `gone`)."""


class Forking(Protocol):
    """What a sandbox that can fork offers: processes that share one import of Dask."""

    @property
    def executed(self) -> Mapping[str, str]:
        """Why processes that were to be forked were executed instead, by their names."""

    @property
    def faults(self) -> Mapping[str, str]:
        """Those of them for which this is unexpected."""

    def prepare(self, wanted: Mapping[str, tuple[Environment, Mapping[str, str]]], *, seconds: float) -> None:
        """Get ready to fork processes, which `start` then does where it can.

        Args:
            wanted: their environments and variables by name. They are then started with arguments that begin with
                `-m`, and with these variables or more.
            seconds: how long the first start may wait until one can be forked.
        """


class Sandbox(Protocol):
    """The place where the processes of one cell run; closing it ends all of them."""

    def scheduler_arguments(self) -> Sequence[str]:
        """Return arguments with which the scheduler listens where workers and client look for it."""

    def worker_arguments(self) -> Sequence[str]:
        """Return arguments with which a worker finds the scheduler and is found."""

    def client_contact(self) -> Mapping[str, str]:
        """Return keyword arguments with which a `distributed.Client` finds the scheduler."""

    def host_address(self, address: str) -> str | None:
        """Return where the host reaches an address of the cell; `None` if it cannot."""

    def directory(self, name: str) -> str:
        """Return the path, as the cell sees it, of a directory for the named process alone."""

    def cell_directory(self) -> str:
        """Return the path, as its processes see it, of a directory of the cell's own, which is empty at first.

        Processes share it where they share a file system.
        """

    def put(self, source: Path, name: str) -> str:
        """Copy a file or directory of the host into the cell, where every process can read it.

        Args:
            source: the host's; links in it are followed.
            name: its name in the cell, with `/` for directories (`bundles/seir/source`). A second copy under the same
                name does nothing.

        Returns:
            Its path as the cell sees it. Processes may start before or after.
        """

    def put_all(self, sources: Mapping[str, Path]) -> Mapping[str, str]:
        """Copy several files and directories at once, by their names in the cell; return the path of each."""

    def pips(self) -> str:
        """Return a directory, as the cell sees it, with the pips of its Pythons, unpacked and compiled.

        In it, a pip is where `own_pip.prepared` looks for it. Empty if there is none: then workers unpack theirs.
        """

    @property
    def forking(self) -> Forking | None:
        """What forks processes of this sandbox; `None` where the backend or this machine cannot."""

    @property
    def nannies_fork(self) -> bool:
        """Whether nannies of this sandbox can fork their workers."""

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
        """Start a process as `start` does, and return its stdin and stdout as binary streams."""

    def obstacle_to(self, fault: str, *, memory_limit: int) -> str:
        """Return why a fault of `config.faults` cannot be made to happen here, and what would help; else nothing.

        Args:
            memory_limit: of a worker, in bytes.
        """

    def disturb(self, fault: str, name: str) -> Callable[[], None]:
        """Cut a process off from the network, slow that down, or fill its disk (`CUT_OFF`, `SLOW`, `DISK`).

        Returns:
            What ends it.

        Raises:
            CheckFailed: it could not be done.
            NothingToDo: this engine or kernel cannot do it.
        """

    def keep(self) -> str:
        """Let the scheduler and the workers outlive `close` and pytest.

        Returns:
            How to get in, how to connect, and how to remove them, for people.

        Raises:
            CheckFailed: the backend cannot do it.
        """

    def close(self) -> Sequence[str]:
        """End every process, remove what was made, and prove it. Return what is left, for people."""

    def logs(self) -> Mapping[str, Path]:
        """Return the logs by process name; they outlive the sandbox."""

    def log(self, name: str) -> Path:
        """Return the path of a log that no process of the sandbox writes itself, and add it to `logs`."""


class Backend(Protocol):
    """Makes environments and sandboxes; one for each session. Several threads use it at once."""

    name: str

    @property
    def releases(self) -> Releases:
        """The Dask releases that its index has."""

    @property
    def indexes(self) -> Collection[str]:
        """URLs and directories where the host gets packages, without credentials."""

    @property
    def variants(self) -> Mapping[Role, str]:
        """What distinguishes environments of roles with the same versions; empty where they share one."""

    def describe(self) -> str:
        """Return a phrase for pytest's header: backend and cache in use."""

    def python(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Version:
        """Return the Python, to the patch, that an environment of these versions has; nothing is resolved or built.

        Raises:
            Unavailable: there is no such Python; the message holds the command that gets it.
            TimedOut: the deadline passed.
        """

    def resolve(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Lock:
        """Find a solution for these versions.

        Raises:
            Unavailable: no such interpreter; the message holds the command that gets it.
            CheckFailed: no solution, or no index; the message quotes the resolver.
            TimedOut: the deadline passed.
        """

    def install(self, lock: Lock, *, deadline: Deadline, progress: Progress) -> Environment:
        """Build the environment, or find it in the cache and verify it.

        Raises:
            CheckFailed: it could not be built, or does not hold what the lock says.
            TimedOut: the deadline passed.
        """

    def wheelhouse(
        self, requirements: Sequence[str], lock: Lock, *, deadline: Deadline, progress: Progress
    ) -> Wheelhouse:
        """Collect wheels of everything that these requirements need, for the Python and platform of a lock.

        Args:
            requirements: PEP 508 lines, or absolute paths of project directories (built from a copy) or wheels; each
                may have hashes (`--hash=sha256:…`). A line `--constraint=numpy<2` constrains, and `--require-hashes`
                asks for a hash of everything that an index has.
            lock: gives Python and platform; its packages are ignored.

        Raises:
            CheckFailed: no solution, no index, or a wheel that cannot be downloaded or built; the message quotes the
                resolver's or builder's first cause.
            TimedOut: the deadline passed.
        """

    def install_wheels(
        self, house: Wheelhouse, lock: Lock, into: Into, *, deadline: Deadline, progress: Progress
    ) -> Installed | None:
        """Install everything of a wheelhouse once, for processes of the cell to copy.

        Args:
            lock: gives the interpreter; its packages are ignored.

        Returns:
            `None` if each process has to install the wheels with pip.

        Raises:
            TimedOut: the deadline passed.
        """

    def sandbox(self, cell: Cell) -> Sandbox:
        """Return a new sandbox for the cell."""

    def interrupt(self) -> None:
        """End the commands that make environments in other threads, and start no more of them."""

    def close(self) -> None:
        """End everything that still runs for this session."""
