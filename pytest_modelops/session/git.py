"""What git knows of the project: the files that differ from a revision, and those that it does not watch."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pytest_modelops.bundles import contents
from pytest_modelops.errors import WrongInput

_SECONDS = 60.0
_OF_A_HOOK = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"}
"""Variables that git sets for its hooks, relative to another directory."""


class Git:
    """The work tree that holds a directory, and a revision that it is compared with.

    Attributes:
        top: the work tree's directory.
        commit: hash of the revision.
        changed: files that differ from the revision, or are gone or new since, whether they are committed or not.
        ignored: files and directories that git ignores.

    Raises:
        WrongInput: there is no git, no work tree or no such revision.
    """

    def __init__(self, directory: Path, revision: str) -> None:
        self._directory = directory
        self.top = Path(os.fsdecode(self._run("rev-parse", "--show-toplevel").removesuffix(b"\n")))
        self._directory = self.top
        name = self._run("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
        self.commit = name.decode().strip()
        options = ("--name-only", "--no-renames", "--no-ext-diff", "--ignore-submodules=none")
        differ = self._paths("diff", *options, self.commit, "--")
        others = ("ls-files", "--others", "--exclude-standard")
        self.changed = frozenset([*differ, *self._paths(*others)])
        self.ignored = frozenset(self._paths(*others, "--ignored", "--directory"))

    def old(self, file: Path) -> bytes | None:
        """Return what a file held in the revision; `None` if it did not exist."""
        try:
            return self._run("cat-file", "blob", f"{self.commit}:{file.resolve().relative_to(self.top).as_posix()}")
        except (WrongInput, ValueError):
            return None

    def why_changed(self, path: Path) -> str:
        """Return why what is in a file or directory may differ from the revision; empty if it cannot."""
        real = path.resolve()
        try:
            places = contents.places(real)
            for file in sorted(self.changed):
                # Of a submodule, git names the directory.
                if any(file.is_relative_to(place) or place.is_relative_to(file) for place in places):
                    return f"{file.relative_to(self.top)} changed"
            files = [real / one for one in contents.files(real)] if real.is_dir() else [real]
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
        unwatched = next((one for one in files if one.resolve() not in self._watched), None)
        return f"git does not watch {unwatched}" if unwatched is not None else ""

    @functools.cached_property
    def _watched(self) -> frozenset[Path]:
        return frozenset(self._paths("ls-files", "--recurse-submodules"))

    def _paths(self, *arguments: str) -> Iterator[Path]:
        command, *rest = arguments
        for name in self._run(command, "-z", *rest).split(b"\0"):
            if name:
                yield self.top / os.fsdecode(name)

    def _run(self, *arguments: str) -> bytes:
        own = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
        try:
            ran = subprocess.run(
                ["git", "-C", str(self._directory), *arguments],  # noqa: S607
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
                env={**own, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise WrongInput(f"--modelops-changed: git does not answer: {error}") from None
        if ran.returncode != 0:
            said = " ".join(ran.stderr.decode(errors="replace").split()) or f"exit code {ran.returncode}"
            raise WrongInput(f"--modelops-changed: git {arguments[0]} in {self._directory}: {said}")
        return ran.stdout
