"""From versions and requirements to a lock: what exactly goes into an environment.

A lock is kept under everything that it depends on, the index included. One as of a day that is over stays
good; any other is asked for again when it is a day old.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Lock, Progress
from pytest_modelops.environments.interpreters import Interpreter, Interpreters
from pytest_modelops.environments.pins import pins
from pytest_modelops.environments.releases import PACKAGES, as_of_options, is_settled, undated_files
from pytest_modelops.environments.uv import NoAnswer, NoSolution, Uv, UvFailed, without_passwords
from pytest_modelops.environments.wheels import LocalRequirement, Wheels
from pytest_modelops.errors import CheckFailed
from pytest_modelops.matrix.cell import Versions
from pytest_modelops.storage.files import locked, read_json, write_json
from pytest_modelops.storage.toml import tomllib

TRUSTED_FOR = dt.timedelta(hours=24)
"""How long a lock is believed that may come out differently tomorrow."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solution:
    """What the index answered (see `Lock` for the fields)."""

    requirements: str
    packages: Mapping[str, Version]
    resolved: dt.datetime
    note: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Question:
    """What a solution is wanted for.

    Attributes:
        name: for people.
        requirements: as the user wrote them, for people.
        lines: all that has to be met, as uv gets it.
        contents: hashes of what local requirements stand for.
        elsewhere: options of uv for a Python that is not on this machine.
    """

    name: str
    requirements: Sequence[str]
    lines: Sequence[str]
    contents: Sequence[str]
    interpreter: Interpreter
    constraints: Path | None
    elsewhere: Sequence[str]


