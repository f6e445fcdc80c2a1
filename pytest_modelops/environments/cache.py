"""Environments on disk: built once, verified before each use.

    environments/py3.12.1-dask2024.10.0-<key>/      all environments of one lock and interpreter

A corrupted environment is rebuilt as a new generation (see `generations`), since another session may have a cluster in
the old one.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from pathlib import Path

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Lock, Progress
from pytest_modelops.environments.bytecode import LOADED, Bytecode, Loaded
from pytest_modelops.environments.interpreters import Interpreter
from pytest_modelops.environments.readback import Facts, Mismatch, python_of, read_back, site_packages, verify
from pytest_modelops.environments.uv import NoAnswer, Runner, Uv, UvFailed
from pytest_modelops.errors import CheckFailed
from pytest_modelops.storage.generations import UNUSED_SECONDS, Generations

_LAYOUT = 1
"""Version of the layout above and of the marker; part of every key."""


class EnvironmentCache:
    """Builds environments, and finds them again.

    Args:
        directory: for `environments/`; unused wheels in `wheels/` beside it are removed as well.
        others: whether environments hold more than Dask and what it needs.
        fresh: use only environments that this session built.
        session: an id that all processes of this pytest run share.
    """

    def __init__(
        self, directory: Path, *, run: Runner, uv: Uv, bytecode: Bytecode, others: bool, fresh: bool, session: str
    ) -> None:
        self._generations = Generations(directory / "environments", fresh=fresh, session=session)
        self._wheels = directory / "wheels"
        self._run = run
        self._uv = uv
        self._bytecode = bytecode
        self._others = others

    def install(self, lock: Lock, interpreter: Interpreter, *, deadline: Deadline, progress: Progress) -> Environment:
        """Find the lock's environment and verify it, else build it. It stays until `close`.

        Raises:
            CheckFailed: it could not be built, or does not hold what the lock says.
            TimedOut: the deadline passed.
        """
        started = time.monotonic()
        name = _name(lock, interpreter)

        def fault(directory: Path, facts: Facts) -> str:
            try:
                verify(directory, lock, facts, self._run, deadline)
            except Mismatch as error:
                return f"the one in the cache cannot be trusted, {error}"
            return ""

        def build(directory: Path) -> Facts:
            try:
                return self._build(directory, lock, deadline)
            except UvFailed as error:
                raise type(error)(f"could not build {name}: {error}", error.output) from error

        directory, reused, distrusted = self._generations.obtain(
            name, what="building an environment", fault=fault, make=build, deadline=deadline, progress=progress
        )
        if not reused:
            self._prune_wheels()
        return Environment(
            python=str(python_of(directory)),
            lock=lock,
            reused=reused,
            seconds=time.monotonic() - started,
            location=str(directory),
            warnings=(f"environment {name} was built again: {distrusted}",) if distrusted else (),
        )

    def close(self) -> None:
        """Release the environments; they stay on disk."""
        self._generations.close()

    def _build(self, directory: Path, lock: Lock, deadline: Deadline) -> Facts:
        """Build in the final place, since scripts hold the path of their interpreter."""
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
        # uv checks every hash in the file. Hashes are not required, since a repository has none.
        sync = ("pip", "sync", "--python", str(python_of(directory)), str(requirements))
        try:
            self._uv(*sync, *options, deadline=deadline)
        except NoAnswer as error:
            try:  # uv may have all the files since an earlier build
                self._uv(*sync, "--offline", deadline=deadline)
            except UvFailed:
                raise error from None
        self._bytecode.compile(
            python_of(directory), site_packages(directory, lock), deadline, only=Loaded(LOADED, self._others)
        )

    def _prune_wheels(self) -> None:
        oldest = time.time() - UNUSED_SECONDS
        for path in self._wheels.iterdir() if self._wheels.is_dir() else ():
            with contextlib.suppress(OSError):  # another process may remove it, too
                if path.is_dir() and path.stat().st_mtime < oldest:
                    shutil.rmtree(path, ignore_errors=True)


def _name(lock: Lock, interpreter: Interpreter) -> str:
    decides = f"{_LAYOUT}\n{interpreter.path}\n{interpreter.build}\n{interpreter.platform}\n{lock.requirements}"
    key = hashlib.sha256(decides.encode()).hexdigest()[:16]
    return f"py{lock.python}-dask{lock.versions.dask_text}-{key}"
