"""What a bundle needs, installed by uv once for a Python, in the cache; each worker gets a copy of its own.

    installs/py3.12.1-<key>/1/files/          an environment that can be moved, or a directory of packages
    installs/py3.12.1-<key>/1/complete.json   size, time and hash of each file

Copies, not links: a bundle that writes to its own files must change nothing of another worker's, nor the cache. See
`generations` for the rest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Installed, Into, Progress, Wheelhouse
from pytest_modelops.environments.bytecode import Bytecode
from pytest_modelops.environments.interpreters import Interpreter
from pytest_modelops.environments.readback import python_of
from pytest_modelops.environments.uv import Uv
from pytest_modelops.storage.files import hash_file
from pytest_modelops.storage.generations import Generations

_LAYOUT = 1
"""Version of the layout above and of the marker; part of every key."""
_FILES = "files"
_Facts = dict[str, list[Any]]
"""By path: [size in bytes, time in ns, SHA-256], or [target] of a link."""


class Installs:
    """Installs wheelhouses, and finds them again.

    Args:
        directory: for all of them.
        fresh: use only those that this session made.
        session: an id that all processes of this pytest run share.
    """

    def __init__(self, directory: Path, *, uv: Uv, bytecode: Bytecode, fresh: bool, session: str) -> None:
        self._generations = Generations(directory, fresh=fresh, session=session)
        self._uv = uv
        self._bytecode = bytecode
        self._verified: set[Path] = set()
        """Those of which this process has compared every byte."""

    def make(
        self, house: Wheelhouse, interpreter: Interpreter, into: Into, *, deadline: Deadline, progress: Progress
    ) -> Installed:
        """Find what was installed from these wheels and verify it, else install it. It stays until `close`.

        Raises:
            UvFailed: uv cannot install them.
            TimedOut: the deadline passed.
        """

        def fault(directory: Path, facts: _Facts) -> str:
            found = _facts(directory / _FILES, hashed=directory not in self._verified)
            for path in sorted(found.keys() | facts.keys()):
                one, other = found.get(path, [None]), facts.get(path, [None])
                if one != other[: len(one)]:
                    return f"{path} of the one in the cache was changed"
            self._verified.add(directory)
            return ""

        def fill(directory: Path) -> _Facts:
            self._install(directory / _FILES, house, interpreter, into, deadline)
            facts = _facts(directory / _FILES)
            self._verified.add(directory)
            return facts

        directory, reused, _ = self._generations.obtain(
            _name(house, interpreter, into),
            what="installing a bundle's wheels",
            fault=fault,
            make=fill,
            deadline=deadline,
            progress=progress,
        )
        return Installed(directory=directory / _FILES, interpreter=interpreter.path.resolve(), reused=reused)

    def close(self) -> None:
        """Release them; they stay on disk."""
        self._generations.close()

    def _install(
        self, directory: Path, house: Wheelhouse, interpreter: Interpreter, into: Into, deadline: Deadline
    ) -> None:
        if into == "environment":
            made = ("venv", "--no-project", "--no-config", "--relocatable", "--python", str(interpreter.path))
            self._uv(*made, str(directory), deadline=deadline)
            where: tuple[str, ...] = ("--python", str(python_of(directory)))
            [site] = (directory / "lib").glob("python3.*/site-packages")
        else:
            directory.mkdir(parents=True)
            where = ("--python", str(interpreter.path), "--target", str(directory))
            site = directory
        if not house.requirements:
            return
        lines = directory.with_name("requirements.txt")
        lines.write_text("".join(f"{line}\n" for line in house.requirements), encoding="utf-8")
        # Without uv's cache, where they would stay when the bundle has changed; so nothing can be linked to it.
        self._uv(
            *("pip", "install", "--no-config", "--no-cache", "--link-mode", "copy", *where),
            *("--find-links", str(house.directory)),
            *(() if self._uv.variables.get("UV_NO_INDEX") else ("--no-index",)),
            *("--requirement", str(lines)),
            deadline=deadline,
        )
        self._bytecode.compile(interpreter.path, site, deadline)


def _name(house: Wheelhouse, interpreter: Interpreter, into: Into) -> str:
    decides = [str(_LAYOUT), into, str(interpreter.path), interpreter.build, interpreter.platform, house.fingerprint]
    key = hashlib.sha256("\n".join(decides).encode()).hexdigest()[:16]
    return f"py{interpreter.version}-{key}"


def _facts(directory: Path, *, hashed: bool = True) -> _Facts:
    """Return what is there; without `hashed`, files lack their hash."""
    found: _Facts = {}
    for path in directory.rglob("*"):
        below = str(path.relative_to(directory))
        if path.is_symlink():
            found[below] = [str(path.readlink())]
        elif path.is_file():
            status = path.stat()
            found[below] = [status.st_size, status.st_mtime_ns, *([hash_file(path)] if hashed else [])]
    return found
