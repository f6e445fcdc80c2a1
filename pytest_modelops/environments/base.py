"""What an environment is, for every backend: what goes into it, its lock, and what was built."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from packaging.version import Version

from pytest_modelops.matrix.cell import Versions

Progress = Callable[[str], None]
"""Called with a short phrase that says what is done now."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solution:
    """What the index answered for some requirements.

    Attributes:
        requirements: a requirements file, hashes included.
        packages: canonical name → version of everything in it.
        resolved: when the index was asked.
        note: something to show people (`the index did not answer; this is the lock of 2026-11-20`), or empty.
    """

    requirements: str
    packages: Mapping[str, Version]
    resolved: datetime.datetime
    note: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """`name==version` of every package, sorted."""
        return _pinned(self.packages)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lock(Solution):
    """A solution for one environment.

    Attributes:
        versions: what it was made for.
        python: the real version of the interpreter, to the patch.
        interpreter: the interpreter that makes the environment, as the backend names it.
        build: how that interpreter was built, where its name does not say it.
    """

    versions: Versions
    python: Version
    interpreter: str
    build: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Environment:
    """Packages that are installed and were verified.

    Attributes:
        python: path of the interpreter, as the processes of the cell see it.
        lock: what is in it.
        reused: found in the cache and verified, instead of built.
        seconds: what building or verifying took.
        location: where it is, for people.
        identity: what exactly it is, where that has a name of its own, such as an image's digest.
        warnings: shown to people.
        faults: what an audit found that differs from what was asked for; `versions` fails with it.
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
    """Wheels that install a bundle without an index: its own, and those of everything that it needs.

    Attributes:
        directory: on the host; holds wheels and nothing else. It does not change until the backend is closed.
        packages: canonical name → version of every wheel in it.
        reused: found in the cache, instead of made.
        fingerprint: the same for the same wheels.
    """

    directory: Path
    packages: Mapping[str, Version]
    reused: bool
    fingerprint: str

    @property
    def requirements(self) -> tuple[str, ...]:
        """`name==version` of every package, sorted."""
        return _pinned(self.packages)


Into = Literal["environment", "directory"]
"""What a bundle's wheels are installed into."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Installed:
    """A wheelhouse that is installed, for workers to copy.

    Attributes:
        directory: an environment that can be moved, or a directory of packages, as the processes of the cell see it. It
            does not change until the backend is closed.
        interpreter: for which it was made, without links.
        reused: found in the cache, instead of made.
    """

    directory: Path
    interpreter: Path
    reused: bool


def _pinned(packages: Mapping[str, Version]) -> tuple[str, ...]:
    return tuple(f"{name}=={version}" for name, version in sorted(packages.items()))
