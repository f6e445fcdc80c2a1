"""The checks as tests: a virtual module with a test for each check.

Its node ids read `modelops::test_lambda[py3.12-dask2024.10.0]`. pytest collects it like any module, so `-k`, `--lf`,
`--deselect`, `--junitxml` and the rest work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modelops.errors import CheckFailed, NothingToDo
from pytest_modelops.report.model import CheckResult, Status

if TYPE_CHECKING:
    from pytest_modelops.cell.live import LiveCell
    from pytest_modelops.checks.base import Check, CheckedCell
    from pytest_modelops.deadline import Deadline

NAME = "modelops"
"""The virtual path in node ids."""
BUNDLE = "modelops_bundle"
"""The parameter of a test that is a bundle's name."""


def test_name(check: str) -> str:
    return f"test_{check.replace('-', '_')}"


def nodeid(check: Check, cell_id: str) -> str:
    parameters = f"{cell_id}-{check.bundle.name}" if check.bundle else cell_id
    return f"{NAME}::{test_name(check.name)}[{parameters}]"


def short_nodeid(check: Check) -> str:
    """Return the node id without the cell; see `run.short_id`."""
    return f"{NAME}::{test_name(check.name)}" + (f"[{check.bundle.name}]" if check.bundle else "")


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
    """The virtual module. `checks` and `wanted` (parts of node ids, `""` for all) are set by `make`."""

    checks: Sequence[Check]
    wanted: Sequence[str]

    @classmethod
    def make(cls, session: pytest.Session, checks: Sequence[Check], wanted: Sequence[str]) -> ChecksModule:
        found: ChecksModule = cls.from_parent(session, path=session.config.rootpath / NAME, name=NAME, nodeid=NAME)
        found.checks = checks
        found.wanted = wanted
        module = ModuleType(NAME, "Checks that every cell goes through.")
        for name in dict.fromkeys(check.name for check in checks):
            setattr(module, test_name(name), _test_of([check for check in checks if check.name == name]))
        found.obj = module
        return found

    def funcnamefilter(self, name: str) -> bool:
        """Ignore the user's `python_functions`."""
        return name.startswith("test_")

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, NAME

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        return [node for node in super().collect() if selected(node.nodeid, self.wanted)]

    def missing(self, nodes: Iterable[Any]) -> list[str]:
        """Return the ids that were asked for and do not exist."""
        ids = [node.nodeid for node in nodes]
        return [f"{NAME}::{one}" for one in self.wanted if one and not any(selected(i, [one]) for i in ids)]


def _test_of(checks: Sequence[Check]) -> Callable[..., None]:
    """Return the test of a check; with bundles, it is parametrized by them (see `bundles_of`)."""
    by_bundle = {check.bundle and check.bundle.name: check for check in checks}

    def run_check(cell: LiveCell, label: str) -> None:
        __tracebackhide__ = True
        if cell.checks.run(label).blocked_by is not None:
            cell.checks.require(label)

    def of_cell(modelops_cell: LiveCell) -> None:
        __tracebackhide__ = True
        run_check(modelops_cell, checks[0].label)

    def of_bundle(modelops_cell: LiveCell, modelops_bundle: str) -> None:
        __tracebackhide__ = True
        run_check(modelops_cell, by_bundle[modelops_bundle].label)

    test: Any = of_cell if None in by_bundle else of_bundle
    test.__name__ = test.__qualname__ = test_name(checks[0].name)
    test.__doc__ = checks[0].summary
    test.modelops_checks = by_bundle
    return test  # type: ignore[no-any-return]


def bundles_of(function: object) -> list[str]:
    by_bundle: Mapping[str | None, Check] = getattr(function, "modelops_checks", {})
    return [name for name in by_bundle if name is not None]


def check_of(item: pytest.Item) -> Check | None:
    """Return the check that a test runs, or `None` for a user's test."""
    by_bundle: Mapping[str | None, Check] | None = getattr(getattr(item, "obj", None), "modelops_checks", None)
    if by_bundle is None:
        return None
    callspec = getattr(item, "callspec", None)
    return by_bundle[callspec.params.get(BUNDLE) if callspec is not None else None]


def result_of_test(check: Check | None, name: str, status: Status, message: str, **fields: Any) -> CheckResult:
    """Return the result of a test of a check or, without one, of a user's test with that name."""
    if check is not None:
        return check.ended(status, message, **fields)
    return CheckResult(name=name, status=status, message=message, **fields)


def selected(nodeid: str, wanted: Sequence[str]) -> bool:
    """Return whether the node id of a check is one of those wanted or below one."""
    rest = nodeid.partition("::")[2]
    return any(not one or rest == one or rest.startswith(f"{one}[") for one in wanted)


def names_our_module(argument: str) -> bool:
    """Return whether an argument names the checks: `modelops` or `modelops::…`, also as printed in a subdirectory."""
    path, colons, _ = argument.partition("::")
    return Path(path).name == NAME and (bool(colons) or not Path(path).exists())


def wanted(config: pytest.Config) -> list[str] | None:
    """Return which of the checks' tests the command line asks for; `None` if no one.

    Without a path, or with directories, it asks for all; with files or node ids, only for those. Removes arguments that
    name the checks from `config.args`, because pytest would look for such a file.
    """
    ours = [argument for argument in config.args if names_our_module(argument)]
    theirs = [argument for argument in config.args if not names_our_module(argument)]
    if ours:
        config.args[:] = theirs
        return [argument.partition("::")[2] for argument in ours]
    return None if names_tests(config) else [""]


def names_tests(config: pytest.Config) -> bool:
    """Return whether the command line names files or tests of the user's, instead of directories or nothing."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return False
    return any(
        "::" in argument or Path(argument).is_file() for argument in config.args if not names_our_module(argument)
    )
