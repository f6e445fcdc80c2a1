"""The package `modelops_remote` with its bytecode, which nearly every process of a cell imports: compiled only once."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from packaging.version import Version

from pytest_modelops import remote
from pytest_modelops.deadline import Deadline
from pytest_modelops.storage.files import hash_file
from pytest_modelops.storage.generations import Generations

NAME = "modelops_remote"
_SOURCE = Path(remote.__file__).parent


class RemotePackages:
    """Copies of the package, one for each interpreter (see `EnvironmentCache` for the arguments)."""

    def __init__(self, directory: Path, *, fresh: bool, session: str) -> None:
        self._generations = Generations(directory, fresh=fresh, session=session)
        self._verified: set[Path] = set()
        self._lock = threading.Lock()
        self._sources = ""
        """The hash of the sources, once it is known."""

    def obtain(self, python: Version, build: str, compile_in: Callable[[Path], None], deadline: Deadline) -> Path:
        """Return the directory that holds the package for an interpreter; it stays until `close`.

        Args:
            python: version of the interpreter.
            build: tells it from others of this version.
            compile_in: gives every source below a directory its bytecode. It may add more beside the package.

        Raises:
            CheckFailed: it could not be compiled.
            TimedOut: the deadline passed.
        """

        def fault(directory: Path, digest: str) -> str:
            if directory not in self._verified and _digest(directory, "*.py*") != digest:
                return "the one in the cache was changed"
            self._verified.add(directory)
            return ""

        def make(directory: Path) -> str:
            shutil.copytree(_SOURCE, directory / NAME, ignore=shutil.ignore_patterns("__pycache__"))
            compile_in(directory)
            self._verified.add(directory)
            return _digest(directory, "*.py*")

        with self._lock:
            self._sources = self._sources or _digest(_SOURCE, "*.py")
            decides = f"{build}\n{self._sources}"
            name = f"py{python}-{hashlib.sha256(decides.encode()).hexdigest()[:16]}"
            return self._generations.obtain(
                name, what="compiling what runs in cells", fault=fault, make=make, deadline=deadline
            ).directory

    def close(self) -> None:
        """Release the copies; they stay on disk."""
        self._generations.close()


def _digest(directory: Path, pattern: str) -> str:
    """Return one hash of all files in a directory whose names match."""
    found = hashlib.sha256()
    for path in sorted(directory.rglob(pattern)):
        found.update(f"{path.relative_to(directory)} {hash_file(path)}\n".encode())
    return found.hexdigest()
