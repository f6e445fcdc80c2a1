"""Processes of an engine that a test session starts on loopback."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.processes import left_behind, poll

READY_SECONDS = 60
GONE_SECONDS = 30
_BELOW_EPHEMERAL = range(12000, 32000)
"""Ports that no outgoing connection of another process gets meanwhile."""


class Daemons:
    """What an engine runs, in a directory that everything of it names; a daemon also ends when pytest is killed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, *command: str, env: Mapping[str, str] | None = None) -> None:
        with (self.directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                cwd=self.directory,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append((name, process))

    def wait(self, condition: Callable[[], Any], awaited: str) -> Any:
        """Wait until the condition holds; fails with the logs where a daemon ended before."""

        def ended() -> list[str]:
            return [name for name, process in self._started if process.poll() is not None]

        answer = poll(lambda: ended() or condition(), seconds=READY_SECONDS)
        if not answer or ended():
            logs = "\n".join(f"{file.name}:\n{file.read_text()[-2000:]}" for file in self.directory.glob("*.log"))
            pytest.fail(f"{awaited}: not within {READY_SECONDS} s, or ended: {ended()}\n{logs}")
        return answer

    def processes(self) -> list[psutil.Process]:
        """Return the daemons that run, and their descendants."""
        found = []
        for _, process in self._started:
            with contextlib.suppress(psutil.NoSuchProcess):
                daemon = psutil.Process(process.pid)
                found += [daemon, *daemon.children(recursive=True)]
        return found

    def close(self) -> None:
        """End all by pid, the last started first, and prove that nothing is left."""
        of_it = self.processes()
        for _, process in reversed(self._started):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GONE_SECONDS)
        _, alive = psutil.wait_procs(of_it, timeout=GONE_SECONDS)
        left = [*map(str, alive), *left_behind(self.directory)]
        for survivor in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                survivor.kill()
        for _, process in self._started:
            process.wait(GONE_SECONDS)
        assert not left, left


@contextlib.contextmanager
def daemons(directory: Path) -> Iterator[Daemons]:
    directory.mkdir(parents=True)
    running = Daemons(directory)
    try:
        yield running
    finally:
        running.close()


def find(programs: Mapping[str, str], how_to: str) -> dict[str, str]:
    """Return the paths of programs; skips the test if one is missing.

    Args:
        programs: name and where Debian has it.
        how_to: the command that installs them.
    """
    paths = {name: shutil.which(name) or shutil.which(name, path=where) for name, where in programs.items()}
    if missing := [name for name, path in paths.items() if path is None]:
        pytest.skip(f"no {', '.join(missing)}; to run it: {how_to}")
    return {name: path for name, path in paths.items() if path}


def free_ports(number: int) -> list[int]:
    """Return ports of loopback that nothing listens on."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < number:
            listener = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", random.SystemRandom().choice(_BELOW_EPHEMERAL)))
                ports.append(listener.getsockname()[1])
        return ports
