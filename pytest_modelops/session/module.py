"""The checks as tests: a virtual module with a test for each check.

Its node ids read `modelops::test_lambda[py3.12-dask2024.10.0]`. pytest collects it like any module, so `-k`, `--lf`,
`--deselect`, `--junitxml` and the rest work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modelops.errors import CheckFailed, NothingToDo
from pytest_modelops.report.model import CheckResult, Status
from pytest_modelops.session.item import CheckItem, place
from pytest_modelops.session.locating import SettingsFile

if TYPE_CHECKING:
    from pytest_modelops.cell.live import LiveCell
    from pytest_modelops.checks.base import Check, CheckedCell
    from pytest_modelops.deadline import Deadline

NAME = "modelops"
"""The virtual path in node ids."""


def test_name(check: str) -> str:
    return f"test_{check.replace('-', '_')}"


def parameters(check: Check, cell_id: str) -> str:
    """Return what stands in brackets in a check's node id."""
    return f"{cell_id}-{check.object}" if check.object else cell_id


def nodeid(check: Check, cell_id: str) -> str:
    return f"{NAME}::{test_name(check.name)}[{parameters(check, cell_id)}]"


def short_nodeid(check: Check) -> str:
    """Return the node id without the cell; see `run.short_id`."""
    return f"{NAME}::{test_name(check.name)}" + (f"[{check.object}]" if check.object else "")


test_name.__test__ = False  # type: ignore[attr-defined] # pytest would collect it in test modules that import it


def with_pytest_outcomes(check: Check) -> Check:
    """Let a check end with `pytest.skip` or `pytest.fail`, too, which do not derive from `Exception`."""

    def run(cell: CheckedCell, deadline: Deadline) -> Mapping[str, object] | None:
        try:
            return check.run(cell, deadline)
        except pytest.skip.Exception as skipped:
            raise NothingToDo(skipped.msg or "no reason was given") from None
        except pytest.fail.Exception as failed:
            raise CheckFailed(failed.msg or "no reason was given") from None

    return dataclasses.replace(check, run=run)


class ChecksModule(pytest.Module):
    """The virtual module. Its attributes are set by `make`; `wanted` are parts of node ids, `""` for all."""

    checks: Sequence[Check]
    cells: Sequence[LiveCell]
    wanted: Sequence[str]
    settings: SettingsFile

    @classmethod
    def make(
        cls,
        session: pytest.Session,
        *,
        checks: Sequence[Check],
        cells: Iterable[LiveCell],
        wanted: Sequence[str],
        settings: SettingsFile,
    ) -> ChecksModule:
        found: ChecksModule = cls.from_parent(session, path=session.config.rootpath / NAME, name=NAME, nodeid=NAME)
        found.checks = checks
        found.cells = list(cells)
        found.wanted = wanted
        found.settings = settings
        found.obj = ModuleType(NAME, "Checks that every cell goes through.")
        return found

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, NAME

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        """Make the items here: hooks that parametrize or convert tests are for the user's own."""
        names = list(dict.fromkeys(check.name for check in self.checks))
        checks = sorted(self.checks, key=lambda check: names.index(check.name))
        pairs = [(cell, check) for cell in self.cells for check in checks if cell.has(check.label)]
        items: list[pytest.Item | pytest.Collector] = []
        like: CheckItem | None = None
        for cell, check in pairs:
            if selected(nodeid(check, cell.id), self.wanted):
                name, brackets = test_name(check.name), parameters(check, cell.id)
                like = CheckItem.make(self, name, brackets, check=check, cell=cell, settings=self.settings, like=like)
                items.append(like)
        return items

    def missing(self, nodes: Iterable[Any]) -> list[str]:
        """Return the ids that were asked for and do not exist."""
        ids = [node.nodeid for node in nodes]
        return [f"{NAME}::{one}" for one in self.wanted if one and not any(selected(i, [one]) for i in ids)]


def result_of_test(check: Check | None, name: str, status: Status, message: str, **fields: Any) -> CheckResult:
    """Return the result of a test of a check or, without one, of a user's test with that name."""
    if check is not None:
        return check.ended(status, message, **fields)
    return CheckResult(name=name, status=status, message=message, **fields)


def selected(nodeid: str, wanted: Sequence[str]) -> bool:
    """Return whether the node id of a check is one of those wanted or below one."""
    rest = nodeid.partition("::")[2]
    return any(not one or rest == one or rest.startswith(f"{one}[") for one in wanted)


def names_checks(argument: str, at: Path) -> bool:
    """Return whether an argument names the checks.

    They are `modelops` or `modelops::…`, also as printed in a subdirectory, or `…::…` with their path; see `place`.
    """
    path, colons, _ = argument.partition("::")
    if colons and Path(path).resolve() == at.resolve():
        return True
    return Path(path).name == NAME and (bool(colons) or not Path(path).exists())


def wanted(config: pytest.Config, settings: SettingsFile) -> list[str] | None:
    """Return which of the checks' tests the command line asks for; `None` if no one.

    Without a path, or with directories, it asks for all; with files or node ids, only for those. Removes arguments that
    name the checks from `config.args`, because pytest would look for such a file.
    """
    at = place(config, settings)
    ours = [argument for argument in config.args if names_checks(argument, at)]
    if ours:
        config.args[:] = [argument for argument in config.args if argument not in ours]
        return [argument.partition("::")[2] for argument in ours]
    return None if names_tests(config) else [""]


def names_tests(config: pytest.Config) -> bool:
    """Return whether the command line names files or tests of the user's, instead of directories or nothing."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return False
    return any("::" in argument or Path(argument).is_file() for argument in config.args)
