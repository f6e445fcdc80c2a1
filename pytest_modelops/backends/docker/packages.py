"""Packages for an image's Python and platform, resolved and fetched on this machine: only the host uses an index."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_modelops.backends.docker.contents import Contents
from pytest_modelops.backends.docker.images import Image
from pytest_modelops.backends.docker.target import target_of
from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Lock, Progress, Solution, Wheelhouse
from pytest_modelops.environments.interpreters import Interpreter
from pytest_modelops.environments.resolver import dask_pins
from pytest_modelops.environments.target import Target, fits, locked_packages
from pytest_modelops.environments.toolbox import Toolbox
from pytest_modelops.environments.uv import NoAnswer, UvFailed, as_of_options
from pytest_modelops.matrix.cell import Versions


@dataclasses.dataclass(frozen=True)
class Base:
    """An image and what is in it."""

    image: Image
    contents: Contents

    def __str__(self) -> str:
        return f"image {self.image.name} (Python {self.contents.python}, {self.contents.platform})"

    @functools.cached_property
    def target(self) -> Target:
        """What wheels have to be for; raises `Unavailable` if its platform has no name."""
        return target_of(self.image, self.contents)


class Packages:
    """Resolves, fetches and collects packages for images."""

    def __init__(self, tools: Toolbox, spec: EnvironmentSpec) -> None:
        self._tools = tools
        self._spec = spec

    def lock(self, versions: Versions, base: Base, *, deadline: Deadline, progress: Progress) -> Lock:
        """Resolve the cell's requirements for an image."""
        solution = self._solve(
            self._spec.requirements,
            base,
            besides=dask_pins(versions, self._tools.releases),
            constraints=self._spec.constraints,
            deadline=deadline,
            progress=progress,
        )
        return Lock(versions=versions, python=base.contents.python, interpreter=base.image.id, **vars(solution))

    def _solve(
        self,
        requirements: Sequence[str],
        base: Base,
        *,
        besides: Sequence[str] = (),
        constraints: Path | None = None,
        deadline: Deadline,
        progress: Progress,
    ) -> Solution:
        """Resolve to wheels; if that has no solution, to source distributions too, and note which."""
        contents = base.contents
        solve = functools.partial(
            self._tools.resolver.solve,
            requirements,
            Interpreter(
                path=Path(sys.executable), version=contents.python, build=base.image.id, platform=contents.platform
            ),
            name=str(base),
            besides=besides,
            constraints=constraints,
            deadline=deadline,
            progress=progress,
        )
        elsewhere = base.target.uv_options[2:]
        try:
            return solve(elsewhere=(*elsewhere, "--only-binary", ":all:"))
        except NoAnswer:
            raise
        except UvFailed:  # not only NoSolution: uv also refuses to build a repository
            solution = solve(elsewhere=elsewhere)
        names = self._without_wheels(solution, base.target, deadline)
        note = (
            f"only a source distribution exists of {', '.join(names)} for {base}; it is built on this machine, which "
            "works if it is pure Python"
        )
        return dataclasses.replace(solution, note="; ".join(filter(None, [solution.note, note])))

    def _without_wheels(self, solution: Solution, target: Target, deadline: Deadline) -> list[str]:
        """Return name and version of each package of a solution that has no wheel for the target."""
        options = ("--no-deps", *target.uv_options, *as_of_options(self._spec.as_of))
        packages = locked_packages(self._tools.uv, solution.requirements.splitlines(), *options, deadline=deadline)
        return [
            f"{package['name']} {package.get('version', '')}".strip()
            for package in packages
            if not fits(package, target)
        ]

    def fetch(self, directory: Path, base: Base, lock: Lock, *, deadline: Deadline, progress: Progress) -> None:
        """Install a lock's packages into a directory of the host, for an image's Python."""
        progress(f"fetching packages for {base.image.name}")
        requirements = directory.parent / "requirements.txt"
        requirements.write_text(lock.requirements, encoding="utf-8")
        try:
            self._tools.uv(
                *("pip", "install", "--no-deps", "--target", str(directory)),
                *base.target.uv_options,
                *("--requirement", str(requirements)),
                deadline=deadline,
            )
        except UvFailed as error:
            raise type(error)(
                f"could not get the packages for {base}: {error}" + (f"\n{lock.note}" if lock.note else ""),
                error.output,
            ) from error

    def wheelhouse(
        self, requirements: Sequence[str], base: Base, *, deadline: Deadline, progress: Progress
    ) -> Wheelhouse:
        """Collect wheels for an image's Python. Projects are built on this machine, and have to be pure Python."""
        solution = self._solve(requirements, base, deadline=deadline, progress=progress)
        return self._tools.wheelhouses.make(solution, base.target, deadline=deadline, progress=progress)
