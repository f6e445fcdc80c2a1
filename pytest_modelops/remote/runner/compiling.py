"""Gives sources their bytecode: from a store where the same source was compiled before, else by compiling it.

Run by an environment's Python on the host, `python -I compiling.py STORE DIRECTORY [MODULES OTHERS]`. Every source
is compiled, except in directories named `tests`, a fifth of Dask's sources. With MODULES, separated by commas, they are
imported, and only what that loads is compiled, half of what is there; if OTHERS is not empty, so is all of each package
of which it loads nothing. Python compiles the rest when a process imports it. Standard library only, Python 3.9 and up.

    STORE/<SHA-256 of sys.version>/<first two digits>/<SHA-256 of the source>
    STORE/<SHA-256 of sys.version>/lock    held while one compiles, so that no others compile the same
    STORE/loaded/<SHA-256 of MODULES>      what they load, as paths below DIRECTORY: nothing is imported the next time

Releases of Dask two years apart differ in six of 270 modules, so what one loads is compiled for all. An entry holds the
SHA-256 of what follows, in 32 bytes, and the code in marshal's format. The path in the code does not matter: Python
corrects it when it imports the file. A damaged entry is compiled again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import importlib.machinery
import importlib.util
import json
import marshal
import multiprocessing
import os
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

_DIGEST_BYTES = 32
_PARALLEL = 64
"""With so many files to compile, every core compiles."""
_TOUCH_SECONDS = 24 * 3600.0
_IMPORT_SECONDS = 60
"""After that, importing is ended: the cell's start reports a module that hangs."""
_UNUSED_SECONDS = 30 * 24 * 3600.0
"""An entry that was not used for this long is removed."""


class Store:
    """Bytecode for this Python."""

    def __init__(self, directory: str) -> None:
        self._directory = os.path.join(directory, hashlib.sha256(sys.version.encode()).hexdigest()[:16])
        self._lists = os.path.join(directory, "loaded")

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

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other process compiles for this Python, and have others wait."""
        os.makedirs(self._directory, exist_ok=True)
        with open(os.path.join(self._directory, "lock"), "a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(stream, fcntl.LOCK_UN)  # also where what was imported has left a process

    def loaded(self, directory: str, modules: str) -> tuple[set[str], bool]:
        """Return what importing these modules loads, as paths below a directory.

        They are imported unless the list is there; and whether they were: then those sources have their bytecode.
        """
        file = os.path.join(self._lists, hashlib.sha256(modules.encode()).hexdigest())
        with contextlib.suppress(OSError, ValueError, TypeError), open(file, encoding="utf-8") as lines:
            return set(json.load(lines)), False
        found, complete = self._import(directory, modules.split(","))
        if complete and found:
            _write(file, json.dumps(sorted(found)).encode())
        return set(found), True

    def _import(self, directory: str, modules: Sequence[str]) -> tuple[list[str], bool]:
        """Import modules in a process of its own; return what they load, and whether the first could be imported.

        It has an empty home, since Dask writes its configuration there. Modules that cannot be imported are no fault
        here: the start of the cell says more about them.
        """
        with tempfile.TemporaryDirectory() as home:
            result = os.path.join(home, "loaded.json")
            pid = os.fork()
            if not pid:
                try:
                    signal.alarm(_IMPORT_SECONDS)
                    null = os.open(os.devnull, os.O_RDWR)
                    for stream in range(3):  # a process that is left behind would keep the host waiting for the end
                        os.dup2(null, stream)
                    os.environ["HOME"] = os.environ["DASK_CONFIG"] = home
                    os.chdir(home)
                    self._note_imports(directory, modules, result)
                finally:
                    os._exit(0)  # whatever was imported has no say in how this ends
            os.waitpid(pid, 0)
            try:
                with open(result, encoding="utf-8") as file:
                    found, complete = json.load(file)
            except (OSError, ValueError):
                return [], False
            return found, complete

    def _note_imports(self, directory: str, modules: Sequence[str], result: str) -> None:
        found: list[str] = []
        get_code: Any = importlib.machinery.SourceFileLoader.get_code

        def from_store(loader: importlib.machinery.SourceFileLoader, name: str) -> Any:
            path = str(loader.path)
            if path.startswith(directory + os.sep):
                self.provide(path)
                found.append(os.path.relpath(path, directory))
            return get_code(loader, name)

        importlib.machinery.SourceFileLoader.get_code = from_store  # type: ignore[method-assign,assignment]
        complete = False
        try:
            importlib.import_module(modules[0])
            complete = True
            for module in modules[1:]:
                with contextlib.suppress(ImportError):  # not every release has all of them
                    importlib.import_module(module)
        finally:
            with open(result, "w", encoding="utf-8") as file:
                json.dump([found, complete], file)

    def provide(self, path: str) -> None:
        """Give a source its bytecode."""
        if not self.restore(path):
            self.compile(path)

    def prune(self) -> None:
        oldest = time.time() - _UNUSED_SECONDS
        for path in [*_files(self._directory), *_files(self._lists)]:
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


def _wanted(store: Store, top: str, modules: str, others: str) -> list[str]:
    """Return the sources that are to have bytecode, and have none yet."""
    if not modules:
        return _sources(top)
    loaded, done = store.loaded(top, modules)
    wanted = [] if done else [path for short in sorted(loaded) if os.path.isfile(path := os.path.join(top, short))]
    if others:
        packages = {short.split(os.sep)[0] for short in loaded}
        wanted += [path for path in _sources(top) if os.path.relpath(path, top).split(os.sep)[0] not in packages]
    return wanted


def _sources(top: str) -> list[str]:
    return sorted(path for path in _files(top) if path.endswith(".py"))


def main(directory: str, top: str, modules: str = "", others: str = "") -> None:
    store = Store(directory)
    with store.alone() if modules else contextlib.nullcontext():
        new = [path for path in _wanted(store, top, modules, others) if not store.restore(path)]
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