class Resolver:
    """Finds solutions, and remembers them.

    Args:
        cache: directory for `locks/` and `wheels/`.
        fingerprint: of the index.
        fresh: believe only locks of this session.
        session: an id that all processes of this pytest run share.
        packages: what every environment holds at the cell's release.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        *,
        cache: Path,
        uv: Uv,
        interpreters: Interpreters,
        fingerprint: str,
        fresh: bool,
        session: str,
        packages: Sequence[str] = PACKAGES,
    ) -> None:
        self._spec = spec
        self._directory = cache / "locks"
        self._wheels = Wheels(uv, cache / "wheels")
        self._uv = uv
        self._interpreters = interpreters
        self._fingerprint = fingerprint
        self._fresh = fresh
        self._session = session
        self._packages = packages

    def resolve(self, versions: Versions, *, deadline: Deadline, progress: Progress) -> Lock:
        """Find the solution for these versions, or remember it.

        Raises:
            Unavailable: no such interpreter.
            NoAnswer: no index answered, and no lock is remembered.
            CheckFailed: no solution, or a local project that cannot be built.
            TimedOut: the deadline passed.
        """
        if versions.dask is None:
            raise CheckFailed(
                f"no index answered when it was asked which Dask {versions.dask_request!r} is; "
                "connect to one, or name a release that was used here before"
            )
        interpreter = self._interpreters.find(versions.python, deadline=deadline, progress=progress)
        solution = self.solve(
            self._spec.requirements,
            interpreter,
            name=str(versions),
            besides=[f"{name}=={versions.dask}" for name in self._packages],
            constraints=self._spec.constraints,
            deadline=deadline,
            progress=progress,
        )
        return Lock(
            versions=versions,
            python=interpreter.version,
            interpreter=str(interpreter.path),
            requirements=solution.requirements,
            packages=solution.packages,
            resolved=solution.resolved,
            note=solution.note,
        )

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
            requirements: PEP 508 lines or absolute paths.
            interpreter: for which it has to be, and by which local projects are built.
            name: what it is for, for people.
            besides: further lines, which go without saying.
            elsewhere: `--python-version` and `--python-platform`, if it has to be for a Python elsewhere.

        Raises:
            NoAnswer: no index answered, and no solution is remembered.
            CheckFailed: no solution, or a local project that cannot be built.
            TimedOut: the deadline passed.
        """
        lines, contents = self._lines(requirements, interpreter, deadline, progress)
        question = _Question(
            name=name,
            requirements=requirements,
            lines=[*besides, *lines],
            contents=contents,
            interpreter=interpreter,
            constraints=constraints,
            elsewhere=elsewhere,
        )
        file = self._directory / f"{self._key(question)}.json"
        with locked(file.with_suffix(".lock"), deadline, f"the lock of {name}"):
            remembered = read_json(file)
            if remembered is None or not self._is_trusted(remembered):
                progress(f"resolving {name}")
                remembered = self._ask(question, remembered, deadline)
                write_json(file, {**remembered, "note": ""})
        return Solution(
            requirements=remembered["requirements"],
            packages={package: Version(text) for package, text in remembered["packages"].items()},
            resolved=dt.datetime.fromisoformat(remembered["resolved"]),
            note=remembered["note"],
        )

    def _lines(
        self, requirements: Sequence[str], interpreter: Interpreter, deadline: Deadline, progress: Progress
    ) -> tuple[list[str], list[str]]:
        """The lines for uv, and hashes of what local ones stand for."""
        lines = []
        contents = []
        for requirement in requirements:
            if local := LocalRequirement.parse(requirement):
                line, digest = self._wheels.requirement(local, interpreter, deadline=deadline, progress=progress)
                contents.append(digest)
            else:
                line = requirement
            lines.append(line)
        return lines, contents

    def _key(self, question: _Question) -> str:
        constraints = question.constraints
        decides = [
            question.lines,
            question.contents,
            # uv will say it if there is no such file
            constraints.read_bytes().hex() if constraints and constraints.is_file() else "",
            str(self._spec.as_of),
            f"{question.interpreter.version} {question.interpreter.platform}",
            self._fingerprint,
            *question.elsewhere,
        ]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]

    def _is_trusted(self, remembered: Mapping[str, Any]) -> bool:
        if self._fresh:
            return bool(remembered["session"] == self._session)
        age = _now() - dt.datetime.fromisoformat(remembered["resolved"])
        return is_settled(self._spec.as_of) or age < TRUSTED_FOR

    def _ask(self, question: _Question, old: dict[str, Any] | None, deadline: Deadline) -> dict[str, Any]:
        options = [
            *("--generate-hashes", "--python", str(question.interpreter.path), *question.elsewhere),
            *as_of_options(self._spec.as_of),
            *(("--constraints", str(question.constraints)) if question.constraints else ()),
        ]
        try:
            solution = self._uv.compile(question.lines, *options, deadline=deadline).stdout
            packages = {pin.name: pin.version for pin in pins(solution)}
            if None in packages.values():
                packages |= self._told_versions(question.lines, options, deadline)
        except NoAnswer as error:
            if old is None or self._fresh:
                raise NoAnswer(
                    f"no index answered, and there is no earlier lock of {question.name}: {error}", error.output
                ) from error
            return {**old, "note": f"the index did not answer; this is the lock of {old['resolved'][:10]}"}
        except UvFailed as error:
            raise type(error)(self._explain(question, error), error.output) from error
        return {
            "requirements": solution,
            "packages": {name: str(version) for name, version in packages.items()},
            "resolved": _now().isoformat(),
            "session": self._session,
            "note": "",
        }

    def _told_versions(
        self, requirements: Sequence[str], options: Sequence[str], deadline: Deadline
    ) -> dict[str, Version | None]:
        """Versions from uv's other lock format, which has them also for what comes from a repository."""
        solution = self._uv.compile(requirements, "--format", "pylock.toml", *options, deadline=deadline)
        return {
            canonicalize_name(package["name"]): Version(package["version"])
            for package in tomllib.loads(solution.stdout)["packages"]
        }

    def _explain(self, question: _Question, error: UvFailed) -> str:
        given = [question.name, *question.requirements]
        if question.constraints:
            given.append(f"constraints {question.constraints}")
        if self._spec.as_of:
            given.append(f"as-of {self._spec.as_of}")
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
