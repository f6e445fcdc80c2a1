"""A check as a test item. Nothing of the user's own pytest is around it: no fixture, time limit, repetition or mock."""

from __future__ import annotations

import functools
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.skipping import evaluate_skip_marks, evaluate_xfail_marks  # there is no public way to ask

from pytest_modelops.config.options import start_of
from pytest_modelops.session.locating import SettingsFile

if TYPE_CHECKING:
    from pytest_modelops.cell.live import LiveCell
    from pytest_modelops.checks.base import Check

AROUND = frozenset(
    {"pytest_runtest_setup", "pytest_runtest_call", "pytest_runtest_teardown", "pytest_runtest_makereport"}
)
"""Hooks that decide what becomes of a test."""
_KEPT = ("_pytest.runner", "_pytest.capture", "_pytest.logging", "_pytest.skipping")
"""Parts of pytest whose hooks are around checks, too.

Not among them: those that fail a test for warnings about what another test left to the garbage collector.
"""


class CheckItem(pytest.Function):
    """The test of a check in a cell; these and `settings` are set by `make`.

    A `pytest.Function`, because plugins and `conftest.py` files expect tests to have a `function`, `module` and
    `fixturenames`.
    """

    check: Check
    cell: LiveCell
    settings: SettingsFile

    @classmethod
    def make(
        cls,
        parent: pytest.Module,
        name: str,
        parameters: str,
        *,
        check: Check,
        cell: LiveCell,
        settings: SettingsFile,
        like: CheckItem | None,
    ) -> CheckItem:
        """Make an item; `like` is another one of the module, whose fixtures are not looked for again."""

        def test() -> None:
            raise RuntimeError(f"the check {check.label} runs as a test item, and not by calling its function")

        test.__name__ = test.__qualname__ = name
        test.__doc__ = check.summary
        fixtures = like._fixtureinfo if like is not None else None  # noqa: SLF001 - as pytest itself has it
        item: CheckItem = cls.from_parent(parent, name=f"{name}[{parameters}]", callobj=test, fixtureinfo=fixtures)
        if hasattr(item, "id"):  # pytest 9.2 keeps node ids in parts, and `--lf` compares them
            item._id = type(item.id).parse(item.nodeid)
        item.originalname = name
        item.path = place(parent.config, settings)
        item.fixturenames = []
        item.check, item.cell, item.settings = check, cell, settings
        return item

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where people can act: the line of the settings. pytest needs a line for what is skipped."""
        if not self.settings:
            return self.getparent(pytest.Module).path, 0, self.name  # type: ignore[union-attr]
        return self.settings.file, self.settings.line_of(self.cell.cell, self.check.bundle), self.name

    @functools.cached_property
    def ihook(self) -> Any:
        # The session's, since pytest calls a `conftest.py` for paths that exist below it, and the virtual one does not.
        return _OwnHooks(self.session.ihook, self.config.pluginmanager)

    def setup(self) -> None:
        """Set up no fixture, not even an autouse one."""

    def runtest(self) -> None:
        __tracebackhide__ = True
        result = self.cell.checks.run(self.check.label)
        if result.blocked_by is not None:
            self.cell.checks.require(self.check.label)


def place(config: pytest.Config, settings: SettingsFile) -> Path:
    """Return the path of the checks: the file with the settings, if pytest was called beside it, else that directory.

    It exists. Editors open it and name a check by it, `/project/pyproject.toml::test_lambda[…]`; `--nf` asks it when it
    was changed. In another directory it would, as an argument, change the `conftest.py` files that pytest reads.
    """
    start = start_of(config)
    return settings.file if settings and settings.file.parent == start else start


class _OwnHooks:
    """Hooks of an item: those in `AROUND` reach only pytest itself and this plugin, all others reach every plugin."""

    def __init__(self, everyone: Any, manager: pytest.PytestPluginManager) -> None:
        self._everyone = everyone
        self._manager = manager

    def __getattr__(self, name: str) -> Any:
        if name not in AROUND:
            return getattr(self._everyone, name)
        others = [plugin for plugin in self._manager.get_plugins() if not _is_kept(plugin)]
        return self._manager.subset_hook_caller(name, others)


def _is_kept(plugin: object) -> bool:
    module = plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__
    return module in _KEPT or module.partition(".")[0] == "pytest_modelops"


def will_run(item: CheckItem) -> bool:
    """Return whether pytest will run a check, and not skip it because of a mark that somebody has added."""
    try:
        xfail = evaluate_xfail_marks(item)
        return evaluate_skip_marks(item) is None and (xfail is None or xfail.run)
    except pytest.fail.Exception:  # pytest reports what is wrong with the mark
        return False


def check_of(item: pytest.Item | None) -> Check | None:
    """Return the check that a test runs, or `None` for a user's test."""
    return item.check if isinstance(item, CheckItem) else None
