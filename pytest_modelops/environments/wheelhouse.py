"""Directories of wheels from which something can be installed without an index; made once and kept.

    wheelhouses/py3.12.1-<key>/1/wheels/*.whl       what a wheelhouse is: wheels and nothing else
    wheelhouses/py3.12.1-<key>/1/complete.json      size and hash of each, compared before it is used again

See `generations` for the rest.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Progress, Wheelhouse
from pytest_modelops.environments.pins import Pin, pins
from pytest_modelops.environments.pip import Pip, PipFailed, Target
from pytest_modelops.environments.releases import as_of_options
from pytest_modelops.environments.resolver import Solution
from pytest_modelops.environments.uv import NoAnswer, Uv, UvFailed
from pytest_modelops.errors import CheckFailed
from pytest_modelops.storage.files import hash_file
from pytest_modelops.storage.generations import Generations
from pytest_modelops.storage.toml import tomllib

_LAYOUT = 1
"""Version of the layout above and of the marker; part of every key."""
_WHEELS = "wheels"


class Wheelhouses:
    """Makes wheelhouses, and finds them again.

    Args:
        directory: for all of them.
        as_of: see `EnvironmentSpec`.
        fresh: trust only those that this session made.
        session: an id that all processes of this pytest run share.
    """

    def __init__(self, directory: Path, *, uv: Uv, pip: Pip, as_of: dt.date | None, fresh: bool, session: str) -> None:
        self._made = Generations(directory)
        self._uv = uv
        self._pip = pip
        self._as_of = as_of
        self._fresh = fresh
        self._session = session

    def make(self, solution: Solution, target: Target, *, deadline: Deadline, progress: Progress) -> Wheelhouse:
        """Find the wheelhouse of a solution and verify it, else make it. It stays until `close`.

        Raises:
            CheckFailed: a wheel cannot be had or built.
            TimedOut: the deadline passed.
        """
        name = _name(solution, target)
        with self._made.locked(name, deadline, f"the wheelhouse {name}"):
            newest = self._made.newest(name)
            stale = self._why_stale(newest) if newest else "none there yet"
            if newest and not stale:
                directory = newest
            else:
                progress(f"making a wheelhouse ({stale})")
                with self._made.making(name) as directory:
                    wheels = directory / _WHEELS
                    wheels.mkdir(parents=True)
                    self._fill(wheels, solution, target, deadline, progress)
                    _compare(wheels, solution.packages)
                    self._made.complete(directory, {"session": self._session, "files": _facts(wheels)})
            self._made.hold(directory)
        if stale:
            self._made.prune()
        wheels = directory / _WHEELS
        return Wheelhouse(directory=wheels, packages=_packages(wheels), reused=not stale)

    def close(self) -> None:
        """Let go of the wheelhouses; they stay on disk."""
        self._made.close()

    def _why_stale(self, directory: Path) -> str:
        """Why a wheelhouse cannot be used, in words; empty if it can."""
        marker = self._made.marker(directory)
        if not marker:
            return "the marker of the one in the cache is damaged"
        if self._fresh and marker["session"] != self._session:
            return "a fresh one is wanted"
        found = _facts(directory / _WHEELS)
        for file in sorted(found.keys() | marker["files"].keys()):
            if found.get(file) != marker["files"].get(file):
                return f"{file} of the one in the cache is not what it was"
        return ""

    def _fill(self, wheels: Path, solution: Solution, target: Target, deadline: Deadline, progress: Progress) -> None:
        got, built = [], []
        for pin in pins(solution.requirements):
            if pin.is_wheel and pin.local:
                _refuse_unfit(pin.local, target)
                shutil.copyfile(pin.local, wheels / pin.local.name)
            elif pin.is_wheel or not pin.requirement.url:
                got.append(pin)
            else:
                built.append(pin)
        try:
            if sources_only := self._try(got, target, wheels, deadline):
                self._download([pin for pin in got if pin not in sources_only], target, wheels, deadline)
                built += sources_only
        except PipFailed as error:
            raise CheckFailed(f"could not get the wheels for Python {target.python}:\n{error}") from error
        for pin in built:
            progress(f"building a wheel of {pin}")
            self._build(pin, target, wheels, deadline)

    def _try(self, wanted: Sequence[Pin], target: Target, wheels: Path, deadline: Deadline) -> list[Pin]:
        """Get all if they can be had; those that cannot, for lack of a wheel, are returned."""
        try:
            self._download(wanted, target, wheels, deadline)
        except PipFailed as error:
            try:
                sources_only = self._sources_only(wanted, target, deadline)
            except NoAnswer as silent:
                raise NoAnswer(
                    f"no index answered, and the wheels for Python {target.python} are not in the cache: {silent}",
                    silent.output,
                ) from error
            if not sources_only:
                raise
            return sources_only
        return []

    def _download(self, wanted: Sequence[Pin], target: Target, wheels: Path, deadline: Deadline) -> None:
        hashed = [pin.line for pin in wanted if pin.hashed]
        bare = [pin.line for pin in wanted if not pin.hashed]
        for lines in filter(None, (hashed, bare)):  # pip wants hashes for all or for none
            self._pip.download(lines, target, wheels, deadline)

    def _sources_only(self, wanted: Sequence[Pin], target: Target, deadline: Deadline) -> list[Pin]:
        """Those of which the index has no wheel that the target takes.

        Raises:
            NoAnswer: it cannot be asked.
        """
        try:
            answer = self._uv.compile(
                [str(pin.requirement) for pin in wanted],
                *("--format", "pylock.toml", "--no-deps"),
                *target.uv_options,
                *as_of_options(self._as_of),
                deadline=deadline,
            )
        except NoAnswer:
            raise
        except UvFailed:
            return []  # then what pip said counts
        packages = tomllib.loads(answer.stdout)["packages"]
        names = {canonicalize_name(package["name"]) for package in packages if not _fits(package, target)}
        return [pin for pin in wanted if pin.name in names and not pin.is_wheel]

    def _build(self, pin: Pin, target: Target, wheels: Path, deadline: Deadline) -> None:
        if target.interpreter is None:
            raise CheckFailed(
                f"there is no wheel of {pin} for Python {target.python} on {target.platforms[0]}, only sources; "
                "build one there, and name that file among the requirements"
            )
        try:
            # An address alone: not every pip takes `name @ git+file://…`.
            line = pin.line.partition(" @ ")[2] or pin.line
            self._pip.build(line, target.interpreter, wheels, deadline)
        except PipFailed as error:
            raise CheckFailed(
                f"could not build a wheel of {pin}, of which there are only sources for Python "
                f"{target.python}:\n{error}"
            ) from error


def _refuse_unfit(wheel: Path, target: Target) -> None:
    """Raise `CheckFailed` if the target cannot install a wheel; an installer would only say that there is none."""
    tags = parse_wheel_filename(wheel.name)[3]
    if not tags & target.tags:
        wanted = ", ".join(sorted(map(str, tags)))
        raise CheckFailed(
            f"{wheel.name} is not a supported wheel: it is for {wanted}; Python {target.python} here takes "
            f"{target.abi} and py3-none wheels for {target.platforms[0]} or any platform"
        )


def _fits(package: Mapping[str, Any], target: Target) -> bool:
    """Whether a package of uv's lock has a wheel that the target takes. Some versions of uv list all wheels."""
    for wheel in package.get("wheels", ()):
        place = wheel.get("name") or unquote(urlsplit(wheel.get("url") or wheel.get("path", "")).path)
        if parse_wheel_filename(place.rpartition("/")[2])[3] & target.tags:
            return True
    return False


