"""The checks, one file each, and the table of them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import (
    aggregation,
    bundle_aggregation,
    bundle_install,
    execute,
    faulty_aggregation,
    handshake,
    install,
    lambdas,
    preflight,
    resolve,
    rolling,
    runtime,
    start,
    venv_reuse,
    versions,
)
from pytest_modelops.checks.base import Check
from pytest_modelops.config.faults import Fault
from pytest_modelops.config.model import PluginSettings
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import Cell, Role

CELL_CHECKS = (resolve.CHECK, install.CHECK, start.CHECK, versions.CHECK, lambdas.CHECK, aggregation.CHECK)
"""The checks that every cell has, in order."""
PLUGIN_CHECK = "runtime"
"""The check of a cell with a worker plugin."""
BUNDLE_CHECKS = ("preflight", "bundle-install", "handshake", "execute", "bundle-aggregation", "venv-reuse")
"""The names of the checks that each bundle may have, in order."""


def all_checks(
    bundles: Sequence[Bundle],
    plugin: PluginSettings | None = None,
    *,
    reuse: bool = False,
    orders: Iterable[tuple[Role, ...]] = (),
    faults: Sequence[Fault] = (),
) -> list[Check]:
    """Return the checks of a run, in order, without those that do not apply, as `execute` without an entry point.

    Args:
        reuse: whether runners install by themselves, and may reuse an environment.
        orders: of roles, in which rolling upgrades replace them.
        faults: those that happen in the middle of the aggregation.
    """
    checks = [preflight.check(bundle) for bundle in bundles]
    checks += CELL_CHECKS
    checks += [runtime.check(plugin)] if plugin is not None else []
    checks += [bundle_install.check(bundle) for bundle in bundles]
    checks += [handshake.check(bundle) for bundle in bundles if not bundle.in_workers]
    checks += [execute.check(bundle) for bundle in bundles if bundle.entrypoint]
    checks += [bundle_aggregation.check(bundle) for bundle in bundles if bundle.entrypoint and bundle.targets]
    checks += [venv_reuse.check(bundle) for bundle in bundles if reuse and not bundle.in_workers]
    checks += rolling.checks(orders)
    checks += [faulty_aggregation.check(fault) for fault in faults]
    return [dataclasses.replace(check, main_thread=False) for check in checks]


def of_cell(checks: Sequence[Check], cell: Cell) -> list[Check]:
    """Return the checks of a cell, in the same order. A rolling upgrade has its states and what these need."""
    found = {check.label: check for check in checks if check.is_of(cell)}
    if cell.rolling is not None:
        for check in reversed(checks):  # each comes after those that it needs
            if any(check.label in other.needs for other in found.values()):
                found[check.label] = check
    return [check for check in checks if check.label in found]


def in_order(checks: Sequence[Check]) -> list[Check]:
    """Return the same checks, each after those that it needs, otherwise as given.

    Raises:
        WrongInput: something is not a check, a name is used twice, a need is unknown, or needs go in a circle.
    """
    for check in checks:
        _validate(check)
    by_name = {check.label: check for check in checks}
    if len(by_name) < len(checks):
        raise WrongInput(f"pytest_modelops_checks: a name is used twice among {', '.join(c.label for c in checks)}")
    ordered: dict[str, Check] = {}

    def add(check: Check, path: tuple[str, ...]) -> None:
        if check.label in path:
            raise WrongInput(f"pytest_modelops_checks: needs go in a circle: {' → '.join((*path, check.label))}")
        for need in check.needs:
            if need not in by_name:
                raise WrongInput(
                    f"pytest_modelops_checks: {check.label!r} needs {need!r}, which is not a check; "
                    f"there are {', '.join(by_name)}"
                )
            add(by_name[need], (*path, check.label))
        ordered[check.label] = check

    for check in checks:
        add(check, ())
    return list(ordered.values())


def names_of(checks: Iterable[Check]) -> list[str]:
    """Return the names of these checks, and of those that bundles, a worker plugin and rolling upgrades add."""
    return list(dict.fromkeys([*(check.name for check in checks), *BUNDLE_CHECKS, PLUGIN_CHECK, rolling.NAME]))


def _validate(check: object) -> None:
    """Refuse what a hook returned and that cannot be a check; its types were not checked there."""
    if not isinstance(check, Check):
        raise WrongInput(f"pytest_modelops_checks: {check!r} is not a pytest_modelops.checks.base.Check")
    given = vars(check)
    wrong = ""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", str(given["name"])):
        wrong = "has a name that is not lower-case letters, digits and -"
    elif not isinstance(given["needs"], tuple) or not all(isinstance(need, str) for need in given["needs"]):
        wrong = 'has needs that are not a tuple of names, such as ("start",)'
    elif not callable(given["run"]):
        wrong = "has a run that cannot be called"
    elif type(given["seconds"]) not in {int, float} or not given["seconds"] > 0:
        wrong = "has a deadline that is not a number of seconds above 0"
    if wrong:
        raise WrongInput(f"pytest_modelops_checks: {check!r} {wrong}")
