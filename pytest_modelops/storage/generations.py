"""Directories that are made once and shared: never seen half-made, never removed under a user.

    <name>/             all that was ever made of one kind
        1/  2/  …       generations; the newest with a marker counts
        2/complete.json the marker, written last: whatever its maker wants to know of it later
        2.in-use        locked, shared, by each process that uses it
    <name>.lock         held while one is made, verified or removed

What cannot be trusted is not repaired but replaced by a new generation. The old one goes when nobody holds it
any more; the operating system takes the locks from processes that end, however they end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import TimedOut
from pytest_modelops.storage.files import locked, read_json, write_json

_MARKER = "complete.json"
UNUSED_SECONDS = 30 * 24 * 3600.0
"""After so long without use a generation is removed."""


class Generations:
    """All generations below a directory, as one process sees them.

    Args:
        directory: holds one directory for each name.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[Path, IO[str]] = {}

    @contextlib.contextmanager
    def locked(self, name: str, deadline: Deadline, awaited: str) -> Iterator[None]:
        """Be the only one at a name; all below until `hold` wants that. At the end what is outdated is removed.

        Raises:
            TimedOut: another process was at it until the deadline; `awaited` says at what.
        """
        home = self._directory / name
        with locked(self._lock_of(home), deadline, awaited):
            home.mkdir(exist_ok=True)
            yield
            _remove_old(home)

    def newest(self, name: str) -> Path | None:
        """The newest complete one."""
        return next(reversed(_generations(self._directory / name)), None)

    def marker(self, directory: Path) -> Any:
        """What its maker wrote down of it; `None` if that is damaged."""
        return read_json(directory / _MARKER)

    @contextlib.contextmanager
    def making(self, name: str) -> Iterator[Path]:
        """The place for the next one, which does not exist yet; nothing stays there if making it fails."""
        home = self._directory / name
        numbers = [int(path.name) for path in home.iterdir() if path.name.isdigit()]
        directory = home / str(max(numbers, default=0) + 1)
        try:
            yield directory
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise

    def complete(self, directory: Path, marker: Any) -> None:
        """Say that it is ready; from now on it counts."""
        write_json(directory / _MARKER, marker)

    def hold(self, directory: Path) -> None:
        """Keep others from removing it, as long as this process lives or until `close`."""
        if directory not in self._held:
            stream = _in_use(directory).open("a")
            fcntl.flock(stream, fcntl.LOCK_SH)
            self._held[directory] = stream
        os.utime(directory / _MARKER)

    def prune(self) -> None:
        """Remove what has not been used for long, and what killed processes left."""
        oldest = time.time() - UNUSED_SECONDS
        for home in [path for path in self._directory.iterdir() if path.is_dir()]:
            with contextlib.suppress(TimedOut), locked(self._lock_of(home), Deadline(0), "tidying"):
                _remove_old(home)
                for directory in _generations(home):
                    if (directory / _MARKER).stat().st_mtime < oldest:
                        _remove(directory)
                with contextlib.suppress(OSError):
                    home.rmdir()

    def close(self) -> None:
        """Let go of all; they stay on disk."""
        for stream in self._held.values():
            stream.close()
        self._held.clear()

    def _lock_of(self, home: Path) -> Path:
        return home.with_name(f"{home.name}.lock")


def _generations(home: Path) -> list[Path]:
    """The complete ones, oldest first."""
    return sorted((path.parent for path in home.glob(f"*/{_MARKER}")), key=lambda directory: int(directory.name))


def _in_use(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.in-use")


def _remove_old(home: Path) -> None:
    """Remove what was left half-made and generations that were replaced. The home's lock is held."""
    complete = _generations(home)
    for directory in [path for path in home.iterdir() if path.name.isdigit()]:
        if directory not in complete[-1:]:
            _remove(directory)


def _remove(directory: Path) -> None:
    """Remove one unless somebody uses it. First the marker, so nobody sees it half-removed."""
    with contextlib.suppress(BlockingIOError), _exclusively(_in_use(directory)):
        (directory / _MARKER).unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)
        _in_use(directory).unlink(missing_ok=True)


@contextlib.contextmanager
def _exclusively(file: Path) -> Iterator[None]:
    with file.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