def _name(solution: Solution, target: Target) -> str:
    decides = [str(_LAYOUT), target.build, target.abi, *target.platforms, solution.requirements]
    decides += [hash_file(pin.local) for pin in pins(solution.requirements) if pin.local]
    key = hashlib.sha256("\n".join(decides).encode()).hexdigest()[:16]
    return f"py{target.python}-{key}"


def _facts(wheels: Path) -> dict[str, Any]:
    """Size and hash of each file."""
    if not wheels.is_dir():
        return {}
    return {path.name: [path.stat().st_size, hash_file(path)] for path in sorted(wheels.iterdir())}


def _packages(wheels: Path) -> dict[str, Version]:
    named = (parse_wheel_filename(path.name) for path in sorted(wheels.iterdir()))
    return {name: version for name, version, *_ in named}


def _compare(wheels: Path, wanted: Mapping[str, Version]) -> None:
    """Raise `CheckFailed` unless there is just one wheel of each package, at its version."""
    try:
        found = _packages(wheels)
    except InvalidWheelFilename as error:
        raise CheckFailed(f"what should be a wheel is none: {error}") from error
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise CheckFailed(
                f"the wheelhouse was to hold {name} {wanted.get(name, 'not at all')}; "
                f"it holds {found.get(name, 'none')}"
            )
