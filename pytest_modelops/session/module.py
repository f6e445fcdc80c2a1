"""The checks as pytest sees it: a module of ordinary tests, one a check, that exists in no file of the user's.

Its node ids read `modelops::test_lambda[py3.12-dask2024.10.0]`. pytest collects it as any module, so `-k`, `--lf`,
`--deselect`, `--junitxml` and the rest work as ever; it is put in front of what the session collects, since pytest
offers no hook that adds a collector.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modelops.errors import CheckFailed, NothingToDo

if TYPE_CHECKING:
    from pytest_modelops.cell.live import LiveCell
    from pytest_modelops.checks.base import Check, CheckedCell
    from pytest_modelops.deadline import Deadline

NAME = "modelops"
"""The virtual path in node ids."""


BUNDLE = "modelops_bundle"
"""The parameter of a check's test that is a bundle's name."""


def test_name(check: str) -> str:
    """Name of a check's test."""
    return f"test_{check.replace('-', '_')}"


def nodeid(check: Check, cell_id: str) -> str:
    """Node id of a check's test in a cell."""
    parameters = f"{cell_id}-{check.bundle.name}" if check.bundle else cell_id
    return f"{NAME}::{test_name(check.name)}[{parameters}]"


def short_nodeid(check: Check) -> str:
    """The same without the cell (see `matrix_run.short_id`)."""
    return f"{NAME}::{test_name(check.name)}" + (f"[{check.bundle.name}]" if check.bundle else "")


test_name.__test__ = False  # type: ignore[attr-defined] # pytest shall not collect it where it is imported


def with_pytest_outcomes(check: Check) -> Check:
    """A check that may also end as tests do, with `pytest.skip` or `pytest.fail`; those are no `Exception`s."""

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
        """The virtual module of a session."""
        found: ChecksModule = cls.from_parent(session, path=session.config.rootpath / NAME, name=NAME, nodeid=NAME)
        found.checks = checks
        found.wanted = wanted
        module = ModuleType(NAME, "Checks that every cell goes through.")
        for name in dict.fromkeys(check.name for check in checks):
            setattr(module, test_name(name), _test_of([check for check in checks if check.name == name]))
        found.obj = module
        return found

    def funcnamefilter(self, name: str) -> bool:
        """Our names, whatever the user's `python_functions` says."""
        return name.startswith("test_")

    def reportinfo(self) -> tuple[Path, None, str]:
        """It has no line in any file."""
        return self.path, None, NAME

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        """The checks' tests that were asked for."""
        return [node for node in super().collect() if selected(node.nodeid, self.wanted)]

    def missing(self, nodes: Iterable[Any]) -> list[str]:
        """Ids that were asked for, of which there is none."""
        ids = [node.nodeid for node in nodes]
        return [f"{NAME}::{one}" for one in self.wanted if one and not any(selected(i, [one]) for i in ids)]


def _test_of(checks: Sequence[Check]) -> Callable[..., None]:
    """The test of a check; with bundles, it is parametrized by them (see `bundles_of`)."""
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
    """Names of the bundles that a check's test is parametrized by; none for any other test."""
    by_bundle: Mapping[str | None, Check] = getattr(function, "modelops_checks", {})
    return [name for name in by_bundle if name is not None]


def check_of(item: pytest.Item) -> Check | None:
    """The check that a test is, or `None` for a test of the user's."""
    by_bundle: Mapping[str | None, Check] | None = getattr(getattr(item, "obj", None), "modelops_checks", None)
    if by_bundle is None:
        return None
    callspec = getattr(item, "callspec", None)
    return by_bundle[callspec.params.get(BUNDLE) if callspec is not None else None]


def selected(nodeid: str, wanted: Sequence[str]) -> bool:
    """Whether a node id of the checks is, or lies below, one of those wanted."""
    rest = nodeid.partition("::")[2]
    return any(not one or rest == one or rest.startswith(f"{one}[") for one in wanted)


def names_our_module(argument: str) -> bool:
    """Whether a command line argument names the checks.

    `modelops` or `modelops::…`, also as printed in a subdirectory.
    """
    path, colons, _ = argument.partition("::")
    return Path(path).name == NAME and (bool(colons) or not Path(path).exists())


def wanted(config: pytest.Config) -> list[str] | None:
    """Which of the checks's tests the command line asks for; `None` for none of them.

    Without a path, or with directories, that is all of it; with files or node ids, just those. Arguments that name the
    checks are taken out of `config.args`, where pytest would look for a file.
    """
    ours = [argument for argument in config.args if names_our_module(argument)]
    theirs = [argument for argument in config.args if not names_our_module(argument)]
    if ours:
        config.args[:] = theirs
        return [argument.partition("::")[2] for argument in ours]
    return None if names_tests(config) else [""]


def names_tests(config: pytest.Config) -> bool:
    """Whether the command line names files or tests of the user's, instead of directories or nothing."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return False
    return any(
        "::" in argument or Path(argument).is_file() for argument in config.args if not names_our_module(argument)
    )
