"""What an environment is: what goes into it, its lock, and what was built. The same for every backend."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping
from pathlib import Path

from packaging.version import Version

from pytest_modelops.matrix.cell import Versions

Progress = Callable[[str], None]
"""Called with a short phrase about what is being done now, for people who wait."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lock:
    """A solution for one environment.

    Attributes:
        versions: what it was made for.
        python: the real version of the interpreter, to the patch.
        interpreter: the interpreter that the environment is made by, as the backend names it.
        requirements: the solution as a requirements file, hashes included.
        packages: canonical name → version of everything in it.
        resolved: when the index was asked.
        note: something a person should know (`the index did not answer; this is the lock of 2026-11-20`), or empty.
    """

    versions: Versions
    python: Version
    interpreter: str
    requirements: str
    packages: Mapping[str, Version]
    resolved: datetime.datetime
    note: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """`name==version` of every package, sorted."""
        return tuple(f"{name}=={version}" for name, version in sorted(self.packages.items()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Environment:
    """Packages that are installed and were verified.

    Attributes:
        python: path of the interpreter, as seen by the processes of the cell.
        lock: what is in it.
        reused: found in the cache and verified, instead of built.
        seconds: what building or verifying took.
        location: where it is, for people.
        identity: what exactly it is, where that has a name of its own, such as an image's digest.
        warnings: what a person should know of it.
        faults: what an audit found that is not as it was asked for; `versions` fails with it.
    """

    python: str
    lock: Lock
    reused: bool
    seconds: float
    location: str
    identity: str = ""
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wheelhouse:
    """Wheels from which a bundle is installed without an index: its own, and those of all that it needs.

    Attributes:
        directory: on the host; holds wheels and nothing else. It stays as it is until the backend is closed.
        packages: canonical name → version of every wheel in it.
        reused: found in the cache, instead of made.
    """

    directory: Path
    packages: Mapping[str, Version]
    reused: bool

    @property
    def requirements(self) -> tuple[str, ...]:
        """`name==version` of every package, sorted."""
        return tuple(f"{name}=={version}" for name, version in sorted(self.packages.items()))
