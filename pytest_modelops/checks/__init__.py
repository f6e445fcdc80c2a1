"""The ladder's rungs: one file each, and here the table of them and of what needs what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import (
    aggregation,
    bundle_aggregation,
    bundle_install,
    execute,
    handshake,
    install,
    lambdas,
    preflight,
    resolve,
    runtime,
    start,
    venv_reuse,
    versions,
)
from pytest_modelops.checks.base import Check
from pytest_modelops.config.model import PluginSettings
from pytest_modelops.errors import WrongInput

LADDER = (resolve.CHECK, install.CHECK, start.CHECK, versions.CHECK, lambdas.CHECK, aggregation.CHECK)
"""The rungs that every cell has, in climbing order."""


PLUGIN_RUNG = "runtime"
"""The name of the rung that there is with a worker plugin."""
BUNDLE_RUNGS = ("preflight", "bundle-install", "handshake", "execute", "bundle-aggregation", "venv-reuse")
"""The names of the rungs that each bundle may have, in climbing order."""


def ladder(
    bundles: Sequence[Bundle], plugin: PluginSettings | None = None, *, reuse: bool = False
) -> list[Check]:
    """The rungs of a run, in climbing order; without those that have no object, as `execute` without an entry point.

    Args:
        reuse: whether runners install by themselves, and may use an environment again.
    """
    rungs = [preflight.check(bundle) for bundle in bundles]
    rungs += LADDER
    rungs += [runtime.check(plugin)] if plugin is not None else []
    rungs += [bundle_install.check(bundle) for bundle in bundles]
    rungs += [handshake.check(bundle) for bundle in bundles if not bundle.in_workers]
    rungs += [execute.check(bundle) for bundle in bundles if bundle.entrypoint]
    rungs += [bundle_aggregation.check(bundle) for bundle in bundles if bundle.entrypoint and bundle.targets]
    rungs += [venv_reuse.check(bundle) for bundle in bundles if reuse and not bundle.in_workers]
    return rungs


def in_order(checks: Sequence[Check]) -> list[Check]:
    """The same checks, each after those that it needs, otherwise as given.

    Raises:
        WrongInput: a name is used twice, a need is unknown, or needs go in a circle.
    """
    for check in checks:
        _refuse_if_none(check)
    by_name = {check.label: check for check in checks}
    if len(by_name) < len(checks):
        raise WrongInput(
            f"pytest_modelops_checks: a name is used twice among {', '.join(c.label for c in checks)}"
        )
    ordered: dict[str, Check] = {}

    def add(check: Check, path: tuple[str, ...]) -> None:
        if check.label in path:
            raise WrongInput(
                f"pytest_modelops_checks: needs go in a circle: {' → '.join((*path, check.label))}"
            )
        for need in check.needs:
            if need not in by_name:
                raise WrongInput(
                    f"pytest_modelops_checks: {check.label!r} needs {need!r}, which is no rung; "
                    f"there are {', '.join(by_name)}"
                )
            add(by_name[need], (*path, check.label))
        ordered[check.label] = check

    for check in checks:
        add(check, ())
    return list(ordered.values())


def _refuse_if_none(check: object) -> None:
    """Refuse what a hook put among the rungs that cannot be one; nothing checked its types there."""
    if not isinstance(check, Check):
        raise WrongInput(f"pytest_modelops_checks: {check!r} is no pytest_modelops.checks.base.Check")
    given: dict[str, Any] = vars(check)
    wrong = ""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", str(given["name"])):
        wrong = "has a name that is not lower-case letters, digits and -"
    elif not isinstance(given["needs"], tuple) or not all(isinstance(need, str) for need in given["needs"]):
        wrong = 'has needs that are no tuple of names, such as ("start",)'
    elif not callable(given["run"]):
        wrong = "has a run that cannot be called"
    elif type(given["seconds"]) not in {int, float} or not given["seconds"] > 0:
        wrong = "has a deadline that is not a number of seconds above 0"
    if wrong:
        raise WrongInput(f"pytest_modelops_checks: {check!r} {wrong}")
