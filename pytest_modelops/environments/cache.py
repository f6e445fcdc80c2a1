"""Environments on disk: built once, verified each time.

    environments/py3.12.1-dask2024.10.0-<key>/      all environments of one lock and interpreter

An environment that lies, or that is wanted fresh, is not repaired but replaced by a new generation: another
session may have a cluster in the old one.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Lock, Progress
from pytest_modelops.environments.interpreters import Interpreter
from pytest_modelops.environments.readback import Facts, Mismatch, python_of, read_back, verify
from pytest_modelops.environments.uv import NoAnswer, Runner, Uv, UvFailed
from pytest_modelops.errors import CheckFailed
from pytest_modelops.storage.generations import UNUSED_SECONDS, Generations

_LAYOUT = 1
"""Version of the layout above and of the marker; part of every key."""


class EnvironmentCache:
    """Builds environments, and finds them again.

    Args:
        directory: for `environments/`; `wheels/` beside it is tidied with it.
        fresh: trust only environments that this session built.
        session: an id that all processes of this pytest run share.
    """

    def __init__(self, directory: Path, *, run: Runner, uv: Uv, fresh: bool, session: str) -> None:
        self._made = Generations(directory / "environments")
        self._wheels = directory / "wheels"
        self._run = run
        self._uv = uv
        self._fresh = fresh
        self._session = session

    def install(self, lock: Lock, interpreter: Interpreter, *, deadline: Deadline, progress: Progress) -> Environment:
        """Find the lock's environment and verify it, else build it. It stays until `close`.

        Raises:
            CheckFailed: it could not be built, or what was read back is not what the lock says.
            TimedOut: the deadline passed.
        """
        started = time.monotonic()
        name = _name(lock, interpreter)
        with self._made.locked(name, deadline, f"building {name}"):
            newest = self._made.newest(name)
            stale = self._why_stale(newest, lock, deadline) if newest else "none there yet"
            if newest and not stale:
                directory = newest
            else:
                progress(f"building an environment ({stale})")
                directory = self._build(name, lock, deadline)
            self._made.hold(directory)
        if stale:
            self._prune()
        return Environment(
            python=str(python_of(directory)),
            lock=lock,
            reused=not stale,
            seconds=time.monotonic() - started,
            location=str(directory),
        )

    def close(self) -> None:
        """Let go of the environments; they stay on disk."""
        self._made.close()

    def _why_stale(self, directory: Path, lock: Lock, deadline: Deadline) -> str:
        """Why an environment cannot be used, in words; empty if it can."""
        marker = self._made.marker(directory)
        if not marker:
            return "the marker of the one in the cache is damaged"
        if self._fresh and marker["session"] != self._session:
            return "a fresh one is wanted"
        try:
            verify(directory, lock, Facts.from_json(marker["facts"]), self._run, deadline)
        except Mismatch as error:
            return f"the one in the cache cannot be trusted, {error}"
        return ""

    def _build(self, name: str, lock: Lock, deadline: Deadline) -> Path:
        """Build the next generation, in its final place: scripts hold the path of their interpreter."""
        with self._made.making(name) as directory:
            try:
                facts = self._build_in(directory, lock, deadline)
            except UvFailed as error:
                raise type(error)(f"could not build {name}: {error}", error.output) from error
            self._made.complete(directory, {"session": self._session, "facts": facts.to_json()})
        return directory

    def _build_in(self, directory: Path, lock: Lock, deadline: Deadline) -> Facts:
        try:
            self._install(directory, lock, deadline)
            return read_back(directory, lock, self._run, deadline)
        except Mismatch:
            # What is in uv's cache may have been changed through an environment that is linked to it.
            self._install(directory, lock, deadline, "--no-cache")
        try:
            return read_back(directory, lock, self._run, deadline)
        except Mismatch as error:
            raise CheckFailed(
                f"{directory.parent.name} was built twice, and is not what its lock says: {error}"
            ) from error

    def _install(self, directory: Path, lock: Lock, deadline: Deadline, *options: str) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        self._uv("venv", "--no-project", "--python", lock.interpreter, str(directory), deadline=deadline)
        requirements = directory / "requirements.txt"
        requirements.write_text(lock.requirements, encoding="utf-8")
        # uv checks every hash that is in the file. It is not reported to require them: a repository has none.
        sync = ("pip", "sync", "--compile-bytecode", "--python", str(python_of(directory)), str(requirements))
        try:
            self._uv(*sync, *options, deadline=deadline)
        except NoAnswer as error:
            try:  # uv may have all the files since an earlier build
                self._uv(*sync, "--offline", deadline=deadline)
            except UvFailed:
                raise error from None

    def _prune(self) -> None:
        """Remove what has not been used for long, and what killed sessions left."""
        self._made.prune()
        oldest = time.time() - UNUSED_SECONDS
        for path in self._wheels.iterdir() if self._wheels.is_dir() else ():
            if path.is_dir() and path.stat().st_mtime < oldest:
                shutil.rmtree(path, ignore_errors=True)


def _name(lock: Lock, interpreter: Interpreter) -> str:
    decides = f"{_LAYOUT}\n{interpreter.path}\n{interpreter.build}\n{interpreter.platform}\n{lock.requirements}"
    key = hashlib.sha256(decides.encode()).hexdigest()[:16]
    return f"py{lock.python}-dask{lock.versions.dask_text}-{key}"
