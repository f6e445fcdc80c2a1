"""Directories that are made once and shared: never seen half-made, never removed while a process uses them.

    <name>/             everything that was made under one name
        1/  2/  …       generations; the newest with a marker counts
        2/complete.json the marker, written last: what its maker wants to know of it later
        2.in-use        locked, shared, by each process that uses it
    <name>.lock         held while one is made, verified or removed

A generation that cannot be trusted is replaced by a new one, not repaired. The old one is removed when no process holds
it any more; the operating system releases the locks of processes that end, however they end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import TimedOut
from pytest_modelops.storage.files import locked, read_json, write_json

_MARKER = "complete.json"
_NONE, _FRESH = "none there yet", "a fresh one is wanted"
UNUSED_SECONDS = 30 * 24 * 3600.0
"""A generation that was not used for this long is removed."""


class Obtained(NamedTuple):
    """A generation.

    Attributes:
        reused: whether it was there already.
        distrusted: why an earlier one could not be used any more; empty if there was none.
    """

    directory: Path
    reused: bool
    distrusted: str


class Generations:
    """All generations below a directory, as one process sees them.

    Args:
        directory: holds one directory for each name.
        fresh: `obtain` uses only generations of this session.
        session: an id that all processes of this pytest run share.
    """

    def __init__(self, directory: Path, *, fresh: bool = False, session: str = "") -> None:
        self._directory = directory
        self._fresh = fresh
        self._session = session
        self._held: dict[Path, IO[str]] = {}

    def obtain(
        self,
        name: str,
        *,
        what: str,
        fault: Callable[[Path, Any], str],
        make: Callable[[Path], Any],
        deadline: Deadline,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Obtained:
        """Return the newest generation if it can be used, else make the next one; hold it until `close`.

        Args:
            name: of the directory that holds the generations.
            what: what is made, for people.
            fault: compares a generation with the facts that `make` returned for it, as read from JSON; returns why it
                cannot be used, empty if it can.
            make: creates the directory and fills it; returns facts about it that JSON can hold. If it fails, nothing
                stays there.
            deadline: for waiting for another process.
            progress: called with the reason when one is made.

        Raises:
            TimedOut: another process was at it until the deadline.
        """
        home = self._directory / name
        with locked(_lock_of(home), deadline, what):
            home.mkdir(exist_ok=True)
            directory = next(reversed(_generations(home)), None)
            reason = self._why_stale(directory, fault) if directory else _NONE
            if directory is None or reason:
                progress(f"{what} ({reason})")
                directory = self._make(home, make)
            self._hold(directory)
            _remove_old(home)
        if reason:
            self._prune()
        return Obtained(directory, reused=not reason, distrusted="" if reason in {_NONE, _FRESH} else reason)

    @staticmethod
    def facts(directory: Path) -> Any:
        """Return what `make` returned for a generation."""
        return read_json(directory / _MARKER)["facts"]

    def _why_stale(self, directory: Path, fault: Callable[[Path, Any], str]) -> str:
        marker = read_json(directory / _MARKER)
        if not marker:
            return "the marker of the one in the cache is damaged"
        if self._fresh and marker["session"] != self._session:
            return _FRESH
        return fault(directory, marker["facts"])

    def _make(self, home: Path, make: Callable[[Path], Any]) -> Path:
        numbers = [int(path.name) for path in home.iterdir() if path.name.isdigit()]
        directory = home / str(max(numbers, default=0) + 1)
        try:
            facts = make(directory)
            write_json(directory / _MARKER, {"session": self._session, "facts": facts})  # from now on it counts
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return directory

    def _hold(self, directory: Path) -> None:
        """Keep other processes from removing it, until `close` or the end of this process."""
        if directory not in self._held:
            stream = _in_use(directory).open("a")
            fcntl.flock(stream, fcntl.LOCK_SH)
            self._held[directory] = stream
        os.utime(directory / _MARKER)

    def _prune(self) -> None:
        """Remove what was not used for long, and what killed processes left."""
        oldest = time.time() - UNUSED_SECONDS
        for home in [path for path in self._directory.iterdir() if path.is_dir()]:
            with contextlib.suppress(TimedOut), locked(_lock_of(home), Deadline(0), "tidying"):
                if not home.is_dir():
                    continue  # another process has just removed it
                _remove_old(home)
                for directory in _generations(home):
                    if (directory / _MARKER).stat().st_mtime < oldest:
                        _remove(directory)
                with contextlib.suppress(OSError):
                    home.rmdir()

    def close(self) -> None:
        """Release every generation; they stay on disk."""
        for stream in self._held.values():
            stream.close()
        self._held.clear()


def _lock_of(home: Path) -> Path:
    return home.with_name(f"{home.name}.lock")


def _generations(home: Path) -> list[Path]:
    """Return the complete ones, oldest first."""
    return sorted((path.parent for path in home.glob(f"*/{_MARKER}")), key=lambda directory: int(directory.name))


def _in_use(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.in-use")


def _remove_old(home: Path) -> None:
    """Remove half-made and replaced generations. The caller holds the home's lock."""
    complete = _generations(home)
    for directory in [path for path in home.iterdir() if path.name.isdigit()]:
        if directory not in complete[-1:]:
            _remove(directory)


def _remove(directory: Path) -> None:
    """Remove one that no process uses; its marker first, so that no process takes a half-removed one."""
    with contextlib.suppress(BlockingIOError), _in_use(directory).open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (directory / _MARKER).unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)
        _in_use(directory).unlink(missing_ok=True)
