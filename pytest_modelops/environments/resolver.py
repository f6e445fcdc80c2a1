"""From versions and requirements to a lock: what exactly goes into an environment.

A lock is kept under everything that it depends on, the index included. One as of a day that is over stays
good; any other is asked for anew when it is a day old.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import EnvironmentSpec, Lock, Progress
from pytest_modelops.environments.files import locked, read_json, write_json
from pytest_modelops.environments.interpreters import Interpreter
from pytest_modelops.environments.releases import (
    PACKAGES,
    as_of_options,
    is_settled,
    undated_files,
    version_of_file,
)
from pytest_modelops.environments.uv import NoAnswer, NoSolution, Uv, UvFailed, without_passwords
from pytest_modelops.environments.wheels import LocalRequirement, Wheels
from pytest_modelops.errors import CheckFailed
from pytest_modelops.matrix.cell import PythonVersion, Versions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Finder(Protocol):
    """Knows the interpreter that an environment is made by."""

    def find(self, version: PythonVersion, *, deadline: Deadline, progress: Progress) -> Interpreter:
        """The one for this version; raises `Unavailable`."""


TRUSTED_FOR = dt.timedelta(hours=24)
"""How long a lock is believed that may come out differently tomorrow."""


class Resolver:
    """Finds solutions, and remembers them.

    Args:
        cache: folder for `locks/` and `wheels/`.
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
        interpreters: Finder,
        fingerprint: str,
        fresh: bool,
        session: str,
        packages: Sequence[str] = PACKAGES,
    ) -> None:
        self._spec = spec
        self._folder = cache / "locks"
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
        requirements, contents = self._requirements(versions.dask, interpreter, deadline, progress)
        key = self._key(requirements, contents, interpreter)
        file = self._folder / f"{key}.json"
        with locked(file.with_suffix(".lock"), deadline, f"the lock of {versions}"):
            remembered = read_json(file)
            if remembered is None or not self._is_trusted(remembered):
                progress(f"resolving {versions}")
                remembered = self._solve(versions, requirements, interpreter, remembered, deadline)
                write_json(file, {**remembered, "note": ""})
        return Lock(
            versions=versions,
            python=interpreter.version,
            interpreter=str(interpreter.path),
            requirements=remembered["requirements"],
            packages={name: Version(text) for name, text in remembered["packages"].items()},
            resolved=dt.datetime.fromisoformat(remembered["resolved"]),
            note="; ".join(filter(None, [remembered["note"], remembered.get("sources", "")])),
        )

    def _requirements(
        self, dask: Version, interpreter: Interpreter, deadline: Deadline, progress: Progress
    ) -> tuple[list[str], list[str]]:
        """The lines for uv, and hashes of what local ones stand for."""
        lines = [f"{name}=={dask}" for name in self._packages]
        contents = []
        for requirement in self._spec.requirements:
            if local := LocalRequirement.parse(requirement):
                line, digest = self._wheels.requirement(
                    local, interpreter, deadline=deadline, progress=progress
                )
                contents.append(digest)
            else:
                line = requirement
            lines.append(line)
        return lines, contents

    def _key(self, requirements: Sequence[str], contents: Sequence[str], interpreter: Interpreter) -> str:
        constraints = self._spec.constraints
        decides = [
            requirements,
            contents,
            # uv will say it if there is no such file
            constraints.read_bytes().hex() if constraints and constraints.is_file() else "",
            str(self._spec.as_of),
            f"{interpreter.version} {interpreter.platform}",
            self._fingerprint,
        ]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]

    def _is_trusted(self, remembered: Mapping[str, Any]) -> bool:
        if self._fresh:
            return bool(remembered["session"] == self._session)
        age = _now() - dt.datetime.fromisoformat(remembered["resolved"])
        return is_settled(self._spec.as_of) or age < TRUSTED_FOR

    def _solve(
        self,
        versions: Versions,
        requirements: Sequence[str],
        interpreter: Interpreter,
        old: dict[str, Any] | None,
        deadline: Deadline,
    ) -> dict[str, Any]:
        options = [
            *("--generate-hashes", "--python", str(interpreter.path), *interpreter.target),
            *as_of_options(self._spec.as_of),
            *(("--constraints", str(self._spec.constraints)) if self._spec.constraints else ()),
        ]
        try:
            solution, sources = self._compile(requirements, options, interpreter, deadline)
            packages = _packages(solution)
            if None in packages.values():
                packages |= self._told_versions(requirements, options, deadline)
        except NoAnswer as error:
            if old is None or self._fresh:
                raise NoAnswer(
                    f"no index answered, and there is no earlier lock of {versions}: {error}", error.output
                ) from error
            return {
                **old,
                "note": f"the index did not answer; this is the lock of {old['resolved'][:10]}",
            }
        except UvFailed as error:
            raise type(error)(self._explain(versions, error), error.output) from error
        return {
            "requirements": solution,
            "packages": {name: str(version) for name, version in packages.items()},
            "resolved": _now().isoformat(),
            "session": self._session,
            "note": "",
            "sources": sources,
        }

    def _compile(
        self, requirements: Sequence[str], options: Sequence[str], interpreter: Interpreter, deadline: Deadline
    ) -> tuple[str, str]:
        """The solution, and of what it has source distributions only, in words.

        For another machine wheels are preferred to newer versions that have none: what is built here may not run there.
        """
        if not interpreter.target:
            return self._uv.compile(requirements, *options, deadline=deadline).stdout, ""
        try:
            return self._uv.compile(requirements, *options, "--only-binary", ":all:", deadline=deadline).stdout, ""
        except NoAnswer:
            raise
        except UvFailed:
            # Not only NoSolution: of a repository or an sdist uv says that it may not build it.
            solution = self._uv.compile(requirements, *options, deadline=deadline).stdout
        told = self._uv.compile(requirements, "--format", "pylock.toml", *options, deadline=deadline)
        names = [
            f"{package['name']} {package.get('version', '')}".strip()
            for package in tomllib.loads(told.stdout)["packages"]
            if not any(_fits(wheel, interpreter.tags) for wheel in package.get("wheels", ()))
            and not str(package.get("archive", {}).get("path", "")).endswith(".whl")
        ]
        return solution, (
            f"only a source distribution exists of {', '.join(names)} for Python {interpreter.version} on "
            f"{interpreter.platform}; it is built on this machine, and serves if it is pure Python"
        )

    def _told_versions(
        self, requirements: Sequence[str], options: Sequence[str], deadline: Deadline
    ) -> dict[str, Version | None]:
        """Versions from uv's other lock format, which has them also for what comes from a repository."""
        solution = self._uv.compile(requirements, "--format", "pylock.toml", *options, deadline=deadline)
        return {
            canonicalize_name(package["name"]): Version(package["version"])
            for package in tomllib.loads(solution.stdout)["packages"]
        }

    def _explain(self, versions: Versions, error: UvFailed) -> str:
        given = [*self._spec.requirements]
        if self._spec.constraints:
            given.append(f"constraints {self._spec.constraints}")
        if self._spec.as_of:
            given.append(f"as-of {self._spec.as_of}")
        first = "no solution for" if isinstance(error, NoSolution) else "uv could not resolve"
        message = without_passwords(f"{first} {' + '.join([str(versions), *given])}:\n{error}")
        for file in undated_files(error.output):
            if re.search(rf"\b{canonicalize_name(file.partition('-')[0])}\b", str(error)):
                return (
                    f"{message}\nThe index gives no upload time for {file}, and as-of leaves such files out; "
                    "use an index that does (pypi.org), or no as-of."
                )
        return message


def _fits(wheel: Mapping[str, Any], tags: frozenset[str]) -> bool:
    """Whether one of pylock.toml's wheels runs where these tags do."""
    name = wheel.get("name") or unquote(urlsplit(wheel.get("url") or wheel.get("path", "")).path).rpartition("/")[2]
    try:
        return not tags.isdisjoint(map(str, parse_wheel_filename(name)[3]))
    except InvalidWheelFilename:
        return False


def _packages(requirements: str) -> dict[str, Version | None]:
    """Canonical name and version of each line of a requirements file; no version where a line has none."""
    packages: dict[str, Version | None] = {}
    for line in re.sub(r"\\\n", " ", requirements).splitlines():
        text = line.partition(" --hash=")[0].strip()
        if not text or text.startswith(("#", "-")):
            continue
        requirement = Requirement(text)
        pins = [Version(spec.version) for spec in requirement.specifier]
        version = _of_url(requirement.url) if requirement.url else pins[0]
        packages[canonicalize_name(requirement.name)] = version
    return packages


def _of_url(url: str) -> Version | None:
    return version_of_file(unquote(urlsplit(url).path).rpartition("/")[2])


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
