"""From versions and requirements to a lock: what exactly goes into an environment.

A lock is stored under a hash of everything that it depends on, the index included. A lock as of a past day stays valid;
any other is resolved again when it is a day old.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from packaging.utils import canonicalize_name
from packaging.version import Version

from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Progress, Solution
from pytest_modelops.environments.constraints import files_of
from pytest_modelops.environments.interpreters import Interpreter
from pytest_modelops.environments.pins import pins
from pytest_modelops.environments.releases import PACKAGES, is_settled
from pytest_modelops.environments.target import locked_packages
from pytest_modelops.environments.uv import (
    NoAnswer,
    NoSolution,
    Uv,
    UvFailed,
    as_of_options,
    undated_files,
    without_passwords,
)
from pytest_modelops.environments.wanted import Wanted
from pytest_modelops.environments.wheels import LocalRequirement, Wheels
from pytest_modelops.errors import CheckFailed
from pytest_modelops.matrix.cell import Versions
from pytest_modelops.matrix.versions import NoIndex, Releases
from pytest_modelops.storage.files import hash_file, locked, read_json, write_json, write_text

TRUSTED_FOR = dt.timedelta(hours=24)
"""How long a lock is used that may come out differently tomorrow."""

UNANSWERED = "no index answered"
"""How the message begins that says so."""


def dask_pins(versions: Versions, releases: Releases) -> list[str]:
    """Return the requirement lines that give an environment its Dask.

    Raises:
        CheckFailed: no index said which release was meant.
    """
    if versions.dask is None:
        try:
            why = f"none answered when the plan was made; now {releases.latest()} is the newest"
        except NoIndex as error:
            why = str(error)
        raise CheckFailed(
            f"no index said which Dask {versions.dask_request!r} is: {why}\n"
            "Connect to one, or name a release that was used here before."
        )
    return [f"{name}=={versions.dask}" for name in PACKAGES]


class _Stored(TypedDict):
    """A solution on disk, as JSON.

    Attributes:
        packages: canonical name → version.
        resolved: ISO 8601.
        session: the pytest run that asked for it.
    """

    requirements: str
    packages: dict[str, str]
    resolved: str
    session: str


class Resolver:
    """Finds solutions, and remembers them.

    Args:
        spec: its `as_of` counts for every solution; requirements and constraints are arguments.
        cache: directory for `locks/` and `wheels/`.
        fingerprint: of the index.
        fresh: use only locks of this session.
        session: an id that all processes of this pytest run share.
    """

    def __init__(
        self, spec: EnvironmentSpec, *, cache: Path, uv: Uv, fingerprint: str, fresh: bool, session: str
    ) -> None:
        self._as_of = spec.as_of
        self._directory = cache / "locks"
        self._wheels = Wheels(uv, cache / "wheels")
        self._uv = uv
        self._fingerprint = fingerprint
        self._fresh = fresh
        self._session = session

    def solve(
        self,
        requirements: Sequence[str],
        interpreter: Interpreter,
        *,
        name: str,
        besides: Sequence[str] = (),
        constraints: Path | None = None,
        elsewhere: Sequence[str] = (),
        deadline: Deadline,
        progress: Progress,
    ) -> Solution:
        """Find the solution for these requirements, or remember it.

        Args:
            requirements: see `Backend.wheelhouse`.
            interpreter: resolves and builds local projects.
            name: what the solution is for, for people.
            besides: further lines, which messages do not repeat.
            constraints: a constraints file.
            elsewhere: options of uv for a Python that is not on this machine, such as `--python-platform`.

        Raises:
            NoAnswer: no index answered, and no solution is remembered.
            CheckFailed: no solution, or a local project that cannot be built.
            TimedOut: the deadline passed.
        """
        wanted = Wanted.parse(requirements)
        lines, contents = self._lines(wanted.requirements, interpreter, deadline, progress)
        lines = [*besides, *lines]
        given = [name, *wanted.requirements, *(f"constraint {line}" for line in wanted.constraints)]
        options = ["--generate-hashes", *elsewhere, *as_of_options(self._as_of)]
        if wanted.constraints:
            options += ["--constraints", str(self._write(wanted.constraints))]
        if constraints:
            given.append(f"constraints {constraints}")
            options += ["--constraints", str(constraints)]
            contents += [hash_file(file) for file in files_of(constraints) if file.is_file()]
        if self._as_of:
            given.append(f"as-of {self._as_of}")
        decides = [lines, contents, options, f"{interpreter.version} {interpreter.platform}", self._fingerprint]
        file = self._directory / f"{hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]}.json"
        note = ""
        with locked(file.with_suffix(".lock"), deadline, f"the lock of {name}"):
            stored: _Stored | None = read_json(file)
            if stored is None or not self._is_trusted(stored):
                progress(f"resolving {name}")
                try:
                    stored = self._ask(lines, ["--python", str(interpreter.path), *options], given, deadline)
                    write_json(file, stored)
                except NoAnswer as error:
                    if stored is None or self._fresh:
                        raise NoAnswer(
                            f"{UNANSWERED}, and there is no earlier lock of {name}: {error}", error.output
                        ) from error
                    note = f"the index did not answer; this is the lock of {stored['resolved'][:10]}"
        return Solution(
            requirements=wanted.kept(stored["requirements"], interpreter.version),
            packages={package: Version(text) for package, text in stored["packages"].items()},
            resolved=dt.datetime.fromisoformat(stored["resolved"]),
            note=note,
        )

    def _lines(
        self, requirements: Sequence[str], interpreter: Interpreter, deadline: Deadline, progress: Progress
    ) -> tuple[list[str], list[str]]:
        """Return the lines for uv, and hashes of the files that local ones name."""
        lines, contents = [], []
        for requirement in requirements:
            line = requirement
            if local := LocalRequirement.parse(requirement):
                line, digest = self._wheels.requirement(local, interpreter, deadline=deadline, progress=progress)
                contents.append(digest)
            lines.append(line)
        return lines, contents

    def _write(self, constraints: Sequence[str]) -> Path:
        """Write constraints into a file of their own."""
        text = "".join(f"{line}\n" for line in constraints)
        file = self._directory / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.constraints.txt"
        write_text(file, text)
        return file

    def _is_trusted(self, stored: _Stored) -> bool:
        if self._fresh:
            return stored["session"] == self._session
        age = _now() - dt.datetime.fromisoformat(stored["resolved"])
        return is_settled(self._as_of) or age < TRUSTED_FOR

    def _ask(self, lines: Sequence[str], options: Sequence[str], given: Sequence[str], deadline: Deadline) -> _Stored:
        """Resolve; `given` is what was asked for, as people wrote it."""
        try:
            solution = self._uv.compile(lines, *options, deadline=deadline).stdout
            packages = {pin.name: str(pin.version or "") for pin in pins(solution)}
            _refuse_directories(solution, given)
            if not all(packages.values()):  # a requirements file has no version of what comes from a repository
                answer = locked_packages(self._uv, lines, *options, deadline=deadline)
                packages |= {canonicalize_name(found["name"]): str(Version(found["version"])) for found in answer}
        except NoAnswer:
            raise
        except UvFailed as error:
            raise type(error)(_explain(given, error), error.output) from error
        return _Stored(requirements=solution, packages=packages, resolved=_now().isoformat(), session=self._session)


def _refuse_directories(solution: str, given: Sequence[str]) -> None:
    """Refuse directories that only a requirement names: nothing would show when they change."""
    for pin in pins(solution):
        if pin.local is not None and pin.local.is_dir():
            raise CheckFailed(
                f"{' + '.join(given)}: one of these depends on {pin}, a directory of this machine. Have it depend on "
                f"{pin.requirement.name} by its name, and name the directory itself beside it."
            )


def _explain(given: Sequence[str], error: UvFailed) -> str:
    first = "no solution for" if isinstance(error, NoSolution) else "uv could not resolve"
    message = without_passwords(f"{first} {' + '.join(given)}:\n{error}")
    for file in undated_files(error.output):
        if re.search(rf"\b{canonicalize_name(file.partition('-')[0])}\b", str(error)):
            return (
                f"{message}\nThe index gives no upload time for {file}, and as-of leaves such files out; "
                "use an index that does (pypi.org), or no as-of."
            )
    return message


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
