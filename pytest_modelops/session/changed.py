"""What changes in git since a revision can have touched: checks, cells and tests of the user's.

Where this cannot be known, it has. A change that git does not see, such as a newer release on the index, is not looked
for.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.bundles import contents
from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import BUNDLE_CHECKS
from pytest_modelops.checks.base import Check
from pytest_modelops.config.options import given
from pytest_modelops.config.parsing import parse
from pytest_modelops.config.setting import Declaration, declarations
from pytest_modelops.config.settings import Settings
from pytest_modelops.environments.constraints import files_of
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import Cell
from pytest_modelops.matrix.plan import Plan
from pytest_modelops.matrix.versions import Releases
from pytest_modelops.report.paper import counted
from pytest_modelops.session.configured import Configured
from pytest_modelops.session.fingerprint import inputs_of_environment, sources_of_hooks
from pytest_modelops.session.git import Git
from pytest_modelops.session.planning import plan_of
from pytest_modelops.session.sources import is_foreign
from pytest_modelops.storage.toml import tomllib

_OTHER_TABLES = ("uv", "pytest")
"""Tables of the file beside ours that decide about cells and tests."""


@dataclasses.dataclass(kw_only=True)
class Touched:
    """What the changes can have touched.

    Attributes:
        revision: as it was asked for.
        everything: why all is touched; empty if it is not.
        bundles: name → why it is touched, and with it all its checks.
        checks: names of checks that are touched in all cells.
        cells: ids of cells that are new.
        files: all files that changed, absolute; they touch the tests of the user's that use them.
        ignored: files and directories that git ignores, absolute; whether they changed is not known.
    """

    revision: str
    everything: str = ""
    bundles: dict[str, str] = dataclasses.field(default_factory=dict)
    checks: list[str] = dataclasses.field(default_factory=list)
    cells: list[str] = dataclasses.field(default_factory=list)
    files: list[str] = dataclasses.field(default_factory=list)
    ignored: list[str] = dataclasses.field(default_factory=list)

    def to_json(self) -> Mapping[str, Any]:
        """Return the fields, for xdist's workers."""
        return dataclasses.asdict(self)

    def describe(self) -> str:
        """Return a line for people."""
        count = f"{counted(len(self.files), 'file')} changed since {self.revision}"
        if self.everything:
            return f"{count}; everything is run, since {self.everything}"
        if not self.files and not self.bundles:
            return f"nothing changed since {self.revision}"
        bundles = [f"bundle {name} ({why})" for name, why in self.bundles.items()]
        found = [*bundles, *(f"check {name}" for name in self.checks), *(f"cell {one}" for one in self.cells)]
        return f"{count}; run: {', '.join([*found, 'tests that use them'])}"

    def check(self, check: Check, cell_id: str) -> bool:
        """Return whether a check of a cell is touched, besides those that need it."""
        if self.everything or cell_id in self.cells or check.name in self.checks:
            return True
        return check.bundle is not None and check.bundle.name in self.bundles

    def test(
        self,
        cell_id: str,
        files: Iterable[Path],
        bundles: Mapping[Path, Bundle | None],
        places: Callable[[Path], set[Path]] = contents.places,
    ) -> bool:
        """Return whether a test of the user's is touched.

        Args:
            files: that decide about it, see `TestFiles`.
            bundles: that its markers name, see `bundles_of`.
            places: `contents.places`, or what remembers its answers.
        """
        if self.everything or cell_id in self.cells:
            return True
        changed, ignored = set(map(Path, self.files)), set(map(Path, self.ignored))
        try:
            own = {place for file in files if not is_foreign(file) for place in places(file)}
            unknown = {place for path in bundles if bundles[path] is None for place in places(path)}
        except OSError:  # so nobody knows what is in there
            return True
        with_directories = {path for file in changed for path in (file, *file.parents)}
        if any(file in with_directories or not ignored.isdisjoint((file, *file.parents)) for file in own):
            return True
        if any(file.is_relative_to(place) for place in unknown for file in (*changed, *ignored)):
            return True
        return any(bundle.name in self.bundles for bundle in bundles.values() if bundle is not None)

    @staticmethod
    def with_needs(labels: set[str], checks: Mapping[str, Check]) -> set[str]:
        """Return labels of checks with those that they need, directly or not."""
        found, left = set(labels), list(labels)
        while left:
            new = set(checks[left.pop()].needs) - found
            found |= new
            left += new
        return found


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a run is asked for, which is compared with what it was in the revision."""

    configured: Configured
    plan: Plan
    releases: Releases
    config: pytest.Config

    @property
    def settings(self) -> Settings:
        return self.configured.settings


def touched(asked: Asked, revision: str) -> Touched:
    """Find out what the changes since a revision can have touched.

    Raises:
        WrongInput: git does not know the revision, or there is no git.
    """
    settings = asked.settings
    git = Git(settings.file.directory, revision)
    changed, ignored = (sorted(map(str, files)) for files in (git.changed, git.ignored))
    found = Touched(revision=revision, files=changed, ignored=ignored)
    found.bundles = {bundle.name: why for bundle in settings.bundles if (why := git.why_changed(bundle.path))}
    found.everything = _why_everything(settings, git, asked.config)
    if settings.file.path is not None and settings.file.path.resolve() in git.changed:
        _compare_file(found, settings.file.path, git, asked)
    return found


def _why_everything(settings: Settings, git: Git, config: pytest.Config) -> str:
    directory = settings.file.directory.resolve()
    hooks = (file for file in sources_of_hooks(config) if not is_foreign(file))
    inputs = [*inputs_of_environment(settings), *(file for file in hooks if file.resolve().is_relative_to(git.top))]
    inputs += [*files_of(settings.environment.constraints), *filter(None, [config.inipath])]
    inputs += [one for one in (settings.runner.path,) if isinstance(one, Path)]
    own = settings.file.path.resolve() if settings.file.path is not None else None
    for path in inputs:
        if path.resolve() != own and (why := git.why_changed(path)):
            return why
    of_uv = (parent / "uv.toml" for parent in (directory, *directory.parents))
    return next((f"{file} changed" for file in of_uv if file in git.changed), "")


def _compare_file(found: Touched, file: Path, git: Git, asked: Asked) -> None:
    """Add what the changes of the file with the settings can have touched."""
    try:
        was, now = _tools(git.old(file) or b""), _tools(file.read_bytes())
        before = dataclasses.replace(asked.settings.file, table=was["modelops"])
        old = parse(before, given(asked.config, os.environ))
    except (WrongInput, ValueError, KeyError, OSError):
        found.everything = f"{file.name} has no settings in {found.revision} that can be compared"
        return
    for table in _OTHER_TABLES:
        if was.get(table) != now.get(table):
            found.everything = f"[tool.{table}] changed"
    for name, declaration in declarations(Settings).items():
        if getattr(old, name) != getattr(asked.settings, name):
            _add(found, name, declaration, old, asked)


def _tools(text: bytes) -> dict[str, Any]:
    tool: dict[str, Any] = tomllib.loads(text.decode()).get("tool", {})
    return tool


def _add(found: Touched, name: str, declaration: Declaration[object], old: Settings, asked: Asked) -> None:
    """Add what a setting that changed decides about."""
    new = asked.settings
    match name:
        case "bundles":
            changed = [bundle.name for bundle in new.bundles if bundle not in old.bundles]
            found.bundles = {**dict.fromkeys(changed, "its settings changed"), **found.bundles}
        case "matrix":
            _compare_cells(found, old, asked)
        case "deadlines":
            found.checks += {deadline.check for deadline in (*old.deadlines, *new.deadlines)}
        case "runner":
            found.checks += BUNDLE_CHECKS
        case _ if declaration.decides is None:
            found.everything = f"`{declaration.key or declaration.name}` changed"
        case _:
            found.checks += declaration.decides
    found.checks = sorted({*found.checks})


def _compare_cells(found: Touched, old: Settings, asked: Asked) -> None:
    """Add the cells that the old settings do not have."""
    settings = dataclasses.replace(old, shard=None, known_broken=())
    configured = dataclasses.replace(asked.configured, settings=settings)
    try:
        before = plan_of(configured, releases=asked.releases, config=asked.config)
    except WrongInput:
        found.everything = "`matrix` changed, and what it was is no plan today"
        return
    known = {_versions(cell) for cell in before.cells}
    found.cells += [cell.id for cell in asked.plan.cells if _versions(cell) not in known]


def _versions(cell: Cell) -> object:
    return cell, tuple(versions.as_is for versions in cell.needed)
