"""Directories of wheels that install something without an index; made once and cached.

    wheelhouses/py3.12.1-<key>/1/wheels/*.whl       a wheelhouse: wheels and nothing else
    wheelhouses/py3.12.1-<key>/1/complete.json      size and hash of each wheel, compared before it is used again

See `generations` for the rest.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Progress, Solution, Wheelhouse
from pytest_modelops.environments.pins import Pin, pins
from pytest_modelops.environments.pip import Pip, PipFailed, WrongHash
from pytest_modelops.environments.target import LockedFile, Target, fits, is_allowed, locked_packages
from pytest_modelops.environments.uv import NoAnswer, Uv, UvFailed, as_of_options
from pytest_modelops.errors import CheckFailed
from pytest_modelops.storage.files import hash_file
from pytest_modelops.storage.generations import Generations

_LAYOUT = 2
"""Version of the layout above and of the marker; part of every key."""
_WHEELS = "wheels"
_Facts = dict[str, list[int | str]]
"""[size in bytes, SHA-256] of each wheel, by its name."""


class Wheelhouses:
    """Makes wheelhouses, and finds them again.

    Args:
        directory: for all of them.
        as_of: see `EnvironmentSpec`.
        fresh: use only those that this session made.
        session: an id that all processes of this pytest run share.
    """

    def __init__(self, directory: Path, *, uv: Uv, pip: Pip, as_of: dt.date | None, fresh: bool, session: str) -> None:
        self._generations = Generations(directory, fresh=fresh, session=session)
        self._uv = uv
        self._pip = pip
        self._as_of = as_of

    def make(self, solution: Solution, target: Target, *, deadline: Deadline, progress: Progress) -> Wheelhouse:
        """Find the wheelhouse of a solution and verify it, else make it. It stays until `close`.

        Raises:
            CheckFailed: a wheel could not be downloaded or built.
            TimedOut: the deadline passed.
        """
        if solution.note:
            progress(solution.note)

        def fill(directory: Path) -> _Facts:
            wheels = directory / _WHEELS
            wheels.mkdir(parents=True)
            self._fill(wheels, solution, target, deadline, progress)
            _compare(wheels, solution.packages)
            return _facts(wheels)

        directory, reused, _ = self._generations.obtain(
            _name(solution, target),
            what="making a wheelhouse",
            fault=_fault,
            make=fill,
            deadline=deadline,
            progress=progress,
        )
        wheels = directory / _WHEELS
        fingerprint = hashlib.sha256(repr(sorted(self._generations.facts(directory).items())).encode()).hexdigest()
        return Wheelhouse(directory=wheels, packages=_packages(wheels), reused=reused, fingerprint=fingerprint)

    def close(self) -> None:
        """Release the wheelhouses; they stay on disk."""
        self._generations.close()

    def _fill(self, wheels: Path, solution: Solution, target: Target, deadline: Deadline, progress: Progress) -> None:
        downloaded, built = [], []
        for pin in pins(solution.requirements):
            if pin.is_wheel and pin.local:
                _refuse_unfit(pin.local, target)
                shutil.copyfile(pin.local, wheels / pin.local.name)
            elif pin.is_wheel or not pin.requirement.url:
                downloaded.append(pin)
            else:
                built.append(pin)
        try:
            if sources_only := self._try(downloaded, target, wheels, deadline):
                self._download([pin for pin in downloaded if pin not in sources_only], target, wheels, deadline)
                built += sources_only
        except WrongHash:
            raise
        except PipFailed as error:
            raise CheckFailed(f"could not get the wheels for Python {target.python}:\n{error}") from error
        for pin in built:
            progress(f"building a wheel of {pin}")
            self._build(pin, target, wheels, deadline)

    def _try(self, wanted: Sequence[Pin], target: Target, wheels: Path, deadline: Deadline) -> list[Pin]:
        """Download all of them; if some have no wheel, download nothing and return those."""
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
        hashed = [pin.line for pin in wanted if pin.hashes]
        bare = [pin.line for pin in wanted if not pin.hashes]
        for lines in filter(None, (hashed, bare)):  # pip wants hashes for all or for none
            self._pip.download(lines, target, wheels, deadline)

    def _sources_only(self, wanted: Sequence[Pin], target: Target, deadline: Deadline) -> list[Pin]:
        """Return those of which the index has no wheel that the target takes, and that their hashes allow.

        Raises:
            NoAnswer: no index answered.
        """
        lines = [str(pin.requirement) for pin in wanted]
        options = ("--no-deps", *target.uv_options, *as_of_options(self._as_of))
        try:
            packages = locked_packages(self._uv, lines, *options, deadline=deadline)
        except NoAnswer:
            raise
        except UvFailed:
            return []  # then pip's error counts
        hashes = {pin.name: pin.hashes for pin in wanted}
        names = set()
        for package in packages:
            name = canonicalize_name(package["name"])
            allowed = hashes.get(name, ())
            has_wheel, sdist = fits(package, target), package.get("sdist", LockedFile())
            if not has_wheel or (not fits(package, target, allowed) and is_allowed(sdist, allowed)):
                names.add(name)
        return [pin for pin in wanted if pin.name in names and not pin.is_wheel]

    def _build(self, pin: Pin, target: Target, wheels: Path, deadline: Deadline) -> None:
        if target.interpreter is None:
            raise CheckFailed(
                f"there is no wheel of {pin} for Python {target.python} on {target.platforms[0]}, only sources; "
                "build one there, and name that file among the requirements"
            )
        try:
            # A URL alone: not every pip takes `name @ git+file://…`.
            line = pin.line.partition(" @ ")[2] or pin.line
            self._pip.build(line, target.interpreter, wheels, deadline)
        except WrongHash:
            raise
        except PipFailed as error:
            raise CheckFailed(
                f"could not build a wheel of {pin}, of which there are only sources for Python "
                f"{target.python}:\n{error}"
            ) from error


def _refuse_unfit(wheel: Path, target: Target) -> None:
    """Raise `CheckFailed` if the target cannot install a wheel; an installer would only say that it found none."""
    tags = parse_wheel_filename(wheel.name)[3]
    if not tags & target.tags:
        wanted = ", ".join(sorted(map(str, tags)))
        raise CheckFailed(
            f"{wheel.name} is not a supported wheel: it is for {wanted}; Python {target.python} here takes "
            f"{target.abi} and py3-none wheels for {target.platforms[0]} or any platform"
        )


def _name(solution: Solution, target: Target) -> str:
    decides = [str(_LAYOUT), target.build, target.abi, *target.platforms, solution.requirements]
    decides += [hash_file(pin.local) for pin in pins(solution.requirements) if pin.local]
    key = hashlib.sha256("\n".join(decides).encode()).hexdigest()[:16]
    return f"py{target.python}-{key}"


def _facts(wheels: Path) -> _Facts:
    if not wheels.is_dir():
        return {}
    return {path.name: [path.stat().st_size, hash_file(path)] for path in sorted(wheels.iterdir())}


def _fault(directory: Path, facts: _Facts) -> str:
    """Return why a wheelhouse cannot be used, empty if it can."""
    found = _facts(directory / _WHEELS)
    for file in sorted(found.keys() | facts.keys()):
        if found.get(file) != facts.get(file):
            return f"{file} of the one in the cache was changed"
    return ""


def _packages(wheels: Path) -> dict[str, Version]:
    named = (parse_wheel_filename(path.name) for path in sorted(wheels.iterdir()))
    return {name: version for name, version, *_ in named}


def _compare(wheels: Path, wanted: Mapping[str, Version]) -> None:
    """Raise `CheckFailed` unless there is just one wheel of each package, at its version."""
    try:
        found = _packages(wheels)
    except InvalidWheelFilename as error:
        raise CheckFailed(f"a file of the wheelhouse is not a wheel: {error}") from error
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise CheckFailed(
                f"the wheelhouse holds the wrong {name}: expected {wanted.get(name, 'no wheel')}, "
                f"found {found.get(name, 'no wheel')}"
            )
