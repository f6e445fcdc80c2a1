"""What wheels are made for: a Python and its platform; and which wheels it takes."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TypedDict
from urllib.parse import unquote, urlsplit

import packaging
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.interpreters import Interpreter
from pytest_modelops.environments.uv import Runner, Uv
from pytest_modelops.errors import CheckFailed
from pytest_modelops.storage.toml import tomllib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """What wheels are for. Its Python is needed on this machine only if something has to be built.

    Attributes:
        python: to the patch.
        abi: tag of its own ABI (`cp312`).
        platforms: tags of all platforms whose wheels it takes, best first.
        build: how its Python was built, as in `sys.version`.
        uv_options: options by which uv resolves for it.
        interpreter: path of its Python on this machine, if it is here.
    """

    python: Version
    abi: str
    platforms: tuple[str, ...]
    build: str
    uv_options: tuple[str, ...]
    interpreter: Path | None

    @functools.cached_property
    def tags(self) -> frozenset[Tag]:
        """Tags of the wheels that it takes."""
        python = self.python.release[:2]
        name = f"cp{python[0]}{python[1]}"
        return frozenset(
            [*cpython_tags(python, [self.abi], self.platforms), *compatible_tags(python, name, self.platforms)]
        )


TAGS_QUESTION = """
import json, sys
sys.path.append(sys.argv[1])
from packaging.tags import sys_tags
tags = list(sys_tags())
print(json.dumps([tags[0].abi, list(dict.fromkeys(t.platform for t in tags if t.platform != "any"))]))
"""
"""Run by the target's Python; its argument is a directory that holds the package `packaging`."""
_ANSWER_SECONDS = 30.0


def target_of(interpreter: Interpreter, run: Runner, *, env: Mapping[str, str], deadline: Deadline) -> Target:
    """Ask an interpreter of this machine which wheels it takes.

    Raises:
        CheckFailed: it did not answer.
        TimedOut: the deadline passed.
    """
    home = str(Path(str(packaging.__file__)).parents[1])
    command = [str(interpreter.path), "-I", "-c", TAGS_QUESTION, home]
    finished = run(command, env=env, cwd=interpreter.path.parent, deadline=deadline.at_most(_ANSWER_SECONDS))
    try:
        abi, platforms = json.loads(finished.stdout)
    except ValueError:
        raise CheckFailed(
            f"{interpreter.path} does not report which wheels it takes: {finished.stderr.strip()}"
        ) from None
    return Target(
        python=interpreter.version,
        abi=abi,
        platforms=tuple(platforms),
        build=interpreter.build,
        uv_options=("--python", str(interpreter.path)),
        interpreter=interpreter.path,
    )


class LockedFile(TypedDict, total=False):
    """A file of a package; it has at least one of these."""

    name: str
    url: str
    path: str
    hashes: dict[str, str]


class LockedPackage(TypedDict, total=False):
    """A package of a `pylock.toml`, as far as it is used here.

    Source: https://packaging.python.org/en/latest/specifications/pylock-toml/.

    Attributes:
        name: always there.
        version: left out of some local projects.
        wheels: those of the index; some versions of uv list those for other targets as well.
        sdist: its sources.
        archive: the file, where a requirement names one.
    """

    name: str
    version: str
    wheels: list[LockedFile]
    sdist: LockedFile
    archive: LockedFile


def locked_packages(uv: Uv, requirements: Sequence[str], *options: str, deadline: Deadline) -> Sequence[LockedPackage]:
    """Resolve to a `pylock.toml`, which holds files and versions that uv's requirements file does not.

    Raises:
        NoAnswer, NoSolution, UvFailed: uv failed.
        TimedOut: the deadline passed.
    """
    answer = uv.compile(requirements, "--format", "pylock.toml", *options, deadline=deadline)
    packages: list[LockedPackage] = tomllib.loads(answer.stdout)["packages"]
    return packages


def is_allowed(file: LockedFile, hashes: Collection[str]) -> bool:
    """Whether a file may be used; one whose hash is not known, or of which none is given, may."""
    algorithms = {one.partition(":")[0] for one in hashes}
    known = {f"{name}:{digest}" for name, digest in file.get("hashes", {}).items() if name in algorithms}
    return not known or not known.isdisjoint(hashes)


def fits(package: LockedPackage, target: Target, hashes: Collection[str] = ()) -> bool:
    """Whether the package has a wheel that the target takes, with one of these hashes if any are given."""
    for file in (*package.get("wheels", ()), package.get("archive", LockedFile())):
        place = file.get("name") or urlsplit(file.get("url") or file.get("path", "")).path
        try:
            tags = parse_wheel_filename(unquote(place).rpartition("/")[2])[3]
        except InvalidWheelFilename:
            continue
        if tags & target.tags and is_allowed(file, hashes):
            return True
    return False
