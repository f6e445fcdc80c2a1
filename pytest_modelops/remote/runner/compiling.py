"""Gives sources their bytecode: from a store where the same source was compiled before, else by compiling it.

Run by an environment's Python on the host, `python -I compiling.py STORE DIRECTORY`. Directories named `tests`, a fifth
of Dask's sources, are left to Python, which compiles a module when it is imported. Standard library only, Python 3.9
and up.

    STORE/<SHA-256 of sys.version>/<first two digits>/<SHA-256 of the source>

An entry holds the SHA-256 of what follows, in 32 bytes, and the code in marshal's format. The path in the code does not
matter: Python corrects it when it imports the file. A damaged entry is compiled again.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import marshal
import multiprocessing
import os
import struct
import sys
import tempfile
import time
from collections.abc import Iterator

_DIGEST_BYTES = 32
_PARALLEL = 64
"""With so many files to compile, every core compiles."""
_TOUCH_SECONDS = 24 * 3600.0
_UNUSED_SECONDS = 30 * 24 * 3600.0
"""An entry that was not used for this long is removed."""


class Store:
    """Bytecode for this Python."""

    def __init__(self, directory: str) -> None:
        self._directory = os.path.join(directory, hashlib.sha256(sys.version.encode()).hexdigest()[:16])

    def restore(self, path: str) -> bool:
        """Write a source's bytecode from the store; return whether it is there."""
        source, status = _read(path)
        entry = self._entry(source)
        try:
            with open(entry, "rb") as file:
                stored = file.read()
            if time.time() - os.stat(entry).st_mtime > _TOUCH_SECONDS:
                os.utime(entry)
        except OSError:
            return False
        code = stored[_DIGEST_BYTES:]
        if hashlib.sha256(code).digest() != stored[:_DIGEST_BYTES]:
            return False
        _write_bytecode(path, status, code)
        return True

    def compile(self, path: str) -> None:
        """Compile a source into the store and beside it, unless it is no Python, as templates are not."""
        source, status = _read(path)
        try:
            code = marshal.dumps(compile(source, path, "exec", dont_inherit=True))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return
        _write(self._entry(source), hashlib.sha256(code).digest() + code)
        _write_bytecode(path, status, code)

    def prune(self) -> None:
        oldest = time.time() - _UNUSED_SECONDS
        for path in _files(self._directory):
            with contextlib.suppress(OSError):
                if os.stat(path).st_mtime < oldest:
                    os.remove(path)

    def _entry(self, source: bytes) -> str:
        digest = hashlib.sha256(source).hexdigest()
        return os.path.join(self._directory, digest[:2], digest)


def _read(path: str) -> tuple[bytes, os.stat_result]:
    with open(path, "rb") as file:
        return file.read(), os.fstat(file.fileno())


def _write_bytecode(path: str, status: os.stat_result, code: bytes) -> None:
    """Write a `.pyc` that is valid as long as the source keeps its time and size (PEP 3147, PEP 552)."""
    mask = 0xFFFFFFFF
    times = struct.pack("<LLL", 0, int(status.st_mtime) & mask, status.st_size & mask)
    _write(importlib.util.cache_from_source(path), importlib.util.MAGIC_NUMBER + times + code)


def _write(path: str, content: bytes) -> None:
    """Write a file whole or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=os.path.dirname(path))
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.chmod(name, 0o644)
    os.replace(name, path)


def _files(top: str) -> Iterator[str]:
    for parent, directories, names in os.walk(top):
        directories[:] = [name for name in directories if name != "tests"]
        yield from (os.path.join(parent, name) for name in names)


def main(directory: str, top: str) -> None:
    store = Store(directory)
    sources = sorted(path for path in _files(top) if path.endswith(".py"))
    new = [path for path in sources if not store.restore(path)]
    if len(new) < _PARALLEL:
        for path in new:
            store.compile(path)
    else:
        with multiprocessing.get_context("fork").Pool() as pool:
            pool.map(store.compile, new, chunksize=8)
    if new:
        store.prune()


if __name__ == "__main__":
    main(*sys.argv[1:])
