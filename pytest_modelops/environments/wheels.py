"""Local requirements: a project's directory becomes a wheel, built from a copy of its sources and cached.

Building in place would write `build/` and `*.egg-info` into the user's sources.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import parse_wheel_filename

from pytest_modelops.bundles import contents
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Progress
from pytest_modelops.environments.interpreters import Interpreter
from pytest_modelops.environments.uv import Uv, UvFailed
from pytest_modelops.errors import CheckFailed
from pytest_modelops.storage.files import hash_file, locked, read_json, write_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalRequirement:
    """A requirement that names a directory, a wheel or an sdist of this machine.

    Attributes:
        extras: as written, with brackets; or empty.
    """

    path: Path
    extras: str

    @classmethod
    def parse(cls, requirement: str) -> LocalRequirement | None:
        """Read `/path`, `/path[extra]` or `name @ file:///path`; return `None` for a requirement from an index."""
        if match := re.fullmatch(r"(/.*?)(\[[\w\s,.-]*\])?", requirement):
            return cls(path=Path(match[1]), extras=match[2] or "")
        try:
            parsed = Requirement(requirement)
        except InvalidRequirement:
            return None  # uv reports it
        url = urlsplit(parsed.url or "")
        if url.scheme != "file":
            return None
        extras = f"[{','.join(sorted(parsed.extras))}]" if parsed.extras else ""
        return cls(path=Path(unquote(url.path)), extras=extras)


class Wheels:
    """Wheels of local projects, in a directory of the cache."""

    def __init__(self, uv: Uv, directory: Path) -> None:
        self._uv = uv
        self._directory = directory

    def requirement(
        self, local: LocalRequirement, interpreter: Interpreter, *, deadline: Deadline, progress: Progress
    ) -> tuple[str, str]:
        """Return the requirement as uv gets it, and a hash of the file that it names.

        Raises:
            CheckFailed: there is nothing at its path, or the wheel could not be built.
            TimedOut: the deadline passed.
        """
        file = local.path
        if file.is_dir():
            try:
                file = self._build(local.path, interpreter, deadline, progress)
            except OSError as error:
                raise CheckFailed(f"requirement {local.path}: {error}") from error
        if not file.is_file():
            raise CheckFailed(f"requirement {local.path}: there is no such directory or file")
        digest = hash_file(file)
        if file.suffix != ".whl":
            return file.as_uri(), digest
        return f"{parse_wheel_filename(file.name)[0]}{local.extras} @ {file.as_uri()}", digest

    def _build(self, project: Path, interpreter: Interpreter, deadline: Deadline, progress: Progress) -> Path:
        """Return the project's wheel. Sources that make an equal one share it: a changed test changes nothing."""
        made_by = f"{_hash_sources(project)} {interpreter.version} {interpreter.platform}"
        scratch = self._directory / hashlib.sha256(made_by.encode()).hexdigest()[:32]
        known = scratch.with_suffix(".json")
        with locked(scratch.with_suffix(".lock"), deadline, f"the wheel of {project}"):
            wheel = self._directory / (read_json(known) or "none")
            if not wheel.is_file():
                progress(f"building a wheel of {project}")
                wheel = self._build_copy(project, scratch, interpreter, deadline)
                write_json(known, str(wheel.relative_to(self._directory)))
            os.utime(wheel.parent)  # what is not used for long is removed
        return wheel

    def _build_copy(self, project: Path, scratch: Path, interpreter: Interpreter, deadline: Deadline) -> Path:
        copy, out = scratch / "sources" / project.name, scratch / "out"
        shutil.rmtree(scratch, ignore_errors=True)  # of a build that was killed
        try:
            for file in contents.files(project):
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(project / file, copy / file)
            # Backends such as hatchling leave out what git ignores, by the nearest file above. Without one, they would
            # look in the directories above the cache.
            (copy.parent / _IGNORED).write_bytes(_ignored_above(project))
            if _versioned_by_git(project):
                shutil.copytree(project / ".git", copy / ".git", symlinks=True)
            options = ("--out-dir", str(out), "--python", str(interpreter.path))
            self._uv("build", "--wheel", *options, str(copy), deadline=deadline)
            [built] = out.glob("*.whl")
            wheel = self._directory / _hash_wheel(built) / built.name
            if not wheel.exists():
                wheel.parent.mkdir(exist_ok=True)
                built.replace(wheel)
        except UvFailed as error:
            # The build backend's output comes before uv's own error, which only says that the build failed.
            output = "\n".join(error.output.splitlines()[-_REPORTED_LINES:])
            raise type(error)(f"could not build a wheel of {project}:\n{output}", error.output) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return wheel


_REPORTED_LINES = 30
_IGNORED = ".gitignore"


def _hash_sources(project: Path) -> str:
    digest = hashlib.sha256()
    files = list(contents.files(project))
    if _versioned_by_git(project):  # then a commit or a tag makes another wheel
        git = project / ".git"
        named = [git / "HEAD", git / "packed-refs", *sorted((git / "refs").rglob("*"))]
        files += [path.relative_to(project) for path in named if path.is_file()]
    digest.update(_ignored_above(project))
    for file in files:
        executable = os.access(project / file, os.X_OK)
        digest.update(f"{file}\0{executable}\0{hash_file(project / file)}\n".encode())
    return digest.hexdigest()


def _ignored_above(project: Path) -> bytes:
    """Return what git ignores by the nearest file above a project, up to the top of the repository."""
    directory = project.resolve()
    while not (directory / ".git").exists() and directory != directory.parent:
        directory = directory.parent
        if (file := directory / _IGNORED).is_file():
            return file.read_bytes()
    return b""


def _versioned_by_git(project: Path) -> bool:
    """Whether the project's version seems to come from git (setuptools-scm, hatch-vcs, versioneer, …)."""
    if not (project / ".git").is_dir():
        return False
    settings = (project / name for name in ("pyproject.toml", "setup.py", "setup.cfg"))
    text = " ".join(path.read_text(errors="replace") for path in settings if path.is_file())
    return re.search(r"scm|vcs|versioneer|versioningit|dunamai", text) is not None


def _hash_wheel(wheel: Path) -> str:
    """Hash the wheel's content, whenever it was packed."""
    with zipfile.ZipFile(wheel) as archive:
        members = sorted((info.filename, info.CRC, info.external_attr) for info in archive.infolist())
    return hashlib.sha256(repr(members).encode()).hexdigest()[:32]
