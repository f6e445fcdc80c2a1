"""Environments on disk: built once, verified each time, never seen half-made, never removed under a user.

    environments/py3.12.1-dask2024.10.0-<key>/      all environments of one lock and interpreter
        1/  2/  …                                   generations; the newest with a marker counts
        2/complete.json                             the marker, written last: what was found in it
        2.in-use                                    locked, shared, by each process that uses it
    environments/py3.12.1-dask2024.10.0-<key>.lock  held while one is built, verified or removed

An environment that lies, or that is wanted fresh, is not repaired but replaced by a new generation: another
session may have a cluster in the old one. That goes when nobody holds it any more; the operating system takes
the locks from processes that end, however they end.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Lock, Progress
from pytest_modelops.environments.files import locked, read_json, write_json
from pytest_modelops.environments.interpreters import Interpreter
from pytest_modelops.environments.readback import Facts, Untrue, python_of, read_back, verify
from pytest_modelops.environments.uv import NoAnswer, Runner, Uv, UvFailed
from pytest_modelops.errors import CheckFailed, TimedOut

_LAYOUT = 1
"""Version of the layout above and of the marker; part of every key."""
_MARKER = "complete.json"
_UNUSED_SECONDS = 30 * 24 * 3600.0
"""After so long without use an environment is removed."""


class EnvironmentCache:
    """Builds environments, and finds them again.

    Args:
        folder: for `environments/`; `wheels/` beside it is tidied with it.
        fresh: trust only environments that this session built.
        session: an id that all processes of this pytest run share.
    """

    def __init__(self, folder: Path, *, run: Runner, uv: Uv, fresh: bool, session: str) -> None:
        self._folder = folder / "environments"
        self._wheels = folder / "wheels"
        self._run = run
        self._uv = uv
        self._fresh = fresh
        self._session = session
        self._held: dict[Path, IO[str]] = {}

    def install(
        self, lock: Lock, interpreter: Interpreter, *, deadline: Deadline, progress: Progress
    ) -> Environment:
        """Find the lock's environment and verify it, else build it. It stays until `close`.

        Raises:
            CheckFailed: it could not be built, or what was read back is not what the lock says.
            TimedOut: the deadline passed.
        """
        started = time.monotonic()
        home = self._folder / _name(lock, interpreter)
        with locked(self._lock_of(home), deadline, f"building {home.name}"):
            home.mkdir(exist_ok=True)
            newest = _generations(home)[-1:]
            doubt = self._doubt(newest[0], lock, deadline) if newest else "none there yet"
            if not doubt:
                folder = newest[0]
            else:
                progress(f"building an environment ({doubt})")
                folder = self._build(home, lock, deadline)
            self._hold(folder)
            os.utime(folder / _MARKER)
            self._remove_old(home)
        if doubt:
            self._prune()
        return Environment(
            python=str(python_of(folder)),
            lock=lock,
            reused=not doubt,
            seconds=time.monotonic() - started,
            location=str(folder),
        )

    def close(self) -> None:
        """Let go of the environments; they stay on disk."""
        for stream in self._held.values():
            stream.close()
        self._held.clear()

    def _lock_of(self, home: Path) -> Path:
        return home.with_name(f"{home.name}.lock")

    def _doubt(self, folder: Path, lock: Lock, deadline: Deadline) -> str:
        """Why an environment cannot be used, in words; empty if it can."""
        marker = read_json(folder / _MARKER)
        if not marker:
            return "the marker of the one in the cache is damaged"
        if self._fresh and marker["session"] != self._session:
            return "a fresh one is wanted"
        try:
            verify(folder, lock, Facts.from_json(marker["facts"]), self._run, deadline)
        except Untrue as error:
            return f"the one in the cache cannot be trusted, {error}"
        return ""

    def _build(self, home: Path, lock: Lock, deadline: Deadline) -> Path:
        """Build the next generation, in its final place: scripts hold the path of their interpreter."""
        numbers = [int(path.name) for path in home.iterdir() if path.name.isdigit()]
        folder = home / str(max(numbers, default=0) + 1)
        try:
            facts = self._build_in(folder, lock, deadline)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, UvFailed):
                raise type(error)(f"could not build {home.name}: {error}", error.output) from error
            raise
        write_json(folder / _MARKER, {"session": self._session, "facts": facts.to_json()})
        return folder

    def _build_in(self, folder: Path, lock: Lock, deadline: Deadline) -> Facts:
        try:
            self._install(folder, lock, deadline)
            return read_back(folder, lock, self._run, deadline)
        except Untrue:
            # What is in uv's cache may have been changed through an environment that is linked to it.
            self._install(folder, lock, deadline, "--no-cache")
        try:
            return read_back(folder, lock, self._run, deadline)
        except Untrue as error:
            raise CheckFailed(
                f"{folder.parent.name} was built twice, and is not what its lock says: {error}"
            ) from error

    def _install(self, folder: Path, lock: Lock, deadline: Deadline, *options: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._uv("venv", "--no-project", "--python", lock.interpreter, str(folder), deadline=deadline)
        requirements = folder / "requirements.txt"
        requirements.write_text(lock.requirements, encoding="utf-8")
        # uv checks every hash that is in the file. It is not told to require them: a repository has none.
        sync = ("pip", "sync", "--compile-bytecode", "--python", str(python_of(folder)), str(requirements))
        try:
            self._uv(*sync, *options, deadline=deadline)
        except NoAnswer as error:
            try:  # uv may have all the files since an earlier build
                self._uv(*sync, "--offline", deadline=deadline)
            except UvFailed:
                raise error from None

    def _hold(self, folder: Path) -> None:
        """Keep others from removing an environment, as long as this process lives or until `close`."""
        if folder not in self._held:
            stream = _in_use(folder).open("a")
            fcntl.flock(stream, fcntl.LOCK_SH)
            self._held[folder] = stream

    def _remove_old(self, home: Path) -> None:
        """Remove what was left half-made and generations that were replaced. The home's lock is held."""
        complete = _generations(home)
        for folder in [path for path in home.iterdir() if path.name.isdigit()]:
            if folder not in complete[-1:]:
                _remove(folder)

    def _prune(self) -> None:
        """Remove what has not been used for long, and what killed sessions left."""
        oldest = time.time() - _UNUSED_SECONDS
        for home in [path for path in self._folder.iterdir() if path.is_dir()]:
            with contextlib.suppress(TimedOut), locked(self._lock_of(home), Deadline(0), "tidying"):
                self._remove_old(home)
                for folder in _generations(home):
                    if (folder / _MARKER).stat().st_mtime < oldest:
                        _remove(folder)
                with contextlib.suppress(OSError):
                    home.rmdir()
        for path in self._wheels.iterdir() if self._wheels.is_dir() else ():
            if path.is_dir() and path.stat().st_mtime < oldest:
                shutil.rmtree(path, ignore_errors=True)


def _name(lock: Lock, interpreter: Interpreter) -> str:
    decides = (
        f"{_LAYOUT}\n{interpreter.path}\n{interpreter.build}\n{interpreter.platform}\n{lock.requirements}"
    )
    key = hashlib.sha256(decides.encode()).hexdigest()[:16]
    return f"py{lock.python}-dask{lock.versions.dask_text}-{key}"


def _generations(home: Path) -> list[Path]:
    """The complete environments, oldest first."""
    return sorted((path.parent for path in home.glob(f"*/{_MARKER}")), key=lambda folder: int(folder.name))


def _in_use(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.in-use")


def _remove(folder: Path) -> None:
    """Remove an environment unless somebody uses it. First the marker, so nobody sees it half-removed."""
    with contextlib.suppress(BlockingIOError), _exclusively(_in_use(folder)):
        (folder / _MARKER).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        _in_use(folder).unlink(missing_ok=True)


@contextlib.contextmanager
def _exclusively(file: Path) -> Iterator[None]:
    with file.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
